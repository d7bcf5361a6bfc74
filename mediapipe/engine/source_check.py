"""Whether a file of this installation can be media at all: answers the API's `probe`, before a job exists.

Only what is certain counts as a problem. A reader that is slow, crashes or cannot run says nothing about
the file, and one that opens is processed as far as it goes: the encode will show.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings

from mediapipe import disk, storage
from mediapipe.engine import prober
from mediapipe.engine.errors import InvalidRequest, TaskError
from mediapipe.engine.media import Media
from mediapipe.engine.serialize import file_facts
from mediapipe.storage import s3

# PyAV's errors about the file's bytes; its others are about this machine.
ABOUT_THE_BYTES = ("InvalidDataError", "EOFError")
ENDS = 64 << 20  # bytes at the beginning and at the end of a file in the bucket that are looked at
BLOCK = 1 << 20
CUT = "The file is large and in the bucket: only its beginning and its end were looked at."


def local_name(url: str) -> str:
    """The name of the file behind a signed URL of this installation; nothing is fetched from elsewhere.

    Raises InvalidRequest for any other URL.
    """
    try:
        name = None if storage.is_in_bucket(url) else storage.name_of(url)
        if name is not None:
            storage.path(name)
    except storage.Forbidden as error:
        raise InvalidRequest("source_refused", f"The link can’t be used: {error}.") from None
    if name is None:
        raise InvalidRequest(
            "source_refused", "Only files of this installation are probed: send a signed URL."
        )
    return name


@contextmanager
def at_hand(name: str) -> Iterator[Path]:
    """The file *name*, or for the moment a copy of what lies in the bucket: of a large one both ends.

    Raises FileNotFoundError where the file is gone, OSError.
    """
    path = storage.path(name)
    if path.is_file() or not settings.S3_BUCKET:
        if not path.is_file():
            raise FileNotFoundError(path)
        yield path
        return
    size = s3.size(name)
    folder = storage.path("incoming")
    folder.mkdir(parents=True, exist_ok=True)
    if not disk.has_media_space(min(size, 2 * ENDS)):
        raise OSError("this machine’s disk is full")
    with tempfile.NamedTemporaryFile(prefix="probe-", suffix=path.suffix, dir=folder) as copy:
        os.ftruncate(copy.fileno(), size)
        _copy(name, copy.fileno(), 0, min(size, ENDS))
        _copy(name, copy.fileno(), max(ENDS, size - ENDS), size)
        yield Path(copy.name)


def _copy(name: str, fd: int, start: int, stop: int) -> None:
    if start >= stop:
        return
    with s3.stream(name, start) as body:
        while start < stop and (block := body.read(min(BLOCK, stop - start))):
            start = disk.write_at(fd, block, start)


async def look_at(name: str) -> dict[str, Any]:
    """probe_result() of our file *name*. Raises FileNotFoundError, and BucketUnavailable."""
    with ExitStack() as stack:
        try:
            path = await asyncio.to_thread(stack.enter_context, at_hand(name))
        except (FileNotFoundError, s3.BucketUnavailable):
            raise
        except OSError as error:
            return {"problem": None, "source": None, "unread": str(error)}
        found = await probe_result(path)
        if found["problem"] and path != storage.path(name) and not is_certain(path):
            return {"problem": None, "source": None, "unread": CUT}
        return found


def is_certain(path: Path) -> bool:
    """Whether what a copy of both ends shows holds for the whole, too.

    The boxes of an MP4 lead from one to the next, also through what isn't here.
    """
    with open(path, "rb") as file:
        return path.stat().st_size <= 2 * ENDS or file.read(8)[4:] != b"ftyp"


async def probe_result(path: Path) -> dict[str, Any]:
    """`problem`: {kind, message} or None; `source`: the file's facts, None where it could not be read.

    `unread`: where both are None, why, in a sentence.
    """
    try:
        media = await prober.probe(path)
    except (TaskError, OSError) as error:
        problem = problem_of(error) if isinstance(error, TaskError) else None
        return {"problem": problem, "source": None, "unread": None if problem else str(error)}
    image = {"kind": "image", "message": "This is an image, not a video or audio file."}
    problem = image if is_single_image(media) else None
    return {"problem": problem, "source": file_facts(media, path), "unread": None}


def problem_of(error: TaskError) -> dict[str, str] | None:
    """The probe's error as the API's {kind, message}; None where it may not be the file's own fault."""
    if error.kind == "protected":
        return {"kind": "protected", "message": str(error)}
    about_the_bytes = error.details.startswith(ABOUT_THE_BYTES) or "whitelist" in error.details.lower()
    if error.kind == "invalid_input" and (about_the_bytes or not error.details):
        return {"kind": "not_media", "message": str(error)}
    if error.kind == "damaged" and about_the_bytes:
        return {"kind": "damaged", "message": str(error)}
    return None


def is_single_image(media: Media) -> bool:
    """Whether it is one picture: FFmpeg reads those with its *_pipe demuxers."""
    return media.format.endswith("_pipe") and media.audio is None
