"""9. A deploy drains nothing: running histories replay through today's workflow, workers hand over."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import signal
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowHistory
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import Replayer, Worker

from jobs import control
from jobs import worker as jobs_worker
from jobs.models import Job
from jobs.removal.prune_workflow import PruneWorkflow
from jobs.requests import Cancellation, KeepRequest, TaskRequest, TaskWatch
from jobs.state import HANDED_OVER, JobState, Output, Source
from jobs.workflow.media_pipeline import MediaPipeline
from jobs.workflow.watch import Watcher
from mediapipe import storage, temporal
from mediapipe.engine import worker
from mediapipe.engine.models import EngineTask
from mediapipe.engine.surroundings import again
from mediapipe.payloads import DATA_CONVERTER, WorkflowRunner
from tests.support import histories
from tests.support.dashboard import URL, held_at_work, look, settled, stage, timeline
from tests.support.product import CALM, make_clip, until, until_async
from tests.support.world import World, plan, running

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
SHAPES = histories.SKIPPING + histories.REAL + histories.OTHERS
SAVED = sorted(histories.FOLDER.glob("*.json.gz"))
NAMES = [path.name.removesuffix(".json.gz") for path in SAVED]


def saved(path: Path) -> WorkflowHistory:
    return WorkflowHistory.from_json("media-x", gzip.decompress(path.read_bytes()).decode())


@workflow.defn(name="MediaPipeline", sandboxed=False)
class Other:
    """A workflow that begins with something else."""

    @workflow.run
    async def run(self, given: dict) -> None:
        await workflow.sleep(1)


@pytest.mark.parametrize("path", SAVED, ids=NAMES)
async def test_a_saved_history_replays(path):
    replayer = Replayer(
        workflows=[MediaPipeline], workflow_runner=WorkflowRunner(), data_converter=DATA_CONVERTER
    )
    await replayer.replay_workflow(saved(path))


@workflow.defn(name="Prune", sandboxed=False)
class OtherPrune:
    """The same."""

    @workflow.run
    async def run(self) -> str:
        await workflow.sleep(1)
        return ""


async def test_a_saved_history_of_the_nightly_removal_replays_and_not_by_what_decides_otherwise():
    history = saved(histories.path_of(histories.pruned))
    await Replayer(
        workflows=[PruneWorkflow], workflow_runner=WorkflowRunner(), data_converter=DATA_CONVERTER
    ).replay_workflow(history)
    with pytest.raises(Exception, match=r"[Nn]ondeterminism|TMPRL1100"):
        await Replayer(workflows=[OtherPrune]).replay_workflow(history)


def test_every_shape_of_a_job_is_saved():
    assert {histories.path_of(shape) for shape in SHAPES} <= {*SAVED, *histories.FOLDER.glob("others/*")}


def test_every_patch_of_the_workflow_occurs_in_a_saved_history():
    """Else its new way would replay nothing: what breaks it would be seen by running jobs alone."""
    code = "".join(path.read_text() for path in (ROOT / "jobs" / "workflow").glob("*.py"))
    events = [event for path in SAVED for event in saved(path).events]
    marks = [event.marker_recorded_event_attributes.details["patch-data"].payloads for event in events]
    found = {json.loads(payload.data)["id"] for payloads in marks for payload in payloads}
    assert found == set(re.findall(r'patched\(\s*"([^"]+)"', code))


@pytest.mark.parametrize("path", SAVED, ids=NAMES)
async def test_a_workflow_that_decides_otherwise_does_not_replay(path):
    with pytest.raises(Exception, match=r"[Nn]ondeterminism|TMPRL1100"):
        await Replayer(workflows=[Other]).replay_workflow(saved(path))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
async def test_histories_can_be_saved_anew(shape, request, skipping_env, dev_env):
    if not request.config.getoption("--save-histories"):
        pytest.skip("only with --save-histories")
    env = skipping_env if shape in histories.SKIPPING else dev_env
    histories.save(histories.path_of(shape), await shape(env))


async def test_a_job_goes_on_whose_pipeline_and_stages_are_no_longer_offered(inside, api, chief):
    """The plan is data: pages, history, a retry and every worker know the job by its plan alone."""
    api.lives = {"colours": ["failed"]}
    job = await inside.submit(start=False)
    ingest, *others = job.plan
    gone = {"name": "colours", "label": "Colours", "activity": "grade_colours", "needs": "ingest"}
    retry = {**ingest["retry"], "attempts": 1, "another_of_that_time": 7}
    gone |= {"retry": retry, "a_field_of_that_time": 7}
    await Job.objects.filter(pk=job.pk).aupdate(
        pipeline="graded", plan=[ingest, {**others[-1], **gone}, *others[:1]]
    )
    await job.stages.filter(name="transcode").aupdate(name="colours", label="Colours")
    await job.stages.filter(name="audio").adelete()
    job = await Job.objects.select_related("owner").aget(pk=job.pk)
    assert await control.start(job)
    job = await inside.ended(job, "attention")
    for path in (job.get_absolute_url(), "/", "/history/", f"{job.get_absolute_url()}json/"):
        page = await sync_to_async(chief.get)(path)
        assert page.status_code == 200, path
        assert path.startswith("/history") or "Colours" in page.content.decode(), path
    api.lives = {}
    assert await control.retry(job, "colours", "ada") == "Retrying Colours."
    job = await inside.ended(job, "succeeded")
    assert len(inside.asked(job, "colours")) == 2 and len(inside.asked(job, "ingest")) == 1
    types = {
        e.activity_task_scheduled_event_attributes.activity_type.name async for e in _events(inside, job)
    }
    assert "grade_colours" in types


async def _events(inside, job):
    """What its history says of activities."""
    async for event in inside.workflow(job).fetch_history_events():
        if event.HasField("activity_task_scheduled_event_attributes"):
            yield event


async def make_current(client: Client, build_id: str) -> None:
    """What docs/machines.md says, as soon as Temporal has heard of that version."""
    command = ["worker", "deployment", "set-current-version", "--deployment-name", "mediapipe"]
    command += ["--build-id", build_id, "--yes", "--address", client.service_client.config.target_host]

    async def done() -> bool:  # the version of the test has fewer queues
        program = await asyncio.create_subprocess_exec(
            *(Path(sys.executable).with_name("temporal"), *command, "--ignore-missing-task-queues"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        return await program.wait() == 0

    await until_async(done)


async def test_a_running_job_stays_with_the_version_that_began_it_and_new_ones_begin_on_the_next(
    dashboard, settings
):
    """The next version is code that could not replay it."""
    queue = f"versions-{uuid.uuid4()}"
    client, api = dashboard.client, dashboard.api
    api.life = ["processing"]

    async def begin():
        row = await dashboard.submit(start=False)
        job = replace(plan(), job_id=str(row.pk), run=row.run)
        return await client.start_workflow(MediaPipeline.run, job, id=f"media-{job.job_id}", task_queue=queue)

    async def version(run) -> str:
        info = (await run.describe()).raw_description.workflow_execution_info
        return info.versioning_info.deployment_version.build_id

    async def begun_by_the_first():
        """Temporal needs a moment until what it calls current is what it gives jobs to."""
        known = len(api.tasks)
        run = await begin()
        await until_async(lambda: asyncio.sleep(0, len(api.tasks) > known))
        if await version(run) == "1":
            return run
        return await run.terminate()

    async def begun_by_the_second():
        run = await begin()
        with suppress(TimeoutError):
            assert await asyncio.wait_for(run.result(), 5) is None
            return run
        return await run.terminate()

    settings.BUILD_ID = "1"
    async with temporal.run_workers(jobs_worker.build(client, dashboard.engine, queue)):
        await make_current(client, "1")
        running_job = await until_async(begun_by_the_first)
        settings.BUILD_ID = "2"
        following = Worker(
            client, task_queue=queue, workflows=[Other], deployment_config=jobs_worker.deployment()
        )
        async with temporal.run_workers([following]):
            await make_current(client, "2")
            new_job = await until_async(begun_by_the_second)
            api.life = ["queued", "succeeded"]
            for task in api.tasks.values():
                task["left"] = ["succeeded"]
            assert (await asyncio.wait_for(running_job.result(), 60)).state == JobState.SUCCEEDED
    assert (await version(running_job), await version(new_job)) == ("1", "2")


async def test_a_worker_that_hands_over_burns_no_attempt(skipping_env):
    shutdown = ApplicationError("restarting", type=HANDED_OVER)
    world = World({"transcode": [shutdown] * 5})
    async with running(skipping_env, world) as handle:
        status = await handle.result()
    assert status.state == JobState.SUCCEEDED
    assert world.keys("transcode") == ["transcode/1"]


async def test_a_worker_that_shuts_down_hands_over_at_once(doing, api):
    api.life = ["processing"]
    asked = TaskRequest("job", "ingest", "video", {}, Source(url="https://example.com/a"), "media-deploy/1")
    task_id = await ActivityEnvironment().run(doing.create_task, asked)
    env = ActivityEnvironment()
    task = asyncio.create_task(env.run(Watcher(doing.client, TaskWatch(task_id)).result))
    await asyncio.sleep(0.3)
    env.worker_shutdown()
    with pytest.raises(ApplicationError) as error:
        await asyncio.wait_for(task, 30)
    assert error.value.type == HANDED_OVER


async def test_a_worker_that_shuts_down_before_it_has_asked_for_a_task_hands_that_over_too(doing, api):
    """Its database is slow: the row that says whether anybody wants the task is still being read."""
    source = Source(url="https://example.com/a")
    asked = TaskRequest(str(uuid.uuid4()), "ingest", "video", {}, source, "media-deploy/2", run=1)
    busy, before = threading.Event(), len(api.requests)
    with ThreadPoolExecutor(1) as one:
        asyncio.get_running_loop().set_default_executor(one)
        one.submit(busy.wait)
        env = ActivityEnvironment()
        task = asyncio.create_task(env.run(doing.create_task, asked))
        await asyncio.sleep(0.1)
        env.cancel(activity.ActivityCancellationDetails(worker_shutdown=True))
        try:
            with pytest.raises(ApplicationError) as error:
                await asyncio.wait_for(task, 30)
        finally:
            busy.set()
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
    assert error.value.type == HANDED_OVER and len(api.requests) == before


@activity.defn
async def give_back() -> None:
    """As a worker does that restarts, eight times."""
    if activity.info().attempt <= 8:
        raise again("the worker is restarting", 0)


@workflow.defn(sandboxed=False)
class HandedOver:
    """Which is over first: eight handovers, or so many seconds."""

    @workflow.run
    async def run(self) -> str:
        given = workflow.start_activity(give_back, start_to_close_timeout=timedelta(seconds=60))
        done, _ = await workflow.wait(
            [given, asyncio.ensure_future(workflow.sleep(8))], return_when="FIRST_COMPLETED"
        )
        return "handed over" if given in done else "too late"


async def test_what_is_handed_over_is_given_out_at_once(dev_env):
    """Temporal's own server would have each wait last a second at least."""
    async with Worker(dev_env.client, task_queue="handed", workflows=[HandedOver], activities=[give_back]):
        run = dev_env.client.execute_workflow(
            HandedOver.run, id=f"handed-{uuid.uuid4()}", task_queue="handed"
        )
        assert await run == "handed over"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("handed_over, outcome", [(12, "succeeded"), (0, "failed")])
async def test_the_engine_gives_up_a_file_that_kills_workers_but_not_one_of_many_deploys(
    handed_over, outcome
):
    clip = storage.path("sources/t/source.mp4")
    clip.parent.mkdir(parents=True)
    make_clip(clip, 1, "320x180")
    task = await EngineTask.objects.acreate(kind="audio", input=storage.signed_url("sources/t/source.mp4"))
    env, beats = ActivityEnvironment(), []
    env.on_heartbeat = lambda *details: beats.append(details)
    env.info = env.default_info()
    env.info = type(env.info)(**{**vars(env.info), "attempt": 13, "heartbeat_details": [handed_over]})
    await env.run(worker.run_task, task.pk)
    await sync_to_async(task.refresh_from_db)()
    assert task.status == outcome, task.error
    if outcome == "succeeded":
        assert set(beats) == {(12,)}
    else:
        assert "was lost 10 times on this file" in task.error["message"]


@pytest.mark.whole
def test_a_deploy_hands_the_work_over_at_once_and_burns_no_attempt(product, tmp_path):
    film = make_clip(tmp_path / "long.mkv", 40, "640x360", "-c:v", "mpeg4", *CALM)  # it must be encoded
    browser = product.editor("grace", staff=True)
    patient = product.script("submit", str(film), "--json", MEDIAPIPE_HEARTBEAT_SECONDS="600")
    job = json.loads(patient.stdout)["id"]
    with held_at_work(product, browser, job, "ingest"):
        before = product.children()["worker"]
        began = time.monotonic()
        os.kill(before, signal.SIGTERM)
        until(lambda: product.children().get("worker", before) != before)
    until(lambda: (stage(look(browser, job), "ingest")["progress"] or 0) > 0)
    assert time.monotonic() - began < 500, "it waited for a heartbeat timeout"
    done = settled(browser, job)
    assert done["status"] == "succeeded", json.dumps(done)
    assert "moved to another worker (planned restart)" in timeline(browser, job)
    assert stage(done, "ingest")["max_attempts"] - stage(done, "ingest")["attempt"] == 2


async def test_what_waits_on_a_queue_of_version_0_1_is_done_by_todays_worker(dashboard, settings):
    settings.ITTYBIT_API_URL = dashboard.api.url
    dashboard.api.can_cancel = True
    task = await dashboard.engine.create(kind="video", input=URL, options={}, key="media-retired/ingest/1")
    output = Output(url=f"{dashboard.api.url}/files/task_1.mp4", format="mp4")
    waiting = [
        await dashboard.client.start_activity(
            name,
            argument,
            id=f"{name}-{uuid.uuid4()}",
            task_queue=f"{jobs_worker.TASK_QUEUE}{suffix}",
            result_type=result_type,
            start_to_close_timeout=timedelta(seconds=60),
        )
        for suffix, name, argument, result_type in (
            ("-desk", "cancel_task", task.id, Cancellation),
            ("-copies", "keep_output", KeepRequest("j", "ingest", "ingest-1", output), Output),
        )
    ]
    async with temporal.run_workers(jobs_worker.build(dashboard.client, dashboard.engine)):
        cancellation, kept = [await asyncio.wait_for(each.result(), 60) for each in waiting]
    assert cancellation.encoder_stopped and kept.name == "outputs/j/ingest-1.mp4"


async def test_workers_of_no_deployment_are_known_by_the_version(dashboard, settings):
    # that never ran stay known to their client: the engine's would be refused to later tests of this process
    client = await Client.connect(dashboard.client.service_client.config.target_host)
    async with worker.workers(client) as of_the_engine:
        built = [*jobs_worker.build(client, dashboard.engine), *of_the_engine]
    assert {each.config()["build_id"] for each in built} == {settings.VERSION} != {""}


async def test_a_worker_that_does_not_come_to_its_end_holds_up_no_deploy(dev_env):
    free, begun = asyncio.Event(), asyncio.Event()

    @activity.defn
    async def stubborn() -> None:
        begun.set()
        while not free.is_set():
            with suppress(asyncio.CancelledError):
                await free.wait()

    stuck = Worker(dev_env.client, task_queue="stuck", activities=[stubborn])
    at = time.monotonic()
    async with temporal.run_workers([stuck], shutdown_timeout=0.5):
        await dev_env.client.start_activity(
            stubborn, id="stubborn", task_queue="stuck", start_to_close_timeout=timedelta(seconds=60)
        )
        await begun.wait()
    assert time.monotonic() - at < 10, "the deploy waited for it"
    free.set()
