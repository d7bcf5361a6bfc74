"""The dashboard's pages and fragments: get, act, answer.

A running job is asked of its workflow (jobs.temporal.live), a finished one of the database.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.paginator import Page, Paginator
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified, JsonResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from jobs import bulk as bulk_actions
from jobs import incoming, pages, report, temporal
from jobs import sample as sample_clip
from jobs.forms import NewJob
from jobs.live import Live
from jobs.models import Job, JobQuerySet, SavedView
from jobs.pipelines import DEFAULT, PIPELINES, JobState

T = TypeVar("T")
ROWS = 25
FILTERS = ("q", "tab", "sort", "pipeline", "owner", "from", "to")
# What was last told of a running job: of which look at it, of which row, and the answer's tag.
_told: dict[tuple[UUID, bool], tuple[Live, tuple[object, ...], str]] = {}
TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="\w+"')
TABS = {
    "": ("All", tuple(JobState)),
    "running": ("Running", (JobState.QUEUED, JobState.RUNNING)),
    "attention": ("Needs attention", (JobState.ATTENTION, JobState.FAILED)),
    "done": ("Done", (JobState.SUCCEEDED,)),
    "cancelled": ("Cancelled", (JobState.CANCELLED,)),
}
ORDERS = {"": "-created_at", "oldest": "created_at", "title": "title"}


def search(user: AbstractBaseUser | AnonymousUser, query: QueryDict) -> JobQuerySet:
    """The jobs that *user* may see and *query* asks for, but for the tab."""
    jobs = Job.objects.visible_to(user)
    if text := query.get("q", "").strip()[:200].replace("\0", ""):
        jobs = jobs.filter(
            Q(title__icontains=text) | Q(source_filename__icontains=text) | Q(owner__username__icontains=text)
        )
    if (pipeline := query.get("pipeline", "")) in PIPELINES:
        jobs = jobs.filter(pipeline=pipeline)
    if owner := query.get("owner", "").replace("\0", ""):
        jobs = jobs.filter(owner__username=owner)
    for name, lookup in (("from", "created_at__date__gte"), ("to", "created_at__date__lte")):
        if day := _understood(parse_date, query.get(name, "")):
            jobs = jobs.filter(**{lookup: day})
    return jobs


def in_tab(jobs: JobQuerySet, tab: str) -> JobQuerySet:
    """The jobs of one tab; an unknown tab is All."""
    return jobs.filter(state__in=TABS[tab][1]) if tab in TABS and tab else jobs


def _listing(request: HttpRequest) -> dict[str, Any]:
    """What the list shows: tabs with counts, one page of rows, each with its live state."""
    tab = request.GET.get("tab", "")
    found = search(request.user, request.GET)
    counts = dict(found.order_by().values_list("state").annotate(Count("pk")))
    order = ORDERS.get(request.GET.get("sort", ""), "-created_at")
    jobs = in_tab(found, tab).select_related("owner").prefetch_related("stages").order_by(order)
    page: Page[Job] = Paginator(jobs, ROWS).get_page(request.GET.get("page"))
    live = async_to_sync(temporal.live_many)([job for job in page if job.active])
    kept = {key: request.GET[key] for key in FILTERS if request.GET.get(key)}
    return {
        "tab": tab if tab in TABS else "",
        "tabs": [
            (key, label, sum(counts.get(state, 0) for state in states), _with(kept, tab=key))
            for key, (label, states) in TABS.items()
        ],
        "page": page,
        "rows": [pages.Row(job, live.get(job.pk)) for job in page],
        "active": any(job.active for job in page),
        "banner": next((each.banner for each in live.values() if each.banner), ""),
        "query": urlencode(kept | ({"page": page.number} if page.number > 1 else {})),
        "pages": {"previous": _with(kept, page=page.number - 1), "next": _with(kept, page=page.number + 1)},
        "filtered": bool(kept),
        "asked": request.GET,
        "narrowed": bool(set(kept) & {"pipeline", "owner", "from", "to"}),
        "saved": SavedView.objects.filter(owner_id=request.user.pk),
        "pipelines": PIPELINES.values(),
        "needs_url": needs_url(),
    }


def needs_url() -> bool:
    """Whether the engine is elsewhere and has no way to fetch a file that is uploaded here."""
    return not (settings.EMBEDDED_ENGINE or settings.PUBLIC_URL or settings.S3_BUCKET)


def _with(kept: dict[str, str], **changed: object) -> str:
    wanted = {**kept, **changed}
    return "?" + urlencode({key: value for key, value in wanted.items() if value})


def unchanged(request: HttpRequest, text: str) -> HttpResponse:
    """The fragment, or 304 where the browser has just this one. Each rendering masks its token anew."""
    tag = hashlib.blake2b(TOKEN.sub("", text).encode(), digest_size=12).hexdigest()
    if request.headers.get("HX-PTag") == tag:
        return HttpResponseNotModified()
    return HttpResponse(text, headers={"HX-PTag": tag, "Cache-Control": "no-store"})


@require_GET
def job_list(request: HttpRequest) -> HttpResponse:
    """The list, and where uploads begin."""
    listing = _listing(request) | {"stopped": incoming.stopped(request.user.pk)}
    return render(request, "jobs/job_list.html", listing)


@require_GET
def rows(request: HttpRequest) -> HttpResponse:
    """The list's rows and tabs, polled while something is active."""
    return unchanged(request, render_to_string("jobs/_job_rows.html", _listing(request), request))


@require_http_methods(["GET", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """The form; works without JavaScript."""
    assert request.user.is_authenticated
    posted = request.method == "POST"
    form = NewJob(request.POST, request.FILES) if posted else NewJob()
    if posted and form.is_valid():
        try:
            job = form.submit(request.user)
        except incoming.Refused as refused:
            form.add_error("file", refused.text)
        else:
            return _started(request, job)
    status = 400 if posted else 200
    return render(request, "jobs/job_form.html", {"form": form, "needs_url": needs_url()}, status=status)


def _started(request: HttpRequest, job: Job) -> HttpResponse:
    if not async_to_sync(temporal.start)(job):
        messages.warning(request, temporal.AWAY)
    return redirect(job)


@require_POST
def sample(request: HttpRequest) -> HttpResponse:
    """A job on a clip that FFmpeg makes, for people who have no file at hand."""
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
    live = async_to_sync(temporal.live)(job)
    return render(request, "jobs/job_detail.html", {"job": job, "page": pages.JobPage(job, live)})


@require_GET
def status(request: HttpRequest, pk: UUID) -> HttpResponse:
    """A job's stages, polled while it is active. Who watches with others mostly needs no rendering."""
    job = _job(request, pk)
    live = async_to_sync(temporal.live)(job)
    key, row = (pk, request.user.is_staff), (job.seq, job.cancelling, job.note)
    tag, told = request.headers.get("HX-PTag"), _told.get(key)
    if tag and told and told[0] is live and told[1:] == (row, tag):
        return HttpResponseNotModified()
    page = pages.JobPage(job, live)
    answer = unchanged(
        request, render_to_string("jobs/_job_status.html", {"job": job, "page": page}, request)
    )
    if len(_told) > 2000:
        _told.clear()
    _told[key] = live, row, answer.get("HX-PTag", tag or "")
    return answer


@require_GET
def as_json(request: HttpRequest, pk: UUID) -> JsonResponse:
    """The job as the `status` command prints it."""
    job = _job(request, pk)
    live = async_to_sync(temporal.live)(job)
    return JsonResponse(report.full(job, live.status), json_dumps_params={"indent": 2})


def _act(request: HttpRequest, job: Job, act: Any, *arguments: object) -> HttpResponse:
    """Does what a button says, and tells what came of it."""
    reason = request.POST.get("reason", "").strip()[:500]
    try:
        said = async_to_sync(act)(job, *arguments, request.user.get_username(), reason)
    except temporal.Refused as refused:
        messages.info(request, str(refused))
    except temporal.Unavailable as away:
        messages.warning(request, str(away))
    else:
        messages.success(request, said)
    back = request.POST.get("next", "")
    ours = url_has_allowed_host_and_scheme(back, {request.get_host()})
    return redirect(back if ours else job.get_absolute_url())


@require_POST
def retry(request: HttpRequest, pk: UUID, name: str | None = None) -> HttpResponse:
    """Runs a failed stage again, or all that failed; a closed job is started again."""
    return _act(request, _job(request, pk), temporal.retry, name)


@require_POST
def cancel(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Cancels a job."""
    return _act(request, _job(request, pk), temporal.cancel)


@require_POST
def bulk(request: HttpRequest) -> HttpResponse:
    """Retries, cancels or deletes many jobs at once, and says what was done and what was not."""
    action = request.POST.get("action", "")
    if action not in bulk_actions.ACTIONS:
        messages.error(request, "Choose what to do with the ticked jobs: retry, cancel or delete.")
        return redirect("jobs:list")
    if request.POST.get("matching"):
        query = QueryDict(request.POST["matching"])
        jobs = in_tab(search(request.user, query), query.get("tab", ""))
    else:
        ids = [pk for text in request.POST.getlist("job") if (pk := _understood(UUID, text))]
        jobs = Job.objects.visible_to(request.user).filter(pk__in=ids)
    chosen = list(jobs[: bulk_actions.MOST])
    if action != "retry" and not request.POST.get("confirmed"):
        return render(
            request, "jobs/confirm.html", {"action": action, "jobs": chosen, "posted": request.POST}
        )
    text, done = bulk_actions.act(action, chosen, request.user.get_username())
    messages.success(request, text) if done else messages.info(request, text)
    return redirect(f"/?{request.POST.get('matching') or request.POST.get('query', '')}")


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
    """What has finished of a person's jobs since the last look, polled on pages that don't show it."""
    own = Job.objects.filter(owner_id=request.user.pk)
    since = _understood(parse_datetime, request.GET.get("since", "").replace(" ", "+"))
    if since is None or timezone.is_naive(since):
        since = timezone.now()
    told = {
        "finished": own.filter(finished_at__gt=since).order_by("finished_at")[:5],
        "waiting": own.filter(state=JobState.ATTENTION, stages__finished_at__gt=since).distinct()[:5],
        "active": own.filter(state__in=(JobState.QUEUED, JobState.RUNNING)).exists(),
        "now": timezone.now().isoformat(),
    }
    return render(request, "jobs/_news.html", told)


def _understood(parse: Callable[[str], T], text: str) -> T | None:
    """What *parse* makes of a text from outside; None where it is nonsense."""
    try:
        return parse(text)
    except ValueError:
        return None
