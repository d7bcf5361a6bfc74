"""Watches one task of the engine until it is over, and says what its end means for the attempt.

Each failure leaves here as an ApplicationError that carries a Failure (jobs.requests); whether and when to
try again is the workflow's decision. It knows neither rows nor webhooks.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from typing import Any, NoReturn, TypeVar

from temporalio import activity
from temporalio.exceptions import ApplicationError

from jobs.ittybit import replies
from jobs.ittybit.client import IttybitClient
from jobs.ittybit.replies import IttybitError, Task, TaskState
from jobs.requests import Cancellation, Failure, HeartbeatDetails, TaskWatch
from jobs.state import HANDED_OVER, STAGE_FAILED, Output
from jobs.workflow.failures import MAX_OUTAGE
from mediapipe import storage

# Seconds that an attempt keeps trying while the engine fails, is unavailable, or doesn't know a new task yet.
OUTAGE_TIMEOUT = 30.0
INTERVAL = 0.1  # seconds between two reads of a task at first,
NOTIFIED_INTERVAL = 1.0  # where the engine tells the end itself: no heartbeat reaches Temporal sooner,
MAX_INTERVAL = 3.0  # and at last
EACH_BEFORE = 0.5  # seconds for each that stands before a task in an engine's line that reports its end
YOUNG = 0.2  # seconds in which hardly a task of our own engine ends, and tells that, before it is watched

T = TypeVar("T")


def fail(message: str, failure: Failure) -> NoReturn:
    """Ends the attempt. Raises ApplicationError with *failure* as its details."""
    raise ApplicationError(message, failure, type=STAGE_FAILED, non_retryable=True) from None


def fail_with(error: IttybitError, *, task_over: bool = False, unanswered: bool = False) -> NoReturn:
    """Ends the attempt with the API's own error message."""
    failure = Failure(error.kind, error.permanent, error.outage, error.retry_after, task_over=task_over)
    details = repr(error.__cause__) if error.__cause__ else ""
    fail(str(error), replace(failure, unanswered=unanswered, details=details))


def with_local_names(output: Output) -> Output:
    """The output with names instead of URLs, where its files are in our storage."""
    try:
        name = storage.name_of(output.url)
        extras = {key: storage.name_of(url) or url for key, url in output.extras.items()}
    except storage.Forbidden:
        return output
    return replace(output, url="" if name else output.url, name=name or "", extras=extras)


async def removed(asked: Awaitable[Cancellation]) -> Cancellation:
    """A cancel's answer; what its task had finished, in our storage, is removed: nobody will take it.

    Raises IttybitError.
    """
    cancelled = await asked
    if cancelled.output:
        with suppress(OSError):  # then it is an orphan, which `outputs --remove` finds
            await asyncio.to_thread(_remove, with_local_names(cancelled.output).names)
    return cancelled


def _remove(names: set[str]) -> None:
    for member in list(storage.members(names)):
        storage.remove(member)


def output_of(task: Task) -> Output:
    """The output of a task that is over. Raises ApplicationError where it failed or has none."""
    if task.state == TaskState.SUCCEEDED and task.output:
        return with_local_names(task.output)
    if task.state == TaskState.SUCCEEDED:
        fail("The engine reported success without an output.", Failure("no_output", task_over=True))
    fail(
        task.error,
        Failure(task.error_kind or "task_failed", task.permanent, task_over=True, details=task.details),
    )


async def pause(seconds: float) -> None:
    """Sleeps. Raises ApplicationError (HANDED_OVER) as soon as the worker shuts down."""
    shutdown = asyncio.ensure_future(activity.wait_for_worker_shutdown())
    try:
        done, _ = await asyncio.wait({shutdown}, timeout=seconds)
    finally:
        shutdown.cancel()
    if done:
        raise ApplicationError("the worker is restarting", type=HANDED_OVER)


def heartbeat_details(task: Task) -> HeartbeatDetails:
    """What the job's page shows of a task that runs."""
    return HeartbeatDetails(
        state=task.state,
        progress=task.progress,
        speed=task.speed,
        time_left=task.time_left,
        queue_position=task.queue_position,
        waiting_for=task.waiting_for,
    )


def beat(details: HeartbeatDetails) -> None:
    """A heartbeat that says when it was sent."""
    activity.heartbeat(replace(details, at=time.time()))


def heartbeat_interval() -> float:
    """Seconds between two heartbeats, at most: a third of the plan's heartbeat timeout."""
    timeout = activity.info().heartbeat_timeout or timedelta(seconds=30)
    return timeout.total_seconds() / 3


async def with_heartbeats(work: Awaitable[T], details: Callable[[], HeartbeatDetails]) -> T:
    """The result of *work*; heartbeats with *details* continue while it is slow.

    Where this is cancelled, *work* has cleaned up behind itself when it ends.
    """
    working = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({working}, timeout=min(heartbeat_interval(), MAX_INTERVAL)))[0]:
            beat(details())
        return working.result()
    finally:
        if working.cancel():
            await asyncio.wait({working})


class Watcher:
    """Reads one task until it is over, stalls, or the engine fails for longer than *patience* seconds."""

    def __init__(
        self,
        client: IttybitClient,
        watch: TaskWatch,
        patience: float = OUTAGE_TIMEOUT,
        learn_limit: Callable[[], Coroutine[Any, Any, float]] | None = None,
        first_interval: float = INTERVAL,
        is_young: bool = False,
    ) -> None:
        self.client = client
        self.watch = watch
        self.patience = patience
        self.learn_limit = learn_limit  # seconds of work without a percentage after which it is stuck
        self.first_interval = first_interval
        self.is_young = is_young  # the task has just been asked for, so there is nothing yet to read
        self.learning: asyncio.Task[float] | None = None
        self.max_outage = MAX_OUTAGE
        self.details = watch.seen or HeartbeatDetails()  # as last sent, by another worker at first
        self.started_at = time.monotonic()
        self.last: Task | None = None  # as last read
        self.processing_since: float | None = None
        self.since = self.details.since or time.time()  # when the task came into its state
        self.progressed_at = self.started_at
        self.failing_since: float | None = None  # without being asked to wait
        self.away_since: float | None = None  # no read has succeeded since
        self.succeeded_at: float | None = None  # without having named its output

    @cached_property
    def heartbeat_interval(self) -> float:
        """Seconds between two heartbeats, at most."""
        return heartbeat_interval()

    async def result(self) -> Output:
        """The task's output. Raises ApplicationError."""
        try:
            return await self._until_over()
        finally:
            if self.learning:
                self.learning.cancel()

    async def _until_over(self) -> Output:
        if self.is_young:
            await pause(self._interval())
        while True:
            try:
                task = await self._read()
            except IttybitError as error:
                await self._wait_out(error)
                continue
            self.failing_since = self.away_since = None
            self._heartbeat(heartbeat_details(task))
            if task.terminal and not self._still_without_output(task):
                return output_of(task)
            self._check_progress(task)
            await pause(self._interval())

    async def _read(self) -> Task:
        """The task as the engine has it now; heartbeats continue while its answer is slow."""
        return await with_heartbeats(self.client.read(self.watch.task_id), lambda: self.details)

    def _heartbeat(self, details: HeartbeatDetails) -> None:
        if details.state != self.details.state:
            self.since = time.time()
        self.details = replace(details, since=self.since)
        beat(self.details)

    def ended_by(self, error: ApplicationError) -> ApplicationError:
        """*error* with what was last seen of the task, for who watches it next."""
        details = (*error.details, self.details)
        return ApplicationError(error.message, *details, type=error.type, non_retryable=error.non_retryable)

    def _interval(self) -> float:
        """A tenth of the time that has passed, within bounds: the end of a short task is seen at once.

        More where many stand before it: polls of all that wait would take the time of those at work.
        """
        passed = time.monotonic() - self.started_at
        interval = min(max(0.1 * passed, self.first_interval), MAX_INTERVAL)
        if self.first_interval >= NOTIFIED_INTERVAL:
            interval = max(interval, EACH_BEFORE * (self.details.queue_position or 0))
        return min(interval, self.heartbeat_interval) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter

    def _still_without_output(self, task: Task) -> bool:
        """Some replies report success before they name the output: a new task would be paid twice."""
        if task.state != TaskState.SUCCEEDED or task.output is not None:
            return False
        self.succeeded_at = self.succeeded_at or time.monotonic()
        return time.monotonic() - self.succeeded_at < self.patience

    def _check_progress(self, task: Task) -> None:
        now = time.monotonic()
        # one whose worker is lost waits for the next that is free, whatever state it is said to be in
        in_line = task.state == TaskState.QUEUED or task.waiting_for == "worker"
        if in_line:
            self.processing_since = None
            self.progressed_at = now
        elif self.last is None or (self.last.state, self.last.progress) != (task.state, task.progress):
            self.progressed_at = now
        if not in_line:
            self.processing_since = self.processing_since or now
        self.last = task
        if task.progress is not None and now - self.progressed_at > self.watch.stall:
            fail(
                f"No progress for {self.watch.stall / 60:.0f} minutes at {task.progress:.0f}%, "
                "so it was stopped.",
                Failure("stalled", task_over=True, stop=True),
            )
        if self.processing_since:
            self._check_time(task, now - self.processing_since)

    def _check_time(self, task: Task, worked: float) -> None:
        """Ends the attempt of a task that has *worked* for too many seconds."""
        if worked > self.watch.allowed:
            fail(
                f"Processing took longer than {self.watch.allowed / 60:.0f} minutes and was stopped.",
                Failure("timeout", task_over=True, stop=True),
            )
        if task.progress is not None or self.learn_limit is None or worked <= self.watch.stall:
            return
        self.learning = self.learning or asyncio.ensure_future(self.learn_limit())
        if self.learning.done() and not self.learning.exception() and worked > self.learning.result():
            fail(
                f"The engine has worked on it for {worked / 60:.0f} minutes without reporting a percentage, "
                "much longer than usual, so it was given up.",
                Failure("stalled", task_over=True, stop=True),
            )

    async def _wait_out(self, error: IttybitError) -> None:
        """Waits before the next read; ends the attempt when patience is over or waiting can't help."""
        now = time.monotonic()
        self.failing_since = self.failing_since or now
        self.away_since = self.away_since or now
        passed = now - self.failing_since
        if error.permanent or passed > self.patience or now - self.away_since > self.max_outage:
            fail_with(error, task_over=isinstance(error, replies.Missing))
        wait = error.retry_after or min(max(0.5, passed / 2), 5.0)
        until = now + wait
        while (left := until - time.monotonic()) > 0:  # heartbeats continue meanwhile
            details = heartbeat_details(self.last) if self.last else self.details
            self._heartbeat(
                replace(details, last_error=str(error), waiting_for=error.kind, next_at=time.time() + left)
            )
            await pause(min(left, 5.0, self.heartbeat_interval))
        if error.retry_after:
            self.failing_since = None  # the wait that it asked for is over


async def or_hand_over(work: Coroutine[Any, Any, T]) -> T:
    """The result of *work*. Raises ApplicationError (HANDED_OVER) where the worker shuts down before."""
    try:
        return await work
    except asyncio.CancelledError:
        details = activity.cancellation_details()
        if details and details.worker_shutdown:
            raise ApplicationError("the worker is restarting", type=HANDED_OVER) from None
        raise
