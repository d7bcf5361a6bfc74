"""Numbers and moments as text for people: bytes, durations, how long ago. It knows no job and no page."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone
from django.utils.timezone import localtime

from jobs import option_words
from jobs.option_words import CODEC_NAMES, FORMAT_NAMES
from jobs.state import Output

SEPARATOR = "\u00a0· "  # between two facts in one line, which breaks after it


def filesize(count: float | None) -> str:
    """Bytes in decimal units, like "2.4 MB"; "" for None."""
    if count is None:
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def timecode(seconds: float | None) -> str:
    """A position or length in media, like "1:02:03" or "2:03"; "" for None."""
    return "" if seconds is None else option_words.timecode(round(seconds))


def duration(seconds: float) -> str:
    """How long something took, like "4.2 s", "35 s", "12 min" or "2.5 h"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def eta(seconds: float) -> str:
    """How long something may yet take, like "about 3 min left": an estimate is no more exact than that."""
    if seconds < 60:
        return "less than a minute left"
    minutes = round(seconds / 60)
    return f"about {minutes} min left" if minutes < 90 else f"about {seconds / 3600:.1f} h left"


def nbsp(text: str) -> str:
    """The text with no-break spaces, so that no line breaks inside it."""
    return text.replace(" ", "\u00a0")


def join_facts(*facts: str) -> str:
    """Facts in one line, which breaks only between two of them; empty ones are left out."""
    return SEPARATOR.join(nbsp(fact) for fact in facts if fact)


def middle(text: str, most: int) -> str:
    """The text in so many characters: what tells long names apart is at their beginning and at their end.

    A line may break between the two (by a zero-width space), so that half the width shows all of it.
    """
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    first = text[: most - 1 - end]
    last = text[-end:]
    if " " in first and _cuts_a_short_word(text, len(first)):
        first = first.rpartition(" ")[0]
    if " " in last and _cuts_a_short_word(text, len(text) - end):
        last = last.partition(" ")[2]
    return f"{first.rstrip()}…\u200b{last.lstrip()}"


def _cuts_a_short_word(text: str, at: int) -> bool:
    before = text[:at].rpartition(" ")[2]
    after = text[at:].partition(" ")[0]
    return bool(before and after) and len(before + after) <= 12


def _codec(name: str) -> str:
    return "PCM" if name.startswith("pcm_") else CODEC_NAMES.get(name, name)


def describe_output(output: Output) -> str:
    """Format, codecs, size in pixels, length and bytes of an output in one line."""
    pixels = f"{output.width} × {output.height}" if output.width and output.height else ""
    container = FORMAT_NAMES.get(output.format.lower(), output.format.upper())
    codecs = [_codec(codec) for codec in (output.video_codec, output.audio_codec) if codec]
    if codecs == [container]:  # an MP3 file holds MP3: once is enough
        codecs = []
    facts = (container, " + ".join(codecs), pixels, timecode(output.duration), filesize(output.filesize))
    return join_facts(*facts)


def ago(moment: datetime) -> str:
    """How long ago, like "5 min ago", to the minute: a poll a second later shows the same."""
    minutes = int((timezone.now() - moment).total_seconds() // 60)
    if minutes < 1:
        return "just now"
    if minutes < 60:
        return f"{minutes} min ago"
    return f"{minutes // 60} h ago" if minutes < 24 * 60 else f"{localtime(moment):%-d %b %Y}"
