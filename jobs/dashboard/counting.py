"""How many jobs there are of a kind, as far as a page says it: a million are not counted for a number.

It knows jobs and no query string.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Hashable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import IntegerField, QuerySet, Subquery

from jobs.models import Job, JobQuerySet
from jobs.state import JobState
from mediapipe.recent import Recent

MAX_COUNT = 10_000  # that are counted; of more a page says that they are more
MORE_SECONDS = 60.0  # for which more than these stay more
RECENT = 500  # the newest jobs, which stand for all where more than these match


_full: Recent[Hashable, float] = Recent(2000)  # when a group of a search was last counted to the end


class Newest(NamedTuple):
    """What is known of each of the newest jobs of a search."""

    pk: UUID
    state: str
    created_at: datetime


_newest: Recent[Hashable, tuple[float, list[Newest]]] = Recent(100)  # of searches that find very many


class Count(NamedTuple):
    """So *many*, or *more*: "7", "10,000+"."""

    many: int = 0
    more: bool = False

    def __str__(self) -> str:
        return f"{self.many:,}{'+' if self.more else ''}"

    def and_also(self, other: Count) -> Count:
        """Both together."""
        many = self.many + other.many
        return Count(min(many, MAX_COUNT), self.more or other.more or many > MAX_COUNT)

    def without(self, many: int) -> Count:
        """The rest."""
        return Count(self.many - many, self.more)


class _Counted(Subquery):
    """How many rows a query has, as a value."""

    template = "(SELECT COUNT(*) FROM (%(subquery)s) counted)"
    output_field = IntegerField()
    empty_result_set_value = 0


def count(rows: QuerySet[Any], most: int | None = None) -> Count:
    """How many rows, up to *most*, or else MAX_COUNT."""
    end = most or MAX_COUNT
    found = rows.order_by()[: end + 1].count()
    return Count(min(found, end), found > end)


def count_each(
    jobs: JobQuerySet, groups: dict[str, tuple[JobState, ...]], which: Hashable = None
) -> dict[str, Count]:
    """How many jobs are in the states of each group, each up to MAX_COUNT.

    *which* jobs: equal for the same search. What of them was more isn't counted again for MORE_SECONDS.
    """
    overdue = time.monotonic() - MORE_SECONDS
    known = {
        name
        for name in groups
        if which is not None and _full.get((which, name, MAX_COUNT), overdue) > overdue
    }
    each = {
        name: _Counted(jobs.filter(state__in=states).order_by().values("state")[: MAX_COUNT + 1])
        for name, states in groups.items()
        if name not in known
    }
    found = Job.objects.order_by().values_list(*each.values())[:1] if each else ()  # no row without a job
    counted = dict(zip(each, next(iter(found), [0] * len(each)), strict=True))
    for name, many in counted.items():
        if many > MAX_COUNT and which is not None:
            _full[which, name, MAX_COUNT] = time.monotonic()
    return {
        name: Count(MAX_COUNT, True)
        if name in known
        else Count(min(counted[name], MAX_COUNT), counted[name] > MAX_COUNT)
        for name in groups
    }


def count_newest(states: list[str], groups: dict[str, tuple[JobState, ...]]) -> dict[str, Count]:
    """The same by the *states* of the newest alone, for a search that no index answers state by state."""
    counted = Counter(states[:RECENT])
    more = len(states) > RECENT
    return {name: Count(sum(counted[s] for s in group), more) for name, group in groups.items()}


def keep_newest(which: Hashable, found: list[Newest] | None = None) -> list[Newest] | None:
    """The newest jobs of a search that finds very many, as *found* in the last MORE_SECONDS; or keeps them.

    *which* search: equal for the same. Of a million not every look has to find a thousand again.
    """
    if found is not None:
        _newest[which] = time.monotonic(), found
    at, known = _newest.get(which, (0.0, None))
    return known if time.monotonic() - at < MORE_SECONDS else None
