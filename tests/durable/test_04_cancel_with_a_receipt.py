"""4. A cancel at any moment stops the work, leaves nothing behind, and says what it came to."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import replace

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.testing import ActivityEnvironment

from jobs import control, worker
from jobs.models import Stage
from jobs.requests import Failure, TaskRequest
from jobs.state import JobState, Source, StageState
from mediapipe import temporal
from tests.support.dashboard import (
    URL,
    encoders,
    engine_tasks,
    held_at_work,
    look,
    settled,
    stage,
    submit,
    timeline,
)
from tests.support.product import CALM, make_clip, token, until, until_async
from tests.support.world import (
    BROKEN,
    FLAKY,
    UNAVAILABLE,
    World,
    attention,
    cancelled_with_creations,
    running,
    states,
    status_when,
)

pytestmark = pytest.mark.anyio
whole = pytest.mark.whole


async def cancelled(handle):
    """Cancels it; it ends long before any of its waits would, which are of ten minutes here."""
    await handle.cancel(reason="grace\nwrong file")
    with pytest.raises(WorkflowFailureError):
        await asyncio.wait_for(handle.result(), 60)


async def test_a_cancel_stops_the_tasks_at_work_and_leaves_a_receipt(dev_env):
    world = World({"transcode": ["hang"]})
    async with running(dev_env, world) as handle:
        await status_when(
            dev_env,
            handle,
            lambda s: (
                s.stage("transcode").task_id
                and s.stage("audio").state == s.stage("thumbnails").state == "succeeded"
            ),
        )
        await cancelled(handle)
    last = world.records[-1].status
    assert len(world.cancelled) == 1
    assert last.state == JobState.CANCELLED
    assert states(last)["transcode"] == "cancelled"
    assert states(last)["ingest"] == "succeeded"
    assert re.fullmatch(
        r"Cancelled\. Encoding stopped within \d+ s and 41 MB of partial files were removed; "
        r"the Ingest, Thumbnails and Audio outputs were kept\.",
        last.receipt,
    )
    assert ("grace", "Cancel requested: “wrong file”") in [(e.actor, e.text) for e in world.events()]


async def test_a_held_job_can_be_cancelled(dev_env):
    world = World({"ingest": [BROKEN]})
    async with running(dev_env, world) as handle:
        await status_when(dev_env, handle, attention)
        await cancelled(handle)
    assert world.records[-1].status.state == JobState.CANCELLED
    assert world.cancelled == []
    assert "Nothing was being encoded" in world.records[-1].status.receipt


async def test_a_cancel_during_the_wait_for_a_retry_ends_at_once(dev_env):
    world = World({"ingest": [replace(FLAKY, retry_after=600)]})
    async with running(dev_env, world) as handle:
        await status_when(dev_env, handle, lambda s: s.stage("ingest").retry_at is not None)
        await cancelled(handle)
    assert world.records[-1].status.state == JobState.CANCELLED


@pytest.mark.parametrize("failure", [FLAKY, UNAVAILABLE], ids=lambda failure: failure.kind)
async def test_a_cancel_while_a_task_is_being_created_in_vain_begins_no_other_attempt(dev_env, failure):
    world = World({"create ingest": [("at the gate", failure)]})
    async with running(dev_env, world) as handle:
        await until_async(lambda: asyncio.sleep(0, world.created))
        await handle.cancel(reason="grace")
        await status_when(dev_env, handle, lambda s: s.cancelling)
        world.gate.set()
        with pytest.raises(WorkflowFailureError):
            await asyncio.wait_for(handle.result(), 60)
    assert world.keys("ingest") == ["ingest/1"], "another task was asked for after the cancel"
    last = world.records[-1].status
    assert last.state == JobState.CANCELLED and last.stage("ingest").attempt == 1


async def test_a_task_whose_creation_ends_as_the_cancel_comes_is_cancelled(dev_env):
    """The worker hears of both at once: its id must not be lost, or it works for nobody."""
    world = World({"create ingest": [("at the gate", None)]})
    async with cancelled_with_creations(dev_env, world, ["task-1"]) as handle:
        with pytest.raises(WorkflowFailureError):
            await asyncio.wait_for(handle.result(), 60)
    assert world.cancelled == ["task-1"]


@pytest.mark.parametrize("first", ["the cancel", "their ends"])
async def test_tasks_whose_creations_end_together_as_the_cancel_comes_are_all_cancelled(dev_env, first):
    three = ["task-2", "task-3", "task-4"]
    world = World(
        {f"create {name}": [("at the gate", None)] for name in ("thumbnails", "audio", "transcode")}
    )
    async with cancelled_with_creations(dev_env, world, three, first) as handle:
        with pytest.raises(WorkflowFailureError):
            await asyncio.wait_for(handle.result(), 60)
    assert sorted(world.cancelled) == three


@pytest.mark.parametrize("comes", ["later", "meanwhile"])
async def test_a_task_whose_creation_was_never_answered_is_cancelled_by_its_key(dev_env, comes):
    """Its worker was killed between the API's answer and its report."""
    lost = Failure("unreachable", outage=True, unanswered=True)
    world = World({"create ingest": [("at the gate", lost), *[UNAVAILABLE] * 99]})
    async with running(dev_env, world) as handle:
        await until_async(lambda: asyncio.sleep(0, world.created))
        if comes == "later":
            world.gate.set()
            await status_when(dev_env, handle, lambda s: s.stage("ingest").retry_at is not None)
        await handle.cancel(reason="grace")
        await status_when(dev_env, handle, lambda s: s.cancelling)
        world.gate.set()
        with pytest.raises(WorkflowFailureError):
            await asyncio.wait_for(handle.result(), 60)
    assert world.cancelled == ["ingest/1"]
    assert world.records[-1].status.receipt.startswith("Cancelled. Nothing was being encoded")


async def test_a_cancel_while_the_engine_is_away_ends_at_once(dev_env):
    world = World({"create ingest": [Failure("unreachable", outage=True, retry_after=600)] * 99})
    async with running(dev_env, world) as handle:
        await status_when(dev_env, handle, lambda s: s.stage("ingest").retry_at is not None)
        await cancelled(handle)
    assert "Nothing was being encoded" in world.records[-1].status.receipt


async def test_a_cancel_exactly_between_two_stages_stops_what_was_just_being_asked_for(dev_env):
    """Ingest is done, the three that follow are being asked for: their tasks must not run on unseen."""
    world = World({f"create {name}": ["hang"] for name in ("thumbnails", "audio", "transcode")})
    async with running(dev_env, world) as handle:
        await status_when(dev_env, handle, lambda s: len(world.created) == 4)
        await handle.cancel()
        status = await status_when(dev_env, handle, lambda s: s.cancelling)
        assert {s.task_id for s in status.stages if s.name != "ingest"} == {None}
        world.gate.set()
        with pytest.raises(WorkflowFailureError):
            await asyncio.wait_for(handle.result(), 60)
    last = world.records[-1].status
    assert sorted(world.cancelled) == ["task-2", "task-3", "task-4"]
    assert set(states(last).values()) == {"succeeded", "cancelled"}
    assert last.receipt.endswith("; the Ingest output was kept.")


async def test_a_cancel_before_the_first_task_asks_for_none(dev_env):
    world = World({"record": ["hang"]})
    async with running(dev_env, world) as handle:
        await handle.cancel()
        world.gate.set()
        with pytest.raises(WorkflowFailureError):
            await asyncio.wait_for(handle.result(), 60)
    assert world.records[-1].status.state == JobState.CANCELLED
    assert len(world.created) == len(world.cancelled)


async def test_a_cancel_that_comes_when_all_is_done_changes_nothing(dev_env):
    world = World()
    async with running(dev_env, world) as handle:
        await status_when(dev_env, handle, lambda s: s.stage("ingest").state == StageState.SUCCEEDED)
        world.script["record"] = ["hang"] * 9
        await status_when(dev_env, handle, lambda s: s.state == JobState.SUCCEEDED)
        await handle.cancel()
        await asyncio.sleep(0.2)
        world.gate.set()
        assert (await handle.result()).state == JobState.SUCCEEDED
    assert world.records[-1].status.state == JobState.SUCCEEDED
    assert [event.kind for event in world.events()][-1] == "succeeded"


async def test_an_api_without_cancel_says_so_and_one_with_it_is_told(doing, api):
    asked = TaskRequest("job", "ingest", "video", {}, Source(url=URL), "media-cancel/ingest/1")
    task = await ActivityEnvironment().run(doing.create_task, asked)
    assert not (await ActivityEnvironment().run(doing.cancel_task, task)).supported
    api.can_cancel = True
    assert (await ActivityEnvironment().run(doing.cancel_task, task)).encoder_stopped
    assert api.deleted[-1] == task


async def test_a_cancel_without_a_worker_is_kept_and_shown_and_done_when_one_comes(dashboard):
    job = await dashboard.submit()
    said = await control.cancel(job, "grace", "wrong film")
    job = await dashboard.until(job, lambda j: j.cancelling)
    assert said.startswith("Cancel requested") and job.state == "running"
    async with temporal.run_workers(worker.build(dashboard.client, dashboard.engine)):
        job = await dashboard.ended(job, "cancelled")
    assert not job.cancelling and job.receipt.startswith("Cancelled. ")


async def test_a_cancel_before_the_workflow_started_needs_no_temporal_and_it_never_starts(dashboard):
    job = await dashboard.submit(start=False)
    assert await control.cancel(job, "grace") == "Cancelled before it started."
    assert await control.start(job)  # the request that was about to start it
    job = await dashboard.until(job, lambda j: True)
    assert job.state == "cancelled" and await Stage.objects.filter(job=job, state="cancelled").acount() == 4
    with pytest.raises(control.NotPossible, match="already cancelled"):
        await control.cancel(job, "grace")


@whole
def test_a_cancel_against_an_api_without_cancel_says_so_and_twice_is_harmless(cloud, api):
    browser = cloud.editor("grace", staff=True)
    api.lives["video"] = ["processing"]
    job = submit(cloud, URL)
    until(lambda: stage(look(browser, job), "ingest")["task_id"])
    form = {"csrfmiddlewaretoken": token(browser.get(f"/jobs/{job}/")), "reason": "wrong film"}
    first = browser.post(f"/jobs/{job}/cancel/", data=form)
    assert "Cancelling" in first.text or "Cancelled" in first.text
    browser.post(f"/jobs/{job}/cancel/", data=form)
    done = until(lambda: (n := look(browser, job))["status"] == "cancelled" and n)
    assert "can’t cancel work it has started" in done["receipt"] and "wrong film" in timeline(browser, job)
    # the workflow answers that it is cancelled a moment before the row says so
    until(lambda: "already cancelled" in browser.post(f"/jobs/{job}/cancel/", data=form).text)
    api.lives["video"] = ["processing", "succeeded"]
    answer = browser.post(f"/jobs/{job}/retry/", data=form)
    assert "Restarted. Finished outputs were kept." in answer.text
    assert settled(browser, job)["status"] == "succeeded"


@whole
def test_a_cancel_while_holding_and_during_a_retry_wait_ends_at_once(cloud, api):
    browser = cloud.editor("grace", staff=True)
    api.lives["audio"] = ["processing", "failed"]
    waiting = submit(cloud, URL)
    until(lambda: stage(look(browser, waiting), "audio")["retry_at"])
    api.error = {"kind": "invalid_input", "message": "No."}
    holding = submit(cloud, URL)
    assert settled(browser, holding)["status"] == "attention"
    for job in (waiting, holding):
        assert cloud.command("cancel", job).returncode == 0
        done = until(lambda job=job: (n := look(browser, job))["status"] == "cancelled" and n, 10)
        assert done["receipt"].endswith(" kept.")


@whole
def test_cancelling_stops_the_encoder_within_three_seconds_and_gives_a_receipt(product, tmp_path):
    film = make_clip(tmp_path / "long.mp4", 40, "1280x720", *CALM)
    browser = product.editor("grace", staff=True)
    job, queued = submit(product, film), submit(product, film)
    with held_at_work(product, browser, job, "transcode"):
        form = {"csrfmiddlewaretoken": token(browser.get(f"/jobs/{job}/")), "reason": "wrong film"}
        assert encoders(product)
    began = time.monotonic()
    page = browser.post(f"/jobs/{job}/cancel/", data=form).text
    assert "Cancelling" in page or "Cancelled" in page
    until(lambda: look(browser, job)["status"] == "cancelled")
    stopped = {task["metadata"]["stage"]: task["status"] for task in engine_tasks(product, job)}
    done = look(browser, job)
    took = int(re.match(r"Cancelled\. Encoding stopped within (\d+) s and ", done["receipt"])[1])
    assert took <= 3 and time.monotonic() - began < 8
    assert re.search(
        r"of partial files were removed; the Ingest.* outputs? w(as|ere) kept\.$", done["receipt"]
    )
    assert stopped["transcode"] == "cancelled"
    assert product.command("cancel", queued).returncode == 0
    other = until(lambda: (n := look(browser, queued))["status"] == "cancelled" and n)
    assert other["receipt"].startswith("Cancelled. ")
    until(lambda: not encoders(product) and not list((product.home / "work").glob("*")))
    retried = product.command("retry", job)
    assert retried.returncode == 0, retried.stderr
    product.command("cancel", job)
    until(lambda: look(browser, job)["status"] == "cancelled")
