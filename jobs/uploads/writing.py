"""A request's body on its way to where an upload's bytes arrive, by one writer who is never silent for long.

It knows requests and bytes, and nothing of jobs.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from django.http import HttpRequest

from jobs.models import Upload
from jobs.uploads.arriving import LOCKED, Arriving
from jobs.uploads.errors import UploadError
from jobs.uploads.intake import store_of
from jobs.uploads.tus import check_body, parse_checksum
from mediapipe import disk
from mediapipe.database import OUTAGES, in_thread
from mediapipe.metrics import UPLOADED
from mediapipe.storage.s3 import BucketUnavailable
from mediapipe.threads import run_to_completion
from mediapipe.web.request_body import Disconnected, chunks

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

WRITER_TIMEOUT = 1.0  # seconds to wait for another writer: the end of one that has just lost its line
RETRY_AFTER = 2  # seconds, where it goes on: a silent one has let go by then, or soon
LEASE_INTERVAL = 2.0  # seconds between two signs of a writer
TOO_LONG = "More bytes came than Upload-Length promised."
DISK_FULL = "The server is out of disk space. The upload will continue when there’s room."
NOT_SAVED = "The server couldn’t save this part. The upload will continue where it stopped."
STORAGE_UNAVAILABLE = "The storage can’t be reached. The upload will continue where it stopped."


def storage_error(error: OSError) -> UploadError:
    """What a client hears of bytes that couldn't be kept: they may come again."""
    if isinstance(error, BucketUnavailable):
        return UploadError(503, STORAGE_UNAVAILABLE, Retry_After=5)
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return UploadError(507, DISK_FULL if full else NOT_SAVED)


@asynccontextmanager
async def writer(upload: Upload) -> AsyncIterator[Arriving]:
    """Where the upload's next bytes go, for one writer at a time. Raises UploadError, OSError."""
    part = await _open(upload)
    staying = asyncio.create_task(_stay(part))
    try:
        yield part
    finally:
        staying.cancel()
        await run_to_completion(part.close)


async def _open(upload: Upload) -> Arriving:
    deadline = time.monotonic() + WRITER_TIMEOUT
    while True:
        opening = asyncio.ensure_future(asyncio.to_thread(store_of(upload).open, upload))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            with suppress(UploadError, OSError):
                await run_to_completion((await opening).close)
            raise
        except UploadError as error:
            if error.status != 423:
                raise
        if time.monotonic() > deadline:
            raise UploadError(423, LOCKED, Retry_After=RETRY_AFTER)
        await in_thread(upload.ask_to_write)
        await asyncio.sleep(0.1)


async def _stay(part: Arriving) -> None:
    while True:
        await asyncio.sleep(LEASE_INTERVAL)
        with suppress(*OUTAGES):  # it is said again in a moment
            await run_to_completion(part.stay)


async def wait_for_writer(upload: Upload) -> bool:
    """Waits a moment for a writer to end, and asks one that is silent to; whether nobody writes it now."""
    deadline = time.monotonic() + WRITER_TIMEOUT
    while await run_to_completion(store_of(upload).is_locked, upload):
        if time.monotonic() > deadline:
            return False
        await in_thread(upload.ask_to_write)
        await asyncio.sleep(0.1)
    return True


async def append(request: HttpRequest, upload: Upload) -> int:
    """Writes the body behind what has arrived; the new offset. Raises UploadError, Disconnected.

    A body that breaks off stays as far as it came, unless a checksum was to say that it is right.
    """
    digest, expected = parse_checksum(request)
    try:
        async with writer(upload) as part:
            check_body(request, part.offset, upload.length)
            try:
                await write_body(request, part, digest)
            except (Disconnected, OSError, asyncio.CancelledError):
                if digest:
                    part.truncate()
                raise
            if digest and digest.digest() != expected:
                part.truncate()
                raise UploadError(
                    460, "The checksum doesn’t match; the part was dropped and can be sent again."
                )
            await run_to_completion(part.sync)
        return part.offset
    except OSError as error:
        raise storage_error(error) from None


async def write_body(request: HttpRequest, part: Arriving, digest: Hash | None) -> None:
    """Writes what comes to *part* and feeds it to *digest*. Raises UploadError, Disconnected, OSError."""
    async for blocks in chunks(request, give_up=lambda: in_thread(part.upload.is_wanted)):
        if part.offset + sum(map(len, blocks)) > part.length:
            part.truncate()
            raise UploadError(413, TOO_LONG)
        if part.on_our_disk and not disk.has_media_space():
            raise OSError(errno.ENOSPC, "the reserve is reached")
        await run_to_completion(part.write, blocks, digest)
        UPLOADED.inc(sum(map(len, blocks)))
