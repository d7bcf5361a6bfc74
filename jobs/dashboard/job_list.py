"""The list of jobs: who sees which, what a query string selects, and one page of it with its live states.

It knows a user and a query, and no request.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Count, Q, prefetch_related_objects
from django.http import QueryDict
from django.template.loader import render_to_string
from django.utils.dateparse import parse_date

from jobs.dashboard.formatting import ago
from jobs.dashboard.presenters import STATE_LABELS, Row
from jobs.live import look_many
from jobs.models import Job, JobQuerySet, SavedView
from jobs.pipelines import PIPELINES
from jobs.state import JobState, StageState

T = TypeVar("T")
PAGE_SIZE = 25
FILTERS = ("q", "tab", "sort", "state", "pipeline", "owner", "from", "to")
TABS = {
    "": ("All", tuple(JobState)),
    "running": ("Running", (JobState.QUEUED, JobState.RUNNING)),
    "attention": ("Needs attention", (JobState.ATTENTION, JobState.FAILED)),
    "done": ("Done", (JobState.SUCCEEDED,)),
    "cancelled": ("Cancelled", (JobState.CANCELLED,)),
}
ORDERS = {"": ("-created_at",), "oldest": ("created_at",), "title": ("title", "-created_at")}

# The markup of rows, and what it was rendered from.
MAX_ENTRIES = 2000
_rendered: dict[UUID, tuple[tuple[object, ...], str]] = {}


def parse_or_none(parse: Callable[[str], T], text: str) -> T | None:
    """*text* parsed, or None where *parse* raises ValueError: it comes from a URL."""
    try:
        return parse(text)
    except ValueError:
        return None


def search(user: AbstractBaseUser | AnonymousUser, query: QueryDict) -> JobQuerySet:
    """The jobs that *user* may see and *query* selects; its tab is not applied."""
    jobs = Job.objects.visible_to(user)
    if text := query.get("q", "").replace("\0", "").strip()[:200]:
        jobs = jobs.filter(
            Q(title__icontains=text) | Q(source_filename__icontains=text) | Q(owner__username__icontains=text)
        )
    if (state := query.get("state", "")) in set(JobState):
        jobs = jobs.filter(state=state)
    if (pipeline := query.get("pipeline", "")) in PIPELINES:
        jobs = jobs.filter(pipeline=pipeline)
    if owner := query.get("owner", "").replace("\0", "")[:200]:
        jobs = jobs.filter(owner__username=owner)
    for name, lookup in (("from", "created_at__date__gte"), ("to", "created_at__date__lte")):
        if day := parse_or_none(parse_date, query.get(name, "")):
            jobs = jobs.filter(**{lookup: day})
    return jobs


def in_tab(jobs: JobQuerySet, tab: str) -> JobQuerySet:
    """The jobs of one tab; an unknown tab is All."""
    return jobs.filter(state__in=TABS[tab][1]) if tab in TABS and tab else jobs


class JobList:
    """One page of the list."""

    def __init__(
        self, user: AbstractBaseUser | AnonymousUser, query: QueryDict, page_size: int = PAGE_SIZE
    ) -> None:
        self.tab = query.get("tab", "") if query.get("tab", "") in TABS else ""
        self.filters = {key: query[key] for key in FILTERS if query.get(key)}
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
        self.live = look_many(job for job in self.jobs if job.active)
        self.saved_views = list(SavedView.objects.filter(owner_id=user.pk))

    def _count(self, tab: str) -> int:
        return sum(self.counts.get(state, 0) for state in TABS[tab][1])

    def _url_with(self, **changed: object) -> str:
        return "?" + urlencode({key: value for key, value in {**self.filters, **changed}.items() if value})

    def _row_is_made_of(self, job: Job) -> tuple[object, ...]:
        recorded = (job.pk, job.title, job.state, job.seq, job.run, job.cancelling, job.note)
        signed = int(time.time() // 3600)  # links to media are signed anew now and then
        return (
            *recorded,
            job.source_size,
            job.owner.get_username(),
            ago(job.created_at),
            signed,
            self.live.get(job.pk),
        )

    @property
    def made_of(self) -> tuple[object, ...]:
        """All that the list is rendered from."""
        views = tuple((view.name, view.query) for view in self.saved_views)
        rows = tuple(map(self._row_is_made_of, self.jobs))
        return tuple(sorted(self.counts.items())), self.number, rows, views

    def rows(self) -> list[str]:
        """Each row's markup: drawn anew where something in it has changed."""
        made = {job.pk: self._row_is_made_of(job) for job in self.jobs}
        seen = {pk: _rendered.get(pk, ((), "")) for pk in made}
        drawn = {pk: text for pk, (made_of, text) in seen.items() if made_of == made[pk]}
        changed = [job for job in self.jobs if job.pk not in drawn]
        prefetch_related_objects([job for job in changed if job.pk not in self.live], "stages")
        if len(_rendered) > MAX_ENTRIES:
            _rendered.clear()
        for job in changed:
            row = Row(job, self.live.get(job.pk))
            drawn[job.pk] = text = render_to_string("jobs/_job_row.html", {"row": row})
            _rendered[job.pk] = made[job.pk], text
        return [drawn[pk] for pk in made]

    @property
    def poll_interval(self) -> str:
        """For hx-trigger: often while there is progress, and every ten seconds for new jobs."""
        stages = [stage for live in self.live.values() for stage in live.status.stages]
        if any(stage.progress is not None and stage.state == StageState.RUNNING for stage in stages):
            return "1500ms"
        return "3s" if self.live else "10s"

    def context(self) -> dict[str, Any]:
        """What the templates show around the rows."""
        return {
            "tab": self.tab,
            "tabs": [
                (key, label, self._count(key), self._url_with(tab=key)) for key, (label, _) in TABS.items()
            ],
            "jobs": self.jobs,
            "running": self._count("running"),
            "poll_interval": self.poll_interval,
            "banner": next((each.banner for each in self.live.values() if each.banner), ""),
            "query": urlencode(self.filters | ({"page": str(self.number)} if self.number > 1 else {})),
            "total": self.total,
            "number": self.number,
            "last_page": self.last_page,
            "newer": self._url_with(page=self.number - 1) if self.number > 1 else "",
            "older": self._url_with(page=self.number + 1) if self.number < self.last_page else "",
            "filtered": bool(self.filters),
            "can_save": bool(set(self.filters) - {"tab"}),  # a tab alone is one click anyway
            "filters": self.filters,
            "has_filters": bool(set(self.filters) & {"state", "pipeline", "owner", "from", "to"}),
            "saved_views": self.saved_views,
            "pipelines": PIPELINES.values(),
            "states": STATE_LABELS.items(),
        }
