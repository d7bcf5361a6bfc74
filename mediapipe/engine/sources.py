"""A task's source as a file of this machine: read in place, or downloaded.

It knows storage and downloads, and nothing of what is made of a source.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from django.conf import settings

from mediapipe import storage
from mediapipe.engine.errors import TaskError
from mediapipe.engine.fetch import fetch
from mediapipe.engine.hooks import Hooks
from mediapipe.storage.outage import Patience


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


async def _download(url: str, name: str | None, target: Path, hooks: Hooks) -> str:
    """Downloads the source to *target*: *url*, or our own file *name*, whose bucket is waited for.

    A link of somebody else's that leads into our bucket is a foreign one: it may be wrong, or have expired.
    """

    def report(percent: float | None) -> None:
        hooks.report(None, None, None)

    if name is None:
        return await fetch(
            url, target, report, hooks.wait_for_disk_space, wait_for_server=hooks.wait_for_server
        )
    patience = Patience(hooks.storage_failed, hooks.storage_answered)
    await fetch(partial(storage.source_url, name), target, report, hooks.wait_for_disk_space, patience)
    await hooks.storage_answered()
    return ""
