"""What previews need beside FFmpeg's own output: a waveform's JSON, a storyboard's WebVTT.

Files in, files out; it knows nothing of tasks.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from mediapipe.engine import stills
from mediapipe.engine.media import Media
from mediapipe.engine.sound import WAVEFORM_POINTS
from mediapipe.engine.timecode import webvtt_timecode
from mediapipe.validators import Options

PEAK = re.compile(rb"Peak_level=(-?[0-9.]+|-?inf|-?nan)")


@dataclass(frozen=True)
class Encoded:
    """A verified output before it is published: *file* is what FFmpeg wrote, *name* its name afterwards."""

    options: Options
    source: Media
    output: Media
    file: Path
    name: str


@dataclass(frozen=True)
class Finished:
    """The file to publish as the output, and those beside it by what the API's File calls them ("vtt")."""

    file: Path
    beside: dict[str, Path] = field(default_factory=dict)


def as_encoded(encoded: Encoded) -> Finished:
    """What FFmpeg wrote is the output."""
    return Finished(encoded.file)


def waveform(encoded: Encoded) -> Finished:
    """Peaks from 0 to 1 as JSON where a waveform is wanted, from the decibels that FFmpeg wrote."""
    if "waveform" not in encoded.options:
        return as_encoded(encoded)
    levels: list[float] = []
    with open(encoded.file, "rb") as file:
        for line in file:
            if found := PEAK.search(line):
                decibels = float(found[1])
                levels.append(min(1.0, 10 ** (decibels / 20)) if decibels == decibels else 0.0)
    points = min(int(encoded.options.get("waveform_points", WAVEFORM_POINTS)), len(levels))
    edges = [at * len(levels) // points for at in range(points + 1)] if points else [0]
    peaks = [round(max(levels[a:b]), 3) for a, b in pairwise(edges)]
    target = encoded.file.with_suffix(".json")
    target.write_text(json.dumps({"peaks": peaks, "duration": round(encoded.output.duration, 3)}))
    return Finished(target)


def storyboard(encoded: Encoded) -> Finished:
    """The sprite, and where it is a storyboard's the WebVTT that says which part belongs to which second."""
    if "interval" not in encoded.options:
        return as_encoded(encoded)
    interval, rows = stills.storyboard_grid(encoded.options, encoded.source)
    sprite = encoded.output.video
    assert sprite is not None
    width = sprite.width // 10
    height = sprite.height // rows
    length = encoded.source.duration
    lines = ["WEBVTT", ""]
    for at in range(min(rows * 10, max(1, math.ceil(length / interval - 0.001)))):
        start = webvtt_timecode(at * interval)
        stop = webvtt_timecode(min((at + 1) * interval, length))
        place = f"{(at % 10) * width},{at // 10 * height},{width},{height}"
        lines += [f"{start} --> {stop}", f"{encoded.name}#xywh={place}", ""]
    target = encoded.file.with_suffix(".vtt")
    target.write_text("\n".join(lines))
    return Finished(encoded.file, {"vtt": target})
