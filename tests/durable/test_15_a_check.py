"""15. A check looks through what is there, fails alone, and is told as missing where the engine has none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobs import pipelines
from jobs.requests import RetryRequest
from jobs.state import JobState, Output, Source, StageState
from jobs.workflow.media_pipeline import MediaPipeline
from tests.support.world import BROKEN, World, attention, plan, running, status_when

pytestmark = pytest.mark.anyio
MADE = {
    activity: [Output(name=f"outputs/{activity}.mp4", video_codec="h264", codecs_known=True)]
    for activity in ("ingest", "generate_thumbnails", "transcode")
}


def checked(**fields):
    return replace(plan("checked"), **fields)


async def test_a_check_begins_when_all_that_it_looks_through_is_made(skipping_env):
    world = World({"transcode": [BROKEN]})
    async with running(skipping_env, world, checked()) as handle:
        status = await status_when(skipping_env, handle, attention)
        assert status.stage("check").state == StageState.PENDING
        await handle.execute_update(MediaPipeline.retry_stage, RetryRequest("transcode", "ada"))
        assert (await handle.result()).state == JobState.SUCCEEDED
    assert [stage for stage, _ in world.created][-1] == "check"


async def test_a_source_that_is_kept_is_what_outputs_are_compared_with(skipping_env):
    """The sound is skipped in a silent film; of a link the ingested file stands for the source."""
    for source, outputs in (
        (Source(name="sources/a.mov"), {"ingest", "transcode"}),
        (Source(url="https://example.com/a.mov"), {"transcode"}),
    ):
        world = World({activity: [*steps] for activity, steps in MADE.items()})
        async with running(skipping_env, world, checked(source=source)) as handle:
            assert (await handle.result()).state == JobState.SUCCEEDED
        (request,) = [each for each in world.requests if each.stage == "check"]
        assert request.source.name == source.name or request.source.name == "outputs/ingest.mp4"
        assert set(request.outputs) == outputs and request.kind == "check"


async def test_a_check_that_fails_takes_nothing_with_it(skipping_env):
    async with running(skipping_env, World({"check_outputs": [BROKEN]}), checked()) as handle:
        status = await handle.result()
    assert status.state == JobState.SUCCEEDED and status.stage("check").state == StageState.FAILED
    assert status.result.transcoded_url


async def test_where_the_engine_has_no_check_it_is_skipped_and_said_before_anything_starts(skipping_env):
    offered = pipelines.for_engine(pipelines.PIPELINES["checked"], embedded=False)
    assert "isn’t available with the cloud" in offered.description and "not with the cloud" in offered.label
    world = World({"ingest": ["hang"]})
    async with running(skipping_env, world, checked(stages=list(offered.stages))) as handle:
        status = await status_when(
            skipping_env, handle, lambda s: s.stage("ingest").state == StageState.RUNNING
        )
        assert status.stage("check").state == StageState.SKIPPED
        assert status.stage("check").error == "the check isn’t available with the cloud."
        world.gate.set()
        assert (await handle.result()).state == JobState.SUCCEEDED
    assert "check" not in {stage for stage, _ in world.created}
