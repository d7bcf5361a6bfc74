"""How a film's pictures are to be turned, by what its first ones say.

For a sandboxed child (probe.py, looks.py): PyAV's frames and the standard library.
"""

from __future__ import annotations

import struct
from typing import Any

from mediapipe.engine.survey import value

QUARTER = 90  # degrees
TURN_TOLERANCE = 1  # degrees by which a turn may differ from quarters, as FFmpeg has it


def turn(frame: Any) -> dict[str, Any]:
    """Facts of its track: `rotation` counter-clockwise, by quarters; whether it is `slanted`, `mirrored`.

    A slanted one isn't turned at all, as in browsers: FFmpeg would turn it inside its sides, before black.
    """
    degrees = int(frame.rotation) % 360
    near = round(degrees / QUARTER) * QUARTER
    slanted = abs(degrees - near) > TURN_TOLERANCE
    return {"rotation": 0 if slanted else near % 360, "slanted": slanted, "mirrored": is_mirrored(frame)}


def is_said_by_pictures(first: Any, second: Any) -> bool:
    """Whether the pictures themselves say how to turn them: the first of many, or beside the container.

    FFmpeg turns that one alone, or fails where both say it.
    """
    return len(_matrices(first)) > min(1, len(_matrices(second)))


def is_mirrored(frame: Any) -> bool:
    """Whether it is to be mirrored: its matrix turns right-handed into left-handed."""
    for data in _matrices(frame)[:1]:
        a, b, _, c, d = struct.unpack("=5i", data[:20])
        return bool(a * d - b * c < 0)
    return False


def _matrices(frame: Any) -> list[bytes]:
    """How it is to be turned and mirrored, as it says; nothing where PyAV can't tell (photos with EXIF)."""
    return value(
        lambda: [bytes(each) for each in frame.side_data if each.type.name == "DISPLAYMATRIX"], list[bytes]()
    )
