"""A task's source as a file of this machine: read in place, or downloaded, from the bucket once for all.

What this machine has put into the bucket itself it needn't fetch. It knows storage and downloads, and nothing
of what is made of a source.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from weakref import WeakKeyDictionary

from django.conf import settings

from mediapipe import storage
from mediapipe.engine.errors import TaskError
from mediapipe.engine.fetch import fetch
from mediapipe.engine.hooks import Hooks
from mediapipe.storage import s3
from mediapipe.storage.outage import Patience

CACHED_SHARE = 0.1  # of the disk, for sources of the bucket's that several tasks read
CACHED_FOR = 3600.0  # seconds that nobody reads one
SOON_FETCHED = 128 << 20  # bytes, which take no longer than the second in which a cluster gives a task again


async def source_file(kept: str, target: Path, hooks: Hooks) -> tuple[Path, str]:
    """The source as a file, and its server's name for it: ours is read in place, another one downloaded."""
    try:
        name = storage.kept_name(kept)
    except storage.Forbidden as error:
        raise TaskError("source_refused", f"The source’s link can’t be used: {error}.") from None
    if name is None or settings.S3_BUCKET:
        return target, await _download(kept, name, target, hooks)
    path = storage.path(name)
    if not path.is_file():
        raise TaskError("source_not_found", "The source is no longer here.")
    if path.stat().st_size == 0:
        raise TaskError("invalid_input", "The source is empty (0 bytes).")
    return path, ""


def is_far(kept: str, known_size: Callable[[str], int | None]) -> bool:
    """Whether a source lies in our bucket, no copy of it here, and to fetch it takes a while.

    *known_size*: bytes of a file of ours, where they are known without the bucket: one that has just taken a
    large file may first read it again.
    """
    if not settings.S3_BUCKET:
        return False
    with contextlib.suppress(storage.Forbidden, OSError):
        name = storage.kept_name(kept)
        if name is not None and not _cached_as(name).exists():
            return (known_size(name) or s3.size(name)) > SOON_FETCHED
    return False


async def _download(url: str, name: str | None, target: Path, hooks: Hooks) -> str:
    """Downloads the source to *target*: *url*, or our own file *name*, whose bucket is waited for.

    A link of somebody else's that leads into our bucket is a foreign one: it may be wrong, or have expired.
    """

    def report(percent: float | None) -> None:
        hooks.report(None, None, None)

    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)  # a lost run's may be another task's file, too
    if name is None:
        return await fetch(
            url, target, report, hooks.wait_for_disk_space, wait_for_server=hooks.wait_for_server
        )
    patience = Patience(hooks.storage_failed, hooks.storage_answered)
    kept = _cached_as(name)
    async with _turn(kept.name):
        if not _linked(kept, target):
            signed = partial(storage.source_url, name)
            await fetch(signed, target, report, hooks.wait_for_disk_space, patience)
            await hooks.storage_answered()
            await asyncio.to_thread(_keep, target, kept)
    return ""


@contextlib.contextmanager
def keeping(file: Path, name: str) -> Iterator[None]:
    """Keeps a *file* that goes into the bucket as *name* meanwhile, for the next tasks on it."""
    beside = file.with_name(f"kept-{file.name}")
    linked = bool(settings.S3_BUCKET) and _linked(file, beside)
    yield
    if linked:
        with contextlib.suppress(OSError):  # then it is fetched
            _cached_as(name).unlink(missing_ok=True)  # of a run that was lost
            _keep(beside, _cached_as(name))


def _linked(kept: Path, target: Path) -> bool:
    """Gives what is kept a second name: who reads it by that loses nothing when the first goes."""
    try:
        # when it was last read; when it was written tells it from another file of its name, and stays
        os.utime(kept, ns=(time.time_ns(), kept.stat().st_mtime_ns))
        os.link(kept, target)
    except OSError:  # it isn't there, or this file system has no second names
        return False
    return True


def _cache() -> Path:
    return Path(settings.WORK_ROOT) / ".sources"


def _cached_as(name: str) -> Path:
    return _cache() / hashlib.sha256(name.encode()).hexdigest()


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Lock]] = WeakKeyDictionary()


@contextlib.asynccontextmanager
async def _turn(name: str) -> AsyncIterator[None]:
    """Each file's one after the other: who comes second finds what the first one has fetched."""
    turns = _turns.setdefault(asyncio.get_running_loop(), {})
    lock = turns.setdefault(name, asyncio.Lock())
    async with lock:
        yield
    if not lock.locked():
        turns.pop(name, None)


def _keep(target: Path, kept: Path) -> None:
    """Keeps what was fetched, for the next task on it."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    if _linked(target, kept):
        sweep()


def sweep() -> int:
    """Forgets what hasn't been read for an hour, and of more than a tenth of the disk what was read first.

    How many. The last one stays, however large.
    """
    root = _cache()
    if not root.is_dir():
        return 0
    most = shutil.disk_usage(root).total * CACHED_SHARE
    old = time.time() - CACHED_FOR
    size = 0
    gone = 0
    for at, bytes_, path in sorted(_cached(root), reverse=True):
        size += bytes_
        if at < old or (size > most and size > bytes_):
            path.unlink(missing_ok=True)
            gone += 1
    return gone


def _cached(root: Path) -> list[tuple[float, int, Path]]:
    found = []
    for path in root.iterdir():
        with contextlib.suppress(OSError):
            stat = path.stat()
            found.append((stat.st_atime, stat.st_size, path))
    return found
