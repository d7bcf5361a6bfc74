"""Saved views: a person's own searches, as tabs beside those of the states.

It knows a user and filters, and no page.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.http import QueryDict

from jobs.dashboard import counting
from jobs.dashboard.counting import Count
from jobs.dashboard.searching import count_found, filters_of
from jobs.models import SavedView
from mediapipe.recent import Recent

MAX_COUNTED = 12  # views that say how many jobs they find
AT_A_LOOK = 1  # that are counted anew each time somebody looks, so that no look pays for all of them
SECONDS = 60.0  # for which a number stays; for MORE_SECONDS where more than are counted were found
MORE_SECONDS = 600.0

Key = tuple[int | None, bool, str]
_known: Recent[Key, tuple[float, Count]] = Recent(2000)  # when each was counted (monotonic), and how many


class ViewTab(NamedTuple):
    """A saved view as the templates show it."""

    name: str
    query: str
    jobs: str  # how many it finds, as it was lately counted; "" where it wasn't
    current: bool


def view_tabs(user: AbstractBaseUser | AnonymousUser, filters: dict[str, str], total: str) -> list[ViewTab]:
    """The person's views by name; one that asks for just these *filters* is current, and finds *total*."""
    views = list(SavedView.objects.filter(owner_id=user.pk).values_list("name", "query"))
    current = [query for _, query in views if filters_of(QueryDict(query)) == filters]
    others = [query for _, query in views if query not in current][:MAX_COUNTED]
    found = dict.fromkeys(current, total) | _counts(user, others)
    return [ViewTab(name, query, found.get(query, ""), query in current) for name, query in views]


def _counts(user: AbstractBaseUser | AnonymousUser, queries: list[str]) -> dict[str, str]:
    """How many jobs each finds, those counted anew whose numbers are the oldest of what is overdue."""
    keys: dict[str, Key] = {query: (user.pk, getattr(user, "is_staff", False), query) for query in queries}
    now = time.monotonic()

    def due_at(query: str) -> float:
        at, count = _known.get(keys[query], (-MORE_SECONDS, Count()))
        return at + (MORE_SECONDS if count.more else SECONDS)

    overdue = sorted((query for query in keys if due_at(query) <= now), key=due_at)
    for query in overdue[:AT_A_LOOK]:
        _known[keys[query]] = now, count_found(user, QueryDict(query), counting.RECENT)
    return {query: str(_known[key][1]) for query, key in keys.items() if key in _known}
