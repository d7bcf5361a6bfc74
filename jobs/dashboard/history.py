"""The history, for staff: every job of everybody, counts per day, and a table to take away."""

from __future__ import annotations

import csv as tables
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import date, timedelta
from functools import wraps
from itertools import islice
from statistics import median
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.core.exceptions import PermissionDenied
from django.db.models import Count, QuerySet, prefetch_related_objects
from django.db.models.functions import TruncDate
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from jobs.dashboard.formatting import span
from jobs.dashboard.job_list import Listing, in_tab, search
from jobs.dashboard.presenters import Row
from jobs.models import Job, Stage
from jobs.state import JobState, StageState
from mediapipe.web.handler import streams

R = TypeVar("R", bound=HttpResponseBase)
DAYS = 30
PER_PAGE = 50
COLUMNS = (
    "id",
    "title",
    "owner",
    "pipeline",
    "state",
    "source",
    "bytes",
    "created",
    "started",
    "finished",
    "error",
)


def staff_only(view: Callable[[HttpRequest], R]) -> Callable[[HttpRequest], R]:
    """The view, for staff; an editor gets the page that says so."""

    @wraps(view)
    def wrapped(request: HttpRequest) -> R:
        if not getattr(request.user, "is_staff", False):
            raise PermissionDenied
        return view(request)

    return wrapped


@require_GET
@staff_only
def index(request: HttpRequest) -> HttpResponse:
    """Filters, figures, and the jobs."""
    listing = Listing(request.user, request.GET, PER_PAGE)
    prefetch_related_objects([job for job in listing.jobs if job.pk not in listing.live], "stages")
    jobs = in_tab(listing.found, listing.tab)
    busiest, days = per_day(jobs)
    context = {
        **listing.context(),
        **figures(jobs, listing.counts),
        "rows": [Row(job, listing.live.get(job.pk)) for job in listing.jobs],
        "days": days,
        "busiest": busiest,
    }
    return render(request, "jobs/history.html", context)


def figures(jobs: QuerySet[Job], counts: dict[str, int]) -> dict[str, Any]:
    """How many, how many of them well, and how long each stage takes in the middle."""
    over = sum(counts.get(state, 0) for state in (JobState.SUCCEEDED, JobState.FAILED, JobState.ATTENTION))
    recent = Stage.objects.filter(state=StageState.SUCCEEDED, job__in=jobs.values("pk")).exclude(
        started_at=None, finished_at=None
    )
    seconds: dict[str, list[float]] = {}
    for label, start, end in recent.order_by("-pk").values_list("label", "started_at", "finished_at")[:2000]:
        if start and end:
            seconds.setdefault(label, []).append((end - start).total_seconds())
    medians = {label: median(all_) for label, all_ in seconds.items()}
    longest = max([*medians.values(), 0.001])
    return {
        "rate": f"{counts.get(JobState.SUCCEEDED, 0) / over * 100:.0f} %" if over else "–",
        "medians": [(label, span(each), each / longest * 100) for label, each in medians.items()],
    }


def per_day(jobs: QuerySet[Job]) -> tuple[int, list[dict[str, Any]]]:
    """How many on the busiest day, and the last thirty as bars of a chart, 300 units wide and 60 high."""
    first = timezone.localdate() - timedelta(days=DAYS - 1)
    found: dict[date, dict[str, int]] = {}
    rows = jobs.order_by().filter(created_at__date__gte=first)
    for day, state, count in (
        rows.annotate(day=TruncDate("created_at")).values_list("day", "state").annotate(Count("pk"))
    ):
        found.setdefault(day, {})[state] = count
    highest = max((sum(each.values()) for each in found.values()), default=1)
    days = [first + timedelta(days=at) for at in range(DAYS)]
    return highest, [_bar(at, day, found.get(day, {}), highest) for at, day in enumerate(days)]


def _bar(at: int, day: date, states: dict[str, int], highest: int) -> dict[str, Any]:
    """One day's column: what is done below, what failed on it, the rest on top."""
    done = states.get(JobState.SUCCEEDED, 0)
    bad = states.get(JobState.FAILED, 0) + states.get(JobState.ATTENTION, 0)
    total, top, bars = sum(states.values()), 60.0, []
    for kind, count in (("done", done), ("bad", bad), ("other", total - done - bad)):
        height = count / highest * 60
        top -= height
        if count:
            bars.append((kind, round(top, 1), round(height, 1)))
    title = f"{day:%d %b}: {total} jobs, {done} done, {bad} failed"
    return {"day": day, "x": at * 10 + 1, "bars": bars, "title": title}


class Lines:
    """A file for the csv module that hands each line on."""

    def write(self, line: str) -> str:
        """The line itself."""
        return line


def cell(text: object) -> str:
    """A cell that no spreadsheet takes for a formula."""
    value = "" if text is None else str(text)
    return f"'{value}" if value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


@streams
@require_GET
@staff_only
def csv(request: HttpRequest) -> StreamingHttpResponse:
    """The filtered jobs as a table, streamed."""
    found = search(request.user, request.GET)
    jobs = in_tab(found, request.GET.get("tab", "")).select_related("owner").order_by("-created_at")
    writer = tables.writer(Lines())

    def lines() -> Iterator[str]:
        yield writer.writerow(COLUMNS)
        for job in jobs.iterator(chunk_size=500):
            source = job.source_url or job.source_filename
            values = (
                job.pk,
                job.title,
                job.owner.get_username(),
                job.pipeline,
                job.state,
                source,
                job.source_size,
            )
            times = (job.created_at, job.started_at, job.finished_at)
            iso = [each.isoformat(timespec="seconds") if each else "" for each in times]
            yield writer.writerow([cell(each) for each in (*values, *iso, job.error)])

    return StreamingHttpResponse(
        _async(lines()),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="jobs.csv"'},
    )


async def _async(lines: Iterator[str]) -> AsyncIterator[str]:
    """The lines for ASGI, some at a time: a sync iterator would be read whole into memory."""

    def some() -> str:
        return "".join(islice(lines, 200))

    while part := await sync_to_async(some)():
        yield part
