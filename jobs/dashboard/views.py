"""The dashboard's pages and fragments: load, act, respond.

What a page shows is decided in job_page and job_list, what a button does in control and bulk.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Concatenate
from uuid import UUID

from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from jobs import control, serialize
from jobs.api.bearer import accepts_token
from jobs.dashboard.forms import NewJob, chosen_pipeline, remember_pipeline
from jobs.dashboard.job_list import JobList
from jobs.dashboard.job_page import JobPage
from jobs.dashboard.keyset import parse_moment
from jobs.dashboard.news import Asked, News
from jobs.dashboard.polling import fragment
from jobs.dashboard.searching import neighbours, owners, parse_or_none
from jobs.dashboard.stage_axis import AXIS_STEP
from jobs.live import reader
from jobs.models import Batch, Delivery, Job, Pipeline, SavedView
from jobs.pipelines import DEFAULT
from jobs.state import JobState
from jobs.uploads import sample_clip
from jobs.uploads.errors import UploadError
from mediapipe.accounts.login_required import PageRequest

Verb = Callable[Concatenate[Job, ...], Awaitable[str]]  # of jobs.control


def needs_url() -> bool:
    """Whether the engine is elsewhere and has no way to fetch a file that is uploaded here."""
    return not (settings.EMBEDDED_ENGINE or settings.PUBLIC_URL or settings.S3_BUCKET)


@require_GET
def job_list(request: PageRequest) -> HttpResponse:
    """The list, and where uploads begin."""
    page = JobList(request.user, request.GET)
    form = NewJob(request.user, chosen=chosen_pipeline(request))
    context = {
        **page.context(reverse("jobs:list")),
        "rows": page.rows(),
        "owners": owners(request.user),
        "form": form,
        "pipelines": form.usable.values(),
        "chosen": form.chosen,
        "needs_url": needs_url(),
    }
    return render(request, "jobs/job_list.html", context)


@require_GET
def rows(request: PageRequest) -> HttpResponse:
    """The list's rows and tabs, as a fragment that the list polls."""
    page = JobList(request.user, request.GET)
    context = {**page.context(reverse("jobs:list")), "rows": page.rows()}
    viewer = request.user.pk, request.user.is_staff
    return fragment(request, "jobs/_job_rows.html", viewer, context, lambda: context)


@require_http_methods(["GET", "POST"])
def new(request: PageRequest) -> HttpResponse:
    """The new-job form; it works without JavaScript."""
    if request.method == "GET":
        form = NewJob(request.user, chosen=chosen_pipeline(request))
    else:
        form = NewJob(request.user, request.POST, request.FILES)
        if form.is_valid():
            try:
                response = _start(request, job := form.submit())
                remember_pipeline(request, response, job.pipeline)
                return _in_list(request, job) if request.htmx else response
            except UploadError as error:
                form.refuse(error)
        if request.htmx:  # the list's own form: what is wrong is said in its place
            return render(request, "jobs/_link.html", {"form": form})
    status = form.status if form.is_bound else 200
    return render(request, "jobs/job_form.html", {"form": form, "needs_url": needs_url()}, status=status)


def _in_list(request: PageRequest, job: Job) -> HttpResponse:
    """The list's field for another link; the list itself shows the new job."""
    form = NewJob(request.user, chosen=job.pipeline)
    response = render(request, "jobs/_link.html", {"form": form})
    response["HX-Trigger"] = "refresh"
    return response


@require_POST
def choose(request: PageRequest) -> HttpResponse:
    """Remembers which pipeline the person's next files go through."""
    response = HttpResponse(status=204)
    if (name := request.GET.get("pipeline", "")) in Pipeline.usable_by(request.user):
        remember_pipeline(request, response, name)
    return response


def _start(request: PageRequest, job: Job) -> HttpResponse:
    """Starts a new job's workflow, unless it has been, and shows its page."""
    if job.workflow_started_at is None:
        async_to_sync(control.start)(job)  # where that fails, the page shows the job's note
    return redirect(job)


@require_POST
def sample(request: PageRequest) -> HttpResponse:
    """Starts a job on the sample clip, for people who have no file at hand."""
    source = sample_clip.source()
    job = Job.submit(request.user, title=source.filename, pipeline=DEFAULT, source=source)
    return _start(request, job)


def find_job(request: PageRequest, pk: UUID) -> Job:
    """The job, if the user may see it. Raises Http404."""
    jobs = Job.objects.visible_to(request.user).select_related("owner")
    return get_object_or_404(jobs, pk=pk)


@require_GET
def detail(request: PageRequest, pk: UUID) -> HttpResponse:
    """A job's page."""
    job = find_job(request, pk)
    context = {
        "job": job,
        "page": JobPage(job, reader.read(job)),
        "batch": Batch.objects.filter(items__job=job).first(),
        "deliveries": Delivery.of_job(job),
        "shares": job.shares.all(),
        **neighbours(request.user, job),
    }
    return render(request, "jobs/job_detail.html", context)


@require_GET
def beside(request: PageRequest, pk: UUID, side: str) -> HttpResponse:
    """Leads to the next job on one *side* of it, among those that the query selects."""
    job = find_job(request, pk)
    found = neighbours(request.user, job, request.GET)[side]
    if found is None:
        messages.info(request, f"No {side} job is in your search.")
    return redirect(found or job)


@require_GET
def status(request: PageRequest, pk: UUID) -> HttpResponse:
    """A job's stages, outputs and timeline, as a fragment that its page polls while it is active."""
    job = find_job(request, pk)
    live = reader.read(job)
    return fragment(
        request,
        "jobs/_job_status.html",
        request.user.is_staff,
        (job.version, live.version),
        lambda: {"job": job, "page": JobPage(job, live)},
        max_age=AXIS_STEP if job.active else None,
    )


@accepts_token("read")
@require_GET
def as_json(request: PageRequest, pk: UUID) -> JsonResponse:
    """The job as the `status` command prints it."""
    job = find_job(request, pk)
    live = reader.read(job)
    return JsonResponse(serialize.full(job, live.status), json_dumps_params={"indent": 2})


def act(request: PageRequest, job: Job, verb: Verb, *arguments: object) -> HttpResponse:
    """Performs what a button says, and shows the resulting sentence on the page it was pressed on."""
    reason = request.POST.get("reason", "").strip()[:500]
    try:
        sentence = async_to_sync(verb)(job, *arguments, request.user.get_username(), reason)
    except control.NotPossible as error:
        messages.info(request, str(error))
    except control.TemporalUnavailable as error:
        messages.warning(request, str(error))
    else:
        messages.info(request, sentence)  # asked for, not done
    back = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(back, {request.get_host()})
    return HttpResponseRedirect(back if safe else job.get_absolute_url())  # redirect() takes names of views


@require_POST
def retry(request: PageRequest, pk: UUID, name: str | None = None) -> HttpResponse:
    """Runs a failed stage again, or all that failed; a closed job is started again."""
    return act(request, find_job(request, pk), control.retry, name)


@require_POST
def force_restart(request: PageRequest, pk: UUID) -> HttpResponse:
    """Ends a workflow that can't continue, and starts the job again. Raises Http404 for editors."""
    if not request.user.is_staff:
        raise Http404
    return act(request, find_job(request, pk), control.force_restart)


@require_POST
def cancel(request: PageRequest, pk: UUID) -> HttpResponse:
    """Cancels a job."""
    return act(request, find_job(request, pk), control.cancel)


@require_http_methods(["GET", "POST"])
def rename(request: PageRequest, pk: UUID) -> HttpResponse:
    """Asks for another title of a job; POST gives it."""
    job = find_job(request, pk)
    if request.method == "GET":
        return render(request, "jobs/rename.html", {"job": job})
    return act(request, job, control.rename, request.POST.get("title", ""))


@require_POST
def save_view(request: PageRequest) -> HttpResponse:
    """Saves the list's search under a name, or deletes a saved one."""
    name = request.POST.get("name", "").strip()[:60]
    query = request.POST.get("query", "")[:500]
    views = SavedView.objects.filter(owner=request.user)
    if deleted := request.POST.get("forget"):
        views.filter(name=deleted).delete()
    elif name:
        SavedView.objects.update_or_create(owner=request.user, name=name, defaults={"query": query})
    else:
        messages.error(request, "Enter a name.")
    page = reverse("jobs:history" if request.POST.get("from") == "history" else "jobs:list")
    return redirect(f"{page}?{query}")


@require_GET
def news(request: PageRequest) -> HttpResponse:
    """What is new of the user's jobs since *since*, as a fragment that pages poll.

    A job's page leaves out that job (*but*), so that it polls only while another one is active. The list
    asks (*list*) while any is, and else when its rows have changed.
    """
    asked = request.GET
    excluded = parse_or_none(UUID, asked.get("but", ""))
    jobs = Job.objects.filter(owner=request.user)
    jobs = jobs.exclude(pk=excluded) if excluded else jobs
    moments = (parse_or_none(parse_moment, asked.get(key, "").replace(" ", "+")) for key in Asked._fields)
    listed = "list" in asked
    found = News.of(jobs, Asked(*moments), reader=request.user.get_username(), listed=listed)
    context = {
        "toasts": found.toasts,
        "since": found.since.isoformat(),
        "active": jobs.filter(state__in=(JobState.QUEUED, JobState.RUNNING)).exists(),
        "but": excluded,
        "listed": listed,
    }
    return render(request, "jobs/_news.html", context)
