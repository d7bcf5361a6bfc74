"""Places in a film as people and as WebVTT write them. Pure."""

from __future__ import annotations


def timecode(seconds: float) -> str:
    """As a person says it: 3:12, 1:02:03."""
    whole = int(seconds)
    hours, minutes = divmod(whole // 60, 60)
    start = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{start}:{whole % 60:02}"


def webvtt_timecode(seconds: float) -> str:
    """As WebVTT counts: 00:00:05.000."""
    return f"{int(seconds // 3600):02}:{int(seconds // 60 % 60):02}:{seconds % 60:06.3f}"


def hours(seconds: float) -> str:
    """A long time in words."""
    minutes = round(seconds / 60)
    return f"{seconds / 3600:.0f} hours" if minutes >= 120 else f"{max(minutes, 1)} minutes"
