"""Values that travel to Temporal and back are read as the SDK reads them."""

from __future__ import annotations

import asyncio

import pytest
from temporalio.converter import DataConverter

from jobs.requests import HeartbeatDetails, TaskWatch
from jobs.state import JobState, Output, PipelineStatus, StageState, StageStatus
from mediapipe.engine.pieces import Division, Piece
from mediapipe.payloads import DATA_CONVERTER

STATUS = PipelineStatus(
    "1",
    seq=3,
    state=JobState.RUNNING,
    stages=[StageStatus("ingest", "Ingest", StageState.SUCCEEDED, output=Output("a", extras={"vtt": "b"}))],
)


@pytest.mark.parametrize(
    "value",
    [
        STATUS,
        TaskWatch("t", 1.0, 2.0, None, HeartbeatDetails("queued")),
        Division("k", [Piece(0, 0, 2, 2, 50)]),
    ],
)
def test_what_is_sent_is_read_as_the_sdk_reads_it(value):
    sent = asyncio.run(DataConverter.default.encode([value]))
    assert asyncio.run(DATA_CONVERTER.encode([value])) == sent
    read = asyncio.run(DATA_CONVERTER.decode(sent, [type(value)]))
    assert read == asyncio.run(DataConverter.default.decode(sent, [type(value)])) == [value]


def test_a_field_of_another_version_is_ignored_and_a_missing_one_has_its_default():
    sent = asyncio.run(
        DATA_CONVERTER.encode([{"number": 1, "start": 0, "end": 2, "seconds": 2, "frames": 5, "new": 1}])
    )
    assert asyncio.run(DATA_CONVERTER.decode(sent, [Piece])) == [Piece(1, 0.0, 2.0, 2.0, 5, late=0.0)]


def test_what_is_of_another_type_is_no_value():
    sent = asyncio.run(DATA_CONVERTER.encode(["a sentence"]))
    with pytest.raises(TypeError):
        asyncio.run(DATA_CONVERTER.decode(sent, [Piece]))
