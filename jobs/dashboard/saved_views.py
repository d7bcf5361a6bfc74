"""Saved views: a person's own searches, as tabs beside those of the states.

It knows a user and filters, and no page.
"""

from __future__ import annotations

from typing import NamedTuple

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.http import QueryDict

from jobs.dashboard import counting, polling
from jobs.dashboard.searching import filters_of, in_tab, search
from jobs.models import SavedView

COUNTED = 12  # views that say how many jobs they find


class ViewTab(NamedTuple):
    """A saved view as the templates show it."""

    name: str
    query: str
    jobs: str  # how many it finds, at most a minute ago; "" where that isn't counted
    current: bool


def view_tabs(user: AbstractBaseUser | AnonymousUser, filters: dict[str, str], total: str) -> list[ViewTab]:
    """The person's views by name; one that asks for just these *filters* is current, and finds *total*."""
    tabs: list[ViewTab] = []
    for name, query in SavedView.objects.filter(owner_id=user.pk).values_list("name", "query"):
        current = filters_of(QueryDict(query)) == filters
        jobs = total if current else _jobs(user, query) if len(tabs) < COUNTED else ""
        tabs.append(ViewTab(name, query, jobs, current))
    return tabs


def _jobs(user: AbstractBaseUser | AnonymousUser, query: str) -> str:
    """How many jobs a view finds, counted once a minute, and no further than a search."""

    def counted() -> str:
        asked = QueryDict(query)
        found = in_tab(search(user, asked), asked.get("tab", ""))
        return str(counting.count(found, counting.RECENT))

    return polling.once(("view", user.pk, query), getattr(user, "is_staff", False), counted)
