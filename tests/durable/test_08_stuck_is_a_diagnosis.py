"""8. Whatever a job waits for, its page says what: never a spinner without a reason."""

from __future__ import annotations

import asyncio
import json
import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError, TimeoutType
from temporalio.testing import ActivityEnvironment
from temporalio.worker import Worker

from jobs import live, trouble
from jobs.dashboard.job_page import JobPage
from jobs.dashboard.stage_view import StageView
from jobs.live import Live, reader
from jobs.requests import HeartbeatDetails, TaskRequest, TaskWatch
from jobs.state import HANDED_OVER, STAGE_FAILED, PipelineStatus, Source, StageState, StageStatus
from jobs.waits import until_next_attempt, until_progress
from jobs.workflow.failures import last_seen
from jobs.workflow.watch import Watcher
from mediapipe.database import in_thread
from mediapipe.engine import queue
from mediapipe.engine.models import EngineTask
from mediapipe.engine.serialize import task_json
from mediapipe.engine.worker import run_task
from tests.support.dashboard import banner, frozen, held_at_work, look, settled, submit
from tests.support.product import CALM, make_clip, token, until, until_async
from tests.support.world import FLAKY, UNAVAILABLE, World, running

pytestmark = pytest.mark.anyio


def pending(state: str, heard: float = 0.0) -> PendingActivityInfo:
    """A stage's activity as Temporal describes it, last heard of so many seconds ago."""
    found = PendingActivityInfo(state=PendingActivityState.Value(f"PENDING_ACTIVITY_STATE_{state}"))
    found.last_heartbeat_time.FromDatetime(datetime.now(UTC) - timedelta(seconds=heard))
    return found


WAITS = [
    (("SCHEDULED", 0), HeartbeatDetails(), True, "Waiting for a free worker"),
    (("SCHEDULED", 0), HeartbeatDetails(), False, "No worker is running"),
    (
        ("STARTED", 18),
        HeartbeatDetails("processing", 40),
        True,
        "No sign from the worker for 18 s. Another takes over at 30 s.",
    ),
    (("STARTED", 0), HeartbeatDetails("queued", queue_position=3), True, "In line: 2 came before it"),
    (("STARTED", 0), HeartbeatDetails("queued"), True, "Waiting in line"),
    (("STARTED", 0), HeartbeatDetails("queued", waiting_for="space"), True, "Waiting for free disk space"),
    (("STARTED", 0), HeartbeatDetails("queued", waiting_for="storage"), True, "Waiting for storage"),
    (
        ("STARTED", 0),
        HeartbeatDetails("queued", waiting_for="turn"),
        True,
        "Waiting for your other downloads",
    ),
    (("STARTED", 0), HeartbeatDetails("processing", waiting_for="download"), True, "Downloading the source"),
    *(
        (("STARTED", 0), HeartbeatDetails("queued", waiting_for=kind, last_error="The engine…"), True, says)
        for kind, says in (
            ("database_unavailable", "Waiting for the database"),
            ("queue_unavailable", "Waiting for the workflow service"),
        )
    ),
    *(
        (
            (state, 50),
            HeartbeatDetails("processing", 40),
            True,
            "Paused in Temporal. It continues when it’s unpaused there.",
        )
        for state in ("PAUSED", "PAUSE_REQUESTED")
    ),
    (
        ("STARTED", 0),
        HeartbeatDetails("processing", waiting_for="worker"),
        True,
        "No sign from the encoder. After 10 s the next that is free takes over.",
    ),
    (
        ("STARTED", 0),
        HeartbeatDetails("queued", queue_position=1, waiting_for="nobody"),
        True,
        "No encoder is running",
    ),
    (("STARTED", 0), HeartbeatDetails("processing", 40), True, ""),
]


@pytest.mark.parametrize("activity, beat, answered, words", WAITS, ids=[row[3] or "at work" for row in WAITS])
def test_each_kind_of_waiting_has_its_words(activity, beat, answered, words):
    assert str(until_progress(pending(*activity), beat, answered=answered) or "") == words


@pytest.mark.parametrize(
    ("state", "waiting_for"), [("queued", ""), ("queued", "nobody"), ("processing", "worker")]
)
def test_what_nobody_takes_while_the_line_is_paused_says_so(state, waiting_for):
    """Of a lost encoder’s task it said that another takes over, and none does."""
    held = "Paused by an admin: the disk is changed"
    beat = HeartbeatDetails(state, 40, waiting_for=waiting_for)
    assert str(until_progress(pending("STARTED"), beat, answered=True, held=held)) == held
    at_work = HeartbeatDetails("processing", 40)
    assert until_progress(pending("STARTED"), at_work, answered=True, held=held) is None


def test_a_task_without_a_percentage_is_told_from_a_stuck_one_by_how_long_it_has_been_at_it(settings):
    def told(state: str, minutes: float, progress: float | None = None) -> str:
        beat = HeartbeatDetails(state, progress, since=time.time() - 60 * minutes)
        return str(until_progress(pending("STARTED"), beat, answered=True) or "")

    settings.EMBEDDED_ENGINE = False
    assert told("processing", 14.5) == "Working for 14 min; this engine reports no percentage."
    assert told("processing", 0.5) == told("processing", 14, 40) == ""
    assert told("queued", 14.5) == "Waiting in line for 14 min"
    settings.EMBEDDED_ENGINE = True
    assert told("processing", 14.5) == "", "a download has no percentage either"


def test_what_a_lost_worker_had_seen_of_its_task_is_in_its_last_heartbeat():
    def seen(*details):
        about = {"started_event_id": 2, "identity": "", "activity_type": "ingest", "activity_id": "ingest-1"}
        error = ActivityError("lost", scheduled_event_id=1, retry_state=None, **about)
        error.__cause__ = TimeoutError("", type=TimeoutType.HEARTBEAT, last_heartbeat_details=details)
        return last_seen(error)

    assert seen({"state": "queued", "since": 1000.0, "at": 5}) == HeartbeatDetails("queued", since=1000.0)
    assert seen() is seen({"state": "queued"}) is seen("nobody’s") is None


@pytest.mark.parametrize("left", ["by a deploy", "by an outage"])
async def test_how_long_an_engine_has_been_at_it_outlives_the_worker_that_watches(skipping_env, left):
    """Between two workers only the workflow knows."""
    seen = HeartbeatDetails("processing", 40, since=1000.0, last_error="away")
    ends = {
        "by a deploy": ApplicationError("restarting", seen, type=HANDED_OVER),
        "by an outage": ApplicationError("away", UNAVAILABLE, seen, type=STAGE_FAILED, non_retryable=True),
    }
    world = World({"ingest": [ends[left], FLAKY]})
    async with running(skipping_env, world) as handle:
        await handle.result()
    told = [watch.seen and (watch.seen.state, watch.seen.since) for watch in world.watches[:3]]
    assert told == [None, ("processing", 1000.0), None], "of a new task nothing has been seen"


async def test_a_worker_that_takes_a_task_over_goes_on_counting(doing, api):
    api.life = ["processing"]
    asked = TaskRequest("job", "ingest", "video", {}, Source(url="https://example.com/a"), "media-since/1")
    task_id = await ActivityEnvironment().run(doing.create_task, asked)
    api.faults = ["503"]
    env, beats = ActivityEnvironment(), []
    env.on_heartbeat = lambda *details: beats.append(details[0])
    seen = HeartbeatDetails("processing", since=1000.0)
    watcher = Watcher(doing.client, TaskWatch(task_id, seen=seen))
    task = asyncio.create_task(env.run(watcher.result))
    await until_async(lambda: asyncio.sleep(0, len(beats) > 2))
    env.worker_shutdown()
    with pytest.raises(ApplicationError) as error:
        await asyncio.wait_for(task, 30)
    assert {beat.since for beat in beats} == {1000.0}
    assert watcher.ended_by(error.value).details[-1].since == 1000.0


def ended(*ways: str) -> list[HistoryEvent]:
    """The ends of workflow tasks, the newest first, as a history has them."""
    return [HistoryEvent(event_type=f"EVENT_TYPE_WORKFLOW_TASK_{way}") for way in ways]


@pytest.mark.parametrize(
    ("ways", "attempt", "failing"),
    [
        (("FAILED", "COMPLETED"), 3, True),
        (("SCHEDULED", "FAILED"), 3, True),
        (("TIMED_OUT", "COMPLETED"), 3, False),  # a worker was lost, or slow
        (
            ("STARTED", "SCHEDULED", "TIMED_OUT"),
            6,
            True,
        ),  # one was lost, and then the code failed: told nowhere
        (("COMPLETED", "FAILED"), 6, False),  # it has come over it
        ((), 6, False),
    ],
)
def test_a_workflow_that_fails_is_told_from_lost_workers_also_where_the_first_one_was_lost(
    ways, attempt, failing
):
    assert bool(trouble.of_events(ended(*ways), attempt)) == failing


def test_a_worker_that_has_just_taken_over_is_not_silent_because_the_one_before_was():
    taken_over = pending("STARTED", 50)
    taken_over.last_started_time.FromDatetime(datetime.now(UTC) - timedelta(seconds=1))
    assert until_progress(taken_over, HeartbeatDetails("processing", 40), answered=True) is None


def test_an_api_that_refuses_is_named_with_the_time_of_the_next_question():
    beat = HeartbeatDetails(
        "processing", last_error="The engine answered 429: Slow down", next_at=time.time() + 12
    )
    told = until_progress(pending("STARTED"), beat, answered=True)
    assert re.fullmatch(r"The engine answered 429: Slow down\. Trying again in 1[12] s\.", str(told))


@pytest.mark.parametrize(
    "kind, says",
    [
        ("unreachable", r"The engine can’t be reached\. Trying again in \d s\."),
        ("storage", "Waiting for storage"),
        ("database_unavailable", "Waiting for the database"),
        ("internal_error", r"The engine can’t be reached\. Attempt 2 of 3 in \d s\."),
    ],
)
def test_between_two_tries_the_page_names_what_is_away_and_counts_an_attempt_only_after_a_failure(kind, says):
    stage = StageStatus(
        "audio", attempt=1, max_attempts=3, error="The engine can’t be reached", error_kind=kind
    )
    stage.retry_at = time.time() + 5
    assert re.fullmatch(says, str(until_next_attempt(stage)))


def test_a_stage_that_waits_for_a_person_says_so_and_what_to_do():
    failed = StageStatus("audio", "Audio", StageState.FAILED, attempt=3, error="No.", error_kind="no_space")
    view = StageView(failed, Live(PipelineStatus("j", stages=[failed])))
    assert view.failed and view.summary == "Failed after 3 attempts"
    assert view.next_step == "Ask an admin to free disk space, then retry."


@pytest.mark.parametrize("sent", [17, None, {"state": 7}], ids=["a number", "nothing", "another type"])
async def test_a_heartbeat_that_is_none_of_ours_breaks_no_page(dev_env, sent):
    """Another version's, or one that was sent by hand."""
    found = pending("STARTED")
    found.heartbeat_details.payloads.extend(await dev_env.client.data_converter.encode([sent]))
    assert await live.heartbeat_details(dev_env.client, found) == HeartbeatDetails()


@pytest.mark.usefixtures("dashboard")
async def test_the_engine_tells_that_nobody_listens_to_a_queue(dev_env, monkeypatch):
    monkeypatch.setitem(queue.QUEUES, "light", "nobody-listens")
    video, audio = [await EngineTask.objects.acreate(kind=kind, input="x") for kind in ("video", "audio")]
    worker = Worker(dev_env.client, task_queue=queue.HEAVY_QUEUE, activities=[run_task])

    async def served() -> bool:
        queue._unpolled.clear()
        return not await queue.has_no_poller(video)

    async with worker:
        assert await until_async(served), "its worker waits for work"
    assert await queue.has_no_poller(audio)
    queue._unpolled.clear()
    busy = await EngineTask.objects.acreate(kind="audio", input="x", status="processing")
    assert not await queue.has_no_poller(audio), "its worker is busy"
    for waiting_for in ("space", "storage"):
        queue._unpolled.clear()
        await in_thread(busy.wait, waiting_for)
        assert not await queue.has_no_poller(audio), "its worker waits midway"
    queue._unpolled.clear()


@pytest.mark.django_db(transaction=True)
async def test_the_engine_tells_that_the_worker_at_a_task_is_silent():
    task = EngineTask(kind="video", status="processing", updated_at=timezone.now())
    assert "waiting_for" not in task_json(task)
    task.updated_at -= timedelta(seconds=7)
    assert task_json(task)["waiting_for"] == "worker"


async def test_without_a_worker_the_page_shows_what_is_known_and_says_that_nobody_works(dashboard):
    job = await dashboard.submit()
    now = await reader.aread(job)
    assert not now.fresh and now.banner.startswith("Processing is paused: no worker is running.")
    assert JobPage(job, now).banner == now.banner
    assert "manage.py" not in now.banner and "manage.py" in now.remedy, "commands are for admins"


@pytest.mark.whole
@pytest.mark.release
def test_stuck_is_a_diagnosis(product, tmp_path):
    film = make_clip(
        tmp_path / "long.mkv", 240, "640x360", "-c:v", "mpeg4", *CALM
    )  # still encoded when it is held
    browser = product.editor("grace", staff=True)
    # its worker may be silent for as long as usual, so that there is time to say so
    usual = product.script("submit", str(film), "--json", MEDIAPIPE_HEARTBEAT_SECONDS="30")
    first = json.loads(usual.stdout)["id"]
    second = submit(product, film)
    with held_at_work(product, browser, first, "ingest"):
        until(lambda: "Next in line" in banner(browser, second))
        with frozen(product, "worker"):
            until(lambda: "Processing is paused: no worker is running" in banner(browser, first))
            until(lambda: "No sign from the worker for" in banner(browser, first))
        with frozen(product, "temporal"):
            until(lambda: "Live status is unavailable" in banner(browser, first))
            page = browser.get("/jobs/new/")
            answer = browser.post(
                "/jobs/new/",
                data={"csrfmiddlewaretoken": token(page)},
                files={"file": ("later.mkv", film.read_bytes())},
            )
            later = re.search(r"/jobs/([0-9a-f-]{36})/", str(answer.url))[1]
            assert (
                "Starts automatically" in banner(browser, later)
                and look(browser, later)["status"] == "queued"
            )
    until(lambda: look(browser, later)["status"] == "running")
    for job in (first, second, later):
        product.command("cancel", job)
        assert settled(browser, job, 30)["status"] == "cancelled"
