"""Whether a file of this installation can be media at all: answers the API's `probe`, before a job exists.

Only what is certain counts as a problem. A reader that is slow, crashes or cannot run says nothing about
the file, and one that opens is processed as far as it goes: the encode will show.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mediapipe import storage
from mediapipe.engine import prober
from mediapipe.engine.errors import InvalidRequest, TaskError
from mediapipe.engine.media import Media
from mediapipe.engine.serialize import file_facts

# PyAV's errors about the file's bytes; its others are about this machine.
ABOUT_THE_BYTES = ("InvalidDataError", "EOFError")


def local_path(url: str) -> Path:
    """The file behind a signed URL of this installation; nothing is ever fetched.

    Raises InvalidRequest for any other URL, FileNotFoundError where the file is gone.
    """
    try:
        name = None if storage.is_in_bucket(url) else storage.name_of(url)
        path = storage.path(name) if name is not None else None
    except storage.Forbidden as error:
        raise InvalidRequest("source_refused", f"The link can’t be used: {error}.") from None
    if path is None:
        raise InvalidRequest(
            "source_refused", "Only files of this installation are probed: send a signed URL."
        )
    if not path.is_file():
        raise FileNotFoundError(path)
    return path


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
