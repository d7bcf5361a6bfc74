"""The engine's workers: one lane for heavy encodes, one for light tasks, fed by Temporal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any, TypeVar

import httpx
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DatabaseError
from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from mediapipe.database import fresh_connections
from mediapipe.engine import options, prober, room, work
from mediapipe.engine.fetch import pinned
from mediapipe.engine.media import Unusable
from mediapipe.engine.models import EngineTask
from mediapipe.engine.workflows import LIGHT_QUEUE, TASK_QUEUE, EngineTaskWorkflow

EARLY = 10.0  # percent
TELL_EVERY = 0.5  # seconds between two writes of a task's progress
SIGN_EVERY = 2.0  # seconds between two writes where there is nothing to tell
T = TypeVar("T")
SWEEP_EVERY = 3600.0  # seconds
LOST_LIMIT = 10  # workers that one task may cost before it is given up


class Reporter:
    """Writes a task's progress to its row, and tells Temporal that we live."""

    def __init__(self, task: EngineTask, pace: float | None = None, handed_over: int = 0) -> None:
        self.task, self.pace, self.handed_over = task, pace, handed_over
        self.latest: dict[str, Any] | None = None
        self.steps: dict[str, Any] = {}

    def tell(self, percent: float | None, speed: float | None, left: float | None) -> None:
        """Takes note; the next round writes it. At first past runs know better how long it will take."""
        if self.pace and percent is not None and percent < EARLY and speed and left:
            left *= speed * self.pace
        self.latest = {
            "steps": self.steps,
            "progress": None if percent is None else round(percent, 1),
            "speed": None if speed is None else round(speed, 2),
            "time_left": None if left is None else round(left, 1),
        }

    def step(self, name: str, **about: Any) -> None:
        """Takes note of what begins now."""
        self.steps = {**self.steps, **about, name: round(time.time() * 1000)}
        self.latest = {**(self.latest or {}), "steps": self.steps}

    async def forever(self) -> None:
        """Heartbeats and writes until cancelled; a write now and then says that somebody is at it."""
        written = 0.0
        while True:
            activity.heartbeat(self.handed_over)
            latest, self.latest = self.latest, None
            if latest is not None or time.monotonic() - written > SIGN_EVERY:
                await in_thread(self.task.update, **(latest or {}))
                written = time.monotonic()
            await asyncio.sleep(TELL_EVERY)


async def in_thread(function: Callable[..., T], *args: Any, **fields: Any) -> T:
    """A call of the ORM, in a thread, with a fresh connection where the old one has gone."""
    return await sync_to_async(fresh_connections()(function), thread_sensitive=False)(*args, **fields)


@activity.defn
async def run_task(task_id: str) -> None:
    """Does a task, and writes to its row what came of it."""
    task = await in_thread(EngineTask.objects.filter(pk=task_id).first)
    if task is None or not task.active:
        return
    handed_over = next((int(count) for count in activity.info().heartbeat_details), 0)
    if activity.info().attempt - handed_over > LOST_LIMIT:
        await in_thread(
            task.fail,
            "killed",
            f"The encoder's worker was lost {LOST_LIMIT} times on this file; it was given up.",
        )
        return
    reporter = Reporter(task, await in_thread(task.pace), handed_over)
    beating = asyncio.create_task(reporter.forever())
    try:
        await _do(task, reporter)
    except asyncio.CancelledError:
        freed = work.clear(task_id)
        details = activity.cancellation_details()
        if details and details.worker_shutdown:
            await in_thread(task.wait)
            activity.heartbeat(handed_over + 1)  # a restart is no loss
            raise ApplicationError(
                "the worker is restarting", next_retry_delay=timedelta(milliseconds=1)
            ) from None
        await in_thread(EngineTask.objects.filter(pk=task_id).update, freed_bytes=freed)
        raise
    finally:
        beating.cancel()
        work.clear(task_id)
    await in_thread(task.refresh_from_db)
    if task.webhook_url and task.status != EngineTask.Status.CANCELLED:
        notify(task)


async def _do(task: EngineTask, reporter: Reporter) -> None:
    await in_thread(task.begin)

    async def wait_for_room(wanted: int) -> None:
        if room.free() >= wanted:
            return
        await in_thread(task.wait, "space")
        while room.free() < wanted:  # noqa: ASYNC110 - a disk sends no events
            await asyncio.sleep(2)
        await in_thread(task.begin)

    asked = options.check_options(task.kind, task.options)
    try:
        made = await work.work(
            task.pk, task.kind, asked, task.input, reporter.tell, wait_for_room, reporter.step
        )
    except Unusable as error:
        await in_thread(task.fail, error.kind, str(error), error.details, steps=reporter.steps)
    except OSError as error:
        kind = "no_space" if error.errno == 28 else "internal_error"
        said = f"The engine could not work on its disk: {error.strerror}."
        await in_thread(task.fail, kind, said, steps=reporter.steps)
    else:
        await in_thread(task.succeed, made.output, made.warnings, steps=reporter.steps)


_notices: set[asyncio.Task[None]] = set()


def notify(task: EngineTask) -> None:
    """Tells the webhook beside the work: nobody waits for it, and it may fail."""
    notice = asyncio.create_task(_notify(task))
    _notices.add(notice)
    notice.add_done_callback(_notices.discard)


async def _notify(task: EngineTask) -> None:
    body = await in_thread(task.as_json)
    own = tuple(base + "/" for base in (settings.LOCAL_URL, settings.PUBLIC_URL) if base)
    async with httpx.AsyncClient(timeout=5, trust_env=False) as http:
        for attempt in range(4):
            with contextlib.suppress(httpx.HTTPError, Unusable):
                if task.webhook_url.startswith(own):
                    request = http.build_request("POST", task.webhook_url, json=body)
                else:
                    request = http.build_request("POST", json=body, **await pinned(task.webhook_url))
                if (await http.send(request)).status_code < 500:
                    return
            await asyncio.sleep(2**attempt)


def at_work(found: list[str]) -> set[str]:
    """Which of these tasks are not over: at work on any machine, or waiting for room in the middle of it."""
    alive = EngineTask.objects.filter(status__in=EngineTask.ACTIVE, pk__in=found)
    return set(alive.values_list("pk", flat=True))


async def sweeping() -> None:
    """Removes, once an hour, what dead runs left: a task that died here may have ended elsewhere."""
    while True:
        with contextlib.suppress(DatabaseError, OSError):
            await in_thread(work.sweep, at_work)
        await asyncio.sleep(SWEEP_EVERY)


@contextlib.asynccontextmanager
async def workers(client: Client) -> AsyncIterator[list[Worker]]:
    """Both lanes of this machine: as many heavy encodes as two cores each allow, and as many light tasks."""
    slots = max(1, (os.cpu_count() or 1) // 2)
    shared = {
        "activities": [run_task],
        "max_heartbeat_throttle_interval": timedelta(milliseconds=500),
        "graceful_shutdown_timeout": timedelta(seconds=0),
        "max_concurrent_activities": slots,
    }
    prober.warm()
    broom = asyncio.create_task(sweeping())
    yield [
        Worker(
            client,
            task_queue=TASK_QUEUE,
            workflows=[EngineTaskWorkflow],
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=3),
            **shared,  # type: ignore[arg-type]
        ),
        Worker(client, task_queue=LIGHT_QUEUE, **shared),  # type: ignore[arg-type]
    ]
    for each in (broom, *_notices):
        each.cancel()
