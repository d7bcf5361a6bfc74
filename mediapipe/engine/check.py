"""The check of an upload as settings.SOURCE_CHECK names it, until uploads ask the API's `probe` instead."""

from __future__ import annotations

from pathlib import Path

from mediapipe.engine import source_check


async def refusal(path: Path) -> str:
    """Why the file at *path* is certainly no film and no sound, in a sentence; "" where it may be one."""
    problem = (await source_check.report(path))["problem"]
    if problem is None:
        return ""
    if problem["kind"] == "image":
        return "This is a picture, not a video or audio file. Choose another one."
    if problem["kind"] == "not_media" and "track" not in problem["message"]:
        return "This is not a video or audio file. Choose another one."
    return f"{problem['message']} Choose another file."
