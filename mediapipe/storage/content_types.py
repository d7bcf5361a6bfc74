"""Which Content-Type a file of ours is answered with. It knows names, and no files."""

from __future__ import annotations

# By extension and from this list alone: an upload must never be answered as a page.
TYPES = {
    "mp4": "video/mp4",
    "m4v": "video/mp4",
    "mov": "video/quicktime",
    "webm": "video/webm",
    "mkv": "video/x-matroska",
    "mp3": "audio/mpeg",
    "m4a": "audio/mp4",
    "aac": "audio/aac",
    "ogg": "audio/ogg",
    "opus": "audio/ogg",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "webp": "image/webp",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "png": "image/png",
    "avif": "image/avif",
    "gif": "image/gif",
    "vtt": "text/vtt; charset=utf-8",
    "json": "application/json",
    "m3u8": "application/vnd.apple.mpegurl",
    "m4s": "video/iso.segment",
    "ts": "video/mp2t",
}


def content_type(name: str) -> str:
    """The Content-Type of a file."""
    return TYPES.get(name.rsplit(".", 1)[-1].lower(), "application/octet-stream")
