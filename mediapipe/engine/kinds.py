"""What an engine kind is, in one place: options and ranges, light or heavy, how it is planned and verified.

A new kind is a new entry of KINDS: requests, plans, the task's run, its verification, the queues and the
OpenAPI description all read it here. Pure: it names the functions that do the work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from mediapipe.engine import plan, previews, stills, verify
from mediapipe.engine.arguments import Plan
from mediapipe.engine.media import Media
from mediapipe.engine.validators import Choice, Colour, Number, Options, Side, Validator

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
class Kind:
    """One kind of task.

    *plan* builds the Plan from checked options, the probed source and its path; *verify* reads an output
    (*copied*: its picture was not encoded); *finish* writes what FFmpeg doesn't. All raise TaskError.
    """

    name: str
    options: dict[str, Validator]
    plan: Callable[[Options, Media, str], Plan]
    verify: Callable[[Path, bool], Awaitable[Media]] = verify.read_file
    finish: Callable[[previews.Encoded], previews.Finished] = previews.as_encoded
    defaults: Options = field(default_factory=dict)
    required: dict[str, str] = field(default_factory=dict)  # options, and what each says
    light: bool = False  # whether it goes beside the heavy encodes, because it takes a moment
    # whether a plan for these options depends on how far the source's keyframes are apart
    needs_keyframes: Callable[[Options], bool] = lambda options: False
    output_kind: str = ""  # what its output is called in the API's File; "" where as the kind
    has_duration: bool = True
    has_frame_rate: bool = False


_KINDS = (
    Kind(
        "video",
        {
            "format": formats("mp4", "webm", "mov"),
            "codec": formats("h264", "h265", "vp9", "av1"),
            "fps": FRAME_RATE,
            "bitrate": Number(300_000, 60_000_000, whole=True),
            **PART,
            **QUALITY,
            **SHAPE,
        },
        plan.video_plan,
        verify=verify.read_video,
        defaults={"format": "mp4"},
        needs_keyframes=lambda options: True,
        has_frame_rate=True,
    ),
    Kind(
        "audio",
        {
            "format": formats("mp3", "aac", "ogg", "opus", "wav", "flac"),
            "bitrate": Number(32_000, 320_000, whole=True),
            "waveform": Choice(("json",)),
            "waveform_points": Number(10, 10_000, whole=True),
            **PART,
            **QUALITY,
        },
        plan.audio_plan,
        finish=previews.waveform,
        defaults={"format": "mp3"},
        light=True,
    ),
    Kind(
        "image",
        {
            "format": formats("jpeg", "png", "webp", "avif", jpg="jpeg"),
            "start": TIME,
            "moment": Choice(("near", "exact")),  # whether a black frame at `start` gives way to one near it
            "interval": Number(0.1, 3600),
            **QUALITY,
            **SHAPE,
        },
        stills.image_plan,  # without a format: the source's own where that is a photo, else jpeg
        finish=previews.storyboard,
        light=True,
        needs_keyframes=lambda options: "interval" in options,
        has_duration=False,
    ),
    Kind(
        "animation",
        {"format": formats("gif", "webp"), "fps": FRAME_RATE, **PART, **QUALITY, **SHAPE},
        stills.animation_plan,
        verify=verify.read_animation,
        defaults={"format": "gif", "start": 0.0, "fps": 10.0},
        required={"end": "where the clip stops, in seconds"},
        output_kind="image",
    ),
    Kind(
        "adaptive_video",
        {"format": formats("hls"), **PART, **QUALITY, **SHAPE},
        plan.hls_plan,
        verify=verify.read_stream,
        defaults={"format": "hls"},
        needs_keyframes=lambda options: True,
        output_kind="video",
    ),
)
KINDS = {kind.name: kind for kind in _KINDS}
LIGHT = tuple(kind.name for kind in _KINDS if kind.light)
