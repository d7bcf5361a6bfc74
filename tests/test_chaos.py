"""People and fate at work on the whole product: no promise is broken, whatever the seed."""

from __future__ import annotations

import pytest

from tests.chaos.__main__ import main

pytestmark = [pytest.mark.whole, pytest.mark.release]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(1, 5))
def test_no_promise_is_broken(seed):
    assert main([str(seed)]) == 0
