"""The time axis: attempts where they belong, and gaps that take no room."""

from __future__ import annotations

import pytest

from jobs.dashboard.time_axis import FOLD_WIDTH, WIDTH, Axis
from jobs.state import Attempt


def test_attempts_lie_beside_each_other_and_waits_between_are_shown():
    attempts = [Attempt(1, 100, 110, "failed"), Attempt(2, 112, 120, "succeeded")]
    segments = list(Axis(attempts, 999).segments(attempts))
    assert [s.kind for s in segments] == ["failed", "waiting", "succeeded"]
    assert [round(s.x) for s in segments] == [0, 500, 600]
    assert segments[-1].x + segments[-1].width == pytest.approx(WIDTH)


def test_a_night_without_work_is_folded():
    evening, morning = Attempt(1, 0, 60, "failed"), Attempt(2, 40_000, 40_060, "succeeded")
    axis = Axis([evening, morning], 999_999)
    assert [(m.kind, m.width, m.seconds) for m in axis.fold_segments()] == [("fold", FOLD_WIDTH, 39_940)]
    first, waiting, second = axis.segments([evening, morning])
    assert first.width == pytest.approx(second.width) == pytest.approx((WIDTH - FOLD_WIDTH) / 2)
    assert waiting.width == pytest.approx(FOLD_WIDTH)
    assert axis.position(20_030) == pytest.approx(WIDTH / 2)


def test_a_wait_between_two_quick_attempts_is_shown_and_not_folded():
    attempts = [Attempt(1, 0, 1, "failed"), Attempt(2, 6, 7, "failed")]
    axis = Axis(attempts, 99)
    assert axis.fold_segments() == []
    assert [round(s.width) for s in axis.segments(attempts)] == [143, 714, 143]


def test_what_is_unfinished_ends_now_and_nothing_at_all_is_no_error():
    running = Attempt(1, 100)
    (segment,) = Axis([running], 150).segments([running])
    assert (segment.x, segment.width, segment.kind) == (0, WIDTH, "running")
    assert list(Axis([], 5).segments([])) == []


def test_each_attempt_says_in_a_line_how_it_went():
    attempts = [
        Attempt(1, 0, 4, "failed", "The file is damaged."),
        Attempt(2, 4, 6, "succeeded"),
        Attempt(3, 6),
    ]
    assert [segment.title for segment in Axis(attempts, 30).segments(attempts)] == [
        "Attempt 1, failed after 4 s. The file is damaged.",
        "Attempt 2, done in 2 s",
        "Attempt 3, running for 24 s",
    ]


def test_the_axis_ends_where_the_stage_is_expected_to_end():
    running = Attempt(1, 100)
    done, expected = Axis([running], 150, 250).segments([running], 250)
    assert [(each.kind, round(each.x), round(each.width)) for each in (done, expected)] == [
        ("running", 0, 333),
        ("expected", 333, 667),
    ]
