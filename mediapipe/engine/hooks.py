"""What a task calls while it runs, and what was done for it before. It knows their types, and no work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from mediapipe.download import WaitForServer, WaitForSpace
from mediapipe.engine.arguments import Plan
from mediapipe.engine.encode import ReportProgress
from mediapipe.engine.media import Media
from mediapipe.storage.outage import WaitOut


async def _give_up(error: Exception) -> None:
    raise error


async def _go_on() -> None:
    pass


@dataclass(frozen=True)
class Hooks:
    """What a task calls while it runs."""

    wait_for_disk_space: WaitForSpace
    report: ReportProgress = lambda percent, speed, left: None
    step: Callable[..., None] = lambda name, **about: None  # the step that begins, and what is known by now
    storage_failed: WaitOut = _give_up  # returns when the storage may be tried again, or raises
    storage_answered: Callable[[], Awaitable[None]] = _go_on
    published: Callable[[str], None] = lambda name: None  # a file that is stored, or may be
    wait_for_server: WaitForServer = asyncio.sleep  # a source's, that asked us to come back later
    divide: Callable[[Path, Media, Plan], Awaitable[None]] | None = None  # raises OtherWay for a long film


@dataclass(frozen=True)
class SoFar:
    """What was done for a task before it is done another way: percent, and seconds of encoding."""

    percent: float = 0.0
    worked: float = 0.0


AT_THE_BEGINNING = SoFar()
