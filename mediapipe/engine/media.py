"""What a probe found, as types: tracks, sizes, lengths. Pure: it knows no file and no process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mediapipe.engine.errors import TOO_MANY_PIXELS, UNKNOWN_CODEC, TaskError, from_reader
from mediapipe.engine.probe import COVER_ART, MAX_PIXELS

MAX_DURATION = 24 * 3600
HDR = (16, 18)  # PQ, HLG
UNSPECIFIED = 2  # of a colour matrix, primaries, transfer
MIN_SAMPLE_RATE = 1000  # samples a second: less is no sound, and a huge file when resampled


@dataclass(frozen=True)
class Video:
    """A picture track. *width* and *height* as stored; *rotation* in degrees."""

    index: int
    codec: str
    width: int
    height: int
    profile: str = ""
    sar: float = 1.0
    rotation: int = 0
    pix_fmt: str = "yuv420p"
    fps: float = 0.0
    frames: int = 0
    duration: float = 0.0
    transfer: int = 0
    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    interlaced: bool = False
    alpha: bool = False
    gap: float = 86400.0
    cover: bool = False
    tiled: bool = False  # a HEIF picture: FFmpeg puts its tiles together when no track is named
    pictures: int = 0
    decodes: bool = False

    @property
    def shown(self) -> tuple[float, float]:
        """Width and height as a person sees them: square pixels, upright."""
        sar = self.sar if 0.1 <= self.sar <= 10 else 1.0  # beyond that it is damage, not a format
        width = self.width * sar
        height = float(self.height)
        return (height, width) if self.rotation % 180 == 90 else (width, height)

    @property
    def hdr(self) -> bool:
        """Whether it must be tone-mapped for ordinary screens."""
        return self.transfer in HDR


@dataclass(frozen=True)
class Audio:
    """A sound track."""

    index: int
    codec: str
    channels: int = 2
    rate: int = 48000
    profile: str = ""
    duration: float = 0.0


@dataclass(frozen=True)
class Media:
    """A probed file. *duration* in seconds, 0 where unknown."""

    format: str = ""
    duration: float = 0.0
    start: float = 0.0
    size: int = 0
    bit_rate: int = 0
    video: Video | None = None
    audio: Audio | None = None
    undecodable: list[str] = field(default_factory=list)
    guessed: bool = False  # the duration, by the first bit rates

    @property
    def is_still(self) -> bool:
        """Whether there is one picture only: a photo, a cover, a single frame."""
        video = self.video
        if video is None:
            return False
        return video.cover or video.tiled or video.frames == 1 or (video.duration or self.duration) <= 0.1


def _fields(kind: type, facts: dict[str, Any]) -> dict[str, Any]:
    return {name: facts[name] for name in kind.__dataclass_fields__ if name in facts}  # type: ignore[attr-defined]


def media_from_probe(found: dict[str, Any]) -> Media:
    """The tracks to work on, from the object that probe.py prints. Raises TaskError."""
    if found.get("protected"):
        raise TaskError("protected", "This file is copy-protected. Upload an unprotected copy.")
    if "error" in found:
        raise from_reader(str(found["error"]), is_iso=bool(found.get("is_iso")))
    streams: list[dict[str, Any]] = found.get("streams", [])
    video = choose_picture(streams)
    media = Media(
        format=str(found.get("format", "")),
        duration=float(found.get("duration") or 0) or (video.duration if video else 0),
        start=float(found.get("start") or 0),
        size=int(found.get("size") or 0),
        bit_rate=int(found.get("bit_rate") or 0),
        video=video,
        audio=choose_sound(streams),
        undecodable=[s["type"] for s in streams if s["type"] in ("video", "audio") and not s["codec"]],
        guessed=bool(found.get("guessed")),
    )
    check_limits(media)
    return media


def choose_picture(streams: list[dict[str, Any]]) -> Video | None:
    """The largest picture; cover art only where there is no other. Raises TaskError where it is too large."""
    pictures = [s for s in streams if s["type"] == "video" and s["codec"]]
    films = [s for s in pictures if not s["disposition"] & COVER_ART]

    def rank(stream: dict[str, Any]) -> tuple[int, int, int]:
        return stream["width"] * stream["height"], stream["frames"], stream["disposition"] & 1

    best = max(films or pictures, key=rank, default=None)
    if best is None:
        return None
    if best["width"] * best["height"] > MAX_PIXELS:
        raise TaskError("too_large", TOO_MANY_PIXELS)
    return Video(**_fields(Video, best), cover=not films) if min(best["width"], best["height"]) > 0 else None


def choose_sound(streams: list[dict[str, Any]]) -> Audio | None:
    """The track that the file marks as its default, else the first."""
    tracks = [s for s in streams if s["type"] == "audio" and s["codec"] and s.get("channels")]
    tracks = [s for s in tracks if s["rate"] >= MIN_SAMPLE_RATE]
    default = [s for s in tracks if s["disposition"] & 1]
    chosen = next(iter(default or tracks), None)
    return Audio(**_fields(Audio, chosen)) if chosen else None


def check_limits(media: Media) -> None:
    """Raises TaskError for a file without a track to work on, and for one of more than a day."""
    if media.video is None and media.audio is None:
        if media.undecodable:
            raise TaskError("unsupported", UNKNOWN_CODEC)
        raise TaskError("invalid_input", "The file has no video and no audio track.")
    if media.duration > MAX_DURATION:
        hours = MAX_DURATION // 3600
        raise TaskError("too_large", f"The file is longer than {hours} hours, which is the limit here.")
