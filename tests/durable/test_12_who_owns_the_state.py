"""12. A job's state has one owner at a time, and what a person asked for survives whatever dies."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.template.loader import render_to_string
from django.utils import timezone
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError

from jobs import closing, control, fulfilling, monitoring, reconcile, worker, workflow_calls
from jobs.dashboard.job_page import JobPage
from jobs.live import LiveReader, reader
from jobs.models import Job
from jobs.models.wish import CANCEL, DELETE, FORCE_RESTART, RETRY, Wish
from jobs.removal import deleting
from jobs.state import JobState, PipelineStatus
from jobs.workflow.activities import UNWANTED
from jobs.workflow.media_pipeline import MediaPipeline
from mediapipe import temporal
from mediapipe.storage import s3
from tests.support.dashboard import URL
from tests.support.product import until_async

pytestmark = pytest.mark.anyio
MINUTE = timedelta(minutes=1)
NOWHERE = "127.0.0.1:1"


async def now(job: Job) -> Job:
    return await Job.objects.select_related("owner").aget(pk=job.pk)


async def rows(job: Job, **fields) -> Job:
    await Job.objects.filter(pk=job.pk).aupdate(**fields)
    return await now(job)


async def keep(job: Job, wish: Wish) -> None:
    assert await sync_to_async(job.keep_wish)(wish)


async def existing(inside, job: Job):
    """The job's workflow as Temporal describes it; None where there never was one."""
    with suppress(RPCError):
        return await inside.workflow(job).describe()
    return None


async def until_status(inside, job: Job, status: str):
    wanted, found = WorkflowExecutionStatus[status], None

    async def look():
        nonlocal found
        found = await existing(inside, job)
        return found if found and found.status == wanted else None

    return await until_async(look, about=lambda: _history(found))


def _history(found) -> str:
    """What a description says, for a test that waits for more."""
    if found is None:
        return "no workflow"
    raw = found.raw_description
    pending = [each.activity_type.name for each in raw.pending_activities]
    return (
        f"{found.status.name}, {found.history_length} events, pending {pending} {raw.pending_workflow_task}"
    )


async def test_a_job_that_was_cancelled_before_it_started_never_starts(dashboard):
    """Many are cancelled while the reconciler starts them from a list that it has read."""
    jobs = [await dashboard.submit(start=False) for _ in range(24)]
    await Job.objects.all().aupdate(created_at=timezone.now() - MINUTE)
    starting = asyncio.create_task(reconcile.run_once())
    await until_async(Job.objects.exclude(workflow_started_at=None).aexists, every=0)
    told = await asyncio.gather(*(control.cancel(job, "ada") for job in reversed(jobs)))  # they meet
    await starting
    await reconcile.run_once()
    assert set(told) == {"Cancelled before it started.", "Cancel requested. Finished outputs are kept."}
    for job, sentence in zip(reversed(jobs), told, strict=True):
        found, row = await existing(dashboard, job), await now(job)
        if sentence == "Cancelled before it started.":
            assert row.state == "cancelled" and found is None, "it started afterwards"
        else:
            assert row.cancelling and found, sentence


async def test_a_starter_that_dies_loses_nothing(dashboard):
    """Killed after its claim, before or after Temporal has the start, and with or without a cancel since."""
    before, after, cancelled, too_late = [await dashboard.submit(start=False) for _ in range(4)]
    for job in (before, after, cancelled, too_late):
        assert await sync_to_async(job.claim)()
    for job in (after, too_late):
        plan = await sync_to_async(job.workflow_input)()
        assert not await workflow_calls.request_start(dashboard.client, job, plan)
    assert await control.cancel(cancelled, "ada") == "Cancel requested. Finished outputs are kept."
    await keep(too_late, Wish(CANCEL, "ada"))  # and its process was killed too
    await Job.objects.all().aupdate(created_at=timezone.now() - MINUTE)
    await reconcile.run_once()
    for job, state in ((before, "queued"), (after, "running"), (cancelled, "queued"), (too_late, "running")):
        assert (await now(job)).state == state
    await Job.objects.all().aupdate(claimed_at=timezone.now() - MINUTE)
    await reconcile.run_once()
    assert (await now(before)).state == "running" and await existing(dashboard, before)
    row = await now(cancelled)
    assert row.receipt == "Cancelled before it started." and not await existing(dashboard, cancelled)
    assert await row.events.filter(kind="cancelled", actor="ada").aexists()
    assert await is_cancelled(dashboard, too_late)
    assert not (await now(too_late)).wishes


async def test_a_start_that_arrives_when_its_job_was_cancelled_makes_no_task(inside, monkeypatch):
    """Its starter was answered by nobody, and its claim has run out."""
    cancelled, gone, restarted = [await inside.submit(start=False) for _ in range(3)]
    plans = []
    for job in (cancelled, gone, restarted):
        assert await sync_to_async(job.claim)()
        plans.append(await sync_to_async(job.workflow_input)())
        assert await sync_to_async(job.cancel_unstarted)("ada", unclaimed_for=timedelta(0))
    await sync_to_async(Job.objects.filter(pk=gone.pk).delete)()
    assert await sync_to_async(restarted.start_again)("ada")
    for job, plan in zip((cancelled, gone, restarted), plans, strict=True):
        assert not await workflow_calls.request_start(inside.client, job, plan)
        await until_async(lambda job=job: _refused(inside, job))
    monkeypatch.setattr(reconcile, "GRACE", timedelta(0))
    await reconcile.run_once(inside.engine)
    for job in (cancelled, gone):
        await until_status(inside, job, "CANCELED")
        assert not inside.asked(job)
    row = await now(cancelled)
    assert (row.state, row.receipt) == ("cancelled", "Cancelled before it started.")

    async def begun() -> bool:  # once the run that came too late has ended
        await reconcile.run_once(inside.engine)
        return (await now(restarted)).state != "queued"

    await until_async(begun)
    await inside.ended(restarted, "succeeded")
    assert (await now(restarted)).run == 2 and len(inside.asked(restarted, "ingest")) == 1


async def _refused(inside, job: Job) -> bool:
    """Whether its run has been refused a task."""
    status = await (await existing(inside, job)).memo_value("status", None, type_hint=PipelineStatus)
    return bool(status and status.stage("ingest").error == UNWANTED)


async def open_by_hand(inside, job: Job, memo: dict, **options) -> None:
    plan = await sync_to_async(job.workflow_input)()
    await inside.client.start_workflow(
        MediaPipeline.run, plan, id=job.workflow_id, task_queue=worker.TASK_QUEUE, memo=memo, **options
    )


async def ending(dashboard, state: JobState) -> Job:
    """A job whose row is closed, and whose workflow says *state* and can't close: no worker is there."""
    job = await dashboard.submit(start=False)
    await open_by_hand(dashboard, job, {"run": 1, "status": PipelineStatus(str(job.pk), state)})
    return await rows(job, state="cancelled", workflow_started_at=timezone.now())


async def test_a_restart_ends_a_run_that_has_said_its_end_and_does_not_close(dashboard, monkeypatch):
    monkeypatch.setattr(control, "CLOSING_PATIENCE", 0.2)
    job = await ending(dashboard, JobState.CANCELLED)
    assert await control.retry(job, None, "ada") == "Restarted. Finished outputs were kept."
    found = await existing(dashboard, job)
    assert (found.status, await found.memo_value("run")) == (WorkflowExecutionStatus.RUNNING, 2)


async def test_a_restart_waits_in_the_row_for_a_run_that_still_works_and_holds_up_nobody(
    dashboard, monkeypatch
):
    monkeypatch.setattr(control, "CLOSING_PATIENCE", 0.2)
    job, other = await ending(dashboard, JobState.RUNNING), await dashboard.submit(start=False)
    await control.retry(job, None, "ada")
    await Job.objects.all().aupdate(created_at=timezone.now() - MINUTE)
    await reconcile.run_once()
    row = await now(job)
    assert (row.state, row.note) == ("queued", control.CLOSING_NOTE) and (await now(other)).state == "running"
    await dashboard.terminate(job)
    await reconcile.run_once()
    assert (await now(job)).state == "running"
    assert await (await existing(dashboard, job)).memo_value("run") == 2


async def test_a_run_that_does_not_close_holds_up_the_start_of_no_other_job(dashboard, monkeypatch):
    for module, limit in ((control, "CLOSING_PATIENCE"), (workflow_calls, "CALL_SECONDS")):
        monkeypatch.setattr(module, limit, 60)
    job, other = await ending(dashboard, JobState.RUNNING), await dashboard.submit(start=False)
    assert await sync_to_async(job.start_again)("ada")
    await Job.objects.all().aupdate(created_at=timezone.now() - MINUTE)
    await rows(job, created_at=timezone.now() - 2 * MINUTE)
    starting = asyncio.create_task(reconcile.run_once())
    await until_async(Job.objects.filter(pk=other.pk, state="running").aexists)
    assert not starting.done()
    await dashboard.terminate(job)
    await starting
    assert await (await existing(dashboard, job)).memo_value("run") == 2


async def test_a_run_that_closes_as_it_is_to_be_ended_is_no_error(dashboard):
    job = await ending(dashboard, JobState.CANCELLED)
    found, _ = await workflow_calls.describe(dashboard.client, job)
    await dashboard.terminate(job)
    ended = True
    with workflow_calls.unless_closed():
        ended = False
        await control._ends(dashboard.client, job, found)
        ended = True
    assert not ended, "Temporal has taken it"


async def test_a_row_that_says_running_for_a_run_that_never_began_is_started(dashboard):
    job = await dashboard.submit()
    await dashboard.terminate(job)
    await rows(job, run=2, created_at=timezone.now() - MINUTE)
    for _ in range(2):
        await reconcile.run_once()
    found = await existing(dashboard, job)
    assert (found.status, await found.memo_value("run")) == (WorkflowExecutionStatus.RUNNING, 2)
    assert (await now(job)).state == "running"


async def broken(inside) -> Job:
    """A job whose workflow fails each time: somebody has completed its activity with nonsense."""
    inside.api.lives["audio"], inside.api.can_cancel = ["processing"] * 9999, True
    job = await inside.submit(start=False)
    await open_by_hand(inside, job, {"run": 1}, task_timeout=timedelta(seconds=5))
    assert await control.start(job)
    job = await inside.until(job, lambda j: j.stages.filter(state="succeeded").count() == 3)
    found = await inside.workflow(job).describe()
    pending = found.raw_description.pending_activities
    name = next(each.activity_id for each in pending if each.activity_type.name == "extract_audio")
    activity = inside.client.get_async_activity_handle(
        workflow_id=job.workflow_id, run_id=found.run_id, activity_id=name
    )
    await activity.complete("nonsense")
    return job


def shown(job: Job, live, *, staff: bool) -> str:
    context = {"job": job, "page": JobPage(job, live), "user": {"is_staff": staff}}
    return " ".join(render_to_string("jobs/_job_status.html", context).split())


async def test_one_broken_workflow_is_told_from_a_missing_worker_and_can_be_ended_from_the_dashboard(inside):
    forced, unwanted = await broken(inside), await broken(inside)
    healthy = await inside.submit()

    async def troubled(job):
        live = await reader.aread(job)
        reader.invalidate(job)
        return live if live.troubled else None

    for job in (forced, unwanted):
        live = await until_async(lambda job=job: troubled(job))  # Temporal waits longer each time
    assert live.banner.startswith("This job can’t continue") and live.remedy.startswith("Failing since ")
    assert "nonsense" in live.remedy or "Failed decoding" in live.remedy, live.remedy

    async def healthy_beside_it():
        process = LiveReader()  # that has asked the broken one a moment before
        assert (await process.aread(forced)).banner
        return (await process.aread(healthy)).banner == ""

    await until_async(healthy_beside_it, about=lambda: "a healthy job is said to have no worker")
    button = "End it and start again with what is finished"
    assert button in await sync_to_async(shown)(forced, live, staff=True)
    assert button not in await sync_to_async(shown)(forced, live, staff=False)

    async def refused():
        with pytest.raises((control.TemporalUnavailable, control.Refused)) as said:
            await control.retry(forced, None, "ada")
        return str(said.value) == workflow_calls.WORKFLOW_FAILING

    await until_async(refused)
    assert not (await now(forced)).wishes, "a retry that can't be taken was promised"

    async def settled(job):
        await reconcile.run_once(inside.engine)  # as the worker does
        return not (await now(job)).active

    tasks = {job.pk: inside.asked(job, "audio")[0]["id"] for job in (forced, unwanted)}
    await control.force_restart(forced, "grace", "it is broken")
    assert await control.cancel(unwanted, "grace") == "Cancel requested. Finished outputs are kept."
    inside.api.lives.clear()
    await until_async(lambda: settled(unwanted))
    assert set(tasks.values()) <= set(inside.api.deleted), "a task that nobody waits for went on"
    row = await now(unwanted)
    assert (row.state, row.receipt) == ("cancelled", closing.CANCELLED_BY_FORCE)
    assert await deleting.delete_for_good(row, "grace") == "Deleted."
    row = await inside.ended(forced, "succeeded")
    assert row.run == 2 and not row.wishes and len(inside.asked(row, "ingest")) == 1
    assert await row.events.filter(kind="restarted", actor="grace", text__contains="it is broken").aexists()


async def test_a_forced_restart_that_was_killed_halfway_is_finished(dashboard):
    job = await dashboard.submit()
    await keep(job, Wish(FORCE_RESTART, "grace"))
    await dashboard.terminate(job)  # and then the process was killed
    await reconcile.run_once()
    row = await now(job)
    assert (row.state, row.run, row.wishes) == ("running", 2, [])


async def test_a_retry_without_a_worker_or_without_temporal_waits_in_the_row_and_is_delivered(
    dashboard, temporal_at
):
    there = dashboard.client.service_client.config.target_host
    dashboard.api.error, dashboard.api.lives["audio"] = (
        {"kind": "invalid_input", "message": "No."},
        ["failed"],
    )
    async with temporal.run_workers(worker.build(dashboard.client, dashboard.engine)):
        job = await dashboard.ended(await dashboard.submit(), "attention")
        temporal_at(NOWHERE)
        with pytest.raises(control.TemporalUnavailable, match="Your retry starts when it’s back"):
            await control.retry(job, "audio", "ada")
        kept = (await now(job)).wishes
        assert [wish.kind for wish in kept] == [RETRY]
        assert "ada’s retry is waiting." in await sync_to_async(shown)(await now(job), None, staff=False)
        temporal_at(there)
        dashboard.api.lives.clear()
        await reconcile.run_once()
        job = await dashboard.ended(job, "succeeded")
        assert not job.wishes and await job.events.filter(kind="retry", actor="ada").acount() == 1


async def test_a_retry_where_nothing_has_failed_is_not_promised_to_anybody(dashboard, temporal_at):
    job = await dashboard.submit()
    temporal_at(NOWHERE)
    for stage in (None, "audio"):
        with pytest.raises(control.NotPossible, match="Nothing has failed here"):
            await control.retry(job, stage, "ada")
    assert not (await now(job)).wishes


async def test_a_cancel_without_temporal_waits_in_the_row_and_is_delivered(dashboard, temporal_at):
    there = dashboard.client.service_client.config.target_host
    job = await dashboard.submit()
    temporal_at(NOWHERE)
    with pytest.raises(control.TemporalUnavailable, match="takes effect when it’s back"):
        await control.cancel(job, "ada", "wrong film")
    assert (await now(job)).cancelling
    temporal_at(there)
    await reconcile.run_once()
    assert not (await now(job)).wishes
    async with temporal.run_workers(worker.build(dashboard.client, dashboard.engine)):
        job = await dashboard.ended(job, "cancelled")
    assert await job.events.filter(actor="ada", text__contains="wrong film").aexists()


async def test_a_retry_of_a_job_that_gave_up_meanwhile_starts_it_again_and_other_wishes_are_dropped(
    dashboard,
):
    failed, done = await dashboard.submit(), await dashboard.submit()
    for job in (failed, done):
        await keep(job, Wish(RETRY, "ada", key="retry-all-1"))
        await dashboard.terminate(job)
    await rows(failed, state="failed")
    await rows(done, state="succeeded")
    await reconcile.run_once()
    assert ((await now(failed)).state, (await now(failed)).run) == ("running", 2)
    assert ((await now(done)).state, (await now(done)).wishes) == ("succeeded", [])


async def test_a_delete_that_was_killed_halfway_is_finished_and_the_trash_is_emptied(dashboard):
    halfway, overdue, lying = [await dashboard.submit(start=False) for _ in range(3)]
    await keep(await rows(halfway, state="failed"), Wish(DELETE, "ada"))
    for job, days in ((overdue, 8), (lying, 6)):
        when = timezone.now() - timedelta(days=days)
        await Job.objects.filter(pk=job.pk).aupdate(state="failed", trashed_at=when)
    await reconcile.run_once()
    assert [job async for job in Job.with_trash.all()] == [lying]


async def test_a_workflow_that_no_row_owns_is_cancelled_but_not_in_its_first_seconds(inside, monkeypatch):
    inside.api.lives["video"], inside.api.can_cancel = ["processing"] * 9999, True
    gone, closed, _ = [await inside.submit() for _ in range(3)]
    for job in (gone, closed):
        await inside.until(job, lambda j: j.stages.get(name="ingest").task_id)
    await sync_to_async(Job.objects.filter(pk=gone.pk).delete)()
    await rows(closed, state="failed")
    for job in (gone, closed):
        await inside.listed(job, running=True)
    await reconcile.run_once(inside.engine)
    assert (await existing(inside, gone)).status == WorkflowExecutionStatus.RUNNING
    monkeypatch.setattr(reconcile, "GRACE", timedelta(0))
    await reconcile.run_once(inside.engine)
    for job in (gone, closed):
        await until_status(inside, job, "CANCELED")
        assert inside.asked(job, "ingest")[0]["id"] in inside.api.deleted
    assert (await now(closed)).state == "failed", "a closed row was opened"


async def is_cancelled(inside, job: Job) -> bool:
    kinds = [event.event_type async for event in inside.workflow(job).fetch_history_events()]
    return EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED in kinds


async def test_a_database_without_any_job_cancels_nothing(inside, monkeypatch):
    monkeypatch.setattr(reconcile, "GRACE", timedelta(0))
    inside.api.lives["video"] = ["processing"] * 9999
    job = await inside.submit()
    await inside.until(job, lambda j: j.stages.get(name="ingest").task_id)
    await sync_to_async(Job.objects.all().delete)()
    await reconcile.run_once()
    assert not await is_cancelled(inside, job)


async def test_a_workflow_that_waits_for_a_worker_to_tell_its_end_is_left_to_it(dashboard, monkeypatch):
    monkeypatch.setattr(reconcile, "GRACE", timedelta(0))
    job = await dashboard.submit()
    await rows(job, state="succeeded")
    await reconcile.run_once()
    assert not await is_cancelled(dashboard, job)


async def reset(inside, job: Job) -> None:
    """As an admin may do it in Temporal's own UI: back to where the first workflow task ended."""
    events = [event async for event in inside.workflow(job).fetch_history_events()]
    first = next(e for e in events if e.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED)
    await inside.client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace="default",
            workflow_execution=WorkflowExecution(workflow_id=job.workflow_id),
            workflow_task_finish_event_id=first.event_id,
            request_id="once",
        )
    )


async def test_a_workflow_that_was_reset_after_its_job_was_closed_is_stopped(inside, monkeypatch):
    job = await inside.ended(await inside.submit(), "succeeded")
    for task in inside.asked(job):  # found again by their keys: done, they would end the run before we look
        task["status"], task["left"] = "processing", []
    await reset(inside, job)
    monkeypatch.setattr(reconcile, "GRACE", timedelta(0))
    found = None

    async def stopped():
        nonlocal found
        await reconcile.run_once(inside.engine)
        found = await existing(inside, job)
        return found and found.status == WorkflowExecutionStatus.CANCELED

    await until_async(stopped, about=lambda: _history(found))
    assert (await now(job)).state == "succeeded"


async def test_an_empty_temporal_closes_no_job_before_a_second_look(dashboard, monkeypatch, caplog):
    jobs = [await dashboard.submit(start=False) for _ in range(3)]
    await Job.objects.all().aupdate(state="running", workflow_started_at=timezone.now())
    assert await reconcile.run_once() == 0
    assert await reconcile.run_once() == 0 and "Temporal knows none of the 3 active jobs." in caplog.text
    assert {(await now(job)).state for job in jobs} == {"running"}
    assert not await monitoring.temporal_knows_jobs()
    monkeypatch.setattr(reconcile, "CONFIRM_SECONDS", 0)
    assert await reconcile.run_once() == 3
    assert {(await now(job)).state for job in jobs} == {"failed"}
    reconcile._unknown.clear()


async def test_jobs_of_a_temporal_that_was_replaced_are_closed_by_the_rounds_of_one_worker(
    dashboard, monkeypatch
):
    """Each look at whether the turn is one's own began their minute anew: they ran for ever."""
    jobs = [await dashboard.submit(start=False) for _ in range(3)]
    await Job.objects.all().aupdate(state="running", workflow_started_at=timezone.now())
    monkeypatch.setattr(reconcile, "INTERVAL", 1.0)
    monkeypatch.setattr(reconcile, "CONFIRM_SECONDS", 2.0)
    rounds = asyncio.create_task(reconcile.run_forever(dashboard.engine))

    async def closed() -> bool:
        return {(await now(job)).state for job in jobs} == {"failed"}

    await until_async(closed)
    rounds.cancel()
    with suppress(asyncio.CancelledError):
        await rounds


async def test_what_was_seen_long_ago_closes_no_job(dashboard, monkeypatch):
    """Another worker looked meanwhile, and may have found the right Temporal."""
    for _ in range(3):
        await dashboard.submit(start=False)
    await Job.objects.all().aupdate(state="running", workflow_started_at=timezone.now())
    assert await reconcile.run_once() == 0
    monkeypatch.setattr(reconcile, "CONFIRM_SECONDS", 0.1)
    monkeypatch.setattr(reconcile, "INTERVAL", 0.0)
    await asyncio.sleep(0.2)
    assert await reconcile.run_once() == 0
    reconcile._unknown.clear()


async def test_a_job_that_was_begun_in_a_wrong_temporal_does_not_make_it_the_right_one(dashboard):
    jobs = [await dashboard.submit(start=False) for _ in range(3)]
    await Job.objects.all().aupdate(state="running", workflow_started_at=timezone.now() - 60 * MINUTE)
    await dashboard.submit()
    queued = await dashboard.submit(start=False)
    await rows(queued, created_at=timezone.now() - MINUTE)
    assert await reconcile.run_once() == 0
    assert {(await now(job)).state for job in jobs} == {"running"}
    assert (await now(queued)).state == "queued" and await existing(dashboard, queued) is None
    assert not await monitoring.temporal_knows_jobs()
    reconcile._unknown.clear()


@pytest.mark.parametrize(("fault", "patience"), [("500", 300.0), ("503", 0.0)])
async def test_a_job_whose_engine_does_not_answer_is_closed_and_says_so(
    dashboard, monkeypatch, fault, patience
):
    monkeypatch.setattr(closing, "ENGINE_TIMEOUT", patience)
    jobs = [await dashboard.submit() for _ in range(2)]
    for job in jobs:
        await job.stages.filter(name="ingest").aupdate(state="running", task_id="task_1")
        await dashboard.terminate(job)
    await rows(jobs[1], cancelling=True)
    dashboard.api.always["DELETE"] = fault
    assert await reconcile.run_once(dashboard.engine) == 2
    failed, cancelled = [await now(job) for job in jobs]
    assert (failed.state, cancelled.state) == ("failed", "cancelled")
    assert failed.error.endswith(closing.UNSTOPPED) and cancelled.receipt.endswith(closing.UNSTOPPED)


async def test_a_task_whose_id_no_row_knows_is_cancelled_by_its_key(dashboard):
    """The history that knew it is gone, or its workflow was ended, as its creation was being answered."""
    dashboard.api.can_cancel = True
    job = await dashboard.submit()
    await job.stages.filter(name="ingest").aupdate(state="running", tries=1)
    given = {"kind": "video", "input": URL, "options": {}}
    task = await dashboard.engine.create(**given, key=f"{job.workflow_id}/ingest/2")
    await dashboard.terminate(job)
    assert await reconcile.run_once(dashboard.engine) == 1
    assert dashboard.api.deleted[-1:] == [task.id] and closing.UNSTOPPED not in (await now(job)).error


@pytest.fixture
def silent_bucket(settings, monkeypatch):
    """A bucket that takes connections and answers none."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings.S3_BUCKET, settings.S3_REGION = "media", "us-east-1"
        settings.S3_ENDPOINT_URL = f"http://127.0.0.1:{server.getsockname()[1]}"
        s3.storage.cache_clear()
        yield server
    s3.storage.cache_clear()


async def test_deletes_that_wait_for_the_storage_hold_up_nothing_else(dashboard, monkeypatch, silent_bucket):
    monkeypatch.setattr(fulfilling, "DELETE_SECONDS", 0.1)
    for _ in range(fulfilling.DELETES + 1):
        job = await rows(await dashboard.submit(start=False), state="failed")
        await keep(job, Wish(DELETE, "ada"))
    queued = await rows(await dashboard.submit(start=False), created_at=timezone.now() - MINUTE)
    assert await reconcile.run_once() == 1 and await reconcile.run_once() == 0
    assert (await now(queued)).state == "running"
    under_way = fulfilling._deleting[0]
    assert not under_way.done()
    silent_bucket.close()
    assert not any(await under_way) and (await now(job)).wishes, "a delete was given up"


async def test_a_promised_retry_waits_for_the_row_to_say_how_its_run_has_ended(dashboard):
    failed, done = await dashboard.submit(), await dashboard.submit()
    for job in (failed, done):
        await job.stages.filter(name="audio").aupdate(state="failed")
        await dashboard.terminate(job)
        with pytest.raises(control.NotPossible, match="If it has failed, your retry starts it again"):
            await control.retry(job, "audio", "ada")
        assert [wish.kind for wish in (await now(job)).wishes] == [RETRY]
    await rows(done, state="succeeded")
    await reconcile.run_once()
    await reconcile.run_once()
    assert ((await now(failed)).state, (await now(failed)).run) == ("running", 2)
    assert ((await now(done)).run, (await now(done)).wishes) == (1, [])


async def test_what_was_asked_of_another_run_is_given_to_none(dashboard):
    job = await dashboard.submit()
    for wish in (Wish(CANCEL, "ada", run=0), Wish(FORCE_RESTART, "ada", run=0)):
        await rows(job, kept_wishes=[wish.as_json()])
        await reconcile.run_once()
        assert not (await now(job)).wishes and not await is_cancelled(dashboard, job)
    with pytest.raises(control.NotPossible):
        await workflow_calls.deliver(job, Wish(CANCEL, "ada", run=0))
    assert not await is_cancelled(dashboard, job) and (await now(job)).run == 1


async def test_a_workflow_that_can_continue_is_not_ended_by_a_forced_restart(dashboard):
    job = await dashboard.submit()
    with pytest.raises(control.NotPossible, match="can continue by itself"):
        await control.force_restart(job, "grace")
    assert not (await now(job)).wishes
    await keep(job, Wish(FORCE_RESTART, "grace"))  # while it was in trouble
    await reconcile.run_once()
    row = await now(job)
    assert (row.state, row.run, row.wishes) == ("running", 1, [])
    assert (await existing(dashboard, job)).status == WorkflowExecutionStatus.RUNNING
    assert await row.events.filter(actor="grace", text=control.CONTINUES).aexists()


async def test_a_forced_restart_of_a_run_that_has_ended_well_meanwhile_changes_nothing(inside):
    job = await inside.ended(await inside.submit(), "succeeded")
    await rows(job, state="running", seq=1, kept_wishes=[Wish(FORCE_RESTART, "grace").as_json()])

    async def put_right():  # Temporal lists it as running for a moment
        await reconcile.run_once()
        return (await now(job)).state == "succeeded"

    await until_async(put_right)
    row = await now(job)
    assert (row.run, row.wishes) == (1, [])


async def test_a_cancelled_job_that_an_admin_ended_by_hand_is_not_said_to_have_been_broken(dashboard):
    job = await rows(await dashboard.submit(), cancelling=True)
    await dashboard.terminate(job, "by hand")
    await until_async(reconcile.run_once)  # Temporal lists it as running for a moment
    assert (await now(job)).receipt == closing.CANCELLED_AND_ENDED


async def test_a_job_is_given_only_what_a_workflow_takes_when_it_starts(dashboard):
    job = await dashboard.submit(start=False)
    await keep(job, Wish(FORCE_RESTART, "ada"))
    assert await control.start(job)
    assert not await is_cancelled(dashboard, job), "a restart was given as a cancel"


async def test_a_running_job_that_is_to_be_deleted_is_cancelled_and_put_into_the_trash(inside):
    """Whatever dies in between: the wish is in the row."""
    inside.api.life = ["processing"]
    job = await inside.submit()
    await inside.until(job, lambda j: j.stages.filter(state="running").exists())
    assert await deleting.cancel_and_delete(job, "ada") == deleting.AT_ITS_END
    await inside.ended(job, "cancelled")
    await reconcile.run_once(inside.engine)
    row = await Job.with_trash.aget(pk=job.pk)
    assert row.trashed_at and "Cancelled" in row.receipt and not row.wishes
