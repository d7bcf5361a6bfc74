"""The folder each task works in, and what is left of those that are over. It knows no task but by its id."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from django.conf import settings

PIECES_KEPT_FOR = 24 * 3600.0  # seconds, for a retry of a task that has failed


def folder(task_id: str) -> Path:
    """Where a task works."""
    return Path(settings.WORK_ROOT) / task_id


def clear(task_id: str) -> int:
    """Removes a task's folder; the bytes that were in it."""
    return _remove(folder(task_id))


def _remove(path: Path) -> int:
    size = 0
    for each in path.rglob("*"):
        with contextlib.suppress(OSError):
            size += each.stat().st_size if each.is_file() else 0
    shutil.rmtree(path, ignore_errors=True)
    return size


def pieces(key: str) -> Path:
    """Where the pieces of a film are kept, beside the media: each machine that encodes finds them."""
    return Path(settings.MEDIA_ROOT) / "pieces" / key


def clear_pieces(key: str) -> int:
    """Removes a film's pieces; the bytes that were in them."""
    return _remove(pieces(key))


def sweep_pieces() -> int:
    """Removes the pieces of films on which nobody has worked for a day; how many films."""
    old = time.time() - PIECES_KEPT_FOR
    root = pieces("")
    stale = [each.name for each in root.iterdir() if each.stat().st_mtime < old] if root.is_dir() else []
    for name in stale:
        clear_pieces(name)
    return len(stale)


def sweep(active: Callable[[list[str]], set[str]]) -> int:
    """Removes the folders of tasks that are over; how many.

    The folders are listed before *active* says which of these tasks are not over: several machines may
    share the disk, and the folder of a task that begins in between stays.
    """
    root = Path(settings.WORK_ROOT)
    found = [path.name for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    stale = set(found) - active(found) if found else set()
    for name in stale:
        clear(name)
    return len(stale)
