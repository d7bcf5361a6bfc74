"""The time axis of a job's page: attempts as segments, waits between them, idle gaps folded.

Pure arithmetic on unix seconds: it knows no page and no clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from jobs.state import Attempt

WIDTH = 1000.0  # units of the axis
FOLD_WIDTH = 30.0  # units that a folded gap takes
FOLD_SHARE = 0.25  # of the time with running attempts: a longer gap is folded
SURVIVED = ("lost", "interrupted")  # outcomes of an attempt that another worker went on with
FOLD_SECONDS = 20.0  # a shorter gap is never folded: a wait between two attempts must be visible


@dataclass(frozen=True)
class Segment:
    """A rectangle on the axis: *x* and *width* in its units, *seconds* in time.

    *kind* is "waiting", "expected", "fold", or an attempt's outcome with dashes.
    """

    x: float
    width: float
    kind: str
    seconds: float = 0.0
    attempt: Attempt | None = None

    @property
    def title(self) -> str:
        """The attempt in a line: which one, how it ended after how long, and why; "" for a gap."""
        if self.attempt is None:
            return ""
        outcome = self.attempt.outcome
        if outcome in SURVIVED:
            return f"A worker stopped here after {self.seconds:.0f} s. Another one took over."
        verb = {"": "running for", "succeeded": "done in"}.get(outcome, f"{outcome} after")
        error = f". {self.attempt.error}" if self.attempt.error else ""
        return f"Attempt {self.attempt.number}, {verb} {self.seconds:.0f} s{error}"


def busy_times(attempts: Sequence[Attempt], until: float) -> list[list[float]]:
    """When at least one of the attempts ran, from and to; an unfinished one runs *until* then."""
    busy: list[list[float]] = []
    for start, end in sorted((a.started_at, a.finished_at or until) for a in attempts):
        if busy and start <= busy[-1][1]:
            busy[-1][1] = max(busy[-1][1], end)
        else:
            busy.append([start, max(end, start + 0.001)])
    return busy


class Axis:
    """Maps unix seconds to units of the axis; long gaps without any running attempt are folded.

    *attempts*: of all stages. *now*: unix seconds up to which unfinished attempts are drawn. *end*: when the
    last of them is expected to end: the axis ends there, so that no bar is full before its stage is done.
    """

    def __init__(self, attempts: Sequence[Attempt], now: float, end: float | None = None) -> None:
        self.now = now
        until = max(now, end or now)
        busy = busy_times(attempts, until)
        worked = sum(end - start for start, end in busy)
        gaps = [(a[1], b[0]) for a, b in pairwise(busy)]
        limit = max(FOLD_SHARE * worked, FOLD_SECONDS)
        self.folds = [(start, end) for start, end in gaps if end - start > limit]
        shown = worked + sum(end - start for start, end in gaps if (start, end) not in self.folds)
        self.start = busy[0][0] if busy else now
        self.scale = (WIDTH - FOLD_WIDTH * len(self.folds)) / max(shown, 0.001)

    def position(self, moment: float) -> float:
        """Units from the left edge to *moment*."""
        units = 0.0
        covered = self.start  # the moment up to which the folds before it are counted
        for start, end in self.folds:
            if moment <= start:
                break
            units += (start - covered) * self.scale
            units += FOLD_WIDTH * min(1.0, (moment - start) / (end - start))
            covered = min(end, moment)
        return units + (moment - covered) * self.scale

    def segments(self, attempts: Sequence[Attempt], expected: float | None = None) -> Iterator[Segment]:
        """One stage's attempts, the waits between them, and what is left until it is *expected* to end."""
        previous_end: float | None = None
        for attempt in attempts:
            start = attempt.started_at
            end = attempt.finished_at or self.now
            x = self.position(start)
            if previous_end is not None and start > previous_end:
                left = self.position(previous_end)
                yield Segment(left, x - left, "waiting", start - previous_end)
            kind = (attempt.outcome or "running").replace(" ", "-")
            yield Segment(x, max(self.position(end) - x, 3), kind, end - start, attempt)
            previous_end = attempt.finished_at
            if expected and attempt.finished_at is None and expected > self.now:
                left = self.position(end)
                yield Segment(left, self.position(expected) - left, "expected", expected - self.now)

    def fold_segments(self) -> list[Segment]:
        """The folded gaps."""
        return [Segment(self.position(start), FOLD_WIDTH, "fold", end - start) for start, end in self.folds]
