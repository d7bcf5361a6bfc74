"""Many jobs, and a random process killed every few seconds: nothing is lost, repeated or left behind."""

from __future__ import annotations

import pytest

from tests.bench import chaos

pytestmark = [pytest.mark.whole, pytest.mark.release]


@pytest.mark.timeout(1800)
def test_thirty_jobs_survive_random_kills():
    assert chaos.main(jobs=30, seconds=150) == 0
