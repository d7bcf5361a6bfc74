"""What surrounds the work on a task: its row's progress and waits, its heartbeats, and its reported end.

It knows rows, Temporal's activities and webhooks, and nothing of what the work is.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import cached_property
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from mediapipe import disk
from mediapipe.database import OUTAGES, in_thread, persistently
from mediapipe.engine import webhook
from mediapipe.engine.errors import OtherWay, TaskError, storage_given_up
from mediapipe.engine.models import EngineTask
from mediapipe.engine.serialize import ARRIVED, AS_OBJECT, task_json
from mediapipe.storage.outage import Outage, refusal, refused

EARLY_PERCENT = 10.0  # percent, below which FFmpeg's own estimate is worse than past tasks
REPORT_EVERY = 0.5  # seconds between two writes of a task's progress
BEAT_EVERY = 1.0  # … and between two heartbeats: a cancel comes with the answer to one
ALIVE_EVERY = 2.0  # seconds between two writes where there is nothing new
MAX_OUTAGE = 24 * 3600.0  # seconds that a task waits for its storage
MAX_LOST_WORKERS = 10  # workers that one task may lose before it fails
OUR_MISTAKE = (
    "Something went wrong in the engine itself, not with your file. "
    "If it happens again, ask an admin to look at the engine’s log."
)
log = logging.getLogger(__name__)


class Later(Exception):
    """The work gives its slot back, and goes on after so many *seconds*."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"again in {seconds:g} s")
        self.seconds = seconds


class Reporter:
    """Writes a task's progress to its row."""

    every = REPORT_EVERY

    def __init__(self, task: EngineTask) -> None:
        self.task = task
        self.latest: dict[str, Any] | None = None
        kept = (AS_OBJECT, *(("import", "filename", ARRIVED) if task.fetched else ()))
        self.steps: dict[str, Any] = {key: task.steps[key] for key in kept if key in task.steps}

    def report(self, percent: float | None, speed: float | None, left: float | None) -> None:
        """Notes percent, speed and seconds left for the next write."""
        self.latest = {
            "steps": self.steps,
            "progress": None if percent is None else round(percent, 1),
            "speed": None if speed is None else round(speed, 2),
            "time_left": None if left is None else round(left, 1),
        }

    def step(self, name: str, **about: Any) -> None:
        """Notes that a step begins now, unless it has before, and what is known by now (`file`)."""
        self.steps = {name: round(time.time() * 1000), **self.steps, **about}
        self.latest = {**(self.latest or {}), "steps": self.steps}

    async def run_forever(self) -> None:
        """Writes until cancelled; a write now and then shows that the worker is alive."""
        written = 0.0
        while True:
            latest = self.latest
            self.latest = None
            if latest is not None or time.monotonic() - written > ALIVE_EVERY:
                with contextlib.suppress(*OUTAGES):  # the next write says it all again
                    await in_thread(self.write, latest or {})
                written = time.monotonic()
            await asyncio.sleep(self.every)

    def write(self, latest: dict[str, Any]) -> None:
        """Writes these columns to the row; past tasks correct an early estimate."""
        percent, speed, left = (latest.get(name) for name in ("progress", "speed", "time_left"))
        if percent is not None and percent < EARLY_PERCENT and speed and left and self.realtime_factor:
            latest = {**latest, "time_left": round(left * speed * self.realtime_factor, 1)}
        self.task.update(**latest)

    @cached_property
    def realtime_factor(self) -> float | None:
        """Seconds of work per second of media in past tasks: asked where somebody waits for long enough."""
        return self.task.realtime_factor()


Work = Callable[[EngineTask, Reporter], Awaitable[None]]


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
        """Returns when *needed* bytes may be written by an encode."""
        await self._for_free(disk.free_for_work, needed)

    async def for_import(self, needed: int) -> None:
        """Returns when a download may write *needed* bytes, and as many are left for what is made of them.

        It leaves more free than an encode does, so that what has arrived can be encoded, and make room.
        """
        await self._for_free(lambda: min(disk.free_for_media(), disk.free_for_work()), 2 * needed)

    async def _for_free(self, free: Callable[[], int], needed: int) -> None:
        if free() >= needed:
            return
        await self._tell("space")
        while free() < needed:  # noqa: ASYNC110 - a disk sends no events
            await asyncio.sleep(2)
        await self._tell("")

    async def for_server(self, seconds: float) -> None:
        """Returns after the *seconds* for which the source's server asked us to wait."""
        await self._tell("source")
        await asyncio.sleep(seconds)
        await self._tell("")

    async def come_back(self, seconds: float) -> None:
        """Gives the slot back for so long. Raises Later."""
        await persistently(self.task.wait, "source")
        raise Later(seconds)

    async def storage_failed(self, error: Exception) -> None:
        """Returns when the storage may be tried again. Raises TaskError where that has no use any more."""
        if self.outage.since is None:
            log.warning("task %s waits for the storage: %s", self.task.pk, error)
        pause = self.outage.pause(error)
        if pause is None:
            reason = refusal(error)
            raise storage_given_up(refused(reason) if reason else "", str(error))
        is_full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        await self._tell("space" if is_full else "storage")
        await asyncio.sleep(pause)

    async def storage_answered(self) -> None:
        """The task goes on, where it has waited for the storage."""
        self.outage.is_over()
        await self._tell("")


async def beat_forever(details: Callable[[], Sequence[Any]]) -> None:
    """Heartbeats to Temporal until cancelled, whatever the database does meanwhile."""
    while True:
        activity.heartbeat(*details())
        await asyncio.sleep(BEAT_EVERY)


def again(reason: str, seconds: float, *details: Any) -> ApplicationError:
    """What an activity raises to be given out again, without a slot until then; *details* go along."""
    activity.heartbeat(*details)
    return ApplicationError(reason, next_retry_delay=timedelta(seconds=max(seconds, 0.001)))


async def hands_over(task_id: str) -> bool:
    """Whether a cancelled activity is to go on elsewhere, because its worker restarts; its row says so."""
    details = activity.cancellation_details()
    if not (details and details.worker_shutdown):
        return False
    with contextlib.suppress(*OUTAGES):
        await in_thread(EngineTask(pk=task_id).wait)
    return True


async def is_over(task_id: str) -> bool:
    """Whether nobody works on a task any more: a run that Temporal gave up may go on elsewhere."""
    with contextlib.suppress(*OUTAGES):
        return not await in_thread(EngineTask.objects.filter(pk=task_id, status__in=EngineTask.ACTIVE).exists)
    return False


def _of_the_disk(error: OSError) -> tuple[str, str]:
    reason = "no_space" if error.errno == errno.ENOSPC else "internal_error"
    return reason, f"The engine couldn’t write to its disk: {error.strerror}."


async def attend(task_id: str, lost: int, work: Work) -> EngineTask | None:
    """Does *work* on a task, tells how it fails, and gives it as it is then; None where it was over before.

    *lost*: how many workers have gone with it. Raises Later and OtherWay.
    """
    task: EngineTask | None = await persistently(EngineTask.objects.filter(pk=task_id).first)
    if task is None or not task.active:
        if task:  # over since a worker that is lost had it
            await asyncio.to_thread(task.remove_output)
        return None
    if lost >= MAX_LOST_WORKERS:
        sentence = (
            f"The encoder crashed or was lost {MAX_LOST_WORKERS} times on this file, so it was stopped."
        )
        await persistently(task.fail, "killed", sentence)
        await persistently(task.refresh_from_db)
        return task
    reporter = Reporter(task)
    writes = asyncio.create_task(reporter.run_forever())
    try:
        await work(task, reporter)
    except (Later, OtherWay):
        raise
    except TaskError as error:
        await persistently(task.fail, error.kind, str(error), error.details, steps=reporter.steps)
    except OSError as error:
        log.warning("task %s: %r", task_id, error)
        await persistently(task.fail, *_of_the_disk(error), steps=reporter.steps)
    except Exception as mistake:  # of ours: no other worker would do better
        log.exception("task %s ended by a mistake of the engine", task_id)
        details = "".join(traceback.format_exception_only(mistake))
        await persistently(task.fail, "internal_error", OUR_MISTAKE, details)
    finally:
        writes.cancel()
    await tell(task)
    return task


async def tell(task: EngineTask) -> None:
    """Has who asked for a task hear how it ended, if it has; *task* is as its row is then."""
    body = await persistently(_webhook_body, task)
    if body and not task.active and task.status != EngineTask.Status.CANCELLED:
        webhook.notify(task.webhook_url, body)


def _webhook_body(task: EngineTask) -> dict[str, Any] | None:
    """What its webhook is sent of a task, as its row is now; None where it has none."""
    task.refresh_from_db()
    with contextlib.suppress(OSError):  # a bucket that signs no links
        return task_json(task) if task.webhook_url else None
    return None
