"""2. Whatever the API does ends in the right retry or the right failure, with the right sentence."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import httpx
import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from jobs.ittybit.client import DEADLINE
from jobs.requests import Failure, TaskRequest, TaskWatch
from jobs.state import JobState, Output, Source, StageState
from jobs.workflow.activities import watcher
from jobs.workflow.watch import Watcher
from tests.support.dashboard import URL, banner, settled, stage, submit
from tests.support.product import until, until_async
from tests.support.world import FLAKY, UNAVAILABLE, World, attention, plan, running, skip, status_when

pytestmark = pytest.mark.anyio


def request(**fields):
    return TaskRequest(
        "job", "ingest", "video", {}, Source(url="https://example.com/a"), "media-job/ingest/1", **fields
    )


@pytest.fixture
def task(api):
    """A task that was asked for, as the API knows it."""
    api.tasks.clear()
    api.requests.clear()


async def create(doing):
    return await ActivityEnvironment().run(doing.create_task, request())


async def watch(doing, patience=30.0, **limits):
    """What awaiting the task comes to, and the heartbeats on the way."""
    env, beats = ActivityEnvironment(), []
    env.on_heartbeat = lambda *details: beats.append(details[0])
    return await env.run(Watcher(doing.client, TaskWatch("task_1", **limits), patience).result), beats


async def failure(work):
    with pytest.raises(ApplicationError) as error:
        await work
    return error.value


async def test_the_same_request_sent_twice_makes_one_task(doing, api, task):
    assert await create(doing) == await create(doing) == "task_1"
    assert len(api.tasks) == 1


async def test_a_reply_that_got_lost_is_asked_for_again_without_a_second_task(doing, api, task):
    await create(doing)
    api.faults = ["drop"]
    assert await create(doing) == "task_1", "a connection that ends is no answer: it is sent again at once"
    api.faults = ["drop", "drop"]
    assert (await failure(create(doing))).details[0].outage
    assert await create(doing) == "task_1"
    assert len(api.tasks) == 1


LIVES = [["waiting", "queued", "processing", "succeeded"], ["new word", "completed"], ["ready"]]


@pytest.mark.parametrize("life", LIVES)
async def test_a_task_is_awaited_through_every_status_until_it_is_over(doing, api, task, life):
    api.life = life
    await create(doing)
    output, _ = await watch(doing)
    assert output.url == f"{api.url}/files/task_1.mp4"


PASSING = [["503", "500", "502"], ["html"], ["drop", "drop"], ["nostatus"], ["envelope"], ["slow 0.2"]]


@pytest.mark.parametrize("faults", PASSING)
async def test_trouble_that_passes_is_outlived_and_told_in_the_heartbeats(doing, api, task, faults):
    await create(doing)
    api.faults = list(faults)
    output, beats = await watch(doing)
    assert output.url
    if faults != ["envelope"]:
        assert any(beat.last_error.startswith("The engine") for beat in beats)


# The fault; the sentence; whether it is nobody's attempt (outage); whether a new task is wanted.
LASTING = [
    ("500", "The engine answered 500: On purpose", False, False),
    ("502", "The engine answered 502: On purpose", True, False),
    ("503", "The engine answered 503: On purpose", True, False),
    ("proxy 504", "The engine answered 504 (Gateway Timeout).", True, False),
    ("proxy 500", "The engine answered 500 (Internal Server Error).", True, False),
    ("html", "The engine answered with a page instead of JSON.", True, False),
    ("nostatus", "The engine’s answer has no status.", False, False),
    ("drop", "The engine can’t be reached.", True, False),
    ("slow 3", "The engine didn’t answer in time.", True, False),
    ("401", "The engine answered 401: On purpose. Ask an admin to check the engine’s API key.", False, True),
    ("402", "The engine answered 402: On purpose", False, True),
]


@pytest.mark.parametrize("fault, sentence, outage, over", LASTING, ids=[row[0] for row in LASTING])
async def test_asking_for_a_task_fails_with_the_sentence_for_it(
    doing, api, task, fault, sentence, outage, over
):
    if fault.startswith("slow"):
        doing.client.http.timeout = httpx.Timeout(0.5)
    api.always["POST"] = fault
    error = await failure(create(doing))
    assert error.message == sentence
    assert (error.details[0].outage, error.details[0].permanent) == (outage, over)


@pytest.mark.parametrize("fault, sentence, outage, over", LASTING, ids=[row[0] for row in LASTING])
async def test_awaiting_a_task_fails_with_the_sentence_for_it(
    doing, api, task, fault, sentence, outage, over
):
    await create(doing)
    if fault.startswith("slow"):
        doing.client.http.timeout = httpx.Timeout(0.5)
    api.always["GET"] = fault
    error = await failure(watch(doing, patience=0.1))
    assert error.message == sentence
    assert (error.details[0].outage, error.details[0].permanent) == (outage, over)
    assert not error.details[0].task_over, "a task that may still run was given up"


async def test_an_answer_that_drips_is_cut_off_before_the_worker_seems_lost(doing, api, task):
    assert DEADLINE < 30, "later than the heartbeat timeout"
    doing.client.deadline = 1.0
    api.faults = ["drip 9"]
    began = time.monotonic()
    error = await failure(create(doing))
    assert time.monotonic() - began < 8, "it was waited for"
    assert "wasn’t complete" in error.message and error.details[0].outage


async def test_a_slow_answer_does_not_make_the_worker_seem_lost(doing, api, task):
    await create(doing)
    env, beats = ActivityEnvironment(), [time.monotonic()]
    env.info = replace(env.info, heartbeat_timeout=timedelta(seconds=3))
    env.on_heartbeat = lambda *details: beats.append(time.monotonic())
    api.faults = ["slow 4"]
    assert (await env.run(Watcher(doing.client, TaskWatch("task_1")).result)).url
    assert max(later - beat for beat, later in pairwise(beats)) < 3, "another worker would have taken over"


@pytest.mark.parametrize(("own", "least", "most"), [(True, 0.79, 1.5), (False, 0.05, 1 / 6)])
async def test_an_engine_that_tells_the_end_itself_is_not_asked_ten_times_a_second(
    doing, api, task, settings, own, least, most
):
    """By the seconds between two questions: a fifth more or less by chance, more on a busy machine."""
    settings.EMBEDDED_ENGINE, settings.PUBLIC_URL = own, ""
    await create(doing)
    next(iter(api.tasks.values()))["left"] = ["processing"] * 100
    env = ActivityEnvironment()
    env.info = replace(env.info, activity_id="ingest-1")

    def reads() -> list[float]:
        return [at for method, _, at in api.requests if method == "GET"]

    watching = asyncio.create_task(env.run(watcher(doing.client, TaskWatch("task_1")).result))
    await until_async(lambda: asyncio.sleep(0, len(reads()) >= (4 if own else 12)))
    watching.cancel()
    assert least < min(later - read for read, later in pairwise(reads())) < most


async def test_a_rate_limit_is_waited_out_for_as_long_as_it_says(doing, api, task):
    await create(doing)
    api.faults = ["429 2"]
    output, beats = await watch(doing)
    assert output.url
    reads = [at for method, _, at in api.requests if method == "GET"]
    assert reads[1] - reads[0] >= 2
    assert any(beat.last_error and beat.next_at and beat.next_at - time.time() < 2 for beat in beats)


async def test_an_api_that_always_asks_for_a_little_more_time_is_an_outage_in_the_end(doing, api, task):
    await create(doing)
    api.always["GET"] = "503 1"
    watcher = Watcher(doing.client, TaskWatch("task_1"))
    watcher.max_outage = 1.5
    error = await failure(ActivityEnvironment().run(watcher.result))
    assert error.message == "The engine answered 503: On purpose" and error.details[0].outage


async def test_a_task_the_api_does_not_know_yet_is_given_time(doing, api, task):
    await create(doing)
    api.faults = ["404", "404"]
    output, _ = await watch(doing)
    assert output.url


async def test_a_task_the_api_never_knows_is_given_up_for_a_new_one(doing, api, task):
    await create(doing)
    api.always["GET"] = "404"
    error = await failure(watch(doing, patience=0.1))
    assert error.message == "The engine answered 404: On purpose"
    assert error.details[0].task_over and not error.details[0].permanent


async def test_a_failed_task_says_why_and_wants_a_new_one(doing, api, task):
    api.life = ["processing", "failed"]
    await create(doing)
    error = await failure(watch(doing))
    assert error.message == "The encoder crashed."
    assert error.details[0].task_over and not error.details[0].permanent


async def test_success_without_an_output_is_looked_at_again_and_then_a_failure(doing, api, task):
    api.output = None
    await create(doing)
    error = await failure(watch(doing, patience=0.5))
    assert error.message == "The engine reported success without an output."
    assert error.details[0].kind == "no_output" and error.details[0].task_over
    assert sum(method == "GET" for method, _, _ in api.requests) >= 3


async def test_a_task_stuck_in_processing_for_ever_is_stopped_and_tried_again(doing, api, task):
    api.life = ["processing"]
    await create(doing)
    error = await failure(watch(doing, allowed=0.3, stall=60))
    assert re.fullmatch(r"Processing took longer than \d+ minutes and was stopped\.", error.message)
    assert error.details[0].stop and error.details[0].task_over and not error.details[0].permanent


NONSENSE = {
    "output": {"url": "http://127.0.0.1:9/x.mp4", "duration": 1e300, "filesize": -1, "width": 10**400},
    "warnings": ["\0 odd" * 999] * 99,
    "progress": float("nan"),
}


async def test_numbers_and_texts_out_of_all_bounds_are_kept_small_enough_to_travel(doing, api, task):
    api.life, api.output, api.extra = ["succeeded"], NONSENSE["output"], NONSENSE
    await create(doing)
    output, _ = await watch(doing)
    assert output.duration is None and output.width is None
    assert len(output.warnings) == 10 and not any("\0" in text for text in output.warnings)
    assert len(json.dumps(output.warnings)) < 4000
    api.life, api.error = ["failed"], {"kind": "k" * 999, "message": "m\0" * 9999, "details": "d" * 99999}
    api.tasks.clear()
    await create(doing)
    error = await failure(watch(doing))
    assert len(error.message) <= 1000 and "\0" not in error.message
    assert len(error.details[0].details) <= 4000 and len(error.details[0].kind) <= 60


async def test_a_failed_task_is_tried_again_with_a_new_task_and_nothing_else_is(skipping_env):
    world = World({"generate_thumbnails": [FLAKY] * 2})
    async with running(skipping_env, world) as handle:
        status = await handle.result()
    assert world.keys("thumbnails") == ["thumbnails/1", "thumbnails/2", "thumbnails/3"]
    assert world.keys("ingest") == ["ingest/1"]
    assert status.stage("thumbnails").attempt == 3
    assert [a.outcome for a in status.stage("thumbnails").attempts] == ["failed", "failed", "succeeded"]
    assert status.stage("thumbnails").error is None


async def test_an_output_of_which_no_kind_is_told_is_of_its_stages_kind(skipping_env):
    """So that its picture is in the gallery."""
    bare = {name: [Output(url=f"https://x/{name}")] for name in ("generate_thumbnails", "animate_preview")}
    async with running(
        skipping_env, World({**bare, "transcode": [Output(kind="said")]}), plan("previews")
    ) as run:
        status = await run.result()
    kinds = [status.stage(name).output.kind for name in ("thumbnails", "preview", "transcode")]
    assert kinds == ["image", "image", "said"]


async def test_an_attempt_that_lost_sight_of_its_task_goes_on_with_the_same_task(skipping_env):
    world = World({"transcode": [Failure("broken_answer")]})
    async with running(skipping_env, world) as handle:
        status = await handle.result()
    assert world.keys("transcode") == ["transcode/1"]
    assert status.stage("transcode").attempt == 2


@pytest.mark.parametrize(
    "activity_name, stage, attempts",
    [("ingest", "ingest", 3), ("generate_thumbnails", "thumbnails", 5), ("extract_audio", "audio", 3)],
)
async def test_a_stage_is_tried_as_often_as_its_retry_policy_says(
    skipping_env, activity_name, stage, attempts
):
    world = World({activity_name: [FLAKY] * 9})
    async with running(skipping_env, world) as handle:
        status = await status_when(skipping_env, handle, attention)
    assert status.stage(stage).state == StageState.FAILED
    assert status.stage(stage).attempt == status.stage(stage).max_attempts == attempts
    assert status.stage(stage).error == "it failed: internal_error"


async def test_a_failure_that_would_only_repeat_is_not_tried_again(skipping_env):
    world = World({"ingest": [Failure("damaged", permanent=True, task_over=True)]})
    async with running(skipping_env, world) as handle:
        status = await status_when(skipping_env, handle, attention)
    assert status.stage("ingest").attempt == 1
    assert status.stage("transcode").state == StageState.PENDING


async def test_an_engine_that_is_away_burns_no_attempt(skipping_env):
    world = World({"create ingest": [UNAVAILABLE] * 8})
    async with running(skipping_env, world) as handle:
        status = await handle.result()
    assert status.state == JobState.SUCCEEDED
    assert status.stage("ingest").attempt == 1
    assert set(world.keys("ingest")) == {"ingest/1"}


@pytest.mark.release
async def test_an_engine_that_is_away_for_a_night_leaves_room_in_the_history(skipping_env):
    """Temporal ends a workflow at 51,200 events; three stages may wait at once, and be retried after."""
    patient = Failure("busy", outage=True, retry_after=1)
    world = World({"create ingest": [UNAVAILABLE, patient] * 2000})
    async with running(skipping_env, world) as handle:
        await status_when(skipping_env, handle, lambda _: len(world.created) > 2)
        await skip(skipping_env, 12 * 3600)
        events = (await handle.describe()).history_length
        world.script.clear()
        status = await handle.result()
    assert status.state == JobState.SUCCEEDED and status.stage("ingest").attempt == 1
    assert events * 3 < 51_200 / 2, f"{events} events for one stage"


@pytest.mark.whole
@pytest.mark.parametrize(
    ("faults", "says", "attempt"),
    [
        # before the second attempt, or the third where a busy machine has no page ready in five seconds
        (["500", "500"], r"The engine answered 500: On purpose\. Attempt [23] of \d in \d+ s", 3),
        (["proxy 502", "503 4", "429 4"], r"Trying again in \d+ s", 1),  # an outage is nobody's attempt
    ],
)
def test_an_api_that_refuses_is_told_on_the_page_and_outlived(cloud, api, faults, says, attempt):
    browser = cloud.editor("grace", staff=True)
    api.faults = list(faults)
    job = submit(cloud, URL)
    until(lambda: re.search(says, banner(browser, job), re.IGNORECASE))
    done = settled(browser, job)
    assert done["status"] == "succeeded", json.dumps(done)
    ingest = stage(done, "ingest")  # a worker that seemed lost, on a busy machine, has another one as well
    assert ingest["attempt"] - (ingest["max_attempts"] - 3) == attempt
    assert len(api.asked(job, "ingest")) == 1
