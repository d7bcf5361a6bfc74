"""The history, for staff: the jobs of every owner, figures and counts per day, and a CSV export.

Which jobs match a query is decided in searching.
"""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import date, datetime, timedelta
from functools import wraps
from itertools import islice
from statistics import median
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypedDict, TypeVar
from uuid import UUID

from asgiref.sync import sync_to_async
from django.core.exceptions import PermissionDenied
from django.db.models import Case, Count, IntegerField, Prefetch, Q, Value, When
from django.db.models.expressions import Combinable
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from jobs.dashboard.check_view import CHECK
from jobs.dashboard.counting import RECENT
from jobs.dashboard.formatting import duration
from jobs.dashboard.job_list import JobList
from jobs.dashboard.keyset import beyond
from jobs.dashboard.presenters import Row
from jobs.dashboard.searching import TABS, in_tab, owners, search, start_of
from jobs.findings import headline
from jobs.models import Job, JobQuerySet, Pipeline, Stage
from jobs.state import JobState, StageState
from mediapipe.web.handler import streams

Request = TypeVar("Request", bound=HttpRequest)
Rest = ParamSpec("Rest")
Response = TypeVar("Response", bound=HttpResponseBase)
DAYS = 30
PER_PAGE = 50
TYPICAL = 100  # jobs, of whose stages the typical time is taken
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
    "check",
)
FORMULA = tuple("=+-@＝＋－＠")  # the wide ones count too where such are typed


class Figures(TypedDict):
    """How many jobs are done, and the median work of each stage."""

    done: int
    ended: int  # all but those that run or were cancelled, the newest RECENT at most
    newest: int  # how many of them, where there may be more
    rate: str
    medians: list[tuple[str, str, float]]  # label, duration, percent of the longest


class Bar(NamedTuple):
    """Some of a day's jobs in the chart: where it lies, and where the jobs are listed."""

    kind: str  # for the style sheet
    y: float
    height: float
    url: str  # a query string
    label: str


class Day(NamedTuple):
    """A column of the chart: *x* in its units."""

    day: date
    x: int
    bars: list[Bar]
    title: str


def staff_only(
    view: Callable[Concatenate[Request, Rest], Response],
) -> Callable[Concatenate[Request, Rest], Response]:
    """The view, for staff; anybody else gets the 403 page."""

    @wraps(view)
    def wrapped(request: Request, /, *args: Rest.args, **kwargs: Rest.kwargs) -> Response:
        if not getattr(request.user, "is_staff", False):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return wrapped


@require_GET
@staff_only
def index(request: HttpRequest) -> HttpResponse:
    """The history's page: filters, figures, and a page of jobs."""
    page = JobList(request.user, request.GET, PER_PAGE)
    page.load_rows()
    jobs = in_tab(page.matching, page.tab)
    busiest, days = per_day(jobs, page)
    failed = newest(jobs.filter(state__in=TABS["attention"][1]))
    reasons = Stage.reasons(failed)
    context = {
        **page.context(request.path),
        **figures(page.matching, jobs),
        "owners": owners(request.user),
        "pipelines": Pipeline.usable_by(request.user).values(),
        "rows": [Row(job, page.live.get(job.pk)) for job in page.jobs],
        "days": days,
        "reasons": [(reason, page.url_with(tab="attention", why=reason.kind)) for reason in reasons],
        "busiest": busiest,
        "sampled": RECENT if len(failed) == RECENT else 0,
    }
    return render(request, "jobs/history.html", context)


def newest(jobs: JobQuerySet, most: int = RECENT) -> list[UUID]:
    """The keys of the newest of *jobs*: what is so of a thousand is so of a million."""
    return list(jobs.order_by("-created_at").values_list("pk", flat=True)[:most])


def figures(matching: JobQuerySet, jobs: JobQuerySet) -> Figures:
    """The success rate among the newest jobs, and each stage's median work with its share of the longest.

    Work is the attempt that succeeded, as far as it was told: not the days in which a failed one waited.
    """
    results = matching.filter(state__in=(*TABS["done"][1], *TABS["attention"][1])).order_by("-created_at")
    states = list(results.values_list("state", flat=True)[:RECENT])
    done = states.count(JobState.SUCCEEDED)
    ended = len(states)
    recent = Stage.objects.filter(state=StageState.SUCCEEDED, job__in=newest(jobs, TYPICAL)).exclude(
        started_at=None, finished_at=None
    )
    seconds: dict[str, list[float]] = {}
    places: dict[str, int] = {}  # in the pipelines
    columns = recent.order_by("-pk").values_list("label", "position", "started_at", "finished_at", "attempts")
    for label, place, start, end, attempts in columns:
        places[label] = min(place, places.get(label, place))
        last = attempts[-1] if attempts else {}
        if last.get("finished_at"):
            seconds.setdefault(label, []).append(last["finished_at"] - last["started_at"])
        elif start and end:
            seconds.setdefault(label, []).append((end - start).total_seconds())
    medians = {label: median(seconds[label]) for label in sorted(seconds, key=places.__getitem__)}
    longest = max([*medians.values(), 0.001])
    return {
        "done": done,
        "ended": ended,
        "newest": ended if ended == RECENT else 0,
        "rate": f"{done / ended * 100:.0f}%" if ended else "–",
        "medians": [(label, duration(each), each / longest * 100) for label, each in medians.items()],
    }


def day_of(starts: Sequence[datetime], first: int = 0) -> Combinable:
    """On which of the days that begin at *starts* a job was made, by halves, so that few are compared."""
    if len(starts) == 1:
        return Value(first, output_field=IntegerField())
    half = len(starts) // 2
    later = When(created_at__gte=starts[half], then=day_of(starts[half:], first + half))
    return Case(later, default=day_of(starts[:half], first))


def per_day(jobs: JobQuerySet, page: JobList) -> tuple[int, list[Day]]:
    """The jobs of the busiest day, and the last DAYS as columns of a chart, 300 units wide and 60 high."""
    today = timezone.localdate()
    days = [today - timedelta(days=DAYS - 1 - at) for at in range(DAYS)]
    starts = [start_of(day) for day in days]
    counts: dict[int, dict[str, int]] = {}
    rows = jobs.order_by().filter(created_at__gte=starts[0]).annotate(day=day_of(starts))
    for at, state, count in rows.values_list("day", "state").annotate(Count("pk")):
        counts.setdefault(at, {})[state] = count
    highest = max((sum(each.values()) for each in counts.values()), default=1)
    return highest, [_bar(at, day, counts.get(at, {}), highest, page) for at, day in enumerate(days)]


def _bar(at: int, day: date, states: dict[str, int], highest: int, page: JobList) -> Day:
    """One day's column: succeeded jobs at the bottom, failed ones on them, the rest on top; each a link."""
    done = states.get(JobState.SUCCEEDED, 0)
    failed = states.get(JobState.FAILED, 0) + states.get(JobState.ATTENTION, 0)
    total = sum(states.values())
    top = 60.0
    bars = []
    groups = (
        ("done", "done", "done", done),
        ("bad", "attention", "failed", failed),
        ("other", page.tab, "cancelled or running", total - done - failed),
    )
    for kind, tab, words, count in groups:
        height = count / highest * 60
        top -= height
        url = page.url_with(**{"from": day.isoformat(), "to": day.isoformat(), "tab": tab})
        if count:
            bars.append(Bar(kind, round(top, 1), round(height, 1), url, f"{day:%d %b}: {count} {words}"))
    title = f"{day:%d %b}: {total} {'job' if total == 1 else 'jobs'}, {done} done, {failed} failed"
    return Day(day, at * 10 + 1, bars, title)


class Echo:
    """A file for the csv module whose write() returns the line."""

    def write(self, line: str) -> str:
        """The line, unchanged."""
        return line


def spreadsheet_cell(text: object) -> str:
    """The text of a cell that no spreadsheet runs as a formula."""
    value = "" if text is None else str(text)
    return f"'{value}" if value[:1].isspace() or value.startswith(FORMULA) else value


def _check(job: Job) -> str:
    """What came of the job's check, in a line; "" where it has none."""
    outputs = (stage.parsed_output() for stage in job.stages.all() if stage.name == CHECK)
    return next((headline(output.findings) for output in outputs if output), "")


def _reason(job: Job) -> str:
    """Why the job isn't done, in a sentence; "" where nothing failed."""
    failed = (stage.error for stage in job.stages.all() if stage.state == StageState.FAILED)
    return job.error or next(failed, "")


@streams
@require_GET
@staff_only
def export_csv(request: HttpRequest) -> StreamingHttpResponse:
    """The filtered jobs as CSV, streamed: a row per job, under COLUMNS."""
    found = in_tab(search(request.user, request.GET), request.GET.get("tab", ""))
    writer = csv.writer(Echo())

    def lines() -> Iterator[str]:
        yield writer.writerow(COLUMNS)
        for job in in_blocks(found):
            yield writer.writerow([spreadsheet_cell(each) for each in cells(job)])

    return stream(lines(), "text/csv; charset=utf-8", "jobs.csv")


def in_blocks(jobs: JobQuerySet, size: int = 500) -> Iterator[Job]:
    """Each of *jobs*, the newest first, so many in memory: the database keeps nothing open in between."""
    order = ("-created_at", "id")
    telling = Prefetch(
        "stages", Stage.objects.filter(Q(name=CHECK) | Q(state=StageState.FAILED)).defer("details")
    )
    rest = jobs.defer("plan", "searched").prefetch_related("owner", telling).order_by(*order)
    after: list[Any] = []
    while block := list((beyond(rest, order, after) if after else rest)[:size]):
        yield from block
        after = [block[-1].created_at, block[-1].pk]


def cells(job: Job) -> tuple[object, ...]:
    """What COLUMNS say of a job."""
    times = (job.created_at, job.started_at, job.finished_at)
    return (
        job.pk,
        job.title,
        job.owner.get_username(),
        job.pipeline,
        job.state,
        job.source_url or job.source_filename,
        job.source_size,
        *(each.isoformat(timespec="seconds") if each else "" for each in times),
        _reason(job),
        _check(job),
    )


def stream(lines: Iterator[str], content_type: str, filename: str) -> StreamingHttpResponse:
    """A file to save, sent line after line while it is made."""
    disposition = {"Content-Disposition": f'attachment; filename="{filename}"'}
    return StreamingHttpResponse(_some_at_a_time(lines), content_type=content_type, headers=disposition)


async def _some_at_a_time(lines: Iterator[str]) -> AsyncIterator[str]:
    """The lines for ASGI: a sync iterator would be read whole into memory."""

    def next_block() -> str:
        return "".join(islice(lines, 200))

    while block := await sync_to_async(next_block)():
        yield block
