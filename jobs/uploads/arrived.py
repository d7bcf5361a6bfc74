"""An upload whose bytes are all here: it is checked, and becomes a job, or another one's source.

Between HTTP's views and the rows: it names jobs by headers, and refuses by UploadError.
"""

from __future__ import annotations

from urllib.parse import quote
from uuid import UUID

from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.urls import reverse
from django.utils.timezone import localtime

from jobs import control, finished
from jobs.models import Job, Upload
from jobs.uploads import becoming, intake
from jobs.uploads.arriving import LOCKED, UPLOAD_GONE
from jobs.uploads.becoming import File
from jobs.uploads.errors import UploadError
from jobs.uploads.source_check import find_problem
from jobs.uploads.tus import parse_metadata
from jobs.uploads.writing import RETRY_AFTER, storage_error, wait_for_writer
from mediapipe.threads import run_to_completion

NO_JOB = "The job whose source this was to be is gone."
STORAGE_AWAY = "The storage can’t be reached. The upload is complete and continues when it’s back."


async def check_media(upload: Upload) -> None:
    """Raises UploadError where a whole upload is certainly no media; it is removed then."""
    if intake.is_finished(upload):
        return
    if not await wait_for_writer(upload):  # its last bytes may yet fail their checksum
        raise UploadError(423, LOCKED, Retry_After=RETRY_AFTER)
    try:
        name = await run_to_completion(intake.store_of(upload).seal, upload)
    except OSError:
        raise UploadError(503, STORAGE_AWAY, Retry_After=5) from None
    if problem := await find_problem(name):
        await sync_to_async(intake.remove)(upload)
        raise UploadError(422, problem)


async def offset_of(upload: Upload) -> int:
    """How many bytes have arrived. Raises UploadError."""
    try:
        return await run_to_completion(intake.offset_of, upload)
    except OSError as error:
        raise storage_error(error) from None


async def job_headers(upload: Upload, *, again: bool = False) -> dict[str, str]:
    """Creates and starts the job of a whole upload; the headers that name it. Raises UploadError."""
    if upload.job_id is None and parse_metadata(upload.metadata).get("job") == "later" and not again:
        return {}  # POST /api/v1/jobs says which job it becomes
    await check_media(upload)
    if replaced := parse_metadata(upload.metadata).get("replaces"):
        return await replace_source(upload, replaced)
    try:
        job, older = await sync_to_async(becoming.create_job, thread_sensitive=False)(upload, again=again)
    except Upload.DoesNotExist:
        raise UploadError(404, UPLOAD_GONE) from None
    except OSError:
        raise UploadError(503, STORAGE_AWAY, Retry_After=5) from None
    return await _names(job, older)


async def _names(job: Job, older: bool) -> dict[str, str]:
    """The headers that name a job: a new one, which is started, or an *older* one of the same bytes."""
    if older:
        says = quote(
            f"You’ve already processed this file as “{job.title}” with {job.pipeline_label}, "
            f"{localtime(job.created_at):%-d %b}."
        )
        return {"Mediapipe_Duplicate": job.get_absolute_url(), "Mediapipe_Duplicate_Says": says}
    if job.workflow_started_at is None:
        await control.start(job)
    return {"Mediapipe_Job": job.get_absolute_url()}


async def job_of_known_headers(owner: User, file: File, pipeline: str, *, again: bool) -> dict[str, str]:
    """The headers that name a job of bytes that are here already; none where they are to be sent."""
    look = sync_to_async(becoming.job_of_bytes_here, thread_sensitive=False)
    try:
        found = await look(owner, file, pipeline, again=again)
    except OSError:
        return {}  # the storage is away, which an upload is not stopped by
    return await _names(*found) if found else {}


async def replace_source(upload: Upload, name: str) -> dict[str, str]:
    """Makes an upload the source of the job *name* of somebody who may see it. Raises UploadError."""
    if upload.job_id is not None:
        return {"Mediapipe_Job": reverse("jobs:detail", args=[upload.job_id])}
    owner = await User.objects.aget(pk=upload.owner_id)
    try:
        job = await Job.objects.visible_to(owner).aget(pk=UUID(name))
        await finished.check_replaceable(job)
        source = await sync_to_async(becoming.store, thread_sensitive=False)(upload)
        await finished.replace_source(job, source, owner.get_username(), upload=upload)
    except (ValueError, Job.DoesNotExist):
        await sync_to_async(intake.remove)(upload)
        raise UploadError(422, NO_JOB) from None
    except control.NotPossible as error:
        await sync_to_async(intake.remove)(upload)
        raise UploadError(422, str(error)) from None
    except OSError:
        raise UploadError(503, STORAGE_AWAY, Retry_After=5) from None
    return {"Mediapipe_Job": job.get_absolute_url()}
