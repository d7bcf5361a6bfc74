"""Uploads: a tus 1.0 server (core, creation, creation-with-upload, checksum, expiration, termination).

How much has arrived is asked of where the bytes are (a part file, or the bucket), so nothing can get out of
step with it; a whole file is checked, moved to its place and becomes exactly one job. These views translate
between HTTP and jobs.uploads.intake; the protocol's own rules are in jobs.uploads.tus.
https://tus.io/protocols/resumable-upload
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.http import http_date

from jobs.api.bearer import accepts_token
from jobs.models import Upload
from jobs.uploads import becoming, intake, sweeping
from jobs.uploads.arrived import job_headers, job_of_known_headers, offset_of
from jobs.uploads.arriving import UPLOAD_GONE
from jobs.uploads.becoming import File
from jobs.uploads.errors import UploadError
from jobs.uploads.naming import display_name
from jobs.uploads.tus import (
    answer,
    check_body,
    check_creation,
    has_bytes,
    integer_header,
    parse_metadata,
    tus,
)
from jobs.uploads.writing import append, storage_error, wait_for_writer
from mediapipe.database import in_thread
from mediapipe.web.request_body import Disconnected

MAX_UNFINISHED = 200  # uploads of one person; their bytes in all are limited as one file's are
FINISH = "Finish or remove some before adding more."


@dataclass(frozen=True)
class UnfinishedUpload:
    """An upload that waits for the rest of its bytes; *modified* is the file's time, by the browser."""

    url: str
    name: str
    size: int
    modified: str
    percent: int


def unfinished_uploads(owner_id: int | None) -> list[UnfinishedUpload]:
    """What a person began to upload and has not finished: any browser may continue it."""
    return [
        UnfinishedUpload(
            url=reverse("jobs:upload", args=[upload.pk]),
            name=upload.filename,
            size=upload.length,
            modified=parse_metadata(upload.metadata).get("modified", ""),
            percent=intake.shown_offset(upload) * 100 // upload.length,
        )
        for upload in intake.unfinished(owner_id)
        if parse_metadata(upload.metadata).get("job") != "later"  # a program's: it continues by itself
    ]


@transaction.atomic
def announce(upload: Upload) -> None:
    """Saves a new upload. Raises UploadError where its owner has too many under way, or too large ones."""
    get_user_model().objects.select_for_update().get(pk=upload.owner_id)  # many at once wait for each other
    others = Upload.objects.filter(owner_id=upload.owner_id, job=None)
    if others.count() >= MAX_UNFINISHED:
        raise UploadError(429, f"You have {MAX_UNFINISHED} unfinished uploads. {FINISH}")
    begun = list(others.filter(sha256=""))
    if begun and sum(each.length for each in begun) + upload.length > settings.MAX_UPLOAD_BYTES:
        limit = settings.MAX_UPLOAD_BYTES / (1 << 30)
        raise UploadError(429, f"Your unfinished uploads may have {limit:g} GB in all. {FINISH}")
    under_way = sum(each.length - intake.shown_offset(each) for each in begun)
    intake.check_length(upload.length + under_way, in_bucket=bool(settings.S3_BUCKET))
    upload.save(force_insert=True)


async def begin(upload: Upload) -> None:
    """Takes a new upload. Raises UploadError."""
    await sync_to_async(announce)(upload)
    await in_thread(sweeping.sweep_own_disk)
    try:
        await in_thread(intake.begin, upload)
    except OSError as error:
        await upload.adelete()
        raise storage_error(error) from None


@accepts_token("submit")
@tus
async def collection(request: HttpRequest) -> HttpResponse:
    """POST creates an upload (creation, creation-with-upload)."""
    if request.method != "POST":
        raise UploadError(405, "Method not allowed: use POST.", Allow="POST, OPTIONS")
    check_creation(request)
    length = integer_header(request, "Upload-Length")
    intake.check_length(length, in_bucket=bool(settings.S3_BUCKET))
    raw = request.headers.get("Upload-Metadata", "")
    fields = parse_metadata(raw)
    has_body = has_bytes(request)
    user = await request.auser()
    upload = Upload(
        owner_id=int(user.pk or 0),
        length=length,
        metadata=raw,
        pipeline=fields.get("pipeline", "").replace("\0", "")[:40],
        filename=display_name(fields.get("filename", fields.get("name", ""))),
        expires_at=timezone.now() + intake.UPLOAD_LIFETIME,
    )
    await begin(upload)
    offset = 0
    extra: dict[str, str] = {}
    if has_body:
        try:
            offset = await append(request, upload)
        except (UploadError, Disconnected):  # the client has not learned where it is
            with suppress(OSError):  # else it expires
                await sync_to_async(intake.remove)(upload)
            raise
        extra = await job_headers(upload) if offset == length else {}
    return answer(
        201,
        Location=address(request, reverse("jobs:upload", args=[upload.pk])),
        Upload_Offset=offset,
        **expiry(upload, extra),
        **extra,
    )


async def find_upload(request: HttpRequest, pk: uuid.UUID) -> Upload:
    """The signed-in person's upload. Raises UploadError: 404 for anybody else's, 410 when expired."""
    user = await request.auser()
    upload = await Upload.objects.select_related("owner").filter(pk=pk, owner_id=user.pk).afirst()
    if upload is None:
        raise UploadError(404, UPLOAD_GONE)
    if upload.job_id is None and upload.expires_at < timezone.now():
        raise UploadError(410, "This upload has expired. Start it again.")
    return upload


async def take_part(request: HttpRequest, upload: Upload, offset: int) -> int:
    """Appends a request's body; the new offset. Raises UploadError, Disconnected."""
    has_bytes(request)
    if offset == upload.length:
        check_body(request, offset, upload.length)
        return offset
    # anew: a slow link may take longer than that in all
    upload.expires_at = timezone.now() + intake.UPLOAD_LIFETIME
    await Upload.objects.filter(pk=upload.pk).aupdate(expires_at=upload.expires_at)
    return await append(request, upload)


def expiry(upload: Upload, made: Mapping[str, str] = {}) -> dict[str, str]:
    """Until when an upload is kept; {} for one that was *made* a job."""
    if upload.job_id or "Mediapipe_Job" in made:
        return {}
    return {"Upload_Expires": http_date(upload.expires_at.timestamp())}


def address(request: HttpRequest, path: str) -> str:
    """The whole address of *path*, as this client reaches us: not every client takes a relative one.

    A browser says which page asks. A proxy may have dropped the scheme or the port of a program's request.
    """
    host = urlsplit(f"//{request.get_host()}").hostname
    for base in (request.headers.get("Origin", ""), settings.PUBLIC_URL):
        if base.startswith(("http://", "https://")) and urlsplit(base).hostname == host:
            return f"{base}{path}"
    return request.build_absolute_uri(path)


@accepts_token("submit")
@tus
async def resource(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """HEAD answers the offset, PATCH appends, DELETE terminates."""
    if request.method not in ("HEAD", "PATCH", "DELETE"):
        raise UploadError(
            405, "Method not allowed: use HEAD, PATCH or DELETE.", Allow="HEAD, PATCH, DELETE, OPTIONS"
        )
    upload = await find_upload(request, pk)
    if request.method == "DELETE":  # who still writes it writes into a file without a name
        try:
            await sync_to_async(intake.remove)(upload)
        except OSError as error:
            raise storage_error(error) from None
        return answer(204)
    if request.method == "HEAD" and not intake.is_finished(upload):
        await wait_for_writer(upload)  # of a line that was lost a moment ago: it still brings some
    offset = await offset_of(upload)
    if request.method == "PATCH":
        try:
            offset = await take_part(request, upload, offset)
        except UploadError as error:
            error.headers |= expiry(upload)
            raise
    whole: dict[str, str] = await job_headers(upload) if offset == upload.length else {}
    whole |= expiry(upload, whole)
    if request.method == "PATCH":
        return answer(204, Upload_Offset=offset, **whole)
    if upload.metadata:
        whole["Upload_Metadata"] = upload.metadata
    return answer(200, Upload_Offset=offset, Upload_Length=upload.length, **whole)


@accepts_token("submit")
@tus
async def run_again(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """POST creates a job from an upload whose bytes have been a job before."""
    if request.method != "POST":
        raise UploadError(405, "Method not allowed: use POST.", Allow="POST")
    upload = await find_upload(request, pk)
    if await offset_of(upload) != upload.length:
        raise UploadError(409, "This upload isn’t complete yet.")
    return answer(201, **await job_headers(upload, again=True))


@accepts_token("submit")
@tus
async def known(request: HttpRequest) -> HttpResponse:
    """POST asks whether a file is here before it is sent: first by its size, then by its digest.

    What this person has uploaded becomes a job without being sent; `again`: though the same pipeline has had
    it. A 204 that names no job says that the bytes are to be sent, one with Mediapipe-Size-Known that their
    digest may spare it.
    """
    if request.method != "POST":
        raise UploadError(405, "Method not allowed: use POST.", Allow="POST")
    asked = request.GET
    size = asked.get("size", "")
    if not re.fullmatch(r"[0-9]{1,15}", size) or not re.fullmatch(
        r"([0-9a-f]{64})?", asked.get("sha256", "")
    ):
        raise UploadError(400, "Give a file’s size in bytes, and its SHA-256 in hexadecimal.")
    file = File(display_name(asked.get("filename", "")), int(size), asked.get("sha256", ""))
    user = cast(User, await request.auser())  # signed in, as tus() has made sure
    if not file.sha256:
        here = await sync_to_async(becoming.may_be_here)(user, file.size)
        return answer(204, **({"Mediapipe_Size_Known": "1"} if here else {}))
    pipeline = asked.get("pipeline", "").replace("\0", "")[:40]
    return answer(204, **await job_of_known_headers(user, file, pipeline, again="again" in asked))
