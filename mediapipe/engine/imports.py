"""Foreign sources on their way in: each is downloaded in a slot of its own, and kept until its task is over.

So no encode waits for somebody else's server. It knows rows, downloads and the store, and nothing of FFmpeg.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

from temporalio import activity

from mediapipe import storage
from mediapipe.database import OUTAGES, in_thread, persistently
from mediapipe.engine.fetch import fetch
from mediapipe.engine.folders import clear, folder
from mediapipe.engine.models import EngineTask
from mediapipe.engine.serialize import ARRIVED
from mediapipe.engine.surroundings import (
    Later,
    Reporter,
    Waits,
    again,
    attend,
    beat_forever,
    hands_over,
    is_over,
)
from mediapipe.engine.task import drop_source
from mediapipe.part import Part

SLOTS = 12  # downloads at once on one machine
LONGEST_TURN = 30.0  # seconds until a download that waits for its turn asks again, at most
HALF_COPIED_FOR = 3600.0  # seconds after which what a copy into the store has left is nobody's


@activity.defn
async def import_source(task_id: str) -> bool:
    """Downloads the foreign source of a task into the store; whether the task goes on from there."""
    before = activity.info().heartbeat_details  # an earlier run's: how often it was handed over, its part
    handed_over = int(before[0]) if before else 0
    part = Part()
    if len(before) > 1:
        part.take(before[1])
    heartbeats = asyncio.create_task(beat_forever(lambda: (handed_over, asdict(part))))
    try:
        task = await attend(task_id, activity.info().attempt - handed_over - 1, partial(_import, part=part))
    except Later as later:  # no slot is held meanwhile, and what can be continued stays
        if not (part.have and part.validator):
            clear(task_id)
        raise again("not yet", later.seconds, handed_over + 1, asdict(part)) from None
    except asyncio.CancelledError:
        if await hands_over(task_id):
            raise again("the worker is restarting", 0, handed_over + 1, asdict(part)) from None
        freed = clear(task_id)
        with contextlib.suppress(*OUTAGES):
            await in_thread(EngineTask.objects.filter(pk=task_id).update, freed_bytes=freed)
        if await is_over(task_id):
            await drop_source(task_id)
        raise
    finally:
        heartbeats.cancel()
    clear(task_id)
    if task is not None and task.active and task.fetched:
        return True
    await drop_source(task_id)
    return False


async def _import(task: EngineTask, reporter: Reporter, part: Part) -> None:
    """Raises Later, TaskError, OSError."""
    if task.fetched:
        return
    before = await persistently(task.begin_import)
    if before is not None:
        raise Later(min(2.0 + before, LONGEST_TURN))
    waits = Waits(task)
    reporter.step("import")
    target = folder(task.pk) / "input"
    target.parent.mkdir(parents=True, exist_ok=True)

    def report(percent: float | None) -> None:
        reporter.report(None, None, None)

    filename = await fetch(
        task.input, target, report, waits.for_import, wait_for_server=waits.come_back, part=part
    )
    await storage.publish_patiently(target, storage.fetched(task.pk), waits.storage_failed)
    reporter.step(ARRIVED, **({"filename": filename} if filename else {}))
    await persistently(task.imported, reporter.steps)


def sweep(active: Callable[[list[str]], set[str]]) -> int:
    """Removes the foreign sources of tasks that are over, and old halves of copies; how many.

    Listed before *active* says which of these tasks are not over: one that begins in between stays.
    """
    found = {name.rpartition("/")[2]: (name, changed) for name, _, changed in storage.under(storage.FETCHED)}
    recent = time.time() - HALF_COPIED_FOR
    copied = {each for each, (_, changed) in found.items() if each.startswith(".") and changed > recent}
    stale = set(found) - copied - active(list(found)) if found else set()
    for each in stale:
        storage.remove(found[each][0])
    return len(stale)
