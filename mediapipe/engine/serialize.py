"""What the API says of a media file, as JSON's own types. It knows no request and no database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mediapipe.engine.media import Media

COMMON = {"matroska": "mkv", "mov": "mp4"}  # what people call a demuxer's first format


def file_facts(media: Media, path: Path) -> dict[str, Any]:
    """A source as the API's File; its extension says which of a demuxer's formats it is."""
    formats = media.format.removesuffix("_pipe").split(",")
    suffix = path.suffix[1:].lower()
    video, audio = media.video, media.audio
    width, height = (round(side) for side in video.shown) if video else (None, None)
    return {
        "kind": "image" if media.is_still and not audio else "video" if video else "audio",
        "format": suffix if suffix in formats else COMMON.get(formats[0], formats[0]),
        "width": width,
        "height": height,
        "duration": round(media.duration, 3) or None,
        "codecs": {"video": video.codec if video else None, "audio": audio.codec if audio else None},
    }
