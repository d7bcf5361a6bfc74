"""One piece of a film as Temporal gives it out: its row's progress, its heartbeats, and what stops it.

What can't be encoded in pieces doesn't fail its task: the workflow has it encoded in one. It knows rows and
activities, and nothing of FFmpeg.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from temporalio import activity

from mediapipe.database import OUTAGES, in_thread, persistently
from mediapipe.engine import folders
from mediapipe.engine.errors import Inexact, TaskError
from mediapipe.engine.hooks import Hooks
from mediapipe.engine.kinds import KINDS
from mediapipe.engine.models import EngineTask
from mediapipe.engine.pieces import PieceWork
from mediapipe.engine.piecework import Course, Film, say_at_work
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
    reporter = Reporter(task)
    reporter.steps = dict(task.steps)
    writes = asyncio.create_task(reporter.run_forever())
    try:
        await asyncio.to_thread(say_at_work, work)  # first, or who ends now lets the row rest
        await persistently(task.begin)
        await _patiently(task, reporter, work)
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
    course = Course(folders.pieces(work.key), work.seconds)
    if not await asyncio.to_thread(course.at_work):
        percent, _, _ = await asyncio.to_thread(course.so_far)
        await persistently(task.wait, progress=round(percent, 1))
    return True


async def _patiently(task: EngineTask, reporter: Reporter, work: PieceWork) -> None:
    """Encodes it, again where the disk was full in the middle. Raises Inexact, TaskError, OSError."""
    kind = KINDS[task.kind]
    hooks = hooks_of(task, reporter, [])
    for attempt in range(MAX_DISK_WAITS + 1):
        film = await Film.of(task.pk, kind, check_options(kind.name, task.asked), task.source, hooks)
        share = work.piece.seconds / work.seconds if work.piece else 0.1
        await hooks.wait_for_disk_space(int(film.media.size * share * (attempt + 1)))
        try:
            return await encode(film, work)
        except TaskError as error:
            if error.kind != "no_space" or attempt == MAX_DISK_WAITS:
                raise
        except asyncio.CancelledError:
            with contextlib.suppress(*OUTAGES):
                await in_thread(task.add_freed, film.freed)
            raise
    return None
