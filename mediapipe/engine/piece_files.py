"""Where finished pieces are kept: in a folder that all share, or in the bucket and where they were made.

It knows names and bytes, and neither films nor tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar

from django.conf import settings

from mediapipe.engine import folders
from mediapipe.engine.hooks import Hooks
from mediapipe.storage import s3
from mediapipe.storage.content_types import content_type
from mediapipe.threads import run_to_completion

KEPT_FOR = 24 * 3600.0  # seconds, for a retry of a task that has failed
UNSENT_FOR = 3600.0  # seconds after which copies of what is no longer in the bucket go
BROUGHT_AT_ONCE = 4  # pieces: a bucket that is far takes longer to answer than to send one
T = TypeVar("T")


def folder(key: str) -> Path:
    """Where this machine has a film's pieces: beside the media; with a bucket, beside its work."""
    if settings.S3_BUCKET:
        return Path(settings.WORK_ROOT) / ".pieces" / key
    return Path(settings.MEDIA_ROOT) / "pieces" / key


def _name(key: str, name: str) -> str:
    return f"pieces/{key}/{name}"


def about(key: str, name: str) -> dict[str, Any]:
    """What is known of a piece that lies here; {} where there is none."""
    try:
        found: dict[str, Any] = json.loads((folder(key) / name).with_suffix(".json").read_text())
    except (OSError, ValueError):
        return {}
    return found if (folder(key) / name).exists() else {}


async def missing(key: str, names: Collection[str], hooks: Hooks) -> set[str]:
    """Which of these are nowhere."""
    gone = {name for name in names if not await asyncio.to_thread(about, key, name)}
    if gone and settings.S3_BUCKET:
        sent = await _patiently(hooks, s3.under, _name(key, "").rstrip("/"))
        there = {name.rpartition("/")[2] for name, _, _ in sent}
        gone = {name for name in gone if not {name, _beside(name)} <= there}
    return gone


def _beside(name: str) -> str:
    return Path(name).with_suffix(".json").name


async def keep(made: Path, key: str, known: dict[str, Any], hooks: Hooks) -> None:
    """Moves a finished piece to its place, whole and synced, with what is *known* of it. Raises TaskError."""
    await asyncio.to_thread(_keep, made, key, known)
    if settings.S3_BUCKET:
        both = (made.name, _beside(made.name))
        await _all(
            _patiently(hooks, s3.put, folder(key) / name, _name(key, name), content_type(name))
            for name in both
        )


def _keep(made: Path, key: str, known: dict[str, Any]) -> None:
    beside = made.with_suffix(".json")
    beside.write_text(json.dumps(known))
    for each in (beside, made):
        with open(each, "rb") as file:
            os.fsync(file.fileno())
        each.rename(folder(key) / each.name)


async def bring(key: str, names: Collection[str], hooks: Hooks) -> None:
    """Copies from the bucket what other machines have made, several at a time. Raises TaskError."""
    folder(key).mkdir(parents=True, exist_ok=True)
    places = asyncio.Semaphore(BROUGHT_AT_ONCE)

    async def one(name: str) -> None:
        async with places:
            if not await asyncio.to_thread(about, key, name):
                await _all(_patiently(hooks, _bring, key, each) for each in (_beside(name), name))

    await _all(one(name) for name in names)


async def _all(works: Iterable[Coroutine[Any, Any, Any]]) -> None:
    """Does all of these together; where one can't be done, or on a cancel, they have all ended."""
    going = [asyncio.create_task(each) for each in works]
    try:
        await asyncio.gather(*going)
    finally:
        for each in going:
            each.cancel()
        await asyncio.wait(going)


@s3.as_bucket_unavailable
def _bring(key: str, name: str) -> None:
    handle, part = tempfile.mkstemp(prefix="half-", dir=folder(key))
    try:
        with open(handle, "wb") as file, contextlib.closing(s3.stream(_name(key, name))) as body:
            shutil.copyfileobj(body, file, 1 << 20)
        os.replace(part, folder(key) / name)
    except OSError:
        Path(part).unlink(missing_ok=True)
        raise


async def _patiently(hooks: Hooks, function: Callable[..., T], *arguments: Any) -> T:
    """What a call of the bucket answers, however long that is away; a cancel waits until it has ended."""
    while True:
        try:
            found = await run_to_completion(function, *arguments)
        except s3.BucketUnavailable as error:
            await hooks.storage_failed(error)
        else:
            await hooks.storage_answered()
            return found


def clear(key: str) -> int:
    """Removes a film's pieces, here and in the bucket; the bytes that were in them. Raises OSError."""
    size = folders.remove(folder(key))
    if settings.S3_BUCKET:
        sent = s3.under(_name(key, "").rstrip("/"))
        for name, _, _ in sent:
            s3.remove(name)
        size = sum(of for _, of, _ in sent) or size
    return size


def sweep() -> int:
    """Removes the pieces of films on which nobody has worked for a day; how many films. Raises OSError."""
    now = time.time()
    changed = _changed_here()
    if settings.S3_BUCKET:
        sent = _changed_in_the_bucket()
        for key in [key for key, at in changed.items() if key not in sent and at < now - UNSENT_FOR]:
            folders.remove(folder(key))  # joined on another machine
        changed |= sent
    stale = [key for key, at in changed.items() if at < now - KEPT_FOR]
    for key in stale:
        clear(key)
    return len(stale)


def _changed_here() -> dict[str, float]:
    root = folder("")
    return {each.name: each.stat().st_mtime for each in root.iterdir()} if root.is_dir() else {}


def _changed_in_the_bucket() -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for name, _, at in s3.under("pieces"):
        key = name.split("/")[1]
        found[key] = max(found[key], at)
    return dict(found)
