"""What a probe found, as types, and the sentences about what cannot be used. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MAX_PIXELS = 40_000_000
MAX_SECONDS = 6 * 3600 * 4
HDR = (16, 18)  # PQ, HLG
UNSAID = 2  # of a colour matrix, primaries, transfer
LEAST_RATE = 1000  # samples a second: less is no sound, and a huge file when resampled
COVER_ART = 0x400


class Unusable(Exception):
    """The source cannot be worked on: the API's error kind and one sentence."""

    def __init__(self, kind: str, message: str, details: str = "") -> None:
        super().__init__(message)
        self.kind, self.details = kind, details


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
    matrix: int = UNSAID
    primaries: int = UNSAID
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
        width, height = self.width * sar, float(self.height)
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


def understood(found: dict[str, Any]) -> Media:
    """The tracks to work on: the largest picture, the default sound. Raises Unusable."""
    if found.get("protected"):
        raise Unusable("protected", "The file is copy-protected (DRM) and cannot be processed.")
    if "error" in found:
        raise refusal(str(found["error"]), is_iso=bool(found.get("is_iso")))
    streams: list[dict[str, Any]] = found.get("streams", [])
    pictures = [s for s in streams if s["type"] == "video" and s["codec"]]
    films = [s for s in pictures if not s["disposition"] & COVER_ART]
    best = max(
        films or pictures,
        key=lambda s: (s["width"] * s["height"], s["frames"], s["disposition"] & 1),
        default=None,
    )
    sounds = [
        s
        for s in streams
        if s["type"] == "audio" and s["codec"] and s.get("channels") and s["rate"] >= LEAST_RATE
    ]
    sound = next((s for s in sounds if s["disposition"] & 1), sounds[0] if sounds else None)
    video = Video(**_fields(Video, best), cover=not films) if best else None
    if video and video.width * video.height > MAX_PIXELS:
        raise Unusable("too_large", "The picture is too large: at most 40 megapixels are accepted.")
    if video and (video.width < 1 or video.height < 1):
        video = None
    unknown = [s["type"] for s in streams if s["type"] in ("video", "audio") and not s["codec"]]
    if video is None and sound is None:
        if unknown:
            raise Unusable(
                "unsupported", "The file uses a codec that this engine cannot decode. Convert it first."
            )
        raise Unusable("invalid_input", "There is neither picture nor sound in this file.")
    duration = float(found.get("duration") or 0) or (video.duration if video else 0)
    if duration > MAX_SECONDS:
        raise Unusable("too_large", "The file is longer than 24 hours, which is the limit here.")
    return Media(
        format=str(found.get("format", "")),
        duration=duration,
        start=float(found.get("start") or 0),
        size=int(found.get("size") or 0),
        bit_rate=int(found.get("bit_rate") or 0),
        video=video,
        audio=Audio(**_fields(Audio, sound)) if sound else None,
        undecodable=unknown,
        guessed=bool(found.get("guessed")),
    )


def refusal(said: str, *, is_iso: bool = False) -> Unusable:
    """Why FFmpeg could not even open a file, in plain words."""
    text = said.lower()
    if "moov atom" in text and is_iso:
        return Unusable(
            "damaged", "The file is incomplete: the upload or the recording stopped before its end.", said
        )
    if "whitelist" in text:
        return Unusable(
            "invalid_input",
            "This is not a video, audio or image file that is accepted here. "
            "Upload the recording itself, or convert it to MP4, MP3 or JPEG first.",
            said,
        )
    if "end of file" in text or "eoferror" in text:
        return Unusable("damaged", "The file ends before there is anything to play. Upload it again.", said)
    if "cannot allocate" in text or "memoryerror" in text:
        return Unusable("too_large", "The file needs more memory than is allowed; it may be damaged.", said)
    return Unusable("invalid_input", "This is not a video, audio or image file that can be read here.", said)


# What FFmpeg says while it works, and what that means: pattern, kind, sentence.
SAID = (
    ("no space left on device", "no_space", "The engine's disk is full. It goes on when there is room."),
    ("moov atom not found", "damaged", "The file is incomplete: the recording stopped before its end."),
    ("not on whitelist", "invalid_input", "This kind of file (a playlist or a link) is not accepted."),
    ("exceeds specified max pixel count", "too_large", "The picture is too large: at most 40 megapixels."),
    ("does not contain any stream", "no_audio", "There is nothing of this kind in the file."),
    ("matches no streams", "no_video", "There is nothing of this kind in the file."),
    ("no decoder found", "unsupported", "The file uses a codec that this engine cannot decode."),
    ("nothing was written into output", "damaged", "The file opened but held nothing that could be read."),
    ("cannot allocate memory", "too_large", "The file needs more memory than is allowed."),
    (
        "could not open encoder before eof",
        "damaged",
        "The file opened but held nothing that could be decoded.",
    ),
    ("invalid data found when processing input", "damaged", "The file is damaged and cannot be decoded."),
)


def failure(said: str, returncode: int) -> Unusable:
    """Why FFmpeg failed, from its last lines and its exit status."""
    text = said.lower()
    for pattern, kind, sentence in SAID:
        if pattern in text:
            return Unusable(kind, sentence, said)
    if returncode == -25:  # SIGXFSZ
        return Unusable("too_large", "The result grew past the size limit.", said)
    if returncode in (-24, -9):
        return Unusable("killed", "The encoder was stopped by the system (too much time or memory).", said)
    return Unusable("internal_error", "The encoder failed; its last lines are in the details.", said)
