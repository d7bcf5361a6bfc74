"""What a task may be asked for: the options of every kind, their ranges, and what goes together.

One table for who asks and who answers: the engine checks requests and describes itself by it, and pages
offer what it takes. Pure; how a kind is planned and verified is the engine's (mediapipe.engine.kinds).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mediapipe.validators import Choice, Colour, InvalidRequest, Links, Number, Options, Side, Validator

MAX_TIME = 86400 * 2
CODECS_BY_FORMAT = {"mp4": ("h264", "h265", "av1"), "mov": ("h264", "h265"), "webm": ("vp9", "av1")}
POSITIONS = (
    "center",
    "top",
    "bottom",
    "left",
    "right",
    "top_left",
    "top_right",
    "bottom_left",
    "bottom_right",
)

TIME = Number(0, MAX_TIME)
FRAME_RATE = Number(1, 60)
SIDE = Side(Number(2, 7680, whole=True))
QUALITY: dict[str, Validator] = {"quality": Choice(("very_low", "low", "medium", "high", "very_high"))}
PART: dict[str, Validator] = {"start": TIME, "end": TIME}
SHAPE: dict[str, Validator] = {
    "width": SIDE,
    "height": SIDE,
    "fit": Choice(("contain", "cover", "fill")),
    "position": Choice(POSITIONS),
    "background": Colour(),
}


def formats(*names: str, **aliases: str) -> Choice:
    """The formats of a kind; another name is an error of its own kind."""
    return Choice(names, aliases, error="format_unsupported")


@dataclass(frozen=True)
class Asked:
    """What one kind may be asked for."""

    options: dict[str, Validator]
    defaults: Options = field(default_factory=dict)
    required: dict[str, str] = field(default_factory=dict)  # options, and what each says


ASKED = {
    "video": Asked(
        {
            "format": formats("mp4", "webm", "mov"),
            "codec": formats("h264", "h265", "vp9", "av1"),
            "fps": FRAME_RATE,
            "bitrate": Number(300_000, 60_000_000, whole=True),
            **PART,
            **QUALITY,
            **SHAPE,
        },
        defaults={"format": "mp4"},
    ),
    "audio": Asked(
        {
            "format": formats("mp3", "aac", "ogg", "opus", "wav", "flac"),
            "bitrate": Number(32_000, 320_000, whole=True),
            "waveform": Choice(("json",)),
            "waveform_points": Number(10, 10_000, whole=True),
            **PART,
            **QUALITY,
        },
        defaults={"format": "mp3"},
    ),
    "image": Asked(
        {
            "format": formats("jpeg", "png", "webp", "avif", jpg="jpeg"),
            "start": TIME,
            "moment": Choice(("near", "exact")),  # whether a black frame at `start` gives way to one near it
            "interval": Number(0.1, 3600),
            "storyboard": Number(1, 100, whole=True),  # frames of a small one beside the picture of a film
            **QUALITY,
            **SHAPE,
        }
    ),
    "animation": Asked(
        {"format": formats("gif", "webp"), "fps": FRAME_RATE, **PART, **QUALITY, **SHAPE},
        defaults={"format": "gif", "start": 0.0, "fps": 10.0},
        required={"end": "where the clip stops, in seconds"},
    ),
    "adaptive_video": Asked(
        {"format": formats("hls"), **PART, **QUALITY, **SHAPE}, defaults={"format": "hls"}
    ),
    "check": Asked(
        {"outputs": Links()},
        required={"outputs": "what is looked through and compared with the input, each by a name"},
    ),
}


def check_options(kind: str, given: object) -> Options:
    """The options of a request for a *kind*, with its defaults. Raises InvalidRequest."""
    if not isinstance(given, Mapping):
        raise InvalidRequest("request_invalid", "options must be an object.")
    asked = ASKED[kind]
    options = dict(asked.defaults)
    for name, value in given.items():
        if name not in asked.options:
            known = ", ".join(sorted(asked.options))
            raise InvalidRequest("request_invalid", f"{kind} has no option {name!r:.60}. Known: {known}.")
        if value is not None:
            options[name] = asked.options[name].check(name, value)
    for name, meaning in asked.required.items():
        if name not in options:
            raise InvalidRequest("request_invalid", f"{kind} needs {name}: {meaning}.")
    if "end" in options and float(options["end"]) <= float(options.get("start", 0)):
        raise InvalidRequest("request_invalid", "end must be greater than start.")
    codec = str(options.get("codec", ""))
    container = str(options.get("format", ""))
    if codec and codec not in CODECS_BY_FORMAT[container]:
        fitting = ", ".join(CODECS_BY_FORMAT[container])
        raise InvalidRequest("format_unsupported", f"{codec} doesn’t fit {container}: use {fitting}.")
    return options
