"""The names of what is uploaded: a person's, as it may be shown, and ours for its source."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from urllib.parse import unquote_to_bytes, urlsplit

from jobs.models import Upload
from mediapipe import content_disposition, file_names

SUFFIXES = ("mp4", "m4v", "mov", "webm", "mkv", "mp3", "m4a", "wav", "flac", "ogg", "opus", "aac")
UNNAMED = "upload"


def display_name(text: str) -> str:
    """A file's name as people may see it: no path, no control characters, at most 200 characters."""
    return file_names.shown(text)[-200:] or UNNAMED


def name_in_link(url: str) -> str:
    """The name at the end of an accepted link's path, which older servers write in Latin; "" without one."""
    raw = unquote_to_bytes(PurePosixPath(urlsplit(url).path).name)
    return file_names.shown(content_disposition.as_text(raw))[-200:]


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
