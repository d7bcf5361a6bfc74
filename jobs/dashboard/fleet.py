"""The fleet, for admins: each worker and what it is at, the jobs in their line, and how long the disk lasts.

It reads rows and live states; who works, and in which order, is decided elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from jobs.dashboard.fleet_pruned import pruned
from jobs.dashboard.fleet_workers import Worker, works_of
from jobs.dashboard.formatting import filesize
from jobs.dashboard.history import staff_only
from jobs.dashboard.polling import fragment, once
from jobs.dashboard.presenters import Row
from jobs.fleet import first, line, pausing
from jobs.live import reader
from jobs.models import Event, FleetWorker, Job, Stage
from jobs.state import SETTLED, JobState, StageState
from mediapipe import disk
from mediapipe.accounts.login_required import PageRequest

MAX_SHOWN = 50  # jobs of the line
FILMS = 100  # that are done, by which the disk is measured
IN_LINE = ("Next in line", "In line")  # what a wait in line begins with, whose number is another one
USUAL_FOR = 30.0  # seconds for which a measured time counts


class Place(NamedTuple):
    """A job's place in the line; *waits*: for what, or what is done; *done*: when it is expected to be.

    *can_move*: whether it stands in the engine's line, behind others.
    """

    row: Row
    waits: str
    done: datetime | None
    can_move: bool

    @classmethod
    def of(cls, row: Row, moved: set[tuple[UUID, str]], done: datetime | None) -> Place:
        """*moved*: the stages that were moved to the front."""
        waiting = row.waiting_stage is not None
        return cls(
            row, _waits(row, moved), done, settings.EMBEDDED_ENGINE and waiting and not _is_moved(row, moved)
        )


def _usual(name: str) -> float | None:
    return once(("usual", name), None, lambda: Stage.usual_seconds(name), max_age=USUAL_FOR)


def _left(row: Row) -> float | None:
    """Seconds of work that a job still needs, by what its stages usually take here."""
    if row.seconds_left is not None:
        return row.seconds_left
    stages = [each for each in row.stages if each.status.state not in SETTLED]
    lefts = [_usual(each.name) if each.left is None else each.left for each in stages]
    return None if None in lefts else float(sum(each or 0 for each in lefts))


def _order(row: Row, moved: set[tuple[UUID, str]]) -> int:
    """What is at work, then what was moved to the front, what waits, what hasn't been started."""
    if row.status.state == JobState.QUEUED:
        return 3
    if row.waiting_stage is None:
        return 0
    return 1 if _is_moved(row, moved) else 2


def _is_moved(row: Row, moved: set[tuple[UUID, str]]) -> bool:
    stage = row.waiting_stage
    return stage is not None and (row.job.pk, stage.name) in moved


def _waits(row: Row, moved: set[tuple[UUID, str]]) -> str:
    if (stage := row.waiting_stage) is not None:
        # the engine's number isn't this list's: it knows no turns, and nothing of what was moved
        words = "in line" if (words := str(stage.wait)).startswith(IN_LINE) else words
        return f"{stage.label}: {'moved to the front' if _is_moved(row, moved) else words}"
    if row.status.state == JobState.QUEUED:
        return row.job.note or "Waits to be started"
    running = [each for each in row.stages if each.status.state == StageState.RUNNING]
    return ", ".join(
        f"{each.label} {each.status.progress:.0f}%" if each.status.progress else each.label
        for each in running
    )


def _line(slots: int) -> tuple[list[Place], int]:
    """The first of the jobs that aren't done and wait for no person, and how many there are."""
    active = Job.objects.filter(state__in=(JobState.QUEUED, JobState.RUNNING)).select_related("owner")
    begun = list(active.filter(state=JobState.RUNNING).order_by("created_at")[:MAX_SHOWN])
    queued = list(active.filter(state=JobState.QUEUED).order_by("created_at")[: MAX_SHOWN - len(begun)])
    jobs = [*begun, *line.in_turns(queued, lambda job: job.owner_id)]
    live = reader.read_many(jobs)
    events = Event.objects.filter(job__in=begun, kind=first.MOVED)
    moved = set(events.values_list("job_id", "stage"))
    rows = [Row(job, live.get(job.pk)) for job in jobs]
    rows.sort(key=lambda row: _order(row, moved))
    now = timezone.now()
    done = line.ends([_left(row) for row in rows], slots)
    return [
        Place.of(row, moved, None if at is None else now + timedelta(seconds=at))
        for row, at in zip(rows, done, strict=True)
    ], active.count()


def _films() -> list[tuple[float, float]]:
    """Of some jobs that are done: the bytes of all their files, and the seconds of the film."""
    done = Job.objects.filter(state=JobState.SUCCEEDED).prefetch_related("stages")
    found = []
    for job in done.order_by("-created_at")[:FILMS]:
        outputs = [stage.output for stage in job.stages.all() if stage.output]
        seconds = max((float(each.get("duration") or 0) for each in outputs), default=0.0)
        size = float(job.source_size or 0) + sum(float(each.get("filesize") or 0) for each in outputs)
        found.append((size, seconds))
    return found


def _disk() -> dict[str, Any]:
    """What the media's disk still takes; nothing where they are in a bucket."""
    if settings.S3_BUCKET:
        return {"bucket": settings.S3_BUCKET}
    free = disk.free_for_media()
    hours = once("footage", None, lambda: line.hours_left(1.0, _films()), max_age=USUAL_FOR)
    return {"free": filesize(max(0, free)), "hours": None if hours is None else max(0, free) * hours}


def _context() -> dict[str, Any]:
    now = timezone.now()
    rows = list(FleetWorker.known(now))
    works = works_of(rows, time.time())
    slots = sum(int(row.slots.get(pausing.ENCODES, 0)) for row in rows if row.works(now))
    pause = async_to_sync(pausing.paused)()
    places, total = _line(0 if pause else slots)
    return {
        "workers": [Worker(row, works[row.name], now) for row in rows],
        "places": places,
        "total": total,
        "more": total - len(places),
        "slots": slots,
        "pause": pause,
        "disk": _disk(),
        "pruned": pruned(),
    }


@require_GET
@staff_only
def index(request: PageRequest) -> HttpResponse:
    """The page."""
    return render(request, "jobs/fleet.html", _context())


@require_GET
@staff_only
def status(request: PageRequest) -> HttpResponse:
    """Its part that changes."""
    return fragment(request, "jobs/_fleet.html", "staff", time.time() // 1, _context)


@require_POST
@staff_only
def pause(request: PageRequest) -> HttpResponse:
    """Lets nothing new begin, for a reason that others read."""
    return _done(request, lambda: async_to_sync(pausing.pause)(request.user.get_username(), _why(request)))


@require_POST
@staff_only
def resume(request: PageRequest) -> HttpResponse:
    """Lets the line go on."""
    return _done(request, lambda: async_to_sync(pausing.resume)(request.user.get_username()))


@require_http_methods(["GET", "POST"])
@staff_only
def pause_worker(request: PageRequest, worker: int) -> HttpResponse:
    """Asks why, and has one worker take nothing new."""
    row = get_object_or_404(FleetWorker, pk=worker)
    if request.method == "GET":
        return render(request, "jobs/pause_worker.html", {"worker": row})
    who = request.user.get_username()
    return _done(request, lambda: pausing.pause_worker(row, who, _why(request)))


@require_POST
@staff_only
def resume_worker(request: PageRequest, worker: int) -> HttpResponse:
    """Has it take work again."""
    row = get_object_or_404(FleetWorker, pk=worker)
    return _done(request, lambda: pausing.resume_worker(row, request.user.get_username()))


@require_http_methods(["GET", "POST"])
@staff_only
def move_first(request: PageRequest, pk: UUID) -> HttpResponse:
    """Asks why, and moves a job to the front."""
    job = get_object_or_404(Job, pk=pk)
    if request.method == "GET":
        return render(request, "jobs/first.html", {"job": job})
    who = request.user.get_username()
    return _done(request, lambda: async_to_sync(first.move)(job, who, _why(request)))


def _why(request: PageRequest) -> str:
    return request.POST.get("why", "").replace("\0", "").strip()[:200]


def _done(request: PageRequest, act: Callable[[], None]) -> HttpResponse:
    try:
        act()
    except pausing.NotPossible as error:
        messages.error(request, str(error))
    return redirect("jobs:fleet")
