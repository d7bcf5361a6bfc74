"""How much later one recording's sound and movement come than another's, by their courses alone. Pure.

Samples and small grey pictures in, seconds out. It judges nothing (findings.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

RATE = 4000  # samples of sound a second
BINS = 50  # of a second: values of a course of sound
PICTURES = 25  # a second: values of a course of movement
SIDE = 16  # dots of a picture's side
MAX_SHIFT = 3.0  # seconds either way that are looked for
MIN_CORRELATION = 0.7  # correlation from which on two courses are the same
CLEAR = 0.08  # that a place fits better than any other
BETTER = 0.03  # that a place must fit better than none, or chance has chosen it
PEAK_WIDTH = 0.2  # seconds about the best place, where all others fit well too


@dataclass(frozen=True)
class Place:
    """A window of a film: where it begins, and how much later its sound and its picture come, in seconds.

    None for one whose course says nothing: it is silent, still, or repeats itself.
    """

    start: float
    sound: float | None
    picture: float | None

    @property
    def apart(self) -> float | None:
        """How much later the sound comes than the picture; None where that can't be measured."""
        return None if self.sound is None or self.picture is None else self.sound - self.picture


def loudness_course(samples: bytes) -> list[float]:
    """How loud each fiftieth of a second is; *samples*: 16 bits, one channel, RATE a second."""
    values = memoryview(samples[: len(samples) // 2 * 2]).cast("h")
    step = RATE // BINS
    return [float(sum(map(abs, values[at : at + step]))) for at in range(0, len(values) - step + 1, step)]


def movement_course(pictures: bytes) -> list[float]:
    """How much each picture differs from the one before; *pictures*: SIDE by SIDE grey dots each."""
    size = SIDE * SIDE
    each = [pictures[at : at + size] for at in range(0, len(pictures) - size + 1, size)]
    return [float(sum(abs(a - b) for a, b in zip(one, other, strict=True))) for one, other in pairwise(each)]


def later(course: Sequence[float], other: Sequence[float], per_second: int) -> float | None:
    """Seconds by which *course* comes later than *other*; None where they don't say it clearly."""
    furthest = min(round(MAX_SHIFT * per_second), len(course) // 2, len(other) // 2)
    fits = {lag: _correlation(course, other, lag) for lag in range(-furthest, furthest + 1)}
    if not fits:
        return None
    best = max(fits, key=lambda lag: (fits[lag], -abs(lag)))
    if fits[best] - fits[0] < BETTER:
        best = 0
    far = [fit for lag, fit in fits.items() if abs(lag - best) > PEAK_WIDTH * per_second]
    if fits[best] < MIN_CORRELATION or fits[best] - max(far, default=0.0) < CLEAR:
        return None
    return best / per_second


def _correlation(course: Sequence[float], other: Sequence[float], lag: int) -> float:
    """How alike two courses are, from -1 to 1, where the first comes *lag* values later."""
    ours = course[max(0, lag) :]
    theirs = other[max(0, -lag) :]
    count = min(len(ours), len(theirs))
    if count < 2:
        return 0.0
    ours = ours[:count]
    theirs = theirs[:count]
    mean = sum(ours) / count
    their_mean = sum(theirs) / count
    spread = sqrt(sum((value - mean) ** 2 for value in ours))
    their_spread = sqrt(sum((value - their_mean) ** 2 for value in theirs))
    if not spread or not their_spread:
        return 0.0
    common = sum((a - mean) * (b - their_mean) for a, b in zip(ours, theirs, strict=True))
    return common / (spread * their_spread)
