"""18. What an admin saves is for the jobs that come, by whichever engine: one that runs keeps its plan."""

from __future__ import annotations

from dataclasses import replace

import pytest
from asgiref.sync import sync_to_async

from jobs import worker
from jobs.ittybit.client import IttybitClient, open_http
from jobs.models import Pipeline
from jobs.pipelines import CLOUD_THEN_OWN, OWN, PIPELINES, STANDARD, RetryPolicy
from mediapipe import temporal
from tests.support.faulty_api import FaultyApi

pytestmark = pytest.mark.anyio


def save_with_the_transcode_last() -> None:
    """As the form saves it: the transcode waits for two other stages."""
    last = replace(STANDARD[3], after=["thumbnails", "audio"], options={"format": "mp4", "width": 640})
    edited = replace(PIPELINES["standard"], stages=(*STANDARD[:3], last))
    Pipeline.objects.get(name="standard").add_version(edited, "grace", use=True)


async def test_a_job_that_runs_while_its_pipeline_is_edited_keeps_its_plan_and_the_next_has_the_new_one(
    inside, api
):
    api.life = ["processing"]
    before = await inside.submit()
    await inside.until(before, lambda job: bool(inside.asked(job, "ingest")))
    await sync_to_async(save_with_the_transcode_last)()
    api.life = ["queued", "succeeded"]
    for task in api.tasks.values():
        task["left"] = ["succeeded"]
    after = await inside.submit()
    before = await inside.ended(before, "succeeded")
    after = await inside.ended(after, "succeeded")
    assert (before.pipeline_version, after.pipeline_version) == (1, 2)
    assert inside.asked(before, "transcode")[0]["options"]["width"] == 1280
    assert inside.asked(after, "transcode")[0]["options"] == {"format": "mp4", "width": 640}
    began = {stage.name: stage.started_at async for stage in after.stages.all()}
    ended = {stage.name: stage.finished_at async for stage in after.stages.all()}
    assert began["transcode"] >= max(ended["thumbnails"], ended["audio"])


async def test_what_the_cloud_gives_up_the_own_engine_is_asked_for(dashboard, api, settings):
    """The cloud's task fails; the own engine makes that stage, and no other one."""
    settings.ALLOW_PRIVATE_SOURCES = True
    stages = tuple(replace(stage, retry=RetryPolicy(attempts=1)) for stage in STANDARD)
    falling = replace(PIPELINES["standard"], stages=stages, engine=CLOUD_THEN_OWN)
    row = await Pipeline.objects.aget(name="standard")
    await sync_to_async(row.add_version)(falling, "grace", use=True)
    api.lives = {"transcode": ["failed"]}
    with FaultyApi() as ours:
        async with open_http(ours.url, "k") as http:
            dashboard.engine.own = IttybitClient(http)
            async with temporal.run_workers(worker.build(dashboard.client, dashboard.engine)):
                job = await dashboard.ended(await dashboard.submit(), "succeeded")
        assert [task["metadata"]["stage"] for task in ours.tasks.values()] == ["transcode"]
    assert len(dashboard.asked(job, "transcode")) == 1
    engines = {stage.name: stage.engine async for stage in job.stages.all()}
    assert engines == {"ingest": "", "thumbnails": "", "audio": "", "transcode": OWN}
    told = [event.text async for event in job.events.filter(kind="engine")]
    assert len(told) == 1 and "own engine makes it now" in told[0]
