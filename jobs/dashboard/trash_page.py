"""The trash: what somebody has deleted, to be restored or deleted for good; and the undo of a delete.

What may be done is decided in jobs.removal.deleting.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from jobs import control
from jobs.dashboard.formatting import filesize
from jobs.dashboard.searching import parse_or_none
from jobs.models import Job
from jobs.removal import deleting, trash
from mediapipe.accounts.login_required import PageRequest

PER_PAGE = 25
DELETED = "deleted"  # in the session: the jobs of the last delete, for its undo
UNDO = "undo"  # marks the message that offers it


class Trashed(NamedTuple):
    """A job in the trash, and when it is deleted for good."""

    job: Job
    until: datetime
    size: str


def offer_undo(request: HttpRequest, sentence: str, level: int, jobs: Iterable[Job]) -> None:
    """Says what was deleted; where it lies in the trash the message has a button that restores it."""
    ids = [
        str(pk) for pk in trash.jobs().filter(pk__in=[job.pk for job in jobs]).values_list("pk", flat=True)
    ]
    request.session[DELETED] = ids
    messages.add_message(request, level, sentence, extra_tags=UNDO if ids else "")


@require_GET
def index(request: PageRequest) -> HttpResponse:
    """What is in it, the last deleted first."""
    found = trash.jobs().visible_to(request.user).select_related("owner").defer("plan")
    page = Paginator(found, PER_PAGE).get_page(request.GET.get("page"))
    lines = [Trashed(job, job.trashed_at + trash.lifetime(), _size(job)) for job in page if job.trashed_at]
    context = {
        "lines": lines,
        "days": settings.TRASH_DAYS,
        "number": page.number,
        "last_page": page.paginator.num_pages,
        "newer": f"?page={page.previous_page_number()}" if page.has_previous() else "",
        "older": f"?page={page.next_page_number()}" if page.has_next() else "",
    }
    return render(request, "jobs/trash.html", context)


def _size(job: Job) -> str:
    return filesize(job.source_size) if job.source_size else ""


@require_POST
def restore(request: PageRequest, pk: UUID) -> HttpResponse:
    """Takes one job out, and shows it."""
    job = get_object_or_404(trash.jobs().visible_to(request.user), pk=pk)
    try:
        messages.success(request, async_to_sync(deleting.restore)(job, request.user.get_username()))
    except control.NotPossible as error:
        messages.info(request, str(error))
        return redirect("jobs:trash")
    return redirect(job)


@require_POST
def delete_for_good(request: PageRequest, pk: UUID) -> HttpResponse:
    """Deletes one job and its media now."""
    job = get_object_or_404(trash.jobs().visible_to(request.user), pk=pk)
    try:
        async_to_sync(deleting.delete_for_good)(job, request.user.get_username())
    except control.NotPossible as error:
        messages.info(request, str(error))
    except control.TemporalUnavailable as error:
        messages.warning(request, str(error))
    else:
        messages.success(request, "Deleted for good.")
    return redirect("jobs:trash")


@require_POST
def undo(request: PageRequest) -> HttpResponse:
    """Restores what this browser deleted last."""
    ids = [pk for text in request.session.pop(DELETED, []) if (pk := parse_or_none(UUID, text))]
    jobs = list(trash.jobs().visible_to(request.user).filter(pk__in=ids))
    count = sum(trash.take_out(job, request.user.get_username()) for job in jobs)
    restored = f"Restored {count} job{'' if count == 1 else 's'}."
    messages.info(request, restored if count else "There’s nothing to undo any more.")
    return redirect(jobs[0] if count == 1 and len(jobs) == 1 else reverse("jobs:list"))
