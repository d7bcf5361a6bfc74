"""The fleet: who works and at what, the jobs in their line, and how long the disk lasts."""

from __future__ import annotations

import asyncio
import time
import uuid
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone
from temporalio import activity, workflow
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.worker import SlotPermit, UnsandboxedWorkflowRunner, Worker

from jobs.dashboard import fleet as page
from jobs.dashboard import fleet_pruned
from jobs.fleet import first, line, pausing
from jobs.fleet import presence as fleet
from jobs.live import Live
from jobs.models import Event, FleetWorker, Job, Stage
from jobs.removal.pruning import Times
from jobs.requests import HeartbeatDetails
from jobs.state import JobState, StageState
from jobs.waits import Wait, until_progress
from mediapipe import places, temporal
from mediapipe.accounts.models import AuditEntry
from mediapipe.engine.giving_back import GivesBack
from mediapipe.places import OneByOne, Places, gate
from tests.support import recorded
from tests.support.recorded import text

SLOTS = {"media-engine": 1, "media-engine-light": 1, "media-engine-import": 12, "media-pipeline": 200}


@pytest.mark.parametrize(
    ("work", "slots", "done"),
    [
        ([], 1, []),
        ([10, 20, 5], 1, [10, 30, 35]),
        ([10, 20, 5], 2, [10, 20, 15]),
        ([10, None, 5], 2, [10, None, None]),
        ([10], 0, [None]),
    ],
)
def test_each_is_done_when_those_before_it_have_left_a_place(work, slots, done):
    assert line.ends(work, slots) == done


def test_owners_take_turns():
    assert line.in_turns(["a1", "a2", "a3", "b1", "c1", "b2"], lambda name: name[0]) == [
        *("a1", "b1", "c1", "a2", "b2", "a3")
    ]


def test_the_disk_lasts_for_as_many_hours_as_films_have_taken_bytes():
    assert line.hours_left(4000, [(1000, 1800), (3000, 5400)]) == 2
    assert line.hours_left(-1, [(1000, 1800)]) == 0
    assert line.hours_left(4000, []) is None and line.hours_left(4000, [(0, 9), (9, 0)]) is None


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/fleet/", "/fleet/status/"])
def test_the_fleet_is_an_admins_matter(ada, client, path):
    assert ada.get(path).status_code == 403
    assert client.get(path).status_code == 302


@pytest.fixture
def at_work(editor):
    """A job whose transcode is at work, as its row has it."""
    job = recorded.job(editor)
    Job.objects.filter(pk=job.pk).update(state=JobState.RUNNING, title="Interview")
    stages = Stage.objects.filter(job=job, name="transcode")
    stages.update(state=StageState.RUNNING, task_id="task_1", finished_at=None, progress=40)
    return job


@pytest.mark.django_db
def test_an_admin_sees_each_worker_and_what_it_is_at(chief, at_work):
    since = round(time.time()) - 180
    doing = [["media-engine", "run_task", "task_1", since], ["media-pipeline", "transcode", "media-1", since]]
    FleetWorker.tell("cutter", machine="room-7", version="0.3.0", slots=SLOTS, doing=doing, disk_free=2e9)
    FleetWorker.tell("spare", machine="spare", slots=SLOTS)
    FleetWorker.tell("lost", machine="lost", slots=SLOTS)
    FleetWorker.tell("old", machine="old", slots=SLOTS)
    FleetWorker.objects.filter(name="lost").update(seen_at=timezone.now() - timedelta(minutes=3))
    FleetWorker.objects.filter(name="old").update(seen_at=timezone.now() - timedelta(days=2))
    FleetWorker.stopped("spare")
    seen = text(chief.get("/fleet/"))
    assert "cutter At work on room-7 · version 0.3.0 · last sign just now · 2.0 GB free" in seen
    assert "1 of 1 encodes · 0 of 1 short work · 0 of 12 downloads · watches 1 stage" in seen
    assert "Transcode Interview for 3 min" in seen
    assert "spare Stopped" in seen and "lost No sign last sign 3 min ago" in seen and "old" not in seen
    assert "Interview ada · Transcode 40%" in seen
    assert "Estimated by what stages usually take here, with 1 encode at once." in seen


@pytest.mark.parametrize(
    ("entry", "last", "runs", "looked"),
    [
        (None, None, False, None),
        (None, 5, False, 5),
        (4, 5, False, 5),
        (4, 5, True, None),  # it isn't known yet
        (5, 4, False, None),  # by which it was removed
    ],
)
def test_that_nothing_was_removed_is_said_of_a_look_after_the_last_removal(entry, last, runs, looked):
    day = {n: datetime(2026, 11, n, tzinfo=UTC) for n in (4, 5)}
    made = AuditEntry(at=day[entry], actor="ada", text="ended sessions (2)") if entry else None
    seen = fleet_pruned.view(made, Times(day.get(last), runs, None, False))
    assert seen.found_nothing == day.get(looked) and seen.by == ("ada" if entry else "")


@pytest.mark.django_db
def test_a_fleet_without_workers_and_jobs_says_so(chief):
    seen = text(chief.get("/fleet/"))
    assert "No worker has given a sign for a day." in seen and "No job waits." in seen
    assert "Nothing has been removed yet. Temporal doesn’t say when the next look is." in seen


@pytest.mark.django_db
def test_the_line_says_what_each_job_waits_for_and_when_it_will_be_done(chief, editor, at_work, monkeypatch):
    monkeypatch.setattr(page, "USUAL_FOR", 1e-6)
    recorded.job(editor)  # by whose times it is estimated
    FleetWorker.tell("cutter", machine="cutter", slots=SLOTS)
    queued = recorded.job(editor)
    Job.objects.filter(pk=queued.pk).update(state=JobState.QUEUED, title="Second", note="Temporal is away.")
    seen = text(chief.get("/fleet/status/"))
    assert seen.index("Interview") < seen.index("Second ada · Temporal is away.")
    assert seen.count("done about") == 2 and "can’t be estimated" not in seen


@pytest.mark.django_db
def test_a_jobs_place_is_its_number_in_the_list_and_no_other_that_the_engine_counts(at_work):
    """The engine's number knows no turns, and nothing of what was moved to the front."""
    moved = {(at_work.pk, "transcode")}
    for wait, words in (
        ("Next in line", "in line"),
        ("In line: 10 came before it", "in line"),
        ("No encoder is running",) * 2,
    ):
        row = page.Row(at_work, Live(at_work.status(), waits={"transcode": Wait(wait)}))
        assert page.Place.of(row, set(), None).waits == f"Transcode: {words}"
        before = page.Place.of(row, moved, None)
        assert before.waits == "Transcode: moved to the front" and not before.can_move


@pytest.mark.django_db
def test_only_an_admin_pauses_the_line_and_reads_that_nothing_was_changed_without_temporal(ada, chief):
    for act in ("pause", "resume"):
        assert ada.post(f"/fleet/{act}/", {"why": "mine"}).status_code == 403
        assert chief.get(f"/fleet/{act}/").status_code == 405
        seen = text(chief.post(f"/fleet/{act}/", {"why": "the disk is changed"}, follow=True))
        assert "can’t be reached, so nothing was changed." in seen
    assert not AuditEntry.objects.filter(act__startswith="line.").exists()


@pytest.fixture
def cutter():
    """A worker of the engine, as its row has it: it has given a sign, and has nothing at work."""
    FleetWorker.tell("cutter", machine="cutter", slots=SLOTS)
    return FleetWorker.objects.get(name="cutter")


@pytest.mark.django_db
def test_only_an_admin_pauses_one_worker_with_a_reason_and_resumes_it(ada, chief, cutter):
    pause, resume = (f"/fleet/workers/{cutter.pk}/{act}/" for act in ("pause", "resume"))
    assert {ada.get(pause).status_code, ada.post(pause).status_code, ada.post(resume).status_code} == {403}
    assert chief.post("/fleet/workers/999/pause/").status_code == 404
    assert chief.get(resume).status_code == 405
    assert "Pause cutter ?" in text(chief.get(pause))
    seen = text(chief.post(pause, {"why": "its disk is changed"}, follow=True))
    assert "cutter Paused last sign" in seen and "It is about to hear of it." in seen
    assert "Reason: its disk is changed" in seen
    assert "cutter is paused already." in text(chief.post(pause, {"why": "again"}, follow=True))
    FleetWorker.tell("cutter", takes=False, doing=[["media-engine", "run_task", "task_9", 0]])
    assert "It finishes what it has." in text(chief.get("/fleet/"))
    FleetWorker.tell("cutter", takes=False, doing=[])
    assert "It has finished what it had, and can be stopped." in text(chief.get("/fleet/"))
    FleetWorker.stopped("cutter")
    assert "Stopped" in (seen := text(chief.get("/fleet/"))) and "when it’s started again" in seen
    assert "Paused since" not in text(chief.post(resume, follow=True))
    assert "cutter isn’t paused." in text(chief.post(resume, follow=True))
    entries = AuditEntry.objects.filter(act__startswith="worker.").order_by("pk")
    assert list(entries.values_list("act", "actor", "name", "text")) == [
        ("worker.pause", "chief", "cutter", "its disk is changed"),
        ("worker.resume", "chief", "cutter", ""),
    ]


@pytest.mark.django_db
def test_a_worker_that_has_no_work_of_the_engine_is_not_offered_for_a_pause(chief):
    FleetWorker.tell("watcher", machine="watcher", slots={"media-pipeline": 200})
    assert "/fleet/workers/" not in chief.get("/fleet/").content.decode()


@pytest.mark.django_db(transaction=True)
@pytest.mark.anyio
async def test_who_waits_is_told_of_a_pause_only_where_no_worker_takes_work(cutter, monkeypatch):
    monkeypatch.setattr(pausing, "HELD_FOR", 0.0)
    await sync_to_async(FleetWorker.tell)("spare", machine="spare", slots=SLOTS)
    await sync_to_async(FleetWorker.tell)("watcher", machine="watcher", slots={"media-pipeline": 200})
    await sync_to_async(cutter.pause)("chief", "its disk is changed")
    assert await pausing.held() == ""
    await sync_to_async(FleetWorker.stopped)("spare")
    assert await pausing.held() == "Paused by an admin: its disk is changed"
    await sync_to_async(cutter.resume)()
    assert await pausing.held() == ""


def test_a_job_in_line_says_that_an_admin_has_paused_it():
    watched = PendingActivityInfo(state=PendingActivityState.PENDING_ACTIVITY_STATE_STARTED)
    watched.last_started_time.GetCurrentTime()
    why = "Paused by an admin: the disk is changed"
    for details, words in {
        HeartbeatDetails("queued", queue_position=1): why,
        HeartbeatDetails("queued", waiting_for="nobody"): why,
        HeartbeatDetails("queued", waiting_for="space"): "Waiting for free disk space",
        HeartbeatDetails("processing", 40.0): "",
    }.items():
        assert str(until_progress(watched, details, answered=True, held=why) or "") == words


@pytest.mark.django_db(transaction=True)
@pytest.mark.anyio
async def test_a_worker_takes_nothing_before_it_knows_that_nobody_has_paused_it_and_heeds_a_pause(cutter):
    taken: list[bool] = []

    async def until(condition) -> None:
        for _ in range(600):
            if await sync_to_async(condition)():
                return
            await asyncio.sleep(0.1)
        raise AssertionError("it never was")

    for paused in (False, True):  # of the second one before it is started
        async with fleet.announced("cutter", []):
            taken.append(gate.is_open)
            await until(lambda paused=paused: gate.is_open is not paused)
            if not paused:
                await sync_to_async(cutter.pause)("chief", "its disk is changed")
            await until(lambda: FleetWorker.objects.filter(name="cutter", takes=False).exists())
            assert not gate.is_open
    assert taken == [False, False] and gate.is_open


@activity.defn
async def encode() -> str:
    return "done"


@workflow.defn
class Encoding:
    """A task that stands in line."""

    @workflow.run
    async def run(self, queue: str) -> str:
        for_a_minute = timedelta(minutes=1)
        return await workflow.execute_activity(encode, task_queue=queue, start_to_close_timeout=for_a_minute)


@pytest.mark.anyio
async def test_a_paused_worker_gives_back_what_its_poll_brings_and_goes_on_when_it_is_resumed(dev_env):
    client = dev_env.client
    runs: list[tuple[str, int, int]] = []

    @activity.defn(name="encode")
    async def note() -> str:
        info = activity.info()
        runs.append((info.workflow_id, info.attempt, sum(info.heartbeat_details)))
        return "done"

    queue = "gate-encodes"
    runner = UnsandboxedWorkflowRunner()
    flows = Worker(client, task_queue="gate", workflows=[Encoding], workflow_runner=runner)
    places = Places(queue, 1)
    encodes = Worker(
        client, task_queue=queue, activities=[note], tuner=places.tuner, interceptors=[GivesBack()]
    )
    async with temporal.run_workers([flows, encodes]):
        first = await client.start_workflow(Encoding.run, queue, id="gate-1", task_queue="gate")
        assert await asyncio.wait_for(first.result(), 60) == "done"  # its one place waits for the next
        gate.set(is_open=False)
        try:
            waiting = [
                await client.start_workflow(Encoding.run, queue, id=f"gate-{number}", task_queue="gate")
                for number in (2, 3)
            ]
            for _ in range(600):
                found = [(await each.describe()).raw_description.pending_activities for each in waiting]
                if any(pending.attempt > 1 for each in found for pending in each):
                    break
                await asyncio.sleep(0.1)
            assert [each for each, *_ in runs] == ["gate-1"]
        finally:
            gate.set(is_open=True)
        await asyncio.wait_for(asyncio.gather(*(each.result() for each in waiting)), 60)
    lost = [attempt - handed_over for _, attempt, handed_over in runs]
    assert lost == [1, 1, 1], "giving it back counts as no lost worker"
    assert max(attempt for _, attempt, _ in runs) == 2


@pytest.mark.release
@pytest.mark.django_db(transaction=True)
@pytest.mark.anyio
async def test_nothing_new_begins_while_the_line_is_paused_and_the_page_says_so(
    dev_env, temporal_at, monkeypatch, chief, at_work
):
    monkeypatch.setattr(pausing, "ENCODES", "fleet-encodes")
    monkeypatch.setattr(pausing, "QUEUES", ("fleet-encodes",))
    client = dev_env.client
    temporal_at(client.service_client.config.target_host)
    runner = UnsandboxedWorkflowRunner()
    flows = Worker(client, task_queue="fleet", workflows=[Encoding], workflow_runner=runner)
    encodes = Worker(client, task_queue="fleet-encodes", activities=[encode])
    async with temporal.run_workers([flows, encodes]):
        await pausing.pause("chief", "the disk is changed")
        found = await pausing.paused()
        assert (found.by, found.why) == ("chief", "the disk is changed")
        waiting = await client.start_workflow(Encoding.run, "fleet-encodes", id="fleet", task_queue="fleet")
        for _ in range(4):  # its worker asks all the time
            await asyncio.sleep(0.5)
            for pending in (await waiting.describe()).raw_description.pending_activities:
                assert pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
        seen = text(await sync_to_async(chief.get)("/fleet/"))
        assert "Paused since" in seen and "by chief" in seen and "Reason: the disk is changed" in seen
        assert "when the line is resumed" in seen and "done about" not in seen
        await pausing.resume("maria")
        assert await pausing.paused() is None
        assert await asyncio.wait_for(waiting.result(), 60) == "done"
    entries = AuditEntry.objects.filter(act__startswith="line.").order_by("pk")
    assert [each async for each in entries.values_list("act", "actor", "text")] == [
        ("line.pause", "chief", "the disk is changed"),
        ("line.resume", "maria", ""),
    ]


@pytest.mark.django_db
def test_only_an_admin_moves_a_job_to_the_front_and_only_one_that_waits(ada, chief, at_work):
    path = f"/fleet/jobs/{at_work.pk}/first/"
    assert ada.get(path).status_code == ada.post(path).status_code == 403
    assert chief.get(f"/fleet/jobs/{uuid.uuid4()}/first/").status_code == 404
    assert "Interview" in text(chief.get(path))
    assert "nothing was changed" in text(chief.post(path, {"why": "on air"}, follow=True))
    Stage.objects.update(task_id="")
    assert first.NOTHING_WAITS in text(chief.post(path, {"why": "on air"}, follow=True))
    assert not Event.objects.filter(kind="moved").exists()


async def of_first_priority(client, queue: str) -> bool:
    """Whether something of the first priority stands in that line."""
    found = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=queue),
            task_queue_type=pausing.ACTIVITIES,
            report_stats=True,
        )
    )
    return found.stats_by_priority_key[first.FIRST].approximate_backlog_count > 0


@pytest.mark.release
@pytest.mark.django_db(transaction=True)
@pytest.mark.anyio
async def test_a_job_that_was_moved_to_the_front_is_worked_on_next(dev_env, temporal_at, at_work):
    client = dev_env.client
    temporal_at(client.service_client.config.target_host)
    order: list[str] = []

    @activity.defn(name="encode")
    async def note() -> str:
        order.append(activity.info().workflow_id)
        return "done"

    runner = UnsandboxedWorkflowRunner()
    flows = Worker(client, task_queue="front", workflows=[Encoding], workflow_runner=runner)
    names = [*(f"task_{number}" for number in range(10, 22)), "task_1"]  # the last one is the job's
    async with temporal.run_workers([flows]):
        waiting = [
            await client.start_workflow(Encoding.run, "front-encodes", id=name, task_queue="front")
            for name in names
        ]
        for each in waiting:  # all stand in line before anybody works
            while not (await each.describe()).raw_description.pending_activities:
                await asyncio.sleep(0.1)
        await first.move(at_work, "chief", "on air at eight")
        while not await of_first_priority(client, "front-encodes"):
            await asyncio.sleep(0.1)
        encodes = Worker(client, task_queue="front-encodes", activities=[note], max_concurrent_activities=1)
        async with temporal.run_workers([encodes]):
            await asyncio.wait_for(asyncio.gather(*(each.result() for each in waiting)), 60)
    assert order.index("task_1") < 3, "of thirteen"
    event = await Event.objects.aget(kind="moved")
    assert (event.stage, event.actor) == ("transcode", "chief")
    assert event.text == "Moved to the front: on air at eight"
    entry = await AuditEntry.objects.aget(act="job.move_first")
    assert (entry.actor, entry.text, entry.key) == ("chief", "on air at eight", str(at_work.pk))
    with pytest.raises(pausing.NotPossible, match="nothing to move"):
        await first.move(at_work, "chief", "")


def test_a_worker_keeps_its_name_and_a_second_one_of_a_home_has_another(tmp_path, settings):
    settings.HOME = tmp_path
    settings.WORKER_NAME = "room/7"
    with fleet.own_name() as first:
        with fleet.own_name() as second:
            assert (first, second) == ("room/7", "room/7 (2)")
        with fleet.own_name() as again:
            assert again == second
    with fleet.own_name() as again:
        assert again == first


@pytest.mark.django_db(transaction=True)
@pytest.mark.anyio
async def test_a_worker_gives_signs_while_it_runs_and_says_when_it_stops():
    async with fleet.announced("cutter", []):
        for _ in range(600):
            if row := await FleetWorker.objects.filter(name="cutter").afirst():
                break
            await sync_to_async(time.sleep)(0.1)
        assert row.works(timezone.now()) and row.disk_free > 0
    await row.arefresh_from_db()
    assert row.stopped_at and not row.works(timezone.now()) and not row.is_silent(timezone.now())


async def taken(slots: OneByOne, *, is_sticky: bool) -> SlotPermit:
    """A place for a workflow, as the SDK takes one; *is_sticky*: for one that is known here."""
    return await slots.reserve_slot(SimpleNamespace(slot_type="workflow", is_sticky=is_sticky))


@pytest.mark.anyio
async def test_a_workflow_begins_when_none_is_at_work_and_one_that_has_begun_goes_on_at_once():
    """So that jobs that come together are not all done at the end; none waits for long."""
    slots = OneByOne(longest=60.0)
    first = await taken(slots, is_sticky=False)
    slots.mark_slot_used(SimpleNamespace(permit=first))
    new = asyncio.create_task(taken(slots, is_sticky=False))
    known = await asyncio.wait_for(taken(slots, is_sticky=True), 10)
    slots.mark_slot_used(SimpleNamespace(permit=known))
    slots.release_slot(SimpleNamespace(permit=first))
    await asyncio.sleep(5 * places.LOOK)
    assert not new.done(), "it began beside another one"
    slots.release_slot(SimpleNamespace(permit=known))
    assert isinstance(await asyncio.wait_for(new, 10), SlotPermit)
    busy = OneByOne(longest=0.05)
    busy.mark_slot_used(SimpleNamespace(permit=await taken(busy, is_sticky=False)))
    assert isinstance(await asyncio.wait_for(taken(busy, is_sticky=False), 10), SlotPermit)
