"""The pipeline's activities: a stage's task against the Ittybit API, and recording what happened.

Each failure leaves here as an ApplicationError that says what it means (jobs.messages.Failure);
whether and when to try again is the workflow's decision.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import httpx
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core import signing
from django.db import close_old_connections
from temporalio import activity
from temporalio.exceptions import ApplicationError

from jobs import adopt, ittybit, messages, replies
from jobs.messages import Beat, Cancellation, Failure, KeepRequest, RecordRequest, TaskRequest, TaskWatch
from jobs.models import Job
from jobs.pipelines import ACTIVITIES, Output, Source
from jobs.replies import IttybitError, Task, TaskState
from mediapipe import files

# Seconds that an attempt goes on asking an engine that refuses, is away, or doesn't know a new task yet.
PATIENCE = 30.0
SLOWEST = 3.0  # seconds between two looks at a task

T = TypeVar("T")

HOOK_SALT = "jobs.hook"


def hook_url(job_id: str, stage: str, activity_id: str) -> str:
    """Where the engine may tell that a task is over: unguessable, and different for each task."""
    base = settings.LOCAL_URL if settings.EMBEDDED_ENGINE else settings.PUBLIC_URL
    token = signing.dumps([job_id, stage, activity_id], salt=HOOK_SALT, compress=True)
    return f"{base}/hooks/ittybit/{token}" if base else ""


def source_url(source: Source) -> str:
    """A URL of *source* that the engine can read: ours signed, the API's own as it is."""
    if source.name and (
        settings.EMBEDDED_ENGINE or settings.PUBLIC_URL or settings.S3_BUCKET or not source.url
    ):
        return files.signed_url(source.name, local=settings.EMBEDDED_ENGINE)
    return source.url


def fail(message: str, failure: Failure) -> NoReturn:
    """Ends the attempt."""
    raise ApplicationError(message, failure, type=messages.FAILED, non_retryable=True) from None


def fail_by(error: IttybitError, *, task_over: bool = False) -> NoReturn:
    """Ends the attempt with what the API said, or didn't."""
    fail(
        str(error),
        Failure(
            kind=error.kind,
            permanent=error.permanent,
            outage=isinstance(error, replies.Unreachable | replies.Busy),
            retry_after=error.retry_after,
            task_over=task_over,
        ),
    )


def ours(output: Output) -> Output:
    """The output with its name, where it is a file of this installation."""
    try:
        name = files.name_of(output.url)
        extras = {key: files.name_of(url) or url for key, url in output.extras.items()}
    except files.Forbidden:
        return output
    return replace(output, url="" if name else output.url, name=name or "", extras=extras)


def outcome(task: Task) -> Output:
    """What a terminal task comes to. Raises the attempt's failure."""
    if task.state == TaskState.SUCCEEDED and task.output:
        return ours(task.output)
    if task.state == TaskState.SUCCEEDED:
        fail("The engine says it is done but names no output.", Failure("no_output", task_over=True))
    fail(
        task.error,
        Failure(task.error_kind or "task_failed", task.permanent, task_over=True, details=task.details),
    )


async def pause(seconds: float) -> None:
    """Sleeps; a worker that shuts down ends it at once, and the attempt with it."""
    shutdown = asyncio.ensure_future(activity.wait_for_worker_shutdown())
    try:
        done, _ = await asyncio.wait({shutdown}, timeout=seconds)
    finally:
        shutdown.cancel()
    if done:
        raise ApplicationError("the worker is restarting", type=messages.HANDED_OVER)


def beat(task: Task) -> Beat:
    """What the page wants to know of a task at work."""
    return Beat(
        state=task.state,
        progress=task.progress,
        speed=task.speed,
        time_left=task.time_left,
        queue_position=task.queue_position,
        waiting_for=task.waiting_for,
    )


class Watcher:
    """Looks at one task until it is over, stalls, or the engine stays silent."""

    def __init__(self, client: ittybit.Client, watch: TaskWatch, patience: float = PATIENCE) -> None:
        self.client, self.watch, self.patience = client, watch, patience
        self.began = time.monotonic()
        self.seen: Task | None = None
        self.working_since: float | None = None
        self.moved = self.began  # when the task last made progress
        self.trouble_since: float | None = None
        self.empty = 0  # times that it was done without an output

    async def result(self) -> Output:
        """The task's output. Raises ApplicationError."""
        while True:
            try:
                task = await self.client.read(self.watch.task_id)
            except IttybitError as error:
                await self._trouble(error)
                continue
            self.trouble_since = None
            activity.heartbeat(beat(task))
            if task.terminal and not self._still_without_output(task):
                return outcome(task)
            self._check_progress(task)
            await pause(self._interval())

    def _interval(self) -> float:
        """A tenth of the time that has passed, 0.1 to 3 s: short tasks are seen at once."""
        passed = time.monotonic() - self.began
        return min(max(0.1 * passed, 0.1), SLOWEST) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter

    def _still_without_output(self, task: Task) -> bool:
        """Some replies say it is done a moment before they name the output: look again, twice."""
        self.empty += task.state == TaskState.SUCCEEDED and task.output is None
        return 0 < self.empty <= 2 and task.output is None

    def _check_progress(self, task: Task) -> None:
        now = time.monotonic()
        if task.state == TaskState.QUEUED:
            self.working_since, self.moved = None, now
        elif self.seen is None or (self.seen.state, self.seen.progress) != (task.state, task.progress):
            self.moved = now
        if task.state != TaskState.QUEUED:
            self.working_since = self.working_since or now
        self.seen = task
        if task.progress is not None and now - self.moved > self.watch.stall:
            fail(
                f"No progress for {self.watch.stall / 60:.0f} minutes at {task.progress:.0f} %; "
                "the task was stopped.",
                Failure("stalled", task_over=True, stop=True),
            )
        if self.working_since and now - self.working_since > self.watch.allowed:
            fail(
                f"Not done after {self.watch.allowed / 60:.0f} minutes of work; the task was stopped.",
                Failure("timeout", task_over=True, stop=True),
            )

    async def _trouble(self, error: IttybitError) -> None:
        """Goes on asking for a while; then, or where that cannot help, ends the attempt."""
        now = time.monotonic()
        self.trouble_since = self.trouble_since or now
        passed = now - self.trouble_since
        missing = isinstance(error, replies.Missing)
        if error.permanent or passed > self.patience:
            fail_by(error, task_over=missing)
        wait = error.retry_after or min(max(0.5, passed / 2), 5.0)
        until = now + wait
        while (left := until - time.monotonic()) > 0:  # heartbeats go on while it waits
            seen = beat(self.seen) if self.seen else Beat()
            activity.heartbeat(replace(seen, trouble=str(error), next_at=time.time() + left))
            await pause(min(left, 5.0))
        if error.retry_after:
            self.trouble_since = None  # it asked for patience and got it


async def handed_over(work: Coroutine[Any, Any, T]) -> T:
    """The result of *work*; a worker that shuts down in the middle hands over instead of failing."""
    try:
        return await work
    except asyncio.CancelledError:
        details = activity.cancellation_details()
        if details and details.worker_shutdown:
            raise ApplicationError("the worker is restarting", type=messages.HANDED_OVER) from None
        raise


class Activities:
    """The activities of one worker, around its one HTTP client."""

    def __init__(self, client: ittybit.Client) -> None:
        self.client = client

    def waiting(self) -> list[Callable[..., Any]]:
        """What may take hours: the stages, by their own names."""
        return [*map(self._stage, ACTIVITIES)]

    def at_once(self) -> list[Callable[..., Any]]:
        """What is done at once, and must never wait behind those (messages.DESK)."""
        return [self.create_task, self.cancel_task, record]

    def _stage(self, name: str) -> Callable[..., Any]:
        @activity.defn(name=name)
        async def stage(watch: TaskWatch) -> Output:
            try:
                return await handed_over(Watcher(self.client, watch).result())
            except asyncio.CancelledError:
                details = activity.cancellation_details()
                if details and details.not_found:  # a webhook was faster and has completed it
                    return Output()
                raise

        return stage

    @activity.defn
    async def create_task(self, request: TaskRequest) -> str:
        """Asks for a task; its id goes into history, so that nobody ever asks (and pays) twice."""
        try:
            task = await handed_over(
                self.client.create(
                    kind=request.kind,
                    input=source_url(request.source),
                    options=request.options,
                    key=request.key,
                    metadata={"job": request.job_id, "stage": request.stage, "owner": request.owner},
                    webhook_url=hook_url(request.job_id, request.stage, request.activity_id),
                )
            )
        except IttybitError as error:
            fail_by(error, task_over=error.permanent)
        return task.id

    @activity.defn
    async def cancel_task(self, task_id: str) -> Cancellation:
        """Stops a task where the API can."""
        try:
            return await self.client.cancel(task_id)
        except IttybitError as error:
            raise ApplicationError(str(error), non_retryable=error.permanent) from None

    @activity.defn
    async def keep_output(self, request: KeepRequest) -> Output:
        """Copies an output of the API into our storage; where that fails its own URL has to do."""
        output = request.output
        suffix = output.format or PurePosixPath(urlsplit(output.url).path).suffix.removeprefix(".")
        suffix = suffix if suffix.isalnum() and suffix.isascii() and len(suffix) <= 5 else "bin"
        name = f"outputs/{request.job_id}/{request.key}.{suffix.lower()}"
        try:
            async with httpx.AsyncClient(timeout=httpx.Timeout(60, connect=10), trust_env=False) as http:
                size = await adopt.adopt(http, output.url, name, output.filesize, activity.heartbeat)
        except (httpx.HTTPError, httpx.InvalidURL, adopt.AdoptError, OSError) as error:
            if activity.info().attempt < 3 and not getattr(error, "permanent", False):
                raise ApplicationError(f"{type(error).__name__}: {error}") from None
            warning = (
                "This output could not be copied to our storage; its link is the engine's and may expire."
            )
            return replace(output, warnings=[*output.warnings, warning])
        return replace(output, name=name, filesize=size)


@activity.defn
async def record(request: RecordRequest) -> bool:
    """Writes a status to the database; a job that was deleted meanwhile is no error."""
    return await sync_to_async(_record, thread_sensitive=False)(request)


def _record(request: RecordRequest) -> bool:
    close_old_connections()
    try:
        with suppress(Job.DoesNotExist):
            job = Job.objects.get(pk=request.job_id)
            return job.record(request.status, request.events, request.run or job.run)
        return False
    finally:
        close_old_connections()
