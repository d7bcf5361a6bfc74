"""Downloads a remote source for a task: mediapipe.download, with the engine's error kinds.

FFmpeg never sees a URL: it gets the file that is written here, under a neutral name. It knows neither tasks
nor the API.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from mediapipe import download
from mediapipe.download import Location, WaitForServer, WaitForSpace
from mediapipe.engine import not_media
from mediapipe.engine.errors import TaskError
from mediapipe.part import Part
from mediapipe.storage.outage import Patience

ERROR_KINDS = {
    "unreachable": "source_unreachable",
    "not_found": "source_not_found",
    "unsafe": "source_refused",
    "refused": "source_refused",
    "too_large": "too_large",
}

ReportPercent = Callable[[float | None], None]  # percent, None where the server says no length


async def fetch(
    url: Location,
    target: Path,
    report: ReportPercent,
    wait_for_space: WaitForSpace,
    patience: Patience | None = None,
    wait_for_server: WaitForServer = asyncio.sleep,
    part: Part | None = None,
) -> str:
    """Downloads *url* to the file *target*; what its server calls it. Raises TaskError, OSError.

    *patience*: with a server of our own that is away. *part*: what *target* holds of it already.
    """
    part = part or Part()

    def as_percent(have: int, total: int | None) -> None:
        report(have / total * 100 if total else None)

    fd = part.open(target)
    try:
        downloaded = await download.download(
            url,
            fd,
            report=as_percent,
            wait_for_space=wait_for_space,
            wait_for_server=wait_for_server,
            patience=patience,
            part=part,
        )
        head = os.pread(fd, not_media.LOOKED_AT, 0)
    except download.DownloadError as error:
        sentence = str(error) if error.reason == "unsafe" else f"Couldn’t download the source: {error}."
        raise TaskError(ERROR_KINDS.get(error.reason, "source_unreachable"), sentence) from None
    finally:
        os.close(fd)
    if not head:
        raise TaskError("invalid_input", "The source is empty (0 bytes).")
    if patience is None and (sentence := not_media.instead(head)):
        raise TaskError("invalid_input", sentence)
    return downloaded.filename
