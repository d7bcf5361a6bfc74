"""When each picture of a film is shown, by its packets alone: where it can be cut. In a sandboxed child.

It imports PyAV and the standard library; what to do with the places is decided in pieces.py.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any


def picture_times(path: str, options: dict[str, str], asked: dict[str, Any]) -> dict[str, Any]:
    """Count, first and last picture, and the places on a grid of seconds at which a film can be cut.

    *asked*: `video` (a track's number), `grid`, `longest` (seconds that a picture may stand). Times count
    from where the file begins. `at` is between two pictures, `first` the picture after it, `before` how many
    come before, `late` how long after the place on the grid. `problem`: why the times mean nothing.
    """
    import av

    av.logging.set_level(av.logging.PANIC)
    with av.open(path, options=options) as container:
        stream = container.streams[int(asked["video"])]
        origin = Fraction(container.start_time or 0, 1_000_000)
        base = stream.time_base or Fraction(0)
        times: list[int] = []
        for packet in container.demux(stream):
            if not packet.size:
                continue
            if packet.pts is None or packet.is_corrupt or packet.is_discard:
                return {"problem": "a picture has no time"}
            times.append(packet.pts)
    seconds = [float(each * base - origin) for each in sorted(times)]
    steps = [after - before for before, after in pairwise(seconds)]
    if len(seconds) < 2 or min(steps) <= 0 or max(steps) > asked["longest"] or seconds[0] < 0:
        return {"problem": "pictures don’t follow each other as in a film"}
    last = seconds[-1] + steps[-1]
    cuts = list(_cuts(seconds, int(asked["grid"])))
    return {"problem": "", "count": len(seconds), "first": seconds[0], "last": last, "cuts": cuts}


def _cuts(seconds: list[float], grid: int) -> Any:
    """Each place on the grid behind the first picture, with the pictures about it."""
    place = seconds[0] + grid
    for number, (before, after) in enumerate(pairwise(seconds), start=1):
        while after >= place:
            if after < place + grid:
                yield {"at": (before + after) / 2, "first": after, "before": number, "late": after - place}
            place += grid
