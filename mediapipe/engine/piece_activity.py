"""One piece of a film as Temporal gives it out: its row's progress, its heartbeats, and what stops it.

What can't be encoded in pieces doesn't fail its task: the workflow has it encoded in one. It knows rows and
activities, and nothing of FFmpeg.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from typing import Any

from temporalio import activity

from mediapipe.database import OUTAGES, in_thread, persistently
from mediapipe.engine import course, folders
from mediapipe.engine.errors import Inexact, TaskError
from mediapipe.engine.hooks import Hooks
from mediapipe.engine.kinds import KINDS
from mediapipe.engine.models import EngineTask
from mediapipe.engine.pieces import PieceWork
from mediapipe.engine.piecework import Film
from mediapipe.engine.piecework import encode_piece as encode
from mediapipe.engine.surroundings import Reporter, Waits, again, beat_forever, hands_over, tell
from mediapipe.engine.task import MAX_DISK_WAITS
from mediapipe.task_options import check_options

MAX_LOST = 3  # workers that one piece may lose, before its film is encoded in one
log = logging.getLogger(__name__)


def hooks_of(task: EngineTask, reporter: Reporter, published: list[str]) -> Hooks:
    """What the work on a task calls: its row's waits and its progress; *published* gets its files' names."""
    waits = Waits(task)
    return Hooks(
        waits.for_disk_space,
        reporter.report,
        reporter.step,
        waits.storage_failed,
        waits.storage_answered,
        published.append,
        waits.for_server,
    )


class PieceReporter(Reporter):
    """Writes how far a piece is to a row of its own, and to its task's how far all of them are together."""

    every = 1.0  # seconds: others at work write the same

    def __init__(self, task: EngineTask, work: PieceWork) -> None:
        super().__init__(task)
        self.steps = dict(task.steps)
        self.work = work
        self.writing = threading.Lock()
        self.over = False
        self.number = work.piece.number if work.piece else course.SOUND

    def begin(self) -> None:
        """It begins, at its beginning."""
        course.say(self.task.pk, self.number, seconds=0, speed=0, at_work=True)
        self.task.begin()

    def write(self, latest: dict[str, Any]) -> None:
        """Writes both."""
        seconds = (self.work.piece.seconds if self.work.piece else 0) * (latest.get("progress") or 0) / 100
        far = {"seconds": seconds, "speed": latest.get("speed") or 0} if seconds else {}
        with self.writing:
            if not self.over:
                course.say(self.task.pk, self.number, **far, at_work=True)
                self.task.update(steps=self.steps, **course.so_far(self.task.pk, self.work.seconds))

    def done(self, took: float) -> None:
        """It is: nothing more is written of it."""
        seconds = self.work.piece.seconds if self.work.piece else 0
        worked = {"worked": took} if took else {}  # else it was there
        with self.writing:  # a write may be under way that was begun before
            self.over = True
            course.say(self.task.pk, self.number, seconds=seconds, speed=0, at_work=False, **worked)


@activity.defn
async def encode_piece(work: PieceWork) -> bool:
    """Encodes a piece of a film, or its sound; False where that can't be done in pieces."""
    handed_over = next((int(count) for count in activity.info().heartbeat_details), 0)  # by restarts
    heartbeats = asyncio.create_task(beat_forever(lambda: (handed_over,)))
    try:
        return await _encode(work, lost=activity.info().attempt - handed_over - 1)
    except asyncio.CancelledError:
        if await hands_over(work.task_id):
            raise again("the worker is restarting", 0, handed_over + 1) from None
        raise
    finally:
        heartbeats.cancel()


async def _encode(work: PieceWork, *, lost: int) -> bool:
    task: EngineTask | None = await persistently(EngineTask.objects.filter(pk=work.task_id).first)
    if task is None or not task.active:
        return True
    if lost >= MAX_LOST:
        return False
    reporter = PieceReporter(task, work)
    await persistently(reporter.begin)
    writes = asyncio.create_task(reporter.run_forever())
    try:
        took = await _patiently(task, reporter, work)
    except (Inexact, TaskError, OSError) as reason:
        if isinstance(reason, TaskError) and reason.kind == "too_long":  # so it would be in one
            await persistently(task.fail, reason.kind, str(reason), reason.details, steps=reporter.steps)
            await tell(task)
            return False
        log.warning("task %s is encoded in one piece: %s", task.pk, reason)
        return False
    except Exception:
        log.exception("a piece of task %s ended by a mistake of the engine", task.pk)
        return False
    finally:
        writes.cancel()
        await asyncio.to_thread(_leave, task.pk, reporter.number)
    await persistently(reporter.done, took)
    if not await persistently(course.is_at_work, task.pk):
        far = await persistently(course.so_far, task.pk, work.seconds)
        await persistently(task.wait, progress=far["progress"])
    return True


def _leave(task_id: str, number: int) -> None:
    """Removes the piece's own name of its source, and the folder unless somebody else works in it."""
    folders.source(task_id, number).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folders.folder(task_id).rmdir()


async def _patiently(task: EngineTask, reporter: PieceReporter, work: PieceWork) -> float:
    """Encodes it, again where the disk was full in the middle; the seconds that took.

    Raises Inexact, TaskError, OSError.
    """
    kind = KINDS[task.kind]
    hooks = hooks_of(task, reporter, [])
    worked = await persistently(course.worked, task.pk)
    options = check_options(kind.name, task.asked)
    for attempt in range(MAX_DISK_WAITS + 1):
        film = await Film.of(task.pk, kind, options, task.source, hooks, reporter.number)
        share = work.piece.seconds / work.seconds if work.piece else 0.1
        await hooks.wait_for_disk_space(int(film.media.size * share * (attempt + 1)))
        try:
            return await encode(film, work, worked)
        except TaskError as error:
            if error.kind != "no_space" or attempt == MAX_DISK_WAITS:
                raise
        except asyncio.CancelledError:
            with contextlib.suppress(*OUTAGES):
                await in_thread(task.add_freed, film.freed)
            raise
    raise AssertionError("the last attempt returns or raises")
