"""The time axis of a job's page: attempts as segments, waits between them, idle gaps folded. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from jobs.state import Attempt

WIDTH = 1000.0  # units of the axis
FOLD = 30.0  # units that a folded gap keeps
LONG = 0.25  # of the time at work: a longer gap is folded
WORTH = 20.0  # seconds that a gap lasts at least: a wait between two attempts is to be seen


@dataclass(frozen=True)
class Segment:
    """A piece of the axis, in its units; *lasted* in seconds."""

    x: float
    width: float
    kind: str
    lasted: float = 0.0
    attempt: Attempt | None = None


class Axis:
    """Seconds on the left, units on the right; what nobody worked in takes little room.

    *attempts*: of all stages. *now*: where unfinished ones end.
    """

    def __init__(self, attempts: Sequence[Attempt], now: float) -> None:
        self.now = now
        busy: list[list[float]] = []
        for start, end in sorted((a.started_at, a.finished_at or now) for a in attempts):
            if busy and start <= busy[-1][1]:
                busy[-1][1] = max(busy[-1][1], end)
            else:
                busy.append([start, max(end, start + 0.001)])
        worked = sum(end - start for start, end in busy)
        gaps = [(a[1], b[0]) for a, b in pairwise(busy)]
        self.folds = [(start, end) for start, end in gaps if end - start > max(LONG * worked, WORTH)]
        shown = worked + sum(end - start for start, end in gaps if (start, end) not in self.folds)
        self.first = busy[0][0] if busy else now
        self.scale = (WIDTH - FOLD * len(self.folds)) / max(shown, 0.001)

    def at(self, moment: float) -> float:
        """Where a moment is, in units."""
        units, behind = 0.0, self.first
        for start, end in self.folds:
            if moment <= start:
                break
            units += (start - behind) * self.scale + FOLD * min(1.0, (moment - start) / (end - start))
            behind = min(end, moment)
        return units + (moment - behind) * self.scale

    def segments(self, attempts: Sequence[Attempt]) -> Iterator[Segment]:
        """One stage's attempts, and hatched the waits between them."""
        before: float | None = None
        for attempt in attempts:
            start, end = attempt.started_at, attempt.finished_at or self.now
            if before is not None and start > before:
                left = self.at(before)
                yield Segment(left, self.at(start) - left, "waiting", start - before)
            kind = (attempt.outcome or "running").replace(" ", "-")
            yield Segment(self.at(start), max(self.at(end) - self.at(start), 3), kind, end - start, attempt)
            before = attempt.finished_at

    def marks(self) -> list[Segment]:
        """The folded gaps."""
        return [Segment(self.at(start), FOLD, "fold", end - start) for start, end in self.folds]
