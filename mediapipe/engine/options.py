"""What may be asked of the engine: kinds, options, ranges and defaults of the Ittybit reference.

Pure: a request's JSON in, a checked Request out. Option values reach FFmpeg's command line, so each
is a number in a range or a word of a closed set, and an unknown option is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Union
from urllib.parse import urlsplit

Value = Union[str, int, float]  # noqa: UP007 - as in jobs.pipelines
QUALITIES = ("very_low", "low", "medium", "high", "very_high")
CODECS = {"mp4": ("h264", "h265", "av1"), "mov": ("h264", "h265"), "webm": ("vp9", "av1")}
FORMATS = {
    "video": ("mp4", "webm", "mov"),
    "audio": ("mp3", "aac", "ogg", "opus", "wav", "flac"),
    "image": ("jpeg", "png", "webp", "avif"),
    "animation": ("gif", "webp"),
    "adaptive_video": ("hls",),
}
POSITIONS = (
    *("center", "top", "bottom", "left", "right"),
    *("top_left", "top_right", "bottom_left", "bottom_right"),
)
LAST_SECOND = 86400 * 2
MOST_METADATA = 64 << 10  # bytes of JSON


class Refused(Exception):
    """A request that is wrong: the API's error kind and one sentence."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Request:
    """A checked request for a task."""

    kind: str
    input: str
    options: dict[str, Value] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    webhook_url: str = ""


def _word(*words: str) -> Callable[[str, object], Value]:
    def check(name: str, value: object) -> Value:
        if not isinstance(value, str) or value not in words:
            kind = "format_unsupported" if name in ("format", "codec") else "request_invalid"
            raise Refused(kind, f"{name} must be one of: {', '.join(words)}.")
        return value

    return check


def _real(low: float, high: float, *, whole: bool = False) -> Callable[[str, object], Value]:
    def check(name: str, value: object) -> Value:
        if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
            if not whole:
                return float(value)
            if value == int(value):
                return int(value)
        what = "a whole number" if whole else "a number"
        raise Refused("request_invalid", f"{name} must be {what} from {low:g} to {high:g}.")

    return check


def _side(name: str, value: object) -> Value:
    """Pixels, or a share of the source such as "50%"."""
    if isinstance(value, str):
        if re.fullmatch(r"[1-9][0-9]{0,2}%", value) and int(value[:-1]) <= 100:
            return value
        raise Refused("request_invalid", f'{name} must be pixels from 2 to 7680, or a share such as "50%".')
    return _real(2, 7680, whole=True)(name, value)


def _colour(name: str, value: object) -> Value:
    if not isinstance(value, str) or not re.fullmatch(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})", value):
        raise Refused("request_invalid", f"{name} must be a colour such as #1a2b3c.")
    digits = value.removeprefix("#").lower()
    return "#" + (digits if len(digits) == 6 else "".join(digit * 2 for digit in digits))


TIME = _real(0, LAST_SECOND)
SHAPE: dict[str, Callable[[str, object], Value]] = {
    "width": _side,
    "height": _side,
    "fit": _word("contain", "cover", "fill"),
    "position": _word(*POSITIONS),
    "background": _colour,
}
QUALITY = {"quality": _word(*QUALITIES)}
KNOWN: dict[str, dict[str, Callable[[str, object], Value]]] = {
    "video": {
        "format": _word(*FORMATS["video"]),
        "codec": _word("h264", "h265", "vp9", "av1"),
        "fps": _real(1, 60),
        "bitrate": _real(300_000, 60_000_000, whole=True),
        "start": TIME,
        "end": TIME,
        **QUALITY,
        **SHAPE,
    },
    "audio": {
        "format": _word(*FORMATS["audio"]),
        "bitrate": _real(32_000, 320_000, whole=True),
        "start": TIME,
        "end": TIME,
        "waveform": _word("json"),
        "waveform_points": _real(10, 10_000, whole=True),
        **QUALITY,
    },
    "image": {
        "format": _word(*FORMATS["image"]),
        "start": TIME,
        "interval": _real(0.1, 3600),
        **QUALITY,
        **SHAPE,
    },
    "animation": {
        "format": _word(*FORMATS["animation"]),
        "start": TIME,
        "end": TIME,
        "fps": _real(1, 60),
        **QUALITY,
        **SHAPE,
    },
    "adaptive_video": {
        "format": _word(*FORMATS["adaptive_video"]),
        "start": TIME,
        "end": TIME,
        **QUALITY,
        **SHAPE,
    },
}
DEFAULTS: dict[str, dict[str, Value]] = {
    "video": {"format": "mp4"},
    "audio": {"format": "mp3"},
    "image": {},  # as the source where that is a photo, else jpeg
    "animation": {"format": "gif", "start": 0.0, "fps": 10.0},
    "adaptive_video": {"format": "hls"},
}


def check_options(kind: str, given: object) -> dict[str, Value]:
    """The options with their defaults. Raises Refused."""
    if not isinstance(given, Mapping):
        raise Refused("request_invalid", "options must be an object.")
    known = KNOWN[kind]
    options = dict(DEFAULTS[kind])
    for name, value in given.items():
        if name not in known:
            raise Refused(
                "request_invalid", f"{kind} has no option {name!r:.60}. Known: {', '.join(sorted(known))}."
            )
        if value is not None:
            options[name] = known[name](name, "jpeg" if (name, value) == ("format", "jpg") else value)
    if kind == "animation" and "end" not in options:
        raise Refused("request_invalid", "animation needs end: where the clip stops, in seconds.")
    if "end" in options and float(options["end"]) <= float(options.get("start", 0)):
        raise Refused("request_invalid", "end must be greater than start.")
    codec, container = str(options.get("codec", "")), str(options.get("format", ""))
    if codec and codec not in CODECS[container]:
        raise Refused(
            "format_unsupported", f"{codec} does not fit {container}: use {', '.join(CODECS[container])}."
        )
    return options


def _url(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise Refused("invalid_input", f"{name} must be an http or https URL.")
    try:
        parts = urlsplit(value)
        good = parts.scheme.lower() in ("http", "https") and bool(parts.hostname) and len(value) <= 8000
        good = good and (parts.port is None or parts.port > 0) and bool(value.encode())
    except ValueError:  # no port of this kind, no such address, half a character
        good = False
    if not good or any(ord(sign) <= 32 or ord(sign) == 127 for sign in value):
        raise Refused("invalid_input", f"{name} must be an http or https URL.")
    return value


def _metadata(given: object) -> dict[str, Any]:
    """Metadata that every database keeps and every JSON reader reads."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise Refused("request_invalid", "metadata must be an object.")
    try:
        text = json.dumps(given, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        raise Refused("request_invalid", "metadata holds what is no text or no number.") from None
    if len(text) > MOST_METADATA or b"\\u0000" in text:
        raise Refused("request_invalid", f"metadata must be at most {MOST_METADATA >> 10} kB, without NUL.")
    return dict(given)


def check_request(body: object) -> Request:
    """The request in a body of JSON. Raises Refused."""
    if not isinstance(body, Mapping):
        raise Refused("request_invalid", "The body must be a JSON object.")
    kind = body.get("kind")
    if not isinstance(kind, str) or kind not in KNOWN:
        raise Refused("request_invalid", f"kind must be one of: {', '.join(KNOWN)}.")
    source = _url("input", body.get("input"))
    if body.get("output") is not None:
        raise Refused("request_invalid", "output is not supported by this engine: results are kept here.")
    metadata = _metadata(body.get("metadata"))
    hook = body.get("webhook_url")
    options = check_options(kind, body.get("options") if body.get("options") is not None else {})
    return Request(kind, source, options, metadata, _url("webhook_url", hook) if hook else "")


def check_probe(body: object) -> str:
    """The URL in the body of a probe. Raises Refused."""
    if not isinstance(body, Mapping):
        raise Refused("request_invalid", "The body must be a JSON object.")
    if unknown := set(body) - {"input"}:
        raise Refused("request_invalid", f"A probe takes input alone, not {min(map(str, unknown))!r:.60}.")
    return _url("input", body.get("input"))
