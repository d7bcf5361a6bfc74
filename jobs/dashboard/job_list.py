"""The list of jobs: one page of what a query selects, with its live states and what stands around it.

It knows a user and a query, and no request.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from datetime import datetime
from functools import cached_property, reduce
from typing import Any, NamedTuple, TypedDict
from urllib.parse import urlencode
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import prefetch_related_objects
from django.http import QueryDict

from jobs.dashboard import bulk, polling
from jobs.dashboard.counting import RECENT, Count, Newest, count_each, count_newest, keep_newest
from jobs.dashboard.keyset import beyond, cursor_of, decode, read_part, reversed_order
from jobs.dashboard.presenters import STATE_LABELS, Row
from jobs.dashboard.saved_views import ViewTab, view_tabs
from jobs.dashboard.searching import (
    CHOSEN,
    GROUPS,
    ORDERS,
    SEARCHES,
    TABS,
    filters_of,
    in_tab,
    newest_for,
    parse_or_none,
    search,
    still_failed,
)
from jobs.live import Live, reader
from jobs.models import Job, JobQuerySet
from jobs.state import JobState, StageState

PAGE_SIZE = 25


class Place(NamedTuple):
    """A page that begins "after" the row of a cursor, or ends "before" it."""

    side: str
    cursor: str
    values: list[Any]


class BulkButton(NamedTuple):
    """An action of the bulk bar: the *states* of the jobs it applies to, and how many of the tab's are."""

    action: str
    label: str
    icon: str
    states: str
    jobs: str


class ListContext(TypedDict):
    """What the templates show around the rows; plain values alone, because models compare by key."""

    path: str  # of the whole page: a fragment's own is another
    tab: str
    tabs: list[tuple[str, str, str, str]]  # key, label, jobs, query string
    running: int
    poll_interval: str
    banner: str
    ready: str  # when the last of the running jobs is expected to be done; "" while that is unknown
    query: str
    total: str
    bulk_buttons: list[BulkButton]
    number: int  # of the page, from 1
    last_page: str  # "" where there are more than are counted
    newer: str  # query string of the previous page; "" where there is none
    older: str
    filtered: bool
    can_save: bool
    filters: dict[str, str]
    set_filters: list[tuple[str, str]]  # each filter that is set, in words, and the query string without it
    saved_views: list[ViewTab]
    view: str  # the name of the saved one that is shown; "" for none


class JobList:
    """One page of the list."""

    def __init__(
        self, user: AbstractBaseUser | AnonymousUser, query: QueryDict, page_size: int = PAGE_SIZE
    ) -> None:
        self.tab = query.get("tab", "") if query.get("tab", "") in TABS else ""
        self.filters = filters_of(query)
        self.matching = search(user, query)
        self.with_newest = newest_for(user, query, RECENT)
        self.of_reason = self.with_newest is not None and self.filters.keys() - {"tab", "sort"} == {"why"}
        self.selected = self._selected(user)
        self.by_newest = bool(self.filters.keys() & SEARCHES)
        page = query.get("page", "")
        self.number = max(1, int(page) if page.isdecimal() and len(page) < 9 else 1)
        self.order = (*ORDERS.get(query.get("sort", ""), ORDERS[""]), "id")
        self.place = self._place(query)
        self.groups = (
            count_newest([each.state for each in self.newest], GROUPS)
            if self.by_newest
            else count_each(self.matching, GROUPS, self.selected)
        )
        self.counts = {tab: self._count(states) for tab, (_, states) in TABS.items()}
        self.total = self.counts[self.tab]
        self.last_page = max(1, -(-self.total.many // page_size))
        self.jobs, self.goes_on = self._load(page_size)
        self.live = reader.read_many(job for job in self.jobs if job.active)
        self.saved_views = view_tabs(user, self.filters, str(self.total))

    def _selected(self, user: AbstractBaseUser | AnonymousUser) -> Hashable:
        """What the jobs are in all tabs, whoever looks at them."""
        seen = {key: value for key, value in self.filters.items() if key not in ("tab", "sort")}
        return None if getattr(user, "is_staff", False) else user.pk, tuple(sorted(seen.items()))

    @cached_property
    def newest(self) -> list[Newest]:
        """The newest of the matching jobs, in all tabs; one more than RECENT where there are more.

        Very many are not searched for again for each look at the first page, which asks for its own rows.
        """
        found = None if self.number > 1 else keep_newest(self.selected)
        self.are_kept = found is not None
        self.in_known_order = not self.are_kept and self.order[:-1] == ORDERS[""]
        if found is None:
            found = [] if self.with_newest is None else self.newest_of(self.with_newest)
            if self.with_newest is None or (not self.of_reason and len(found) <= RECENT):
                found = self.newest_of(self.matching)
            if (self.of_reason or "why" not in self.filters) and self.by_newest and len(found) > RECENT:
                keep_newest(self.selected, found)
        return found

    @staticmethod
    def newest_of(jobs: JobQuerySet) -> list[Newest]:
        """The same of other *jobs*."""
        rows = jobs.order_by(*ORDERS[""], "id").values_list(*Newest._fields)[: RECENT + 1]
        return [Newest(*row) for row in rows]

    def _count(self, states: Iterable[JobState]) -> Count:
        """How many match in any of these *states*, as far as they are whole groups."""
        among = (count for name, count in self.groups.items() if {*GROUPS[name]} <= {*states})
        return reduce(Count.and_also, among, Count())

    def _bulk_buttons(self) -> list[BulkButton]:
        shown = {*TABS[self.tab][1]}
        return [
            BulkButton(
                name, name.title(), each.icon, " ".join(each.states), str(self._count(shown & {*each.states}))
            )
            for name, each in bulk.ACTIONS.items()
        ]

    def _place(self, query: QueryDict) -> Place | None:
        """Where a page begins that lies beyond those that are counted."""
        for side in ("after", "before"):
            if values := parse_or_none(lambda text: decode(text, self.order), query.get(side, "")):
                return Place(side, query.get(side, ""), values)
        return None

    def _load(self, page_size: int) -> tuple[list[Job], bool]:
        """The page's jobs, and whether there are more after them."""
        all_known = self.by_newest and len(self.newest) <= RECENT  # in any order
        jobs = in_tab(self.matching, self.tab)
        jobs = Job.objects.filter(pk__in=self._known(slice(None))) if all_known else jobs
        if self.place is None:
            self.number = min(self.number, self.last_page)
            start = (self.number - 1) * page_size
            part = slice(start, start + page_size + 1)
            if self.by_newest and self.in_known_order and (all_known or self.number < self.last_page):
                jobs = Job.objects.filter(pk__in=self._known(part))
                part = slice(page_size + 1)
            found = []
            if self.of_reason and self.are_kept and self.order[:-1] == ORDERS[""]:
                still = still_failed(self.filters["why"], self._known(slice(2 * page_size)))
                found = read_part(in_tab(still, self.tab), self.order, part)
            if len(found) <= page_size:
                found = read_part(jobs, self.order, part)
            return found[:page_size], len(found) > page_size
        back = self.place.side == "before"
        jobs = beyond(jobs, self.order, self.place.values, back=back)
        found = read_part(jobs, reversed_order(self.order) if back else self.order, slice(page_size + 1))
        return (found[:page_size][::-1], True) if back else (found[:page_size], len(found) > page_size)

    def _known(self, part: slice) -> list[UUID]:
        """The keys of a part of the newest jobs that are in the tab."""
        states = TABS[self.tab][1]
        return [each.pk for each in self.newest if each.state in states][part]

    def _newer(self) -> str:
        """The query string of the previous page; "" where there is none."""
        if self.number > self.last_page + 1 and self.jobs:
            return self.url_with(page=self.number - 1, before=cursor_of(self.jobs[0], self.order))
        return self.url_with(page=min(self.number - 1, self.last_page)) if self.number > 1 else ""

    def _older(self) -> str:
        """The query string of the next page; "" where there is none."""
        if self.number < self.last_page:
            return self.url_with(page=self.number + 1)
        if not self.goes_on:
            return ""
        return self.url_with(page=self.number + 1, after=cursor_of(self.jobs[-1], self.order))

    def url_with(self, **changed: object) -> str:
        """The query string of the same search with other filters."""
        return "?" + urlencode({key: value for key, value in {**self.filters, **changed}.items() if value})

    def rows(self) -> list[str]:
        """Each row's markup."""
        return [self._row(job) for job in self.jobs]

    def load_rows(self) -> None:
        """Reads what rows show beside the job itself, in one query each for the whole page."""
        prefetch_related_objects(self.jobs, "owner")
        prefetch_related_objects([job for job in self.jobs if job.pk not in self.live], "stages")

    def _row(self, job: Job) -> str:
        """A row's markup, rendered anew where the job or its live answer has a new version."""

        def context() -> dict[str, Any]:
            self.load_rows()  # asks nothing but at the first row that is drawn
            return {"row": Row(job, self.live.get(job.pk))}

        return polling.render_once("jobs/_job_row.html", job.pk, self._version(job), context)

    def _version(self, job: Job) -> tuple[int, int | None]:
        live = self.live.get(job.pk)
        return job.version, live.version if live else None

    @property
    def poll_interval(self) -> str:
        """For hx-trigger: often while there is progress, and every ten seconds for new jobs."""
        stages = [stage for live in self.live.values() for stage in live.status.stages]
        if any(stage.progress is not None and stage.state == StageState.RUNNING for stage in stages):
            return "1500ms"
        return "3s" if self.live else "10s"

    def _banner(self) -> str:
        """What keeps most of the list from being live; why a job is still queued stands in its row."""
        notes = {job.note for job in self.jobs}
        said = [each.banner for each in self.live.values() if each.banner not in ("", *notes)]
        asked = sum(each.banner not in notes - {""} for each in self.live.values())
        return said[0] if 2 * len(said) > asked else ""

    def _ready(self) -> str:
        """The moment for which a tab's title has room: of all that run, where each can be estimated."""
        moments = [self._ready_at(job, live) for job in self.jobs if (live := self.live.get(job.pk))]
        known = [each for each in moments if each]
        return max(known).isoformat() if len(known) == self.counts["running"].many > 0 else ""

    def _ready_at(self, job: Job, live: Live) -> datetime | None:
        return polling.once(("ready", job.pk), self._version(job), lambda: Row(job, live).ready_at)

    def _set_filters(self) -> list[tuple[str, str]]:
        """Each filter that is set, in words, and the query string of the search without it."""
        words = {str(state): label for state, label in STATE_LABELS.items()}
        return [
            (f"{word}: {words.get(self.filters[key], self.filters[key])}"[:60], self.url_with(**{key: ""}))
            for key, word in CHOSEN.items()
            if key in self.filters
        ]

    def _query(self) -> str:
        page = {"page": str(self.number)} if self.number > 1 else {}
        place = {self.place.side: self.place.cursor} if self.place else {}
        return urlencode(self.filters | page | place)

    def context(self, path: str) -> ListContext:
        """The page around its rows, at *path*: while it compares equal, so does what is rendered from it."""
        return {
            "path": path,
            "tab": self.tab,
            "tabs": [
                (key, label, str(self.counts[key]), self.url_with(tab=key))
                for key, (label, _) in TABS.items()
            ],
            "running": self.counts["running"].many,
            "poll_interval": self.poll_interval,
            "banner": self._banner(),
            "ready": self._ready(),
            "query": self._query(),
            "total": str(self.total),
            "bulk_buttons": self._bulk_buttons(),
            "number": self.number,
            "last_page": "" if self.total.more else str(self.last_page),
            "newer": self._newer(),
            "older": self._older(),
            "filtered": bool(self.filters),
            "can_save": bool(set(self.filters) - {"tab"}),  # a tab alone is one click anyway
            "filters": self.filters,
            "set_filters": self._set_filters(),
            "saved_views": self.saved_views,
            "view": next((each.name for each in self.saved_views if each.current), ""),
        }
