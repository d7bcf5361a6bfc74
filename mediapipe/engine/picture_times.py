"""When each picture of a film is shown, by its packets alone: where it can be cut. In a sandboxed child.

It imports PyAV and the standard library; what to do with the places is decided in pieces.py.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

ROUNDED = 1e-6  # seconds by which a time may be rounded
MICRO = 1_000_000  # of FFmpeg's own time base in a second
EVEN = 0.0025  # seconds by which pictures may stand longer than others of an even film, in milliseconds


def picture_times(path: str, options: dict[str, str], asked: dict[str, Any]) -> dict[str, Any]:
    """Count, first and last picture, and the places on a grid of seconds at which a film can be cut.

    *asked*: `video` (a track's number), `grid` (0: at its keyframes), `longest` (seconds that a picture may
    stand). Times count from where the file begins. `at` is between two pictures, `first` the picture after
    it, `before` how many come before, `late` how long after the place on the grid. `problem`: why the times
    mean nothing. `even`: whether all pictures stand as long. `decoded_by`: what a decoder must know before.
    """
    import av

    av.logging.set_level(av.logging.PANIC)
    with av.open(path, options=options) as container:
        stream = container.streams[int(asked["video"])]
        counted = _counter(stream.time_base or Fraction(0), container.start_time or 0)
        decoded_by = bytes(stream.codec_context.extradata or b"").hex()
        times: list[int] = []
        keys: list[int] = []
        for packet in container.demux(stream):
            if not packet.size or _is_hidden(stream.codec_context.name, packet):
                continue
            if packet.pts is None or packet.is_corrupt or packet.is_discard:
                return {"problem": "a picture has no time"}
            times.append(packet.pts)
            keys += [packet.pts] if packet.is_keyframe else []
            if not asked["grid"] and packet.pts < (keys[-1] if keys else packet.pts + 1):
                return {"problem": "pictures before a keyframe are stored behind it"}
    seconds = [counted(each) for each in sorted(times)]
    steps = [after - before for before, after in pairwise(seconds)]
    if len(seconds) < 2 or min(steps) <= 0 or max(steps) > asked["longest"] or seconds[0] < -ROUNDED:
        return {"problem": "pictures don’t follow each other as in a film"}
    last = seconds[-1] + steps[-1]
    at_keys = {counted(each) for each in keys}
    cuts = list(_cuts(seconds, asked["grid"]) if asked["grid"] else _cuts_at(seconds, at_keys))
    even = max(steps) - min(steps) < EVEN
    about = {"problem": "", "even": even, "decoded_by": decoded_by, "count": len(seconds)}
    return about | {"first": seconds[0], "last": last, "cuts": cuts}


def _counter(base: Fraction, origin: int) -> Callable[[int], float]:
    """What turns a clock's ticks into seconds from where the file begins, its *origin* in microseconds.

    As exact as by Fractions, which take ten times as long.
    """
    tick, whole = base.numerator * MICRO, base.denominator * MICRO
    start = origin * base.denominator
    return lambda at: (at * tick - start) / whole


def _is_hidden(codec: str, packet: Any) -> bool:
    """Whether a packet's picture is never shown, but others are decoded by it."""
    return codec == "vp8" and not memoryview(packet)[0] & 0x10


def _cuts(seconds: list[float], grid: int) -> Any:
    """Each place on the grid behind the first picture, with the pictures about it.

    Only where a keyframe is due: an encoder owes one for each place, and behind a gap of several it has
    them one picture after the other.
    """
    due = 1
    for number, (before, after) in enumerate(pairwise(seconds), start=1):
        late = after - seconds[0] - due * grid
        if late > -ROUNDED:
            due += 1
            if late < grid:
                yield {"at": (before + after) / 2, "first": after, "before": number, "late": max(0.0, late)}


def _cuts_at(seconds: list[float], keys: set[float]) -> Any:
    """Each keyframe behind the first picture, as _cuts() has the places."""
    for number, (before, after) in enumerate(pairwise(seconds), start=1):
        if after in keys:
            yield {"at": (before + after) / 2, "first": after, "before": number, "late": 0.0}
