"""The folder each task works in, and what is left of those that are over. It knows no task but by its id."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

from django.conf import settings


def folder(task_id: str) -> Path:
    """Where a task works."""
    return Path(settings.WORK_ROOT) / task_id


def source(task_id: str, number: int | None = None) -> Path:
    """Where its source lies that isn't read in place; *number*: that of one of its pieces."""
    return folder(task_id) / ("input" if number is None else f"input{number}")


def clear(task_id: str) -> int:
    """Removes a task's folder; the bytes that were in it."""
    return remove(folder(task_id))


def remove(path: Path) -> int:
    """Removes a folder; the bytes that were in it."""
    size = 0
    for each in path.rglob("*"):
        with contextlib.suppress(OSError):
            size += each.stat().st_size if each.is_file() else 0
    shutil.rmtree(path, ignore_errors=True)
    return size


def sweep(active: Callable[[list[str]], set[str]]) -> int:
    """Removes the folders of tasks that are over; how many.

    The folders are listed before *active* says which of these tasks are not over: several machines may
    share the disk, and the folder of a task that begins in between stays.
    """
    root = Path(settings.WORK_ROOT)
    found = [each.name for each in root.iterdir() if _is_of_a_task(each)] if root.is_dir() else []
    stale = set(found) - active(found) if found else set()
    for name in stale:
        clear(name)
    return len(stale)


def _is_of_a_task(path: Path) -> bool:
    """Whether it isn't what is kept here for many of them."""
    return path.is_dir() and not path.name.startswith(".")
