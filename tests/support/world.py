"""A scripted outside for the workflow: activities that follow a script, on a real Temporal server."""

from __future__ import annotations

import asyncio
import sys
import uuid
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from temporalio import activity
from temporalio.api.testservice.v1 import SleepRequest
from temporalio.client import Interceptor, OutboundInterceptor, WorkflowHistoryEventAsyncIterator
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from jobs.pipelines import CLOUD_THEN_OWN, PIPELINES
from jobs.requests import Cancellation, Failure, KeepRequest, RecordRequest, TaskRequest, TaskWatch
from jobs.state import (
    CONTROL,
    FINISHED,
    STAGE_FAILED,
    TRANSFERS,
    JobState,
    Output,
    PipelineInput,
    Source,
    workflow_id,
)
from jobs.workflow.media_pipeline import MediaPipeline
from mediapipe import temporal
from tests.support.product import until_async

BOTH = Output(name="outputs/x.mp4", video_codec="h264", audio_codec="aac", codecs_known=True, duration=10)
BROKEN = Failure("damaged", permanent=True, task_over=True)
FLAKY = Failure("internal_error", task_over=True)
UNAVAILABLE = Failure("unreachable", outage=True)


class World:
    """A script of how each stage's attempts end, and a log of what was requested.

    A step is a Failure, an Output, an error to raise, or "hang" until *gate* is set; ("at the gate", step)
    is a step that hears of no cancel before it. The keys are activities; "create <stage>" is how creating
    its task ends, "record" how recording does.
    """

    def __init__(self, script=None):
        self.script = {name: list(steps) for name, steps in (script or {}).items()}
        self.created = []
        self.requests = []
        self.cancelled = []
        self.records = []
        self.watches = []
        self.gate = asyncio.Event()
        self.at_end = None  # what is called while the end is recorded for the first time

    async def step(self, key):
        steps = self.script.get(key)
        step = steps.pop(0) if steps else None
        if isinstance(step, tuple):
            await self.gate.wait()
            step = step[1]
        if isinstance(step, Failure):
            raise ApplicationError(f"it failed: {step.kind}", step, type=STAGE_FAILED, non_retryable=True)
        if isinstance(step, Exception):
            raise step
        if step == "hang":
            while not self.gate.is_set():
                activity.heartbeat()
                await asyncio.sleep(0.02)
        return step

    def stage(self, name):
        @activity.defn(name=name)
        async def run(watch: TaskWatch) -> Output:
            self.watches.append(watch)
            step = await self.step(name)
            return step if isinstance(step, Output) else BOTH

        return run

    def control(self):
        """The short activities of the control queue."""

        @activity.defn
        async def create_task(request: TaskRequest) -> str:
            self.created.append((request.stage, request.key))
            self.requests.append(request)
            number = len(self.created)
            await self.step(f"create {request.stage}")
            return f"task-{number}"

        @activity.defn
        async def cancel_task(task_id: str) -> Cancellation:
            self.cancelled.append(task_id)
            return Cancellation(encoder_stopped=True, freed_bytes=41_000_000)

        @activity.defn
        async def cancel_unanswered(key: str) -> Cancellation:
            self.cancelled.append(key.split("/", 1)[1])
            return Cancellation()

        return [create_task, cancel_task, cancel_unanswered, self.record()]

    def record(self):
        """What is local to the workflow's worker, and on the control queue where that doesn't end well."""

        @activity.defn
        async def record(request: RecordRequest) -> bool:
            await self.step("record")
            if self.at_end and request.status.state in FINISHED:
                await self.at_end()
                self.at_end = None
            self.records.append(request)
            return True

        return record

    def transfers(self):
        """The activity of the transfers queue."""

        @activity.defn
        async def keep_output(request: KeepRequest) -> Output:
            return replace(request.output, name=f"outputs/{request.stage}.mp4")

        return [keep_output]

    def events(self):
        return [event for request in self.records for event in request.events]

    def keys(self, stage):
        """The idempotency keys of a stage's tasks, without the workflow's id."""
        return [key.split("/", 1)[1] for name, key in self.created if name == stage]


def plan(pipeline="standard", **fields):
    return PipelineInput(
        "j", Source(url="https://example.com/a.mov"), list(PIPELINES[pipeline].stages), "ada", **fields
    )


def transcode_last(**fields):
    """The standard pipeline in the order of Temporal's guide: its last stage waits for two others."""
    given = plan(**fields)
    return replace(given, stages=[*given.stages[:3], replace(given.stages[3], after=["thumbnails", "audio"])])


class Patient(Interceptor):
    """Waits for a workflow's end however long it takes: the test server gives up on a slow machine."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return PatientRequests(super().intercept_client(next))


class PatientRequests(OutboundInterceptor):
    """Asks for events as Patient does."""

    def fetch_workflow_history_events(self, input):
        return Events(super().fetch_workflow_history_events(input)._client, input)


class Events(WorkflowHistoryEventAsyncIterator):
    """Asks again where a wait for an event has ended without one, and without a page that is to come."""

    async def fetch_next_page(self, *, page_size: int | None = None) -> None:
        await super().fetch_next_page(page_size=page_size)
        while self._input.wait_new_event and not self.current_page and not self.next_page_token:
            await super().fetch_next_page(page_size=page_size)


def cloud_then_own(**fields):
    """The standard pipeline by the cloud, and by the own engine what the cloud gives up."""
    given = plan(**fields)
    return replace(given, stages=[replace(stage, engine=CLOUD_THEN_OWN) for stage in given.stages])


async def start_skipping() -> WorkflowEnvironment:
    """Temporal's test server: a week passes in milliseconds. Cancels race in it."""
    program = Path(sys.executable).with_name("temporal-test-server")
    return await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=str(program), interceptors=[Patient()]
    )


def workflow_worker(env, world, queue, given):
    """The worker of the workflow and its stages."""
    names = dict.fromkeys(stage.activity for stage in given.stages)
    return Worker(
        env.client,
        task_queue=queue,
        workflows=[MediaPipeline],
        activities=[*map(world.stage, names), world.record()],
    )


@asynccontextmanager
async def running(env, world, given=None, workflows=True):
    """A started pipeline and its workers; *workflows*: also the one of the workflow itself."""
    queue, given = str(uuid.uuid4()), given or plan()
    own = [workflow_worker(env, world, queue, given)] if workflows else []
    control = Worker(env.client, task_queue=queue + CONTROL, activities=world.control())
    transfers = Worker(env.client, task_queue=queue + TRANSFERS, activities=world.transfers())
    async with temporal.run_workers([*own, control, transfers]):
        handle = await env.client.start_workflow(
            MediaPipeline.run, given, id=workflow_id(queue), task_queue=queue
        )
        try:
            yield handle
        finally:  # an open workflow without a worker would stop the server's skipping of time
            with suppress(RPCError):
                await handle.terminate()


@asynccontextmanager
async def cancelled_with_creations(env, world, tasks, first="their ends"):
    """A pipeline whose worker hears at once of its cancel and of the ends of the creations of *tasks*.

    The creations wait at the gate; *first*: what stands first in the history.
    """
    async with running(env, world, workflows=False) as handle:
        queue = handle.id.removeprefix(workflow_id(""))
        async with temporal.run_workers([workflow_worker(env, world, queue, plan())]):
            await until_async(lambda: asyncio.sleep(0, f"task-{len(world.created)}" == tasks[-1]))

        async def created() -> bool:
            history = str(await handle.fetch_history())
            return all(task in history for task in tasks)

        if first == "the cancel":
            await handle.cancel(reason="grace")
        world.gate.set()
        await until_async(created)
        if first != "the cancel":
            await handle.cancel(reason="grace")
        async with temporal.run_workers([workflow_worker(env, world, queue, plan())]):
            yield handle


async def skip(env, seconds: float) -> None:
    """Lets time pass on the test server, however slow the machine: the SDK's own call gives up too soon."""
    asked = SleepRequest()
    asked.duration.FromTimedelta(timedelta(seconds=seconds))
    await env.client.test_service.unlock_time_skipping_with_sleep(asked, timeout=timedelta(minutes=2))


async def status_when(env, handle, condition):
    """The first status for which *condition* holds; retries' waits are skipped where the server can."""
    for _ in range(500):
        status = await handle.query(MediaPipeline.status)
        if condition(status):
            return status
        if env.supports_time_skipping:
            await skip(env, 1)
        await asyncio.sleep(0.02)
    raise AssertionError(f"never came true; last: {status}")


def states(status):
    return {stage.name: str(stage.state) for stage in status.stages}


def attention(status):
    return status.state == JobState.ATTENTION
