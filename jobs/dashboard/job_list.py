"""The list of jobs: who sees which, what a query string selects, and one page of it with its live states.

It knows a user and a query, and no request.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from functools import reduce
from typing import Any, NamedTuple, TypedDict, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import prefetch_related_objects
from django.http import QueryDict
from django.utils import timezone
from django.utils.dateparse import parse_date

from jobs.dashboard import polling
from jobs.dashboard.counting import Count, count_each, count_newest
from jobs.dashboard.keyset import beyond, cursor_of, decode, reversed_order
from jobs.dashboard.presenters import STATE_LABELS, Row
from jobs.live import Live, reader
from jobs.models import Job, JobQuerySet, SavedView, Stage
from jobs.state import JobState, StageState

T = TypeVar("T")
PAGE_SIZE = 25
FIRST_DAY = date(1970, 1, 1)
LAST_DAY = date(9000, 1, 1)
FILTERS = ("q", "tab", "sort", "state", "pipeline", "owner", "from", "to", "why", "batch")
TABS = {
    "": ("All", tuple(JobState)),
    "running": ("Running", (JobState.QUEUED, JobState.RUNNING)),
    "attention": ("Needs attention", (JobState.ATTENTION, JobState.FAILED)),
    "done": ("Done", (JobState.SUCCEEDED,)),
    "cancelled": ("Cancelled", (JobState.CANCELLED,)),
}
CHOSEN = {  # filters that are a sheet's, as they stand beside the search
    "state": "State",
    "pipeline": "Pipeline",
    "owner": "Owner",
    "from": "From",
    "to": "To",
    "why": "Reason",
    "batch": "Batch",
}
SEARCHES = {"q", "why"}  # filters that no index combines with a state
GROUPS = {tab: states for tab, (_, states) in TABS.items() if tab}  # each job is in one of them
ORDERS = {"": ("-created_at",), "oldest": ("created_at",), "title": ("title", "-created_at")}


def parse_or_none(parse: Callable[[str], T], text: str) -> T | None:
    """*text* parsed, or None where *parse* raises ValueError: it comes from a URL."""
    try:
        return parse(text)
    except ValueError:
        return None


def start_of(day: date) -> datetime:
    """When a day begins here; what is before all clocks begins with them."""
    return timezone.make_aware(datetime.combine(max(day, FIRST_DAY), time.min))


def days_of(query: QueryDict) -> tuple[datetime | None, datetime | None]:
    """When the day `from` begins and the day `to` ends here; None where one is no day."""
    first, last = (parse_or_none(parse_date, query.get(name, "")) for name in ("from", "to"))
    since = start_of(min(first, LAST_DAY)) if first else None
    until = start_of(min(last, LAST_DAY) + timedelta(days=1)) if last else None
    return since, until


def search(user: AbstractBaseUser | AnonymousUser, query: QueryDict) -> JobQuerySet:
    """The jobs that *user* may see and *query* selects; its tab is not applied."""
    jobs = Job.objects.visible_to(user)
    if text := query.get("q", "").replace("\0", "").strip()[:200]:
        jobs = jobs.matching(text)
    if (state := query.get("state", "")) in set(JobState):
        jobs = jobs.filter(state=state)
    if pipeline := query.get("pipeline", "").replace("\0", "")[:40]:
        jobs = jobs.filter(pipeline=pipeline)
    if owner := query.get("owner", "").replace("\0", "")[:200]:
        jobs = jobs.of_person(owner)
    if why := query.get("why", "").replace("\0", "")[:60]:
        jobs = jobs.filter(pk__in=Stage.failed_by(why))
    if batch := parse_or_none(UUID, query.get("batch", "")):
        jobs = jobs.filter(batch_item__batch=batch)
    since, until = days_of(query)
    if since:
        jobs = jobs.filter(created_at__gte=since)
    if until:
        jobs = jobs.filter(created_at__lt=until)
    return jobs


def in_tab(jobs: JobQuerySet, tab: str) -> JobQuerySet:
    """The jobs of one tab; an unknown tab is All."""
    return jobs.filter(state__in=TABS[tab][1]) if tab in TABS and tab else jobs


class SavedSearch(NamedTuple):
    """A saved view as the templates show it."""

    name: str
    query: str


class Place(NamedTuple):
    """A page that begins "after" the row of a cursor, or ends "before" it."""

    side: str
    cursor: str
    values: list[Any]


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
    number: int  # of the page, from 1
    last_page: str  # "" where there are more than are counted
    newer: str  # query string of the previous page; "" where there is none
    older: str
    filtered: bool
    can_save: bool
    filters: dict[str, str]
    set_filters: list[tuple[str, str]]  # each filter that is set, in words, and the query string without it
    saved_views: list[SavedSearch]
    states: tuple[tuple[str, str], ...]  # value and label


def neighbours(user: AbstractBaseUser, job: Job) -> dict[str, Job | None]:
    """The jobs before and after one in the list of who looks at it, newest first."""
    seen = Job.objects.visible_to(user).only("pk", "title")
    return {
        "newer": seen.filter(created_at__gt=job.created_at).order_by("created_at").first(),
        "older": seen.filter(created_at__lt=job.created_at).order_by("-created_at").first(),
    }


class JobList:
    """One page of the list."""

    def __init__(
        self, user: AbstractBaseUser | AnonymousUser, query: QueryDict, page_size: int = PAGE_SIZE
    ) -> None:
        self.tab = query.get("tab", "") if query.get("tab", "") in TABS else ""
        self.filters = {key: str(query[key]) for key in FILTERS if query.get(key)}
        self.matching = search(user, query)
        counted = count_newest if self.filters.keys() & SEARCHES else count_each
        self.counts = counted(self.matching, GROUPS)
        self.counts[""] = reduce(Count.and_also, self.counts.values())
        self.total = self.counts[self.tab]
        self.last_page = max(1, -(-self.total.many // page_size))
        page = query.get("page", "")
        self.number = max(1, int(page) if page.isdecimal() and len(page) < 9 else 1)
        self.order = (*ORDERS.get(query.get("sort", ""), ORDERS[""]), "id")
        self.place = self._place(query)
        self.jobs, self.goes_on = self._load(page_size)
        self.live = reader.read_many(job for job in self.jobs if job.active)
        views = SavedView.objects.filter(owner_id=user.pk).values_list("name", "query")
        self.saved_views = [SavedSearch(*view) for view in views]

    def _place(self, query: QueryDict) -> Place | None:
        """Where a page begins that lies beyond those that are counted."""
        for side in ("after", "before"):
            if values := parse_or_none(lambda text: decode(text, self.order), query.get(side, "")):
                return Place(side, query.get(side, ""), values)
        return None

    def _load(self, page_size: int) -> tuple[list[Job], bool]:
        """The page's jobs, and whether there are more after them."""
        jobs = in_tab(self.matching, self.tab).defer("plan", "searched")
        if self.place is None:
            self.number = min(self.number, self.last_page)
            start = (self.number - 1) * page_size
            found = list(jobs.order_by(*self.order)[start : start + page_size + 1])
            return found[:page_size], len(found) > page_size
        back = self.place.side == "before"
        jobs = beyond(jobs, self.order, self.place.values, back=back)
        order = reversed_order(self.order) if back else self.order
        found = list(jobs.order_by(*order)[: page_size + 1])
        return (found[:page_size][::-1], True) if back else (found[:page_size], len(found) > page_size)

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
        """What keeps the list from being live; why a job is still queued stands in its row."""
        notes = {job.note for job in self.jobs}
        return next((each.banner for each in self.live.values() if each.banner not in ("", *notes)), "")

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
            "number": self.number,
            "last_page": "" if self.total.more else str(self.last_page),
            "newer": self._newer(),
            "older": self._older(),
            "filtered": bool(self.filters),
            "can_save": bool(set(self.filters) - {"tab"}),  # a tab alone is one click anyway
            "filters": self.filters,
            "set_filters": self._set_filters(),
            "saved_views": self.saved_views,
            "states": tuple(STATE_LABELS.items()),
        }
