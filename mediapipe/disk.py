"""How much of a disk may still be written, and what each writer leaves free on it.

It knows folders and bytes; who writes there, and what happens without space, the callers decide.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

from django.conf import settings

MEDIA_RESERVE = 512 << 20  # bytes that uploads and copies leave free: everything else lives on them
# Less than that, so that a task can end where an upload can no longer begin.
WORK_RESERVE = 256 << 20  # bytes that the engine leaves free
BLOCK = 1 << 20  # bytes that are written together,
HELD = 0.1  # and the seconds after which fewer are
HOME_RESERVE = 512 << 20  # bytes below which the installation isn't ready: its database must be able to grow


def free(folder: str | Path) -> int:
    """Bytes free on the disk of *folder*, which is created where it is missing."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(folder).free


def free_for_media() -> int:
    """Bytes that uploads and copies may still bring; negative where the reserve is touched."""
    return free(settings.MEDIA_ROOT) - MEDIA_RESERVE


def has_media_space(length: int = 0) -> bool:
    """Whether *length* more bytes of media leave the reserve alone."""
    return free_for_media() > length


def free_for_work() -> int:
    """Bytes that the engine's tasks may still write; negative where the reserve is touched."""
    return free(settings.WORK_ROOT) - WORK_RESERVE


def is_work_full() -> bool:
    """Whether the engine can take no more tasks."""
    return free_for_work() <= 0


def is_home_full() -> bool:
    """Whether the installation's own disk is too full to run jobs."""
    return free(settings.HOME) <= HOME_RESERVE


def write_at(fd: int, data: bytes | bytearray, offset: int) -> int:
    """Writes all of *data* to *fd* at *offset*, in as many parts as it takes; the offset behind it."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written
    return offset


async def blocks(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytearray]:
    """*pieces* together, as far as they come together: a thread that writes each takes longer than they do.

    What has come before they break off comes before that is raised.
    """
    held = bytearray()
    since = time.monotonic()
    try:
        async for piece in pieces:
            held += piece
            if len(held) >= BLOCK or time.monotonic() - since > HELD:
                yield held
                held = bytearray()
                since = time.monotonic()
    except Exception:
        if held:
            yield held
        raise
    if held:
        yield held
