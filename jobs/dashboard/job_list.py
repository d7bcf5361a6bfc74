"""The list of jobs: who sees which, what a query string selects, and one page of it with its live states.

It knows a user and a query, and no request.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypedDict, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Count, prefetch_related_objects
from django.http import QueryDict
from django.utils.dateparse import parse_date

from jobs.dashboard import polling
from jobs.dashboard.presenters import STATE_LABELS, Row
from jobs.live import Live, reader
from jobs.models import Job, JobQuerySet, SavedView, Stage
from jobs.state import JobState, StageState

T = TypeVar("T")
PAGE_SIZE = 25
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
ORDERS = {"": ("-created_at",), "oldest": ("created_at",), "title": ("title", "-created_at")}


def parse_or_none(parse: Callable[[str], T], text: str) -> T | None:
    """*text* parsed, or None where *parse* raises ValueError: it comes from a URL."""
    try:
        return parse(text)
    except ValueError:
        return None


def parse_moment(text: str) -> datetime:
    """A moment with its zone, in UTC. Raises ValueError, also for one that no calendar of UTC has."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(text) from error


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
        jobs = jobs.filter(owner__username=owner)
    if why := query.get("why", "").replace("\0", "")[:60]:
        jobs = jobs.filter(pk__in=Stage.failed_by(why))
    if batch := parse_or_none(UUID, query.get("batch", "")):
        jobs = jobs.filter(batch_item__batch=batch)
    for name, lookup in (("from", "created_at__date__gte"), ("to", "created_at__date__lte")):
        if day := parse_or_none(parse_date, query.get(name, "")):
            jobs = jobs.filter(**{lookup: day})
    return jobs


def in_tab(jobs: JobQuerySet, tab: str) -> JobQuerySet:
    """The jobs of one tab; an unknown tab is All."""
    return jobs.filter(state__in=TABS[tab][1]) if tab in TABS and tab else jobs


class SavedSearch(NamedTuple):
    """A saved view as the templates show it."""

    name: str
    query: str


class ListContext(TypedDict):
    """What the templates show around the rows; plain values alone, because models compare by key."""

    path: str  # of the whole page: a fragment's own is another
    tab: str
    tabs: list[tuple[str, str, int, str]]  # key, label, jobs, query string
    running: int
    poll_interval: str
    banner: str
    ready: str  # when the last of the running jobs is expected to be done; "" while that is unknown
    query: str
    total: int
    number: int  # of the page, from 1
    last_page: int
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
        counts = self.matching.order_by().values_list("state").annotate(Count("pk"))
        self.counts: dict[str, int] = dict(counts)
        self.total = self._count(self.tab)
        self.last_page = max(1, -(-self.total // page_size))
        page = query.get("page", "")
        requested = int(page) if page.isdecimal() and len(page) < 9 else 1
        self.number = min(max(1, requested), self.last_page)
        start = (self.number - 1) * page_size
        order = ORDERS.get(query.get("sort", ""), ORDERS[""])
        jobs = in_tab(self.matching, self.tab).select_related("owner").defer("plan").order_by(*order, "pk")
        self.jobs = list(jobs[start : start + page_size])
        self.live = reader.read_many(job for job in self.jobs if job.active)
        views = SavedView.objects.filter(owner_id=user.pk).values_list("name", "query")
        self.saved_views = [SavedSearch(*view) for view in views]

    def _count(self, tab: str) -> int:
        return sum(self.counts.get(state, 0) for state in TABS[tab][1])

    def url_with(self, **changed: object) -> str:
        """The query string of the same search with other filters."""
        return "?" + urlencode({key: value for key, value in {**self.filters, **changed}.items() if value})

    def rows(self) -> list[str]:
        """Each row's markup."""
        return [self._row(job) for job in self.jobs]

    def _row(self, job: Job) -> str:
        """A row's markup, rendered anew where the job or its live answer has a new version."""

        def context() -> dict[str, Any]:
            if (
                job.pk not in self.live
            ):  # one query for the page's stages, at the first row that needs its own
                prefetch_related_objects([each for each in self.jobs if each.pk not in self.live], "stages")
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
        return max(known).isoformat() if len(known) == self._count("running") > 0 else ""

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

    def context(self, path: str) -> ListContext:
        """The page around its rows, at *path*: while it compares equal, so does what is rendered from it."""
        return {
            "path": path,
            "tab": self.tab,
            "tabs": [
                (key, label, self._count(key), self.url_with(tab=key)) for key, (label, _) in TABS.items()
            ],
            "running": self._count("running"),
            "poll_interval": self.poll_interval,
            "banner": self._banner(),
            "ready": self._ready(),
            "query": urlencode(self.filters | ({"page": str(self.number)} if self.number > 1 else {})),
            "total": self.total,
            "number": self.number,
            "last_page": self.last_page,
            "newer": self.url_with(page=self.number - 1) if self.number > 1 else "",
            "older": self.url_with(page=self.number + 1) if self.number < self.last_page else "",
            "filtered": bool(self.filters),
            "can_save": bool(set(self.filters) - {"tab"}),  # a tab alone is one click anyway
            "filters": self.filters,
            "set_filters": self._set_filters(),
            "saved_views": self.saved_views,
            "states": tuple(STATE_LABELS.items()),
        }
