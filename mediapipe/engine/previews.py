"""What previews need beside FFmpeg's own output: a waveform's JSON, a storyboard's WebVTT.

Files in, files out; it knows nothing of tasks.
"""

from __future__ import annotations

import json
import math
import re
from itertools import pairwise
from pathlib import Path

from mediapipe.engine import stills
from mediapipe.engine.media import Media
from mediapipe.engine.options import Value

PEAK = re.compile(rb"Peak_level=(-?[0-9.]+|-?inf|-?nan)")


def waveform(measured: Path, points: int, seconds: float) -> Path:
    """Peaks from 0 to 1 as JSON, from the decibels that FFmpeg wrote, one per piece of the sound."""
    levels: list[float] = []
    with open(measured, "rb") as file:
        for line in file:
            if found := PEAK.search(line):
                decibels = float(found[1])
                levels.append(min(1.0, 10 ** (decibels / 20)) if decibels == decibels else 0.0)
    points = min(points, len(levels))
    edges = [at * len(levels) // points for at in range(points + 1)] if points else [0]
    peaks = [round(max(levels[a:b]), 3) for a, b in pairwise(edges)]
    target = measured.with_suffix(".json")
    target.write_text(json.dumps({"peaks": peaks, "duration": round(seconds, 3)}))
    return target


def storyboard(options: dict[str, Value], media: Media, sprite: Media, name: str, target: Path) -> None:
    """The WebVTT that tells which part of the sprite (called *name*) belongs to which second."""
    interval, rows = stills.storyboard(options, media)
    assert sprite.video is not None
    width, height = sprite.video.width // 10, sprite.video.height // rows
    lines = ["WEBVTT", ""]
    for at in range(min(rows * 10, max(1, math.ceil(media.duration / interval - 0.001)))):
        start, stop = at * interval, min((at + 1) * interval, media.duration)
        place = f"{(at % 10) * width},{at // 10 * height},{width},{height}"
        lines += [f"{clock(start)} --> {clock(stop)}", f"{name}#xywh={place}", ""]
    target.write_text("\n".join(lines))


def clock(seconds: float) -> str:
    """As WebVTT counts: 00:00:05.000."""
    return f"{int(seconds // 3600):02}:{int(seconds // 60 % 60):02}:{seconds % 60:06.3f}"
