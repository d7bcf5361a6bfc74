"""The line of jobs: in which order they are expected to go on, and when each is expected to be done.

Pure: it estimates from what it is given. Temporal decides who is next, and comes close to this.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def in_turns(waiting: Iterable[T], owner_of: Callable[[T], object]) -> list[T]:
    """Those that wait, oldest first, in the order of their turns: owners take turns."""
    lines: dict[object, deque[T]] = defaultdict(deque)
    for each in waiting:
        lines[owner_of(each)].append(each)
    order: list[T] = []
    while lines:
        for owner in list(lines):
            order.append(lines[owner].popleft())
            if not lines[owner]:
                del lines[owner]
    return order


def ends(work: Sequence[float | None], slots: int) -> list[float | None]:
    """In how many seconds each is done, where so many are worked on at once and none is overtaken.

    *work*: seconds that each still takes; None where nobody knows: then nobody knows of those behind it.
    """
    if slots < 1:
        return [None] * len(work)
    free = [0.0] * slots
    found: list[float | None] = []
    for seconds in work:
        if seconds is None:
            break
        end = heapq.heappop(free) + seconds
        heapq.heappush(free, end)
        found.append(end)
    return found + [None] * (len(work) - len(found))


def hours_left(free: float, films: Iterable[tuple[float, float]]) -> float | None:
    """For how many hours of footage *free* bytes are enough; None where nothing was made yet.

    *films*: of some that are done, the bytes that they have taken, and their seconds.
    """
    known = [(size, seconds) for size, seconds in films if size > 0 and seconds > 0]
    size = sum(each for each, _ in known)
    return max(0.0, free) / size * sum(seconds for _, seconds in known) / 3600 if known else None
