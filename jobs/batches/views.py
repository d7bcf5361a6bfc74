"""Batches: the list, the form, a batch's page with one bar, and its manifest. Load, act, respond."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from jobs.api.bearer import accepts_token
from jobs.batches import manifest
from jobs.batches.forms import NewBatch
from jobs.dashboard import bulk
from jobs.dashboard.formatting import eta
from jobs.dashboard.forms import chosen_pipeline, remember_pipeline
from jobs.dashboard.history import stream
from jobs.dashboard.polling import fragment
from jobs.dashboard.searching import parse_or_none
from jobs.models import Batch, Stage
from jobs.models.batch import REJECTED, Counts
from jobs.serialize import batch_summary
from mediapipe.accounts.login_required import PageRequest
from mediapipe.web.handler import streams

PER_PAGE = 30
MIN_SETTLED = 5  # settled items, after which the rest can be estimated
WIDTH = 1000  # units of the bar
CANCELLING = "What hasn’t started won’t start, and what runs is stopped. What is done is kept."
BATCH_ENDED = "This batch is over, so there’s nothing to cancel."
COLUMNS = (  # of Counts, in the order of the bar: its words, and the list's tab that shows the jobs
    ("done", "done", "done"),
    ("attention", "need you", "attention"),
    ("rejected", "not taken", ""),
    ("running", "under way", "running"),
    ("waiting", "waiting", ""),
    ("cancelled", "cancelled", "cancelled"),
    ("deleted", "deleted", ""),
)


class Part(NamedTuple):
    """A part of the bar: *x* and *width* in its units, and a link to the jobs that it stands for."""

    name: str
    words: str
    many: int
    x: float
    width: float
    href: str

    @property
    def shown(self) -> bool:
        """Whether it has a place below the bar: all have, so that none moves another, but what is rare."""
        return self.many > 0 or self.name != "deleted"


class BatchPage:
    """A batch as its page shows it."""

    def __init__(self, batch: Batch, counts: Counts) -> None:
        self.batch = batch
        self.counts = counts
        self.active = batch.finished_at is None or counts.running > 0

    @property
    def parts(self) -> list[Part]:
        """The bar."""
        parts: list[Part] = []
        at = 0.0
        jobs = reverse("jobs:list")
        for name, words, tab in COLUMNS:
            many = getattr(self.counts, name)
            width = many / max(1, self.counts.total) * WIDTH
            query = urlencode({"batch": self.batch.pk, "tab": tab})
            href = f"{jobs}?{query}" if tab and many else ""
            parts.append(Part(name, words, many, round(at, 1), round(width, 1), href))
            at += width
        return parts

    @property
    def percent(self) -> int:
        """How much of it is settled."""
        return self.counts.settled * 100 // max(1, self.counts.total)

    @property
    def says(self) -> str:
        """Where it stands, in a sentence."""
        counts = self.counts
        if self.batch.cancelled_by and not self.active:
            return f"Cancelled by {self.batch.cancelled_by}. What is done is kept."
        if self.batch.cancelled_by:
            return "Cancelling: what runs is being stopped."
        if not self.active:
            needy = counts.attention + counts.rejected
            return "Everything is done." if not needy else f"Over. {needy:,} of {counts.total:,} aren’t done."
        return self._left() or "Starting…"

    def _left(self) -> str:
        """How long the rest may take, if it goes on as until now; more than a guess once some are settled."""
        done = self.counts.done + self.counts.attention
        left = self.counts.running + self.counts.waiting
        if done < MIN_SETTLED:
            return f"{self.counts.running} of {self.counts.total:,} under way." if self.counts.running else ""
        seconds = (timezone.now() - self.batch.created_at).total_seconds() / done * left
        text = eta(seconds)
        return f"{text[0].upper()}{text[1:]}."


def find(request: PageRequest, pk: UUID) -> Batch:
    """The batch, if the user may see it. Raises Http404."""
    return get_object_or_404(Batch.objects.visible_to(request.user).select_related("owner"), pk=pk)


@require_GET
def index(request: PageRequest) -> HttpResponse:
    """A person's batches; an admin sees everybody's."""
    batches = Batch.objects.visible_to(request.user).select_related("owner")
    page = Paginator(batches, PER_PAGE).get_page(request.GET.get("page"))
    shown = Batch.objects.filter(pk__in=[batch.pk for batch in page]).select_related("owner")
    context = {
        "pages": [BatchPage(*each) for each in shown.with_counts()],
        "number": page.number,
        "last_page": page.paginator.num_pages,
        "newer": f"?page={page.number - 1}" if page.has_previous() else "",
        "older": f"?page={page.number + 1}" if page.has_next() else "",
    }
    return render(request, "jobs/batches.html", context)


@require_http_methods(["GET", "POST"])
def new(request: PageRequest) -> HttpResponse:
    """The form; *from* a batch it begins with the links that were not taken there."""
    if request.method == "GET":
        initial: dict[str, Any] = {"pipeline": chosen_pipeline(request)}
        if pk := parse_or_none(UUID, request.GET.get("from", "")):
            initial |= _not_taken(find(request, pk))
        form = NewBatch(request.user, initial=initial)
    else:
        form = NewBatch(request.user, request.POST, request.FILES)
        if form.is_valid():
            batch = form.submit()
            response = redirect(batch)
            if form.cleaned_data["pipeline"]:
                remember_pipeline(request, response, form.cleaned_data["pipeline"])
            return response
    return render(request, "jobs/batch_form.html", {"form": form}, status=400 if form.is_bound else 200)


def _not_taken(batch: Batch) -> dict[str, str]:
    rows = batch.items.filter(state=REJECTED).values_list("text", "title", "pipeline")
    return {"title": batch.title, "links": "\n".join("\t".join(row).rstrip() for row in rows)}


def _context(batch: Batch) -> dict[str, Any]:
    page = BatchPage(batch, batch.counts())
    why = Stage.reasons(batch.failed()) if page.counts.attention else []
    return {
        "batch": batch,
        "page": page,
        "reasons": why,
        "unnamed": page.counts.attention - sum(reason.jobs for reason in why),
        "rejected": batch.rejected() if page.counts.rejected else [],
    }


@require_GET
def detail(request: PageRequest, pk: UUID) -> HttpResponse:
    """A batch's page."""
    return render(request, "jobs/batch.html", _context(find(request, pk)))


@require_GET
def status(request: PageRequest, pk: UUID) -> HttpResponse:
    """The bar, the counts and the reasons, as a fragment that the page polls while the batch is open."""
    batch = find(request, pk)
    context = _context(batch)
    version = (context["page"].counts, batch.cancelled_by, batch.finished_at, tuple(context["reasons"]))
    return fragment(request, "jobs/_batch_status.html", None, version, lambda: context)


@require_POST
def cancel(request: PageRequest, pk: UUID) -> HttpResponse:
    """Cancels the rest."""
    batch = find(request, pk)
    messages.info(request, CANCELLING if batch.cancel(request.user.get_username()) else BATCH_ENDED)
    return redirect(batch)


@require_POST
def retry(request: PageRequest, pk: UUID) -> HttpResponse:
    """Retries the jobs that failed, or those alone that failed for one reason (*why*)."""
    batch = find(request, pk)
    jobs = bulk.select_jobs("retry", batch.failed(request.POST.get("why", "").replace("\0", "")))
    messages.info(request, str(bulk.apply("retry", jobs, request.user.get_username())))
    return redirect(batch)


@accepts_token("read")
@streams
@require_GET
def as_csv(request: PageRequest, pk: UUID) -> StreamingHttpResponse:
    """The manifest as CSV."""
    return stream(manifest.as_csv(find(request, pk)), "text/csv; charset=utf-8", "batch.csv")


@accepts_token("read")
@streams
@require_GET
def as_json(request: PageRequest, pk: UUID) -> StreamingHttpResponse:
    """The manifest as JSON."""
    batch = find(request, pk)
    lines = manifest.as_json(batch, batch_summary(batch, batch.counts()))
    return stream(lines, "application/json", "batch.json")
