"""When each picture of a film is shown, by its packets alone: where it can be cut. In a sandboxed child.

It imports PyAV and the standard library, and of ours what does the same; which of the places are taken is
decided in pieces.py.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

from mediapipe.engine.seams import ROUNDED, Asked, Film, nearest, part_of

EVEN = 0.0025  # seconds by which pictures may stand longer than others of an even film, in milliseconds
MICROSECONDS = 1_000_000
BARELY = Fraction(1, 2000)  # seconds by which the time of a decoded picture may be rounded


class Unknown(Exception):
    """The times of a film mean nothing, and why."""


def picture_times(path: str, options: dict[str, str], asked: dict[str, Any]) -> dict[str, Any]:
    """Count, first and last picture, and the places on a grid of seconds at which a film can be cut.

    *asked*: an Asked. Times count from where the output begins, at `origin` microseconds of the file's clock.
    `at` is between two pictures, `first` the picture after it, `before` how many come before, `late` how long
    after the place on the grid; `read`: from where on the source is read, `joint`: when its picture is shown.
    `end`: where the last picture ends (0: with the film), `slack`: how many more or fewer there may be.
    `problem`: why the times mean nothing. `even`: whether all pictures stand as long. `decoded_by`: what a
    decoder must know before.
    """
    import av

    av.logging.set_level(av.logging.PANIC)
    wanted = Asked(**asked)
    with av.open(path, options=options) as container:
        stream = container.streams[wanted.video]
        decoded_by = bytes(stream.codec_context.extradata or b"").hex()
        origin = _origin(container, wanted)
        try:
            film = _film(container, stream, wanted, origin)
        except Unknown as reason:
            return {"problem": str(reason)}
    seconds = film.seconds()
    steps = [after - before for before, after in pairwise(seconds)]
    if len(seconds) < 2 or min(steps) <= 0 or max(steps) > wanted.longest or seconds[0] < -ROUNDED:
        return {"problem": "pictures don’t follow each other as in a film"}
    even = bool(wanted.rate) or max(steps) - min(steps) < EVEN
    return {"problem": "", "even": even, "decoded_by": decoded_by, "origin": origin} | film.about()


def _origin(container: Any, asked: Asked) -> int:
    """Where on the file's clock an output begins, in microseconds, as FFmpeg has it."""
    start = int(container.start_time or 0)
    wanted = start + round(asked.begins * MICROSECONDS)
    begins = [
        nearest(each.start_time * each.time_base * MICROSECONDS)
        for each in (container.streams[number] for number in asked.tracks)
        if each.start_time is not None
    ]
    return max(wanted, min(begins, default=start))


def _film(container: Any, stream: Any, asked: Asked, origin: int) -> Film:
    """The pictures of the part that is asked for. Raises Unknown."""
    base = stream.time_base or Fraction(1)
    moved = nearest(Fraction(-origin, MICROSECONDS) / base)
    shown = []
    keys = []
    last = (0, 0)
    for packet in container.demux(stream):
        if not packet.size or _is_hidden(stream.codec_context.name, packet):
            continue
        at = packet.dts if asked.is_stored else packet.pts
        if at is None or packet.is_corrupt or packet.is_discard:
            raise Unknown("a picture has no time")
        shown.append(at + moved)
        stored = (at if packet.dts is None else packet.dts) + moved
        keys += [(shown[-1], stored)] if packet.is_keyframe else []
        if not asked.grid and shown[-1] < (keys[-1][0] if keys else shown[-1] + 1):
            raise Unknown("pictures before a keyframe are stored behind it")
        last = max(last, (shown[-1], packet.duration or 0))
    first = Fraction(0)
    if not asked.begins:  # what a decoder can't show at its beginning is no part of the film
        begins = Fraction(int(container.start_time or 0) - origin, MICROSECONDS)
        first = begins + Fraction(str(asked.shown)) - BARELY
    times, beyond = part_of(asked, base, sorted(shown), first)
    counts = stream.guessed_rate if asked.rounds else None
    return Film(asked, base, times, beyond, last[0] + (last[1] or _step(times)), sorted(keys), counts)


def _step(times: list[int]) -> int:
    return times[-1] - times[-2] if len(times) > 1 else 0


def _is_hidden(codec: str, packet: Any) -> bool:
    """Whether a packet's picture is never shown, but others are decoded by it."""
    return codec == "vp8" and not memoryview(packet)[0] & 0x10
