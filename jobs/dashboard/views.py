"""The dashboard's pages and fragments: get, act, answer.

A running job is asked of its workflow (jobs.live), a finished one of the database.
"""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from jobs import control, serialize
from jobs.dashboard import bulk as bulk_actions
from jobs.dashboard import polling, presenters
from jobs.dashboard.forms import NewJob
from jobs.dashboard.job_list import Listing, in_tab, search, understood
from jobs.live import look
from jobs.models import Job, JobQuerySet, SavedView
from jobs.pipelines import DEFAULT
from jobs.state import JobState
from jobs.uploads import sample_clip
from jobs.uploads.errors import UploadError
from jobs.uploads.views import unfinished_uploads


def needs_url() -> bool:
    """Whether the engine is elsewhere and has no way to fetch a file that is uploaded here."""
    return not (settings.EMBEDDED_ENGINE or settings.PUBLIC_URL or settings.S3_BUCKET)


@require_GET
def job_list(request: HttpRequest) -> HttpResponse:
    """The list, and where uploads begin."""
    listing = Listing(request.user, request.GET)
    context = {
        **listing.context(),
        "rows": listing.rows(),
        "form": NewJob(),
        "needs_url": needs_url(),
        "stopped": unfinished_uploads(request.user.pk),
    }
    return render(request, "jobs/job_list.html", context)


@require_GET
def rows(request: HttpRequest) -> HttpResponse:
    """The list's rows and tabs, polled while something is active."""
    listing = Listing(request.user, request.GET)

    def rendered() -> str:
        return render_to_string("jobs/_job_rows.html", {**listing.context(), "rows": listing.rows()}, request)

    key = ("list", request.user.pk, request.user.is_staff, request.GET.urlencode())
    return polling.respond_or_304(request, key, listing.made_of, rendered)


@require_http_methods(["GET", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """The form; works without JavaScript."""
    assert request.user.is_authenticated
    posted = request.method == "POST"
    form = NewJob(request.POST, request.FILES) if posted else NewJob()
    if posted and form.is_valid():
        try:
            job = form.submit(request.user)
        except UploadError as refused:
            form.add_error("file", refused.text)
        else:
            return _started(request, job)
    status = 400 if posted else 200
    return render(request, "jobs/job_form.html", {"form": form, "needs_url": needs_url()}, status=status)


def _started(request: HttpRequest, job: Job) -> HttpResponse:
    if job.workflow_started_at is None and not async_to_sync(control.start)(job):
        messages.warning(request, control.AWAY)
    return redirect(job)


@require_POST
def sample(request: HttpRequest) -> HttpResponse:
    """A job on the sample clip, for people who have no file at hand."""
    assert request.user.is_authenticated
    source = sample_clip.source()
    job = Job.submit(request.user, title=source.filename, pipeline=DEFAULT, source=source)
    return _started(request, job)


def _job(request: HttpRequest, pk: UUID) -> Job:
    jobs = Job.objects.visible_to(request.user).select_related("owner")
    return get_object_or_404(jobs, pk=pk)


@require_GET
def detail(request: HttpRequest, pk: UUID) -> HttpResponse:
    """A job's page."""
    job = _job(request, pk)
    live = look(job)
    return render(request, "jobs/job_detail.html", {"job": job, "page": presenters.JobPage(job, live)})


@require_GET
def status(request: HttpRequest, pk: UUID) -> HttpResponse:
    """A job's stages, polled while it is active."""
    job = _job(request, pk)
    live = look(job)

    def rendered() -> str:
        page = presenters.JobPage(job, live)
        return render_to_string("jobs/_job_status.html", {"job": job, "page": page}, request)

    step = (
        int(time.time() // presenters.STEP) if job.active else 0
    )  # the axis grows while nothing else changes
    made_of = (live, job.title, job.state, job.seq, job.run, job.cancelling, job.note, step)
    return polling.respond_or_304(request, ("job", pk, request.user.is_staff), made_of, rendered)


@require_GET
def as_json(request: HttpRequest, pk: UUID) -> JsonResponse:
    """The job as the `status` command prints it."""
    job = _job(request, pk)
    live = look(job)
    return JsonResponse(serialize.full(job, live.status), json_dumps_params={"indent": 2})


def _act(request: HttpRequest, job: Job, act: Any, *arguments: object) -> HttpResponse:
    """Does what a button says, and tells what came of it."""
    reason = request.POST.get("reason", "").strip()[:500]
    try:
        said = async_to_sync(act)(job, *arguments, request.user.get_username(), reason)
    except control.NotPossible as refused:
        messages.info(request, str(refused))
    except control.TemporalUnavailable as away:
        messages.warning(request, str(away))
    else:
        messages.success(request, said)
    back = request.POST.get("next", "")
    ours = url_has_allowed_host_and_scheme(back, {request.get_host()})
    return redirect(back if ours else job.get_absolute_url())


@require_POST
def retry(request: HttpRequest, pk: UUID, name: str | None = None) -> HttpResponse:
    """Runs a failed stage again, or all that failed; a closed job is started again."""
    return _act(request, _job(request, pk), control.retry, name)


@require_POST
def cancel(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Cancels a job."""
    return _act(request, _job(request, pk), control.cancel)


def _chosen(request: HttpRequest) -> JobQuerySet:
    """The ticked jobs, or all that the list's search matches."""
    if request.POST.get("matching"):
        query = QueryDict(request.POST["matching"])
        return in_tab(search(request.user, query), query.get("tab", ""))
    ids = [pk for text in request.POST.getlist("job") if (pk := understood(UUID, text))]
    return Job.objects.visible_to(request.user).filter(pk__in=ids)


@require_POST
def bulk(request: HttpRequest) -> HttpResponse:
    """Retries, cancels or deletes many jobs at once, and says what was done and what was not."""
    action = request.POST.get("action", "")
    back = reverse("jobs:history" if request.POST.get("from") == "history" else "jobs:list")
    back += f"?{request.POST.get('query', '')}"
    if action not in bulk_actions.ACTIONS:
        messages.error(request, "Choose what to do with the ticked jobs: retry, cancel or delete.")
        return redirect(back)
    chosen = _chosen(request)
    jobs, matching = bulk_actions.first(action, chosen), chosen.count()
    if not jobs:
        messages.error(request, "Tick the jobs first; none is ticked that is there and yours.")
        return redirect(back)
    if not request.POST.get("confirmed"):
        asked = {"action": action, "jobs": jobs, "matching": matching, "back": back, "posted": request.POST}
        return render(request, "jobs/confirm.html", asked)
    outcome = bulk_actions.act(action, jobs, request.user.get_username())
    level = messages.WARNING if outcome.unanswered else messages.SUCCESS if outcome.done else messages.INFO
    left = matching - len(jobs)
    more = f" {left} more match: do it again for the next ones." if left else ""
    messages.add_message(request, level, f"{outcome}{more}")
    return redirect(back)


@require_POST
def save_view(request: HttpRequest) -> HttpResponse:
    """Keeps the list's search under a name, or forgets it."""
    name = request.POST.get("name", "").strip()[:60]
    query = request.POST.get("query", "")[:500]
    views = SavedView.objects.filter(owner_id=request.user.pk)
    if forgotten := request.POST.get("forget"):
        views.filter(name=forgotten).delete()
    elif name:
        SavedView.objects.update_or_create(
            owner_id=int(request.user.pk or 0), name=name, defaults={"query": query}
        )
    else:
        messages.error(request, "Give the view a name, then save it.")
    return redirect(f"/?{query}")


@require_GET
def news(request: HttpRequest) -> HttpResponse:
    """What has finished of a person's jobs since the last look, polled on pages that don't show it.

    A job's page leaves out that job, so that it asks for news only while another one is at work.
    """
    shown = understood(UUID, request.GET.get("but", ""))
    own = Job.objects.filter(owner_id=request.user.pk)
    own = own.exclude(pk=shown) if shown else own
    since = understood(parse_datetime, request.GET.get("since", "").replace(" ", "+"))
    if since is None or timezone.is_naive(since):
        since = timezone.now()
    told = {
        "finished": own.filter(finished_at__gt=since).order_by("finished_at")[:5],
        "waiting": own.filter(state=JobState.ATTENTION, stages__finished_at__gt=since).distinct()[:5],
        "active": own.filter(state__in=(JobState.QUEUED, JobState.RUNNING)).exists(),
        "now": timezone.now().isoformat(),
        "but": shown,
    }
    return render(request, "jobs/_news.html", told)
