"""6. A job is started exactly once, and its row ends in the true state whatever was done to its workflow."""

from __future__ import annotations

import asyncio
import json
import os
import time
from contextlib import suppress
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.utils import timezone
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.operatorservice.v1 import RemoveSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest, DescribeNamespaceRequest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError

from jobs import control, reconcile, workflow_calls
from jobs.models import Event, Job, Stage, Upload
from jobs.state import EventRecord, JobState, PipelineStatus, Source
from jobs.uploads.part_file import part_path
from jobs.workflow import search_attributes
from mediapipe import storage, temporal
from mediapipe.engine import queue
from mediapipe.engine.models import EngineTask
from mediapipe.management.dev_server import prepare_namespace
from tests.support.dashboard import URL, banner, frozen, look, settled, stage, submit, timeline
from tests.support.engine import enqueued
from tests.support.product import until, until_async
from tests.support.world import start_skipping

pytestmark = pytest.mark.anyio
whole = pytest.mark.whole
HOUR = timedelta(hours=1)


async def aged(job: Job, age: timedelta = HOUR) -> Job:
    """As if it had been submitted some time ago."""
    await Job.objects.filter(pk=job.pk).aupdate(created_at=timezone.now() - age)
    return job


async def runs(inside, job: Job) -> int:
    """How many workflows there ever were of this job."""
    query, found = f"WorkflowId = '{job.workflow_id}'", 0
    async for _ in inside.client.list_workflows(query):
        found += 1
    return found


async def forget(inside, job: Job) -> None:
    """As if its history had expired."""
    await inside.terminate(job)
    request = DeleteWorkflowExecutionRequest(
        namespace="default", workflow_execution=WorkflowExecution(workflow_id=job.workflow_id)
    )
    await inside.client.workflow_service.delete_workflow_execution(request)
    with suppress(RPCError):  # until Temporal says that there is none
        while await inside.workflow(job).describe():
            await asyncio.sleep(0.05)


async def test_twenty_who_start_a_job_at_once_start_one_workflow(inside):
    job = await inside.submit(start=False)
    assert all(await asyncio.gather(*(control.start(job) for _ in range(20))))
    job = await inside.ended(job, "succeeded")
    assert len(inside.asked(job)) == 4
    assert await until_async(lambda: runs(inside, job)) == 1
    assert await control.start(job) and await runs(inside, job) == 1, "a closed job ran again"


async def test_the_plan_says_how_long_a_worker_may_be_silent(dashboard, settings):
    settings.HEARTBEAT_SECONDS = 7
    job = await dashboard.submit(start=False)
    assert (await sync_to_async(job.workflow_input)()).heartbeat_timeout == 7


async def test_a_job_submitted_while_temporal_was_down_for_an_hour_starts_by_itself(inside, temporal_at):
    there = os.environ["TEMPORAL_ADDRESS"]
    temporal_at("127.0.0.1:1")  # nobody's
    job = await inside.submit(start=False)
    assert not await control.start(job)
    await aged(job)
    assert await reconcile.run_once() == 0
    await job.arefresh_from_db()
    assert job.state == "queued" and "Starts automatically" in job.note
    temporal_at(there)
    assert await reconcile.run_once() == 1
    job = await inside.ended(job, "succeeded")
    assert job.note == "" and len(inside.asked(job)) == 4


async def test_a_crash_between_commit_and_start_and_one_just_after_it_are_both_made_good(inside):
    never, unmarked = await inside.submit(start=False), await inside.submit()
    await inside.ended(unmarked, "succeeded")
    await inside.listed(unmarked, running=False)
    await Job.objects.filter(pk=unmarked.pk).aupdate(state="queued", workflow_started_at=None, seq=0)
    for job in (never, unmarked):
        await aged(job, timedelta(seconds=10))
    await reconcile.run_once()
    await reconcile.run_once()
    await inside.ended(never, "succeeded")
    await inside.ended(unmarked, "succeeded")
    assert len(inside.asked(never)) == len(inside.asked(unmarked)) == 4


async def test_a_workflow_that_was_ended_or_forgotten_is_settled_and_its_task_is_stopped(inside):
    inside.api.lives["audio"], inside.api.can_cancel = ["processing"] * 9999, True
    ended, forgotten = [await inside.submit() for _ in range(2)]
    for job in (ended, forgotten):
        await inside.until(job, lambda j: j.stages.filter(state="succeeded").count() == 3)
    await inside.terminate(ended, "by hand")
    await forget(inside, forgotten)
    inside.api.always["DELETE"] = "503"
    assert await reconcile.run_once(inside.engine) == 0, "it ended while its task was at work"
    inside.api.always.clear()
    for job, says in ((ended, "was ended in Temporal (terminated)"), (forgotten, "history expired")):
        at_work = inside.asked(job, "audio")[0]["id"]
        await reconcile.run_once(inside.engine)
        job = await inside.ended(job, "failed")
        assert says in job.error and "Restart it any time" in job.error
        assert at_work in inside.api.deleted, "a task that nobody waits for went on"
    inside.api.lives.clear()
    for job in (ended, forgotten):
        asked = len(inside.asked(job))
        assert "Restarted" in await control.retry(job, None, "ada")
        await inside.ended(job, "succeeded")
        assert len(inside.asked(job)) == asked + 1, "finished outputs were not carried over"


async def test_an_output_that_the_row_had_not_heard_of_outlives_the_end_of_its_workflow(inside):
    """It's ended in Temporal in the moment between a stage's end and its report, by which a restart goes."""
    inside.api.lives["audio"] = ["processing"] * 9999
    job = await inside.submit()
    await inside.until(job, lambda j: j.stages.filter(state="succeeded").count() == 3)
    await inside.terminate(job, "by hand")
    await Stage.objects.filter(job=job, name="transcode").aupdate(state="running", output=None)
    await Job.objects.filter(pk=job.pk).aupdate(seq=1)
    await reconcile.run_once(inside.engine)
    job = await inside.ended(job, "failed")
    assert "was ended in Temporal" in job.error
    transcode = await job.stages.aget(name="transcode")
    assert transcode.state == "succeeded" and transcode.parsed_output()
    inside.api.lives.clear()
    assert "Restarted" in await control.retry(job, None, "ada")
    await inside.ended(job, "succeeded")
    assert len(inside.asked(job, "transcode")) == 1, "a finished output was made again"


async def test_a_row_that_missed_the_end_is_given_it(inside):
    job = await inside.ended(await inside.submit(), "succeeded")
    await Job.objects.filter(pk=job.pk).aupdate(state="running", seq=1, finished_at=None)
    await Stage.objects.filter(job=job).aupdate(state="running")
    await inside.listed(job, running=False)
    assert await reconcile.run_once() == 1
    job = await inside.ended(job, "succeeded")
    assert job.finished_at and await job.stages.filter(state="succeeded").acount() == 4


async def test_what_an_earlier_run_still_says_is_not_taken_for_the_news_of_this_one(dashboard):
    job = await dashboard.submit(start=False)
    await Job.objects.filter(pk=job.pk).aupdate(state="failed", seq=7)
    assert await sync_to_async(job.start_again)("ada")
    late = PipelineStatus(str(job.pk), JobState.RUNNING, seq=9)
    event = EventRecord(3, timezone.now().timestamp(), "attempt", text="of the first run")
    await job.arefresh_from_db()
    assert not await sync_to_async(job.record)(late, [event], 1)
    await job.arefresh_from_db()
    assert (job.state, job.run) == ("queued", 2)
    assert not await Event.objects.filter(text="of the first run").aexists()
    assert await sync_to_async(job.record)(late, [event], 2)


async def test_an_end_is_news_even_where_a_worker_that_died_had_reported_further(dashboard):
    """It had decided, and recorded, what Temporal never learned; then somebody cancelled."""
    job = await dashboard.submit(start=False)

    def report(seq: int, state: JobState, *texts: str) -> bool:
        events = [EventRecord(at, 1.0, "told", text=text) for at, text in enumerate(texts, 3)]
        return job.record(PipelineStatus(str(job.pk), state, seq=seq), events, 1)

    record = sync_to_async(report)
    assert await record(9, JobState.RUNNING, "Ingest done", "Audio started", "Transcode started")
    assert await record(7, JobState.CANCELLED, "Cancel requested", "Cancelled")
    assert not await record(7, JobState.CANCELLED, "Cancel requested")
    await job.arefresh_from_db()
    told = [event.text async for event in job.events.filter(kind="told").order_by("seq")]
    assert (job.state, told) == ("cancelled", ["Cancel requested", "Cancelled"])


async def begun(client: Client, job: Job):
    """How the job's workflow was started, by its first event."""
    async for event in client.get_workflow_handle(job.workflow_id).fetch_history_events():
        return event.workflow_execution_started_event_attributes


async def test_a_job_starts_where_temporal_does_not_know_our_search_attributes(dashboard):
    job = await dashboard.submit(start=False)
    given = await sync_to_async(job.workflow_input)()
    async with await start_skipping() as env:  # its own: what no worker takes would stop the skipping of time
        assert not await workflow_calls.request_start(env.client, job, given)
        start = await begun(env.client, job)
        assert b'"searchable":false' in start.input.payloads[0].data


async def test_a_job_starts_where_our_search_attributes_have_been_removed_since(dashboard):
    client = dashboard.client
    assert await temporal.knows_search_attributes(client, search_attributes.NAMES)
    request = RemoveSearchAttributesRequest(search_attributes=["MediaTitle"], namespace=client.namespace)
    await client.operator_service.remove_search_attributes(request)
    try:
        start = await begun(client, await dashboard.submit())
    finally:
        await prepare_namespace(client.service_client.config.target_host)
    assert b'"searchable":false' in start.input.payloads[0].data
    assert b'"searchable":true' in (await begun(client, await dashboard.submit())).input.payloads[0].data
    asked = DescribeNamespaceRequest(namespace=client.namespace)
    kept = (await client.workflow_service.describe_namespace(asked)).config.workflow_execution_retention_ttl
    assert kept.ToTimedelta() == timedelta(days=30), "what has ended is forgotten early"


async def test_a_job_that_temporal_refuses_fails_with_a_sentence_and_holds_up_nobody(inside):
    monster = await inside.submit(start=False, source=Source(url=URL + "?" + "x" * 3_000_000))
    broken, other = await inside.submit(start=False), await inside.submit(start=False)
    await Job.objects.filter(pk=broken.pk).aupdate(plan=[{"nonsense": True}])
    for job in (broken, monster, other):
        await aged(job, timedelta(seconds=30))
    await aged(broken, HOUR)
    await reconcile.run_once()
    assert (await inside.ended(monster, "failed")).error.startswith("This job couldn’t be started: ")
    await inside.ended(other, "succeeded")


async def test_keeping_rows_in_step_goes_on_after_a_round_that_failed(inside, monkeypatch):
    old = timezone.now() - HOUR
    upload = await Upload.objects.acreate(owner=inside.owner, length=1, expires_at=old)
    part_path(upload).mkdir(parents=True)  # an upload that cannot be swept away
    monkeypatch.setattr(reconcile, "INTERVAL", 0.1)
    keeper = asyncio.create_task(reconcile.run_forever(inside.engine))
    await asyncio.sleep(0.5)
    job = await aged(await inside.submit(start=False))
    await inside.ended(job, "succeeded")
    assert not keeper.done()
    keeper.cancel()


async def test_a_round_without_a_database_is_a_line_and_no_traceback(inside, monkeypatch, caplog):
    """All night there is one every few seconds."""
    monkeypatch.setattr(reconcile, "INTERVAL", 0.1)

    @sync_to_async
    def renamed(table: str, name: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table} RENAME TO {name}")

    await renamed("jobs_turn", "jobs_turn_that_is_away")
    keeper = asyncio.create_task(reconcile.run_forever(inside.engine))

    async def failures() -> list:
        return [each for each in caplog.records if each.name == "jobs.reconcile"]

    (failed, *_) = await until_async(failures)
    keeper.cancel()
    await asyncio.gather(keeper, return_exceptions=True)
    await renamed("jobs_turn_that_is_away", "jobs_turn")
    assert failed.getMessage().startswith("a round of reconciling rows and workflows failed: ")
    assert not failed.exc_info


async def test_a_workers_log_can_have_what_a_job_went_through(inside, caplog):
    with caplog.at_level("INFO", "jobs.workflow.activities"):
        await inside.ended(await inside.submit(), "succeeded")
    lines = [each.getMessage() for each in caplog.records if each.name == "jobs.workflow.activities"]
    assert lines[:2] == ["Processing started", "Ingest started"] and lines[-1] == "Finished"
    assert len([line for line in lines if " done in " in line]) == 4


async def test_an_editor_with_a_long_name_in_any_script_can_start_jobs(inside, django_user_model):
    name = "Анастасия Константиновна Преображенская-Вознесенская"
    inside.owner = await sync_to_async(django_user_model.objects.create_user)(name, password="x")
    job = await inside.ended(await inside.submit(title="動画" * 100), "succeeded")
    assert len(inside.asked(job)) == 4


async def test_a_task_of_the_engine_whose_workflow_was_ended_fails_and_one_that_was_lost_is_queued_anew(
    dashboard,
):
    ended, lost = [await EngineTask.objects.acreate(kind="video", input="x") for _ in range(2)]
    await EngineTask.objects.filter(pk=ended.pk).aupdate(started_at=timezone.now())
    stored = storage.path(f"outputs/{ended.pk}.mp4")
    stored.parent.mkdir(parents=True)
    stored.write_bytes(b"of a worker that is lost")
    await enqueued(ended)
    await dashboard.client.get_workflow_handle(ended.pk).terminate()
    for task in (ended, lost):
        await queue.reconcile_task(task)
        assert task.status == "queued", "it has just changed: nobody needs to look"
        await EngineTask.objects.filter(pk=task.pk).aupdate(updated_at=timezone.now() - HOUR)
        await task.arefresh_from_db()
        await queue.reconcile_task(task)
        await task.arefresh_from_db()
    assert (ended.status, lost.status) == ("failed", "queued") and not stored.exists()
    assert ended.error["message"] == (
        "This task was stopped in Temporal itself, so it has no output. Start it again."
    )
    found = await dashboard.client.get_workflow_handle(lost.pk).describe()
    assert found.status == WorkflowExecutionStatus.RUNNING
    await dashboard.client.get_workflow_handle(lost.pk).terminate()


@pytest.mark.django_db(transaction=True)
async def test_a_time_without_temporal_is_none_in_which_a_task_was_asked_for():
    task = await EngineTask.objects.acreate(kind="video", input="x", updated_at=timezone.now() - HOUR)
    queue._missed[task.pk] = -1e9
    with pytest.raises((RPCError, RuntimeError, TimeoutError)):
        await queue.reconcile_forgotten()
    assert not queue._missed
    await queue.reconcile_task(task)
    assert task.pk not in queue._described, "it is looked for at the next poll"


async def test_tasks_that_nobody_asks_for_and_no_workflow_will_run_leave_the_line(dashboard, monkeypatch):
    """After Temporal's database was replaced they stood in front of every task that came later."""
    queue._missed.clear()
    monkeypatch.setattr(queue, "AWAY_FOR", 0.0)  # it was in the test before
    waiting, ended, lost, asked, new = [
        await EngineTask.objects.acreate(kind="video", input="x", updated_at=timezone.now() - age)
        for age in (HOUR, HOUR, HOUR, HOUR, HOUR / 60)
    ]
    for task in (waiting, ended):
        await enqueued(task)
    await dashboard.client.get_workflow_handle(ended.pk).terminate()
    assert await sync_to_async(new.queue_position)() == 5
    assert await queue.reconcile_forgotten() == 0, "who waits for them has had no time to ask"
    await queue.reconcile_task(asked)
    monkeypatch.setattr(queue, "FORGOTTEN_FOR", 0.0)
    assert await queue.reconcile_forgotten() == 2
    await dashboard.client.get_workflow_handle(asked.pk).terminate()
    await sync_to_async(asked.cancel)()
    for task in (waiting, ended, lost, new):
        await task.arefresh_from_db()
    assert [task.status for task in (waiting, ended, lost, new)] == ["queued", "failed", "failed", "queued"]
    assert lost.error["message"].startswith("Temporal has no record of this task")
    assert await sync_to_async(new.queue_position)() == 2
    assert await queue.reconcile_forgotten() == 0
    await dashboard.client.get_workflow_handle(waiting.pk).terminate()


@whole
def test_temporal_away_for_longer_than_every_timeout_costs_nothing(cloud, api):
    """An hour is the same as 35 seconds: no timeout of ours is longer, and none counts the outage."""
    browser = cloud.editor("grace", staff=True)
    api.lives["audio"] = ["processing", "failed"]
    waiting = submit(cloud, URL)  # for the next attempt
    until(lambda: stage(look(browser, waiting), "audio")["retry_at"])
    api.lives["audio"], api.lives["video"] = ["processing", "succeeded"], ["processing"] * 15 + ["succeeded"]
    working = submit(cloud, URL)
    until(lambda: stage(look(browser, working), "ingest")["task_id"])
    before = cloud.children()
    began = time.monotonic()
    with frozen(cloud, "temporal"):
        until(lambda: "Live status is unavailable" in banner(browser, working))
        answer = cloud.command("submit", URL, "--json")
        assert "Starts automatically" in answer.stderr
        later = json.loads(answer.stdout)["id"]
        assert "Starts automatically" in banner(browser, later)
        time.sleep(max(0.0, began + 35 - time.monotonic()))
    for job in (waiting, working, later):
        done = settled(browser, job)
        assert done["status"] == "succeeded", timeline(browser, job)
    asked = [len(api.asked(job)) for job in (waiting, working, later)]
    assert asked == [5, 4, 4], "a task was asked for twice"
    for each in look(browser, working)["stages"]:
        assert each["attempt"] <= 2 and each["max_attempts"] >= 3, "the outage burned attempts"
    assert cloud.children()["web"] == before["web"]


@whole
async def test_rows_end_in_the_true_state_without_anybody_asking(cloud, api):
    """One job's process died between commit and start; another's workflow is ended in Temporal's UI."""
    code = (
        "from jobs.models import Job; from jobs.state import Source; "
        "from django.contrib.auth import get_user_model as g; owner = g().objects.first(); "
        f"print(Job.submit(owner, title='t', pipeline='standard', source=Source(url={URL!r})).pk)"
    )
    browser = cloud.editor("grace", staff=True)
    api.lives["audio"] = ["processing"]
    ended = submit(cloud, URL)
    until(lambda: [each["state"] for each in look(browser, ended)["stages"]].count("succeeded") == 3)
    client = await Client.connect(json.loads((cloud.home / "addresses.json").read_text())["temporal"])
    await client.get_workflow_handle(f"media-{ended}").terminate("by hand")
    api.lives["audio"] = ["processing", "succeeded"]
    never_started = cloud.command("shell", "-v", "0", "-c", code).stdout.strip()
    now = until(lambda: (n := look(browser, ended))["status"] == "failed" and n)
    assert "ended in Temporal" in now["error"] and "Restart it any time" in now["error"]
    assert settled(browser, never_started)["status"] == "succeeded"
    asked = len(api.asked(ended))
    assert cloud.command("retry", ended).returncode == 0
    assert settled(browser, ended)["status"] == "succeeded"
    assert len(api.asked(ended)) == asked + 1, "finished outputs were not carried over"
