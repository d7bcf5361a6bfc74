"""Numbers and facts as people read them."""

from __future__ import annotations

import pytest

from jobs.dashboard.bulk import ACTIONS, BulkResult
from jobs.dashboard.formatting import SEPARATOR, describe_output, duration, eta, filesize, middle, timecode
from jobs.dashboard.stage_view import StageView
from jobs.live import Live
from jobs.state import Output, PipelineStatus, StageState, StageStatus


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "less than a minute left"),
        (59, "less than a minute left"),
        (61, "about 1 min left"),
        (170, "about 3 min left"),
        (5500, "about 1.5 h left"),
    ],
)
def test_an_estimate_is_one_round_number(seconds, text):
    assert eta(seconds) == text


def test_sizes_and_times_have_units():
    assert [filesize(n) for n in (None, 0, 999, 1000, 2_400_000, 3e12)] == [
        *("", "0 B", "999 B", "1.0 kB", "2.4 MB", "3.0 TB"),
    ]
    assert [timecode(n) for n in (None, 0, 62, 3723)] == ["", "0:00", "1:02", "1:02:03"]
    assert [duration(n) for n in (4.24, 35, 720, 9000)] == ["4.2 s", "35 s", "12 min", "2.5 h"]


@pytest.mark.parametrize(
    ("output", "facts"),
    [
        (Output(format="mp4", video_codec="h264", audio_codec="aac"), ["MP4", "H.264 + AAC"]),
        (Output(format="webp", video_codec="webp", width=640, height=360), ["WebP", "640 × 360"]),
        (Output(format="mp3", audio_codec="mp3", duration=62), ["MP3", "1:02"]),
        (Output(format="mkv", video_codec="ffv1"), ["MKV", "ffv1"]),
        (Output(format="mov", video_codec="prores", audio_codec="pcm_s16le"), ["MOV", "ProRes + PCM"]),
    ],
)
def test_an_output_is_described_by_the_names_that_people_use(output, facts):
    assert describe_output(output) == SEPARATOR.join(facts).replace(" ", "\u00a0").replace("·\u00a0", "· ")


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (BulkResult("delete", 3, 2), "Deleted 3 jobs. 2 are still running; cancel them first."),
        (BulkResult("delete", 0, 1), "Nothing was deleted. 1 is still running; cancel it first."),
        (
            BulkResult("delete", 1, cancelling=2),
            "Deleted 1 job. 2 are cancelled, and deleted when they have ended.",
        ),
        (BulkResult("delete", cancelling=1), "1 is cancelled, and deleted when it has ended."),
        (BulkResult("retry", 5, 2), "Retrying 5 jobs. 2 had nothing to retry."),
        (BulkResult("cancel", 1, untried=1), "Cancelling 1 job. 1 was left alone."),
    ],
)
def test_the_result_of_a_bulk_action_is_a_sentence(result, text):
    assert str(result) == text and result.action in ACTIONS


@pytest.mark.parametrize(
    ("status", "needs", "text"),
    [
        (StageStatus("audio"), "Ingest", "Waits for Ingest"),
        (StageStatus("ingest"), "", "Waiting for its turn"),
        (StageStatus("ingest", state=StageState.RUNNING), "", "Starting"),
        (StageStatus("ingest", state=StageState.RUNNING, task_id="x"), "", "In progress"),
        (
            StageStatus("film", state=StageState.RUNNING, attempt=2, max_attempts=3),
            "",
            "Attempt 2 of 3, 0.3× real time, about 3 min left",
        ),
        (StageStatus("ingest", state=StageState.FAILED, attempt=3), "", "Failed after 3 attempts"),
    ],
)
def test_a_stage_says_what_it_does(status, needs, text):
    live = Live(PipelineStatus("x"), speeds={"film": 0.3}, time_left={"film": 170})
    assert StageView(status, live, needs).summary == text


@pytest.mark.parametrize(
    ("text", "most", "shown"),
    [
        ("short", 5, "short"),
        ("abcdefghij", 5, "ab…\u200bij"),
        ("take one, the end", 9, "take…\u200bend"),
        ("Drone over the harbour, take 3", 28, "Drone over the…\u200btake 3"),
    ],
)
def test_a_long_name_is_cut_in_its_middle(text, most, shown):
    assert middle(text, most) == shown
