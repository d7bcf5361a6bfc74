"""The hand-over page: what a job has made, for whoever has a link to it, without an account.

Each request, a file's too, asks for the link's row anew: a link that has ended shows nothing. It takes what
is handed over from the job's last recorded status, and decides nothing else about the job.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.hashers import check_password
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.clickjacking import xframe_options_exempt
from django.views.decorators.http import require_http_methods, require_safe

from jobs.dashboard.downloads import zipped
from jobs.dashboard.formatting import describe_output, timecode
from jobs.dashboard.output_view import saved_as, shape_of
from jobs.models import Job, Share
from jobs.state import Output, StageState, StageStatus
from mediapipe import storage
from mediapipe.accounts import limits
from mediapipe.own_address import absolute_for
from mediapipe.storage.views import deliver
from mediapipe.web.handler import streams
from mediapipe.web.middleware import policy

# What is handed over first, in this order, by the names of people who know no stages; others have their own.
LABELS = {
    "transcode": "Video for the web",
    "ingest": "Video in full size",
    "audio": "Sound",
    "thumbnails": "Picture",
    "preview": "Animated preview",
    "hls": "Stream",
}
COOKIE = "shared"
UNLOCKED = 12 * 3600  # seconds for which a password counts


class HandedOver(NamedTuple):
    """An output on the page: where it is shown, and saved."""

    label: str
    facts: str
    url: str
    download_url: str


def handed_over(job: Job) -> dict[str, tuple[StageStatus, Output]]:
    """The outputs that are handed over, by their stages: they lie in our storage, so a link to them ends."""
    made = {each.name: each for each in job.status().stages if each.state == StageState.SUCCEEDED}
    found = [made[name] for name in sorted(made, key=_place)]
    return {stage.name: (stage, stage.output) for stage in found if stage.output and stage.output.name}


def _place(name: str) -> int:
    """Where a stage stands on the page; those with names of an admin's own keep their pipeline's order."""
    return list(LABELS).index(name) if name in LABELS else len(LABELS)


def _holds(job: Job, name: str) -> bool:
    """Whether the file *name* is of an output that is handed over."""
    names = {each for _, output in handed_over(job).values() for each in output.names}
    folders = tuple(f"{folder}/" for each in names if (folder := storage.folder_of(each)))
    return name in names or (bool(folders) and name.startswith(folders) and ".." not in name.split("/"))


def _view(token: str, job: Job, stage: StageStatus, output: Output) -> HandedOver:
    """The output of a *stage* at addresses of this link; a stream of many files is in the zip alone."""
    url = reverse("jobs:shared_file", args=[token, output.name])
    filename = f"{saved_as(job, stage)}.{(output.format or 'bin').lower()}"
    download_url = "" if storage.folder_of(output.name) else f"{url}?download={quote(filename)}"
    label = LABELS.get(stage.name, stage.label)
    return HandedOver(label, describe_output(output), url, download_url)


def _private(response: HttpResponseBase) -> HttpResponseBase:
    """The response, which no search engine keeps, and from which no address leads on."""
    response["X-Robots-Tag"] = "noindex, nofollow"
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    return response


def _gone(request: HttpRequest) -> HttpResponse:
    return render(request, "jobs/handed_over_gone.html", status=404)


def _unlocked(request: HttpRequest, share: Share) -> bool:
    """Whether the link wants no password, or this browser has given it."""
    if not share.password:
        return True
    given = request.get_signed_cookie(COOKIE, default="", salt=share.digest, max_age=UNLOCKED)
    return given == str(share.pk)


@login_not_required
@require_http_methods(["GET", "HEAD", "POST"])
def index(request: HttpRequest, token: str) -> HttpResponseBase:
    """The page; POST gives the password that a link may want."""
    share = Share.find(token)
    if share is None:
        return _private(_gone(request))
    if not _unlocked(request, share):
        return _private(_ask(request, share))
    if request.method == "POST":
        return redirect(request.path)
    _note(request, share)
    return _private(render(request, "jobs/handed_over.html", _context(request, token, share)))


def _note(request: HttpRequest, share: Share) -> None:
    """Counts an opening by a person's browser: programs that look ask for anything."""
    if "text/html" in request.headers.get("Accept", ""):
        share.note_opening()


@xframe_options_exempt
@login_not_required
@require_safe
def embedded(request: HttpRequest, token: str) -> HttpResponseBase:
    """The player alone, for a frame on any site; of a link with a password, a way to where that is asked for.

    The one page that others may frame: it has no form and reads no cookie, so all that a click does is play.
    """
    share = Share.find(token)
    context: dict[str, object] = {"token": token, "locked": bool(share and share.password)}
    if share and not share.password:
        _note(request, share)
        context |= _context(request, token, share)
    answer = render(request, "jobs/embedded.html", context, status=200 if share else 404)
    answer["Content-Security-Policy"] = policy(frames="*")
    return _private(answer)


def _context(request: HttpRequest, token: str, share: Share) -> dict[str, object]:
    """What the page shows."""
    outputs = handed_over(share.job)
    views = {name: _view(token, share.job, *output) for name, output in outputs.items()}
    first = {output.kind: name for name, (_, output) in reversed(outputs.items())}  # of each kind
    playing = first.get("video", "")
    film = outputs[playing][1] if playing else None
    seen = film is not None and film.has("video") is not False
    return {
        "share": share,
        "job": share.job,
        "outputs": views.values(),
        "player": views[playing] if seen else None,
        "stream": views.get("hls"),
        "film": film,
        "shape": shape_of(film) if film else "",
        "sound": views.get(first.get("audio", "")),
        "poster": views.get(first.get("image", "")),
        "length": timecode(film.duration) if film else "",
        "site": absolute_for(request, "/")[:-1],
        "all": reverse("jobs:shared_zip", args=[token]),
    }


def _ask(request: HttpRequest, share: Share) -> HttpResponse:
    """Asks for the password, which is guessed no faster than one at sign-in."""
    context: dict[str, object] = {}
    status = 200
    minutes = 0
    if request.method == "POST":
        try:
            with limits.attempt(request, f"share {share.pk}") as attempt:
                attempt.succeeded = check_password(request.POST.get("password", ""), share.password)
        except limits.TooMany as error:
            status = 429
            minutes = error.minutes
            context = {"minutes": max(1, minutes)}
        else:
            if attempt.succeeded:
                return _unlock(request, share)
            status = 400
            context = {"wrong": True}
    response = render(request, "jobs/handed_over_locked.html", context, status=status)
    response["Referrer-Policy"] = (
        "same-origin"  # without an Origin, the form would be taken for a foreign one
    )
    if status == 429:
        response["Retry-After"] = str(minutes * 60 or 5)
    return response


def _unlock(request: HttpRequest, share: Share) -> HttpResponse:
    response = redirect(request.path)
    response.set_signed_cookie(
        COOKIE,
        str(share.pk),
        salt=share.digest,
        max_age=UNLOCKED,
        path=request.path,
        httponly=True,
        secure=settings.SESSION_COOKIE_SECURE,
        samesite="Lax",
    )
    return response


def _share_of(request: HttpRequest, token: str) -> Share | None:
    """The link, where it hasn't ended, in a browser that has given its password."""
    share = Share.find(token)
    return share if share and _unlocked(request, share) else None


@login_not_required
async def file(request: HttpRequest, token: str, name: str) -> HttpResponseBase:
    """A file that is handed over, or one beside it that it names."""

    def refuse() -> HttpResponse | None:
        share = _share_of(request, token)
        if share is None or not _holds(share.job, name):
            return _gone(request)
        if "download" in request.GET:
            share.note_download(name)
        return None

    if request.method not in ("GET", "HEAD"):
        return HttpResponse(status=405, headers={"Allow": "GET, HEAD"})
    refusal = await sync_to_async(refuse)()
    try:
        return _private(refusal or await deliver(request, name, beside=True))
    except (storage.Forbidden, FileNotFoundError, NotADirectoryError):
        return _private(await sync_to_async(_gone)(request))


@streams
@login_not_required
@require_safe
def archive(request: HttpRequest, token: str) -> HttpResponseBase:
    """All that is handed over, as one zip."""
    share = _share_of(request, token)
    if share is None:
        return _private(_gone(request))
    try:
        answer = zipped(share.job, [stage for stage, _ in handed_over(share.job).values()])
    except Http404:
        return _private(_gone(request))
    share.note_download("all files as one zip")
    return _private(answer)
