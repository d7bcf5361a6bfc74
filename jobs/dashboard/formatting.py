"""Numbers and moments in words for people: bytes, lengths, how long ago."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone
from django.utils.timezone import localtime

from jobs.state import Output

BETWEEN = "\u00a0· "  # two facts in one line, which breaks after it


def size(count: float | None) -> str:
    """Bytes for people, in decimal units."""
    if count is None:
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def clock(seconds: float | None) -> str:
    """A length as 1:02:03 or 2:03."""
    if seconds is None:
        return ""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def span(seconds: float) -> str:
    """How long something took, or will."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def reach(seconds: float) -> str:
    """How long something may yet take, as a range: nobody knows better."""
    low, high = span(max(seconds * 0.9, 1)), span(seconds * 1.25 + 1)
    same_unit = low.split()[-1] == high.split()[-1]
    return f"{low.split()[0] if same_unit else low} to {high}"


def glued(text: str) -> str:
    """The text as one piece that no line breaks."""
    return text.replace(" ", "\u00a0")


def line(*facts: str) -> str:
    """Facts in one line, which breaks only between two of them."""
    return BETWEEN.join(glued(fact) for fact in facts if fact)


def about(output: Output) -> str:
    """An output's facts in one line."""
    sides = f"{output.width} × {output.height}" if output.width and output.height else ""
    codecs = " / ".join(codec for codec in (output.video_codec, output.audio_codec) if codec)
    return line(output.format.upper(), codecs, sides, clock(output.duration), size(output.filesize))


def ago(moment: datetime) -> str:
    """How long ago, in words that change once a minute at most: a poll a second later is the same."""
    minutes = int((timezone.now() - moment).total_seconds() // 60)
    if minutes < 1:
        return "just now"
    if minutes < 60:
        return f"{minutes} min ago"
    return f"{minutes // 60} h ago" if minutes < 24 * 60 else f"{localtime(moment):%-d %b %Y}"
