"""Where a film can be cut so that its pieces are those of an uncut encode, by when its pictures are shown.

It counts as FFmpeg does, in a sandboxed child: pure, and of the standard library alone. The times are read by
picture_times.py.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any

ROUNDED = 1e-6  # seconds by which a time may be rounded
MOST = 1_001_000  # of which FFmpeg makes a fraction of a decimal rate
LEAST_TURN = 0.6  # of a picture's turn, below which FFmpeg lets its clock stand

Cut = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """What is asked of a film's times, in seconds."""

    video: int  # a track's number
    grid: float  # between an encode's keyframes; 0: they are where the source has them
    longest: float = math.inf  # that a picture may stand
    begins: float = 0.0  # where in its file the part begins that is encoded,
    lasts: float = 0.0  # and how long that is; 0: to the end
    shown: float = 0.0  # when a decoder has its first picture, from where the file begins
    tracks: list[int] = field(default_factory=list)  # the earliest begins the clock; none: that of all
    rate: float = 0.0  # pictures a second that are made of it; 0: all are encoded as they come
    waits: bool = False  # whether the first of these is shown from the beginning on
    held: float = 0.0  # for how long the last one is, beyond its turn
    rounds: bool = False  # whether the encoder's clock is as coarse as the film's rate
    is_stored: bool = False  # whether only the order of storing is known
    lead_in: float = 0.0  # before a picture from which its source is read
    by_keys: bool = False  # whether it must be read from a keyframe on, because no index leads to one


def nearest(value: Fraction) -> int:
    """The nearest whole number; a half goes away from zero."""
    whole = math.floor(abs(value) + Fraction(1, 2))
    return whole if value >= 0 else -whole


def scaled(times: Sequence[int], scale: Fraction) -> list[int]:
    """The nearest whole numbers of times that are counted in other units."""
    by = 2 * scale.numerator
    per = 2 * scale.denominator
    half = scale.denominator
    return [(each * by + half) // per if each >= 0 else -((half - each * by) // per) for each in times]


def rate_of(rate: float) -> Fraction:
    """What FFmpeg makes of a rate."""
    return Fraction(f"{rate:g}").limit_denominator(MOST)


@dataclass(frozen=True)
class Film:
    """The pictures of a film, or of a part: *times* in the order of showing, in units of *base* seconds.

    *beyond*: those behind the part; *end*: when the film ends; *keys*: of each keyframe when it is shown and
    when it is stored; *counts*: pictures a second of its encoder's clock.
    """

    asked: Asked
    base: Fraction
    times: list[int]
    beyond: list[int]
    end: int
    keys: list[tuple[int, int]]
    counts: Fraction | None

    def about(self) -> dict[str, Any]:
        """Count, first and last picture, and the places where it can be cut."""
        if self.asked.rate:
            return self._at_rate(rate_of(self.asked.rate))
        seconds = self.seconds()
        placed, own = encoded(seconds, self.counts) if self.counts else (seconds, [True] * len(seconds))
        # the encoder takes no picture from then on
        count = bisect_left(placed, self.asked.lasts - ROUNDED) if self.asked.lasts else len(seconds)
        cuts = self._cuts(placed, own) if self.asked.grid else self._cuts_at_keys()
        return {
            "count": count,
            "first": seconds[0],
            "last": 2 * seconds[count - 1] - seconds[count - 2],
            "end": self._between(count) if count < len([*seconds, *self.beyond]) else 0.0,
            "slack": 0,
            **self._read(0),
            "cuts": [each for each in cuts if each["before"] < count],
        }

    def seconds(self) -> list[float]:
        """When its pictures are shown, as exact as by Fractions, which take ten times as long."""
        tick = self.base.numerator
        whole = self.base.denominator
        return [each * tick / whole for each in self.times]

    def _between(self, number: int) -> float:
        """A place between a picture and the one before, nearer to it: units of whole pictures round it so."""
        before, after = [*self.times[number - 1 : number + 1], *self.beyond[:1]][:2]
        return float((before + 3 * after) * self.base / 4)

    def _read(self, number: int) -> dict[str, Any]:
        """From where on the source is read for a picture (None: the beginning), and when that is shown."""
        shown = float(self.times[number] * self.base)
        wanted = shown - self.asked.lead_in
        if not self.asked.by_keys:
            return {"read": wanted, "joint": shown}
        at = bisect_right(self.keys, (math.floor(wanted / self.base), math.inf))
        return {"read": float(self.keys[at - 1][1] * self.base) if at else None, "joint": shown}

    def _cuts(self, placed: Sequence[float], own: Sequence[bool]) -> Iterator[Cut]:
        """Each place on the grid behind the first picture, with the pictures about it.

        Only where a keyframe is due: an encoder owes one for each place, and behind a gap of several it has
        them one picture after the other. And only where its clock is not late because of pictures before.
        """
        due = 1
        for number in range(1, len(placed)):
            late = placed[number] - placed[0] - due * self.asked.grid
            if late > -ROUNDED:
                due += 1
                if late < self.asked.grid and own[number]:
                    yield self._cut(number, max(0.0, late))

    def _cuts_at_keys(self) -> Iterator[Cut]:
        """Each keyframe behind the first picture, as _cuts() has the places."""
        keys = {shown for shown, _ in self.keys}
        for number in range(1, len(self.times)):
            if self.times[number] in keys:
                yield self._cut(number, 0.0)

    def _cut(self, number: int, late: float) -> Cut:
        first = float(self.times[number] * self.base)
        return {
            "at": self._between(number),
            "first": first,
            "before": number,
            "late": late,
            **self._read(number),
        }

    def _at_rate(self, rate: Fraction) -> dict[str, Any]:
        """The same of the pictures that are made at a rate: each shows the latest of the source's."""
        *turns, end = scaled([*self.times, self.end], self.base * rate)
        first = 0 if self.asked.waits else turns[0]
        count = end - first + nearest(Fraction(str(self.asked.held)) * rate)
        slack = 1 + end - turns[-1]  # nobody knows how long FFmpeg takes the last one to stand
        lasts = Fraction(str(self.asked.lasts))
        # those that the encoder takes before that, and that it gets
        wanted = min(math.ceil(lasts * rate) - first, nearest(lasts * rate))
        slack = 0 if 0 < wanted < count - slack else slack
        count = min(count, wanted) if lasts else count
        return {
            "count": count,
            "first": float(first / rate),
            "last": float((first + count) / rate),
            "end": float((first + wanted - Fraction(1, 4)) / rate) if lasts else 0.0,
            "slack": slack,
            **self._read(0),
            "cuts": list(self._cuts_at_rate(rate, turns, first, count)),
        }

    def _cuts_at_rate(self, rate: Fraction, turns: Sequence[int], first: int, count: int) -> Iterator[Cut]:
        for due in range(1, math.ceil(count / rate / self.asked.grid)):
            before = math.ceil(due * self.asked.grid * rate)
            turn = first + before
            if before < count:
                yield {
                    "at": float((turn - Fraction(1, 4)) / rate),
                    "first": float(turn / rate),
                    "before": before,
                    "late": float(before / rate - due * self.asked.grid),
                    **self._read(max(0, bisect_right(turns, turn) - 1)),
                }


def encoded(seconds: Sequence[float], rate: Fraction) -> tuple[list[float], list[bool]]:
    """When an encoder whose clock is as coarse as a rate has the pictures; and which at their own places.

    FFmpeg moves a picture on that would come upon the one before: then the next ones come late, too.
    """
    a_second = float(rate)
    steps = [after - before for before, after in pairwise(seconds)]
    placed: list[float] = []
    own: list[bool] = []
    following = 0
    for at, step in zip(seconds, [*steps, *steps[-1:]], strict=True):
        exact = round(at * a_second * 65536) / 65536
        exact += 1 / 131072 if exact != round(exact) else 0
        turn = step * a_second
        early = exact - following + turn
        if early > LEAST_TURN:
            following = round(max(exact, following))
        placed.append(following / a_second)
        own.append(following == round(exact))
        following += early > -LEAST_TURN  # else it is dropped
    return placed, own


def part_of(
    asked: Asked, base: Fraction, times: Sequence[int], first: Fraction
) -> tuple[list[int], list[int]]:
    """Of pictures in the order of showing those from *first* seconds on, as long as asked; those behind."""
    kept = list(times[bisect_left(times, first / base) :])
    if not asked.lasts or not kept:
        return kept, []
    behind = bisect_left(kept, kept[0] + nearest(Fraction(str(asked.lasts)) / base))
    return kept[:behind], kept[behind:]
