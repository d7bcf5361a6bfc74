"""A job from a request of the API: of a URL or of an upload, and one job however often the request comes.

It uses the form's checks and the uploads' own functions, and starts no workflow.
"""

from __future__ import annotations

import hashlib
from uuid import UUID

from asgiref.sync import sync_to_async
from django.contrib.auth.models import AbstractBaseUser
from django.db import IntegrityError, transaction
from django.utils import timezone

from jobs.api.problems import ProblemError
from jobs.api.schemas import NewJob as Body
from jobs.dashboard import forms
from jobs.models import IdempotencyKey, Job, Pipeline, Upload
from jobs.state import Source
from jobs.uploads import becoming
from jobs.uploads.arrived import check_media, offset_of
from jobs.uploads.arriving import UPLOAD_GONE
from jobs.uploads.errors import UploadError

ONE_SOURCE = "Name one source: a “url”, or an “upload” whose bytes are all here."
OTHER_BODY = "This Idempotency-Key was sent before with another request. Use a new key for a new job."
NOT_WHOLE = "This upload isn’t complete yet: send the rest of it first."
TAKEN = "This upload is a job’s already. Send the file once more."
STORAGE_AWAY = "The storage can’t be reached. The upload is complete; send this request again in a moment."


def _digest(body: Body) -> str:
    return hashlib.sha256(body.model_dump_json().encode()).hexdigest()


def _known(owner: AbstractBaseUser, body: Body, key: str) -> Job | None:
    """The job of an earlier request with this key. Raises ProblemError where that one asked for another."""
    row = IdempotencyKey.objects.select_related("job__owner").filter(owner_id=owner.pk, key=key).first()
    if row and row.body != _digest(body):
        raise ProblemError(422, OTHER_BODY)
    return row.job if row else None


async def create(owner: AbstractBaseUser, body: Body, key: str) -> tuple[Job, bool]:
    """The job of this request, and whether it is new. Raises ProblemError."""
    if bool(body.url) == bool(body.upload):
        raise ProblemError(422, ONE_SOURCE)
    if body.pipeline not in (usable := await sync_to_async(Pipeline.usable_by)(owner)):
        raise ProblemError(422, forms.no_pipeline(body.pipeline, usable))
    if key and (job := await sync_to_async(_known)(owner, body, key)):
        return job, False
    if not body.upload:
        return await sync_to_async(_of_url)(owner, body, key)
    try:
        return await _of_upload(owner, body, body.upload, key)
    except UploadError as error:
        raise ProblemError(error.status, error.text) from None


def _checked(form: forms.SourceForm) -> None:
    """Raises ProblemError with what the form says."""
    if not form.is_valid():
        raise ProblemError(422, next(str(error) for errors in form.errors.values() for error in errors))


def _of_url(owner: AbstractBaseUser, body: Body, key: str) -> tuple[Job, bool]:
    form = forms.NewJob(owner, {"url": body.url, "title": body.title, "pipeline": body.pipeline})
    _checked(form)
    try:
        with transaction.atomic():
            job = form.submit()
            if key:
                IdempotencyKey.objects.create(owner_id=owner.pk, key=key, body=_digest(body), job=job)
    except IntegrityError:
        if key and (job_before := _known(owner, body, key)):  # the other request was faster
            return job_before, False
        raise
    return job, True


async def _of_upload(owner: AbstractBaseUser, body: Body, pk: UUID, key: str) -> tuple[Job, bool]:
    upload = await _arrived(owner, pk)
    if upload.job is not None:
        return upload.job, False
    await check_media(upload)
    return await sync_to_async(_whole, thread_sensitive=False)(owner, upload, body, key)


async def _arrived(owner: AbstractBaseUser, pk: UUID) -> Upload:
    """An upload of theirs whose bytes are all here. Raises ProblemError."""
    upload = await Upload.objects.select_related("job__owner").filter(pk=pk, owner_id=owner.pk).afirst()
    if upload is None or (upload.job_id is None and upload.expires_at < timezone.now()):
        raise ProblemError(404, UPLOAD_GONE)
    if await offset_of(upload) != upload.length:
        raise ProblemError(409, NOT_WHOLE)
    return upload


async def source_of(owner: AbstractBaseUser, url: str, pk: UUID | None) -> tuple[Source, Upload | None]:
    """The source for a job that there is: of a URL, or of an upload that no job has. Raises ProblemError."""
    if bool(url) == bool(pk):
        raise ProblemError(422, ONE_SOURCE)
    if pk is None:
        form = forms.SourceForm({"url": url})
        await sync_to_async(_checked)(form)
        return forms.source_of_link(form.cleaned_data["url"]), None
    try:
        upload = await _arrived(owner, pk)
        if upload.job_id is not None:
            raise ProblemError(409, TAKEN)
        await check_media(upload)
        return await sync_to_async(becoming.store, thread_sensitive=False)(upload), upload
    except UploadError as error:
        raise ProblemError(error.status, error.text) from None
    except OSError:
        raise ProblemError(503, STORAGE_AWAY, Retry_After=5) from None


def _whole(owner: AbstractBaseUser, upload: Upload, body: Body, key: str) -> tuple[Job, bool]:
    """The one job of a whole upload: a file of gigabytes is read and moved outside any transaction."""
    try:
        job, _ = becoming.create_job(upload, again=True, title=body.title, pipeline=body.pipeline)
    except OSError:
        raise ProblemError(503, STORAGE_AWAY, Retry_After=5) from None
    except Upload.DoesNotExist:
        raise ProblemError(404, UPLOAD_GONE) from None
    if key:
        about = {"body": _digest(body), "job": job}
        IdempotencyKey.objects.get_or_create(owner_id=owner.pk, key=key, defaults=about)
    return job, True
