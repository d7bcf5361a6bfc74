"""The names of what is uploaded: a person's, as it may be shown, and ours for its source."""

from __future__ import annotations

from pathlib import Path

from jobs.models import Upload
from jobs.models.job_queryset import JOINERS

SUFFIXES = ("mp4", "m4v", "mov", "webm", "mkv", "mp3", "m4a", "wav", "flac", "ogg", "opus", "aac")


def display_name(text: str) -> str:
    """A file's name as people may see it: no path, no control characters, at most 200 characters.

    What joins letters stays: without it emoji fall apart, and Persian words run together.
    """
    last = text.replace("\\", "/").rsplit("/", 1)[-1]
    name = "".join(sign for sign in last if sign.isprintable() or sign in JOINERS).strip(f" {JOINERS}")
    return name[-200:] or "upload"


def suffix(filename: str) -> str:
    """The extension where it is one of SUFFIXES, else .bin; demuxers use it where the bytes leave a doubt."""
    found = Path(filename).suffix.lower()
    return found if found.removeprefix(".") in SUFFIXES else ".bin"


def source_name(key: object, filename: str) -> str:
    """Our neutral name for a source."""
    return f"sources/{key}/source{suffix(filename)}"


def source_of(upload: Upload) -> str:
    """Our name for the source that an upload becomes."""
    return source_name(upload.pk, upload.filename)
