"""Another source for a job: the page on which a file or a link takes the place of the one it has.

What becomes of the job is decided in jobs.finished. With scripts the file comes by the uploads' tray.
"""

from __future__ import annotations

import uuid

from asgiref.sync import async_to_sync
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from jobs import control, finished
from jobs.dashboard.forms import SourceForm
from jobs.dashboard.views import act, find_job, needs_url
from jobs.uploads.errors import UploadError
from mediapipe.accounts.login_required import PageRequest


@require_http_methods(["GET", "POST"])
def index(request: PageRequest, pk: uuid.UUID) -> HttpResponse:
    """The form; POST replaces the source."""
    job = find_job(request, pk)
    try:
        async_to_sync(finished.check_replaceable)(job)
    except control.NotPossible as error:
        messages.info(request, str(error))
        return redirect(job)
    form = SourceForm(request.POST, request.FILES) if request.method == "POST" else SourceForm()
    if form.is_bound and form.is_valid():
        try:
            return act(request, job, finished.replace_source, form.source(uuid.uuid4()))
        except UploadError as error:
            form.refuse(error)
    status = form.status if form.is_bound else 200
    context = {"job": job, "form": form, "needs_url": needs_url()}
    return render(request, "jobs/source.html", context, status=status)
