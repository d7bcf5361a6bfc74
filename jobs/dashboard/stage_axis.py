"""The time axis with a job's stages on it: what each did, and when what runs is expected to end.

It reads the clock and decides nothing; the arithmetic is in time_axis.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from jobs.dashboard.stage_view import StageView
from jobs.dashboard.time_axis import Axis, Segment

AXIS_STEP = 5  # seconds by which an unfinished time axis grows: it must not change with each poll


class TimeAxis(NamedTuple):
    """The folded gaps of the time axis, and each stage with its segments on it."""

    folds: list[Segment]
    rows: list[tuple[StageView, list[Segment]]]


def draw(stages: Sequence[StageView]) -> TimeAxis:
    """The axis of these *stages*, which ends where those at work are expected to end.

    Its moments are multiples of AXIS_STEP. Where no end is known, what runs fills half of the axis at most.
    """
    now = (time.time() // AXIS_STEP + 1) * AXIS_STEP
    attempts = [attempt for stage in stages for attempt in stage.status.attempts]
    running = [stage for stage in stages if stage.running]
    expected = {stage.name: _expected_end(stage, now) for stage in running}
    ends = [end for end in expected.values() if end]
    if len(ends) < len(running):
        ends.append(2 * now - min((attempt.started_at for attempt in attempts), default=now))
    axis = Axis(attempts, now, max(ends, default=None))
    rows = [(stage, list(_segments(axis, stage, expected.get(stage.name)))) for stage in stages]
    return TimeAxis(axis.fold_segments(), rows)


def _expected_end(stage: StageView, now: float) -> float | None:
    return now + (stage.left // AXIS_STEP + 1) * AXIS_STEP if stage.left is not None else None


def _segments(axis: Axis, stage: StageView, expected: float | None) -> Iterator[Segment]:
    """A stage's segments; what stands in a line is no work yet."""
    for each in axis.segments(stage.status.attempts, expected):
        in_line = each.kind == "running" and stage.wait and stage.percent is None
        yield replace(each, kind="waiting") if in_line else each
