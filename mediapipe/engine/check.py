"""Whether an uploaded file can be media at all: asked once all its bytes are here, before a job is made.

Only what is certain is refused. A file that opens is worked on as far as it goes, and a reader that is
slow, crashes or cannot run says nothing about the file: ingest will tell.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from mediapipe.engine import run
from mediapipe.engine.media import Media, Unusable

PATIENCE = 30.0  # seconds
OWN = ("InvalidDataError", "EOFError")  # PyAV's errors about the bytes; others are about this machine


async def refusal(path: Path) -> str:
    """Why the file at *path* is certainly no film and no sound, in a sentence; "" where it may be one."""
    try:
        async with asyncio.timeout(PATIENCE):
            media = await run.probe(path)
    except (TimeoutError, OSError):
        return ""
    except Unusable as error:
        return sentence(error) if is_certain(error) else ""
    return "This is a picture, not a video or audio file. Choose another one." if is_still(media) else ""


def sentence(error: Unusable) -> str:
    """What is wrong, and what to do."""
    if error.kind == "invalid_input" and error.details:
        return "This is not a video or audio file. Choose another one."
    return f"{error} Choose another file."


def is_certain(error: Unusable) -> bool:
    """Whether it is the file's own fault, and nothing here could ever work on it."""
    if error.kind == "protected":
        return True
    nothing_in_it = error.kind == "invalid_input" and not error.details
    about_the_bytes = error.details.startswith(OWN) or "whitelist" in error.details.lower()
    return nothing_in_it or (error.kind in ("invalid_input", "damaged") and about_the_bytes)


def is_still(media: Media) -> bool:
    """Whether it is a single picture: FFmpeg reads those with its *_pipe demuxers."""
    return media.format.endswith("_pipe") and media.audio is None
