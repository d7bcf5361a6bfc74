"""The engine's workers: one queue of heavy encodes, one of light tasks, fed by Temporal.

It joins a task's row, its activity and its work (task.py), and knows nothing of HTTP but the webhook.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import time
import traceback
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from django.db import DatabaseError
from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.worker import Worker

from mediapipe import disk
from mediapipe.database import OUTAGES, in_thread, persistently
from mediapipe.engine import prober, queue, webhook
from mediapipe.engine.errors import TaskError, storage_given_up
from mediapipe.engine.kinds import KINDS
from mediapipe.engine.models import EngineTask
from mediapipe.engine.options import check_options
from mediapipe.engine.serialize import AS_OBJECT
from mediapipe.engine.task import Hooks, clear, process, sweep, unpublish
from mediapipe.engine.workflows import HEAVY_QUEUE, LIGHT_QUEUE, EngineTaskWorkflow
from mediapipe.storage.outage import Outage, refusal

EARLY = 10.0  # percent, below which FFmpeg's own estimate is worse than past tasks
REPORT_EVERY = 0.5  # seconds between two writes of a task's progress
ALIVE_EVERY = 2.0  # seconds between two writes where there is nothing new
SWEEP_EVERY = 3600.0  # seconds
RECONCILE_EVERY = 60.0  # seconds
MAX_OUTAGE = 24 * 3600.0  # seconds that a task waits for its storage
MAX_LOST_WORKERS = 10  # workers that one task may lose before it fails
OUR_MISTAKE = (
    "Something went wrong in the engine itself, not with your file. "
    "If it happens again, ask an admin to look at the engine’s log."
)
log = logging.getLogger(__name__)


class Reporter:
    """Writes a task's progress to its row.

    *realtime_factor*: seconds of work per second of media in past tasks.
    """

    def __init__(self, task: EngineTask, realtime_factor: float | None = None) -> None:
        self.task = task
        self.realtime_factor = realtime_factor
        self.latest: dict[str, Any] | None = None
        self.steps: dict[str, Any] = {key: True for key in task.steps if key == AS_OBJECT}

    def report(self, percent: float | None, speed: float | None, left: float | None) -> None:
        """Notes percent, speed and seconds left for the next write; past tasks correct an early estimate."""
        if self.realtime_factor and percent is not None and percent < EARLY and speed and left:
            left *= speed * self.realtime_factor
        self.latest = {
            "steps": self.steps,
            "progress": None if percent is None else round(percent, 1),
            "speed": None if speed is None else round(speed, 2),
            "time_left": None if left is None else round(left, 1),
        }

    def step(self, name: str, **about: Any) -> None:
        """Notes that a step begins now, and what is known by now (`file`)."""
        self.steps = {**self.steps, **about, name: round(time.time() * 1000)}
        self.latest = {**(self.latest or {}), "steps": self.steps}

    async def run_forever(self) -> None:
        """Writes until cancelled; a write now and then shows that the worker is alive."""
        written = 0.0
        while True:
            latest = self.latest
            self.latest = None
            if latest is not None or time.monotonic() - written > ALIVE_EVERY:
                with contextlib.suppress(*OUTAGES):  # the next write says it all again
                    await in_thread(self.task.update, **(latest or {}))
                written = time.monotonic()
            await asyncio.sleep(REPORT_EVERY)


class Waits:
    """What a task waits for, in its row for as long as it does: free space, or its storage."""

    def __init__(self, task: EngineTask) -> None:
        self.task = task
        self.waiting_for = ""  # what the row says
        self.outage = Outage(MAX_OUTAGE)

    async def _tell(self, waiting_for: str) -> None:
        if waiting_for != self.waiting_for:
            self.waiting_for = waiting_for
            if waiting_for:
                await persistently(self.task.wait, waiting_for)
            else:
                await persistently(self.task.begin)

    async def for_disk_space(self, needed: int) -> None:
        """Returns when *needed* bytes may be written."""
        if disk.free_for_work() >= needed:
            return
        await self._tell("space")
        while disk.free_for_work() < needed:  # noqa: ASYNC110 - a disk sends no events
            await asyncio.sleep(2)
        await self._tell("")

    async def for_server(self, seconds: float) -> None:
        """Returns after the *seconds* for which the source's server asked us to wait."""
        await self._tell("source")
        await asyncio.sleep(seconds)
        await self._tell("")

    async def storage_failed(self, error: Exception) -> None:
        """Returns when the storage may be tried again. Raises TaskError where that has no use any more."""
        if self.outage.since is None:
            log.warning("task %s waits for the storage: %s", self.task.pk, error)
        pause = self.outage.pause(error)
        if pause is None:
            raise storage_given_up(refusal(error), str(error))
        is_full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        await self._tell("space" if is_full else "storage")
        await asyncio.sleep(pause)

    async def storage_answered(self) -> None:
        """The task goes on, where it has waited for the storage."""
        self.outage.is_over()
        await self._tell("")


async def beat_forever(handed_over: int) -> None:
    """Heartbeats to Temporal until cancelled, whatever the database does meanwhile."""
    while True:
        activity.heartbeat(handed_over)
        await asyncio.sleep(REPORT_EVERY)


@activity.defn
async def run_task(task_id: str) -> None:
    """Runs a task, and writes its result to its row."""
    handed_over = next((int(count) for count in activity.info().heartbeat_details), 0)  # by restarts
    heartbeats = asyncio.create_task(beat_forever(handed_over))
    published: list[str] = []
    try:
        await _run(task_id, published, lost=activity.info().attempt - handed_over - 1)
    except asyncio.CancelledError:
        freed = clear(task_id)
        details = activity.cancellation_details()
        if details and details.worker_shutdown:
            with contextlib.suppress(*OUTAGES):
                await in_thread(EngineTask(pk=task_id).wait)
            activity.heartbeat(handed_over + 1)  # a restart counts as no loss
            raise ApplicationError(
                "the worker is restarting", next_retry_delay=timedelta(milliseconds=1)
            ) from None
        with contextlib.suppress(*OUTAGES):
            await in_thread(EngineTask.objects.filter(pk=task_id).update, freed_bytes=freed)
        await _remove_published(task_id, published)
        raise
    finally:
        heartbeats.cancel()
        clear(task_id)


async def _remove_published(task_id: str, published: list[str]) -> None:
    """Removes the files of an output that nobody will have: its task has failed or was cancelled."""
    if not published:
        return
    over = EngineTask.objects.filter(pk=task_id, status__in=EngineTask.WITHOUT_OUTPUT)
    with contextlib.suppress(*OUTAGES):
        if await in_thread(over.exists):  # else another worker may be publishing it anew
            await unpublish(published)


async def _run(task_id: str, published: list[str], *, lost: int) -> None:
    """Runs a task to its end, unless it was over before; *lost*: how many workers have gone with it.

    *published*: gets the names of the files that it stores.
    """
    task = await persistently(EngineTask.objects.filter(pk=task_id).first)
    if task is None or not task.active:
        if task:  # over since a worker that is lost had it
            await asyncio.to_thread(task.remove_output)
        return
    if lost >= MAX_LOST_WORKERS:
        await persistently(
            task.fail,
            "killed",
            f"The encoder crashed or was lost {MAX_LOST_WORKERS} times on this file, so it was stopped.",
        )
        return
    reporter = Reporter(task)
    writes = asyncio.create_task(reporter.run_forever())
    try:
        await _process(task, reporter, published)
    except Exception as mistake:  # of ours: no other worker would do better
        log.exception("task %s ended by a mistake of the engine", task_id)
        details = "".join(traceback.format_exception_only(mistake))
        await persistently(task.fail, "internal_error", OUR_MISTAKE, details)
    finally:
        writes.cancel()
    await persistently(task.refresh_from_db)
    await _remove_published(task_id, published)
    if task.webhook_url and task.status != EngineTask.Status.CANCELLED:
        webhook.notify(task)


async def _process(task: EngineTask, reporter: Reporter, published: list[str]) -> None:
    reporter.realtime_factor = await persistently(task.realtime_factor)
    await persistently(task.begin)
    waits = Waits(task)
    hooks = Hooks(
        waits.for_disk_space,
        reporter.report,
        reporter.step,
        waits.storage_failed,
        waits.storage_answered,
        published.append,
        waits.for_server,
    )
    kind = KINDS[task.kind]
    try:
        result = await process(task.pk, kind, check_options(kind, task.options), task.input, hooks)
    except TaskError as error:
        await persistently(task.fail, error.kind, str(error), error.details, steps=reporter.steps)
    except OSError as error:
        log.warning("task %s: %r", task.pk, error)
        reason = "no_space" if error.errno == errno.ENOSPC else "internal_error"
        sentence = f"The engine couldn’t write to its disk: {error.strerror}."
        await persistently(task.fail, reason, sentence, steps=reporter.steps)
    else:
        await persistently(task.succeed, result.output, result.warnings, steps=reporter.steps)


def active_tasks(found: list[str]) -> set[str]:
    """Which of these tasks are not over: running on any machine, or waiting for disk space midway."""
    alive = EngineTask.objects.filter(status__in=EngineTask.ACTIVE, pk__in=found)
    return set(alive.values_list("pk", flat=True))


async def sweep_forever() -> None:
    """Removes once an hour what lost workers left: a task that was lost here may have ended elsewhere."""
    while True:
        with contextlib.suppress(DatabaseError, OSError):
            await in_thread(sweep, active_tasks)
        await asyncio.sleep(SWEEP_EVERY)


async def reconcile_forever() -> None:
    """Settles every minute the tasks whose workflows are gone, until cancelled."""
    while True:
        try:
            await queue.reconcile_forgotten()
        except (RuntimeError, RPCError, TimeoutError, *OUTAGES):
            pass  # Temporal or the database is away: the next round tries again
        except Exception:
            log.exception("a round of reconciling tasks and workflows failed")
        await asyncio.sleep(RECONCILE_EVERY)


@contextlib.asynccontextmanager
async def workers(client: Client) -> AsyncIterator[list[Worker]]:
    """This machine's two workers: a heavy encode for every two cores, and as many light tasks beside them."""
    slots = max(1, (os.cpu_count() or 1) // 2)
    shared = {
        "activities": [run_task],
        "max_heartbeat_throttle_interval": timedelta(milliseconds=500),
        "graceful_shutdown_timeout": timedelta(seconds=0),
        "max_concurrent_activities": slots,
    }
    prober.start()
    keepers = [asyncio.create_task(each) for each in (sweep_forever(), reconcile_forever())]
    yield [
        Worker(
            client,
            task_queue=HEAVY_QUEUE,
            workflows=[EngineTaskWorkflow],
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=3),
            **shared,  # type: ignore[arg-type]
        ),
        Worker(client, task_queue=LIGHT_QUEUE, **shared),  # type: ignore[arg-type]
    ]
    for each in (*keepers, *webhook.notifications):
        each.cancel()
