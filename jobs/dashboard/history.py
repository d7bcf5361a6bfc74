"""The history, for staff: the jobs of every owner, figures and counts per day, and a CSV export.

Which jobs match a query is decided in searching.
"""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Callable, Iterator
from functools import wraps
from itertools import islice
from typing import Any, Concatenate, ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.core.exceptions import PermissionDenied
from django.db.models import Prefetch, Q
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from jobs.dashboard.check_view import CHECK
from jobs.dashboard.figures import Sample
from jobs.dashboard.forms import chosen_pipeline
from jobs.dashboard.job_list import JobList
from jobs.dashboard.keyset import beyond
from jobs.dashboard.presenters import Row
from jobs.dashboard.searching import in_tab, owners, search
from jobs.findings import headline
from jobs.models import Job, JobQuerySet, Pipeline, Stage
from jobs.pipelines import DEFAULT
from jobs.state import StageState
from mediapipe.web.handler import streams

Request = TypeVar("Request", bound=HttpRequest)
Rest = ParamSpec("Rest")
Response = TypeVar("Response", bound=HttpResponseBase)
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
    "check",
)
FORMULA = tuple("=+-@＝＋－＠")  # the wide ones count too where such are typed


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
    sample = Sample(page)
    busiest, days = sample.per_day()
    usable = Pipeline.usable_by(request.user)
    context = {
        **page.context(request.path),
        **sample.figures(),
        "owners": owners(request.user),
        "pipelines": usable.values(),
        "chosen": usable.get(chosen_pipeline(request)) or usable[DEFAULT],
        "rows": [Row(job, page.live.get(job.pk)) for job in page.jobs],
        "days": days,
        "reasons": sample.reasons(),
        "busiest": busiest,
    }
    return render(request, "jobs/history.html", context)


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
    # said by what it isn't: by its name or its state SQLite would look through the stages of all jobs
    listed = Stage.objects.exclude(~Q(name=CHECK), ~Q(state=StageState.FAILED))
    stages = Prefetch("stages", listed.defer("details"))
    rest = jobs.defer("plan", "searched").prefetch_related("owner", stages).order_by(*order)
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
