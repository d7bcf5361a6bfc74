"""A bounded mapping: what was assigned longest ago goes first."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from mediapipe.recent import Recent


def test_one_more_than_fits_drops_the_one_assigned_longest_ago():
    cache: Recent[str, int] = Recent(2)
    cache["a"] = 1
    cache["b"] = 2
    cache["a"] = 3
    cache["c"] = 4
    assert cache == {"a": 3, "c": 4}
    assert cache.pop("a", None) == 3 and cache.get("b") is None


def test_threads_may_share_it():
    cache: Recent[int, int] = Recent(10)

    def assign(number: int) -> None:
        cache[number % 50] = number
        cache.pop(number % 7, None)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(assign, range(5000)))
    assert len(cache) <= 10
