"""3. A stage that used up its attempts waits for a person; a retry runs it again, in place, once."""

from __future__ import annotations

import asyncio

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError, WorkflowUpdateFailedError

from jobs import control, finished
from jobs.models import Job, Stage
from jobs.requests import Failure, RetryRequest
from jobs.state import JobState, Source, StageState, StageStatus
from jobs.workflow.media_pipeline import MediaPipeline
from tests.support.product import until_async
from tests.support.world import BOTH, BROKEN, World, attention, plan, running, skip, states, status_when

pytestmark = pytest.mark.anyio


async def test_a_failed_stage_holds_while_its_siblings_go_on(skipping_env):
    async with running(skipping_env, World({"extract_audio": [BROKEN]})) as handle:
        status = await status_when(skipping_env, handle, attention)
    assert states(status) == {
        "ingest": "succeeded",
        "thumbnails": "succeeded",
        "audio": "failed",
        "transcode": "succeeded",
    }


async def test_a_retry_runs_that_stage_and_nothing_else_and_says_who_asked(skipping_env):
    world = World({"extract_audio": [BROKEN]})
    async with running(skipping_env, world) as handle:
        await status_when(skipping_env, handle, attention)
        before = len(world.created)
        labels = await handle.execute_update(
            MediaPipeline.retry_stage, RetryRequest("audio", "grace", "new disk")
        )
        status = await handle.result()
    assert labels == ["Audio"]
    assert world.created[before:] == [("audio", f"{handle.id}/audio/2")]
    assert status.state == JobState.SUCCEEDED
    assert status.stage("audio").error is None
    assert [(e.actor, e.stage, e.text) for e in world.events() if e.kind == "retry"] == [
        ("grace", "audio", "Audio retried: “new disk”")
    ]


async def test_a_retried_ingest_is_followed_by_what_needs_it(skipping_env):
    async with running(skipping_env, World({"ingest": [BROKEN]})) as handle:
        await status_when(skipping_env, handle, attention)
        await handle.execute_update(MediaPipeline.retry_stage, RetryRequest(actor="ada"))
        status = await handle.result()
    assert set(states(status).values()) == {"succeeded"}


@pytest.mark.parametrize(
    "request_, sentence",
    [
        (RetryRequest("ingest"), "Ingest hasn’t failed, so it can’t be retried."),
        (RetryRequest("poster"), "This job has no stage 'poster'."),
        (RetryRequest("audio", tries=7), "Someone else has just retried Audio."),
    ],
)
async def test_a_retry_that_makes_no_sense_is_refused_with_a_sentence(skipping_env, request_, sentence):
    async with running(skipping_env, World({"extract_audio": [BROKEN]})) as handle:
        await status_when(skipping_env, handle, attention)
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await handle.execute_update(MediaPipeline.retry_stage, request_)
    assert sentence in str(refused.value.cause)


async def test_three_retries_of_one_failure_get_one_retry(dev_env):
    world = World({"extract_audio": [BROKEN, "hang"]})
    async with running(dev_env, world) as handle:
        await status_when(dev_env, handle, attention)
        asked = [
            handle.execute_update(MediaPipeline.retry_stage, RetryRequest("audio", who, tries=1))
            for who in ("ada", "grace", "linus")
        ]
        results = await asyncio.gather(*asked, return_exceptions=True)
        world.gate.set()
        await handle.result()
    assert sum(result == ["Audio"] for result in results) == 1
    assert len(world.keys("audio")) == 2


async def test_a_job_nobody_decides_about_is_given_up_after_a_week_and_not_before(skipping_env):
    world = World({"extract_audio": [BROKEN]})
    async with running(skipping_env, world) as handle:
        await status_when(skipping_env, handle, attention)
        await skip(skipping_env, 6.9 * 86_400)
        assert attention(await handle.query(MediaPipeline.status))
        with pytest.raises(WorkflowFailureError) as ended:
            await handle.result()
    assert "Closed after 7 days without a decision" in str(ended.value.cause)
    assert world.records[-1].status.state == JobState.FAILED
    assert world.records[-1].status.stage("audio").state == StageState.FAILED
    assert states(world.records[-1].status)["transcode"] == "succeeded"


async def test_the_failure_of_an_extra_leaves_the_job_done(skipping_env):
    async with running(skipping_env, World({"draw_waveform": [BROKEN]}), plan("previews")) as handle:
        status = await handle.result()
    assert status.state == JobState.SUCCEEDED
    assert states(status)["waveform"] == "failed"


async def test_finished_stages_of_an_earlier_run_are_carried_over(skipping_env):
    done = StageStatus("ingest", "Ingest", StageState.SUCCEEDED, attempt=2, output=BOTH, tries=2)
    world = World()
    async with running(skipping_env, world, plan(carried={"ingest": done}, tries={"audio": 3})) as handle:
        status = await handle.result()
    assert world.keys("ingest") == []
    assert ("audio", f"{handle.id}/audio/4") in world.created
    assert status.stage("ingest").attempt == 2


@pytest.mark.release
async def test_a_stage_may_be_retried_hundreds_of_times_before_its_history_is_full(skipping_env):
    """Temporal ends a workflow at 51,200 events, 50 MB, or a memo of 2 MB; `retry` starts it again then."""
    world = World(
        {"extract_audio": [Failure("x" * 60, permanent=True, task_over=True, details="d" * 4000)] * 20}
    )
    async with running(skipping_env, world) as handle:
        for tries in range(1, 21):
            await status_when(
                skipping_env, handle, lambda s, n=tries: attention(s) and s.stage("audio").tries == n
            )
            if tries == 5:
                before = await handle.describe()
            if tries < 20:
                await handle.execute_update(MediaPipeline.retry_stage, RetryRequest("audio", tries=tries))
        after = await handle.describe()
    assert (after.history_length - before.history_length) / 15 * 400 < 51_200
    size = after.raw_description.workflow_execution_info.history_size_bytes
    size -= before.raw_description.workflow_execution_info.history_size_bytes
    assert size / 15 * 400 < 50e6
    memo = after.raw_description.workflow_execution_info.memo
    assert memo.ByteSize() < 5_000, "each change writes the memo once more"


# --- what a person does, with the dashboard's own rows ---------------------------------------------

BAD = {"kind": "invalid_input", "message": "The sound is damaged."}


async def held(inside, **lives):
    """A job whose audio has failed for good."""
    inside.api.error, inside.api.lives["audio"] = BAD, ["failed"]
    job = await inside.submit()
    return await inside.ended(job, "attention")


async def test_two_people_who_retry_at_once_are_both_answered_and_one_task_is_asked_for(inside):
    job = await held(inside)
    inside.api.lives["audio"] = ["processing", "processing", "succeeded"]
    said = await asyncio.gather(
        *(control.retry(job, "audio", who) for who in ("ada", "grace")), return_exceptions=True
    )
    for answer in said:
        assert str(answer) == "Retrying Audio." or isinstance(answer, control.NotPossible), answer
    assert "Retrying Audio." in map(str, said)
    job = await inside.ended(job, "succeeded")
    assert len(inside.asked(job, "audio")) == 2
    assert await job.events.filter(kind="retry").acount() == 1


async def test_a_stage_that_keeps_its_task_can_be_retried_again_and_again(inside):
    """Its task may still run, so no new one is asked for: that must not make the second retry a repeat."""
    inside.api.lives["audio"] = ["processing"] * 9999
    job = await inside.submit()
    job = await inside.until(job, lambda j: j.stages.filter(state="succeeded").count() == 3)
    for expected in (1, 2):
        inside.api.always["GET"] = "401"
        job = await inside.until(
            job, lambda j: j.state == "attention" and j.stages.get(name="audio").state == "failed"
        )
        inside.api.always.clear()
        assert "Retrying" in await control.retry(job, "audio", "ada")
        job = await inside.until(job, lambda j: j.stages.get(name="audio").state == "running")
        assert await job.events.filter(kind="retry").acount() == expected
    assert len(inside.asked(job, "audio")) == 1
    inside.asked(job, "audio")[0]["left"] = ["succeeded"]
    await inside.ended(job, "succeeded")


async def test_a_retry_that_arrives_after_a_cancel_starts_the_job_again_with_what_is_finished(inside):
    job = await held(inside)
    await control.cancel(job, "grace")
    job = await inside.ended(job, "cancelled")
    inside.api.lives.clear()
    asked = len(inside.asked(job))
    assert await control.retry(job, "audio", "ada", "meant the other one") == (
        "Restarted. Finished outputs were kept."
    )
    job = await inside.ended(job, "succeeded")
    assert job.run == 2 and len(inside.asked(job)) == asked + 1
    told = [event.text async for event in job.events.filter(kind="restarted", actor="ada")]
    assert told == ["Restarted: “meant the other one”"]


async def test_temporals_own_list_is_filtered_by_owner_pipeline_title_and_state(inside):
    job = await held(inside)

    def listed(state: str):
        async def found() -> list[str]:
            query = f"MediaOwner='ada' AND MediaPipelineName='standard' AND MediaState='{state}'"
            listing = inside.client.list_workflows(f"{query} AND MediaTitle STARTS_WITH '{job.title[:4]}'")
            return [workflow.id async for workflow in listing if workflow.id == job.workflow_id]

        return found

    assert await until_async(listed("attention"))
    inside.api.lives.clear()
    await control.retry(job, None, "ada")
    assert await until_async(listed("succeeded"))


async def test_a_retry_while_a_cancel_is_at_work_is_refused_with_a_sentence(dev_env):
    world = World({"extract_audio": [BROKEN], "record": [None] * 3})
    async with running(dev_env, world) as handle:
        await status_when(dev_env, handle, attention)
        world.script["record"] = ["hang"] * 9  # the end is not on record yet
        await handle.cancel()
        await status_when(dev_env, handle, lambda s: s.state == JobState.CANCELLED)
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await handle.execute_update(MediaPipeline.retry_stage, RetryRequest("audio"))
        world.gate.set()
    assert "This job is ending, so nothing can be retried now." in str(refused.value.cause)


async def test_a_job_that_was_given_up_is_started_again_with_what_is_finished(inside, settings):
    settings.HOLD_DAYS = 1 / 86_400
    job = await inside.ended(await held(inside), "failed")
    assert "without a decision" in job.error and "Restart it any time" in job.error
    settings.HOLD_DAYS = 7
    inside.api.lives.clear()
    await control.retry(job, None, "ada")
    job = await inside.ended(job, "succeeded")
    row = await Stage.objects.aget(job=job, name="audio")
    assert (row.error, row.tries, len(inside.asked(job, "ingest"))) == ("", 2, 1)


async def test_a_held_job_runs_on_another_source_and_the_run_that_waited_ends(inside):
    job = await held(inside)
    inside.api.lives.clear()
    source = Source(url="https://93.184.215.14/better.mp4", filename="better.mp4")
    said = await finished.replace_source(job, source, "grace", "the final cut")
    assert said == "Starting on the new source."
    job = await inside.ended(job, "succeeded")
    assert (job.run, job.source_url, len(inside.asked(job, "ingest"))) == (2, source.url, 2)
    kinds = [event.kind async for event in job.events.all()]
    assert "source_replaced" in kinds and "cancelled" not in kinds and "cancelling" not in kinds


async def test_a_restart_waits_until_the_run_before_it_has_closed(dashboard):
    """A run records its end a moment before Temporal closes it."""
    job = await dashboard.submit()
    await Job.objects.filter(pk=job.pk).aupdate(state="failed")
    retrying = asyncio.create_task(control.retry(job, None, "ada"))
    await asyncio.sleep(0.5)
    await dashboard.terminate(job)
    assert await retrying == "Restarted. Finished outputs were kept."
    description = await dashboard.workflow(job).describe()
    assert description.status == WorkflowExecutionStatus.RUNNING
    assert await description.memo_value("run") == 2


async def test_a_double_click_on_start_again_starts_it_once_and_says_so(inside):
    job = await held(inside)
    await control.cancel(job, "ada")
    job = await inside.ended(job, "cancelled")
    inside.api.lives.clear()
    said = await asyncio.gather(
        *(control.retry(job, None, who) for who in ("ada", "grace")), return_exceptions=True
    )
    assert len([answer for answer in said if "Restarted. Finished" in str(answer)]) == 1, said
    job = await inside.ended(job, "succeeded")
    assert job.run == 2
