"""Histories of running jobs replay through today's workflow: a deploy breaks none of them."""

from __future__ import annotations

import gzip

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from jobs.workflows import MediaPipeline
from tests import histories

pytestmark = pytest.mark.anyio


@workflow.defn(name="MediaPipeline")
class Other:
    """A workflow that begins with something else."""

    @workflow.run
    async def run(self, given: dict) -> None:
        await workflow.sleep(1)


SAVED = sorted(histories.FOLDER.glob("*.json.gz"))


@pytest.mark.parametrize("path", SAVED, ids=[path.name.split(".")[0] for path in SAVED])
async def test_a_saved_history_replays(path):
    history = WorkflowHistory.from_json("media-x", gzip.decompress(path.read_bytes()).decode())
    await Replayer(workflows=[MediaPipeline]).replay_workflow(history)


def test_every_shape_of_a_job_is_saved():
    shapes = {shape.__name__ for shape in histories.SKIPPING + histories.REAL}
    assert shapes <= {path.name.split(".")[0] for path in SAVED}


async def test_a_workflow_that_decides_otherwise_does_not_replay():
    history = WorkflowHistory.from_json("media-x", gzip.decompress(SAVED[0].read_bytes()).decode())
    with pytest.raises(Exception, match=r"[Nn]ondeterminism|TMPRL1100"):
        await Replayer(workflows=[Other]).replay_workflow(history)


@pytest.mark.parametrize("shape", histories.SKIPPING + histories.REAL, ids=lambda shape: shape.__name__)
async def test_histories_can_be_saved_anew(shape, request, skipping_env, dev_env):
    if not request.config.getoption("--save-histories"):
        pytest.skip("only with --save-histories")
    env = dev_env if shape in histories.REAL else skipping_env
    histories.save(shape.__name__, await shape(env))
