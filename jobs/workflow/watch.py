"""One task of the engine, watched until it is over; what its end means for the attempt.

Each failure leaves here as an ApplicationError that carries a Failure (jobs.state); whether and when to
try again is the workflow's decision. It knows neither rows nor webhooks.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from typing import Any, NoReturn, TypeVar

from temporalio import activity
from temporalio.exceptions import ApplicationError

from jobs.ittybit import replies
from jobs.ittybit.client import IttybitClient
from jobs.ittybit.replies import IttybitError, Task, TaskState
from jobs.state import HANDED_OVER, STAGE_FAILED, Failure, HeartbeatDetails, Output, TaskWatch
from mediapipe import storage

# Seconds that an attempt goes on asking an engine that refuses, is away, or doesn't know a new task yet.
PATIENCE = 30.0
SLOWEST = 3.0  # seconds between two looks at a task

T = TypeVar("T")


def fail(message: str, failure: Failure) -> NoReturn:
    """Ends the attempt."""
    raise ApplicationError(message, failure, type=STAGE_FAILED, non_retryable=True) from None


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
        name = storage.name_of(output.url)
        extras = {key: storage.name_of(url) or url for key, url in output.extras.items()}
    except storage.Forbidden:
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
        raise ApplicationError("the worker is restarting", type=HANDED_OVER)


def heartbeat_details(task: Task) -> HeartbeatDetails:
    """What the page wants to know of a task at work."""
    return HeartbeatDetails(
        state=task.state,
        progress=task.progress,
        speed=task.speed,
        time_left=task.time_left,
        queue_position=task.queue_position,
        waiting_for=task.waiting_for,
    )


class Watcher:
    """Looks at one task until it is over, stalls, or the engine stays silent."""

    def __init__(self, client: IttybitClient, watch: TaskWatch, patience: float = PATIENCE) -> None:
        self.client, self.watch, self.patience = client, watch, patience
        self.details = HeartbeatDetails()  # as last sent
        self.began = time.monotonic()
        self.seen: Task | None = None
        self.working_since: float | None = None
        self.moved = self.began  # when the task last made progress
        self.trouble_since: float | None = None
        self.empty = 0  # times that it was done without an output

    @cached_property
    def heartbeat_interval(self) -> float:
        """Seconds between two heartbeats, at most: a third of the plan's heartbeat timeout."""
        timeout = activity.info().heartbeat_timeout or timedelta(seconds=30)
        return timeout.total_seconds() / 3

    async def result(self) -> Output:
        """The task's output. Raises ApplicationError."""
        while True:
            try:
                task = await self._read()
            except IttybitError as error:
                await self._trouble(error)
                continue
            self.trouble_since = None
            self._heartbeat(heartbeat_details(task))
            if task.terminal and not self._still_without_output(task):
                return outcome(task)
            self._check_progress(task)
            await pause(self._interval())

    async def _read(self) -> Task:
        """The task as the engine has it now; heartbeats continue while its answer is slow."""
        reading = asyncio.ensure_future(self.client.read(self.watch.task_id))
        try:
            while not (await asyncio.wait({reading}, timeout=self.heartbeat_interval))[0]:
                self._heartbeat(self.details)
            return reading.result()
        finally:
            reading.cancel()

    def _heartbeat(self, details: HeartbeatDetails) -> None:
        self.details = details
        activity.heartbeat(details)

    def _interval(self) -> float:
        """A tenth of the time that has passed, 0.1 to 3 s: short tasks are seen at once."""
        passed = time.monotonic() - self.began
        return min(max(0.1 * passed, 0.1), SLOWEST, self.heartbeat_interval) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter

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
            seen = heartbeat_details(self.seen) if self.seen else HeartbeatDetails()
            self._heartbeat(replace(seen, last_error=str(error), next_at=time.time() + left))
            await pause(min(left, 5.0, self.heartbeat_interval))
        if error.retry_after:
            self.trouble_since = None  # it asked for patience and got it


async def handed_over(work: Coroutine[Any, Any, T]) -> T:
    """The result of *work*; a worker that shuts down in the middle hands over instead of failing."""
    try:
        return await work
    except asyncio.CancelledError:
        details = activity.cancellation_details()
        if details and details.worker_shutdown:
            raise ApplicationError("the worker is restarting", type=HANDED_OVER) from None
        raise
