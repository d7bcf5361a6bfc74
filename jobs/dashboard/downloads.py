"""All outputs of a job as one file, for who may see the job."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from django.http import Http404, HttpResponseBase, StreamingHttpResponse
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_GET

from jobs.api.bearer import accepts_token
from jobs.dashboard.output_view import archived, stem_of
from jobs.dashboard.views import find_job
from jobs.models import Job
from jobs.state import StageStatus
from mediapipe.accounts.login_required import PageRequest
from mediapipe.storage.archive import Archive
from mediapipe.web.handler import streams


@streams
@accepts_token("read")
@require_GET
def outputs(request: PageRequest, pk: UUID) -> HttpResponseBase:
    """All outputs of a job as one zip. Raises Http404 where there is none."""
    job = find_job(request, pk)
    return zipped(job, job.status().stages)


def zipped(job: Job, stages: Iterable[StageStatus]) -> StreamingHttpResponse:
    """The outputs of the *stages* as one zip. Raises Http404 where there is none."""
    files = archived(job, stages)
    if not files:
        raise Http404
    disposition = content_disposition_header(True, f"{stem_of(job)}.zip") or ""
    answer = StreamingHttpResponse(Archive(files), content_type="application/zip")
    answer["Content-Disposition"] = disposition
    return answer
