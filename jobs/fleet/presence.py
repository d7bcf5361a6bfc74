"""What this process tells the fleet of itself, again and again, while its workers run.

It knows workers and rows, and no page. Where the database is away nothing is reported, and nothing stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import re
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone
from temporalio.worker import Worker

from jobs.models import FleetWorker
from mediapipe import at_work, disk
from mediapipe.database import OUTAGES, in_thread
from mediapipe.places import gate

INTERVAL = 2.0  # seconds between two looks at what it does
SIGN_EVERY = 4  # looks after which it gives a sign though nothing has changed


@contextlib.contextmanager
def own_name() -> Iterator[str]:
    """This worker's name: the machine's, with a number from the home's second one on; the same next time."""
    machine = settings.WORKER_NAME or socket.gethostname()
    folder = Path(settings.HOME) / "workers"
    folder.mkdir(exist_ok=True)
    for number in itertools.count(1):
        name = machine if number == 1 else f"{machine} ({number})"
        with open(folder / re.sub(r"[^\w.() -]", "_", name), "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield name
            return


def _what_it_does() -> list[list[Any]]:
    return [[each.queue, each.name, each.whose, round(each.since)] for each in at_work.now()]


@contextlib.asynccontextmanager
async def announced(name: str, workers: Sequence[Worker]) -> AsyncIterator[None]:
    """Tells the fleet of *workers* while the block runs, and at its end that they have stopped.

    Those of the engine take nothing before their row could be read: it may say that somebody has paused them.
    """
    slots = {each.task_queue: int(each.config()["max_concurrent_activities"] or 0) for each in workers}
    about = {
        "machine": socket.gethostname(),
        "version": settings.VERSION,
        "slots": slots | {queue: number for queue, number in gate.numbers().items() if queue in slots},
        "started_at": timezone.now(),
        "stopped_at": None,
    }
    gate.set(is_open=False)
    telling = asyncio.create_task(_tell_forever(name, about))
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        gate.set(is_open=True)
        with contextlib.suppress(*OUTAGES):
            await in_thread(FleetWorker.stopped, name)


async def _tell_forever(name: str, about: dict[str, Any]) -> None:
    last: dict[str, Any] = {}
    looks = 0
    while True:
        with contextlib.suppress(*OUTAGES, OSError):
            gate.set(is_open=not await in_thread(FleetWorker.is_paused, name))
            now = {"doing": _what_it_does(), "takes": gate.is_open}
            if now != last or looks % SIGN_EVERY == 0:
                free = await asyncio.to_thread(disk.free, settings.WORK_ROOT)
                await in_thread(FleetWorker.tell, name, **about, **now, disk_free=free)
                last = now
        looks += 1
        await asyncio.sleep(INTERVAL)
