"""Uploads: a tus 1.0 server (core, creation, creation-with-upload, checksum, expiration, termination).

Bytes go to a part file whose size is the upload's offset, so nothing can get out of step with it; a whole
file is synced, checked, moved to its place and becomes exactly one job. These views translate between HTTP
and jobs.uploads.intake; the protocol's own rules are in jobs.uploads.tus.
https://tus.io/protocols/resumable-upload
"""

from __future__ import annotations

import asyncio
import errno
import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

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
from jobs.uploads import becoming, intake
from jobs.uploads.arrived import GONE, job_headers, job_of_known_headers
from jobs.uploads.becoming import File
from jobs.uploads.errors import UploadError
from jobs.uploads.intake import PartFile
from jobs.uploads.tus import (
    answer,
    check_body,
    has_bytes,
    integer_header,
    parse_checksum,
    parse_metadata,
    tus,
)
from mediapipe import disk
from mediapipe.metrics import UPLOADED
from mediapipe.threads import run_to_completion
from mediapipe.web.request_body import Disconnected, chunks

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

MAX_UNFINISHED = 200  # uploads of one person; their bytes in all are limited as one file's are
FINISH = "Finish or remove some before adding more."
TOO_LONG = "More bytes came than Upload-Length promised."
DISK_FULL = "The server is out of disk space. The upload will continue when there’s room."
NOT_SAVED = "The server couldn’t save this part. The upload will continue where it stopped."


async def append(request: HttpRequest, upload: Upload) -> int:
    """Writes the body behind what has arrived; the new offset. Raises UploadError, Disconnected.

    A body that breaks off stays as far as it came, unless a checksum was to say that it is right.
    """
    digest, expected = parse_checksum(request)
    with PartFile.open(upload) as part:
        check_body(request, part.offset, upload.length)
        try:
            await write_body(request, part, digest)
        except (Disconnected, OSError, asyncio.CancelledError) as error:
            if digest:
                part.truncate()
            if isinstance(error, OSError):
                full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                raise UploadError(507, DISK_FULL if full else NOT_SAVED) from None
            raise
        if digest and digest.digest() != expected:
            part.truncate()
            raise UploadError(460, "The checksum doesn’t match; the part was dropped and can be sent again.")
        if part.is_whole:
            await run_to_completion(part.sync)
    return part.offset


async def write_body(request: HttpRequest, part: PartFile, digest: Hash | None) -> None:
    """Writes what comes to *part* and feeds it to *digest*. Raises UploadError, Disconnected, OSError."""
    async for blocks in chunks(request):
        if part.offset + sum(map(len, blocks)) > part.length:
            part.truncate()
            raise UploadError(413, TOO_LONG)
        if not disk.has_media_space():
            raise OSError(errno.ENOSPC, "the reserve is reached")
        await run_to_completion(part.write, blocks, digest)
        UPLOADED.inc(sum(map(len, blocks)))


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
            percent=intake.offset_of(upload) * 100 // upload.length,
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
    intake.check_length(upload.length + sum(each.length - intake.offset_of(each) for each in begun))
    upload.save(force_insert=True)


@accepts_token("submit")
@tus
async def collection(request: HttpRequest) -> HttpResponse:
    """POST creates an upload (creation, creation-with-upload)."""
    if request.method != "POST":
        raise UploadError(405, "Method not allowed: use POST.", Allow="POST, OPTIONS")
    length = integer_header(request, "Upload-Length")
    intake.check_length(length)
    raw = request.headers.get("Upload-Metadata", "")
    fields = parse_metadata(raw)
    has_body = has_bytes(request)
    user = await request.auser()
    upload = Upload(
        owner_id=int(user.pk or 0),
        length=length,
        metadata=raw,
        pipeline=fields.get("pipeline", "").replace("\0", "")[:40],
        filename=intake.display_name(fields.get("filename", fields.get("name", ""))),
        expires_at=timezone.now() + intake.UPLOAD_LIFETIME,
    )
    await sync_to_async(announce)(upload)
    offset = 0
    extra: dict[str, str] = {}
    if has_body:
        try:
            offset = await append(request, upload)
        except (UploadError, Disconnected):  # the client has not learned where it is
            await sync_to_async(intake.remove)(upload)
            raise
        extra = await job_headers(upload) if offset == length else {}
    return answer(
        201,
        Location=reverse("jobs:upload", args=[upload.pk]),
        Upload_Offset=offset,
        Upload_Expires=http_date(upload.expires_at.timestamp()),
        **extra,
    )


async def find_upload(request: HttpRequest, pk: uuid.UUID) -> Upload:
    """The signed-in person's upload. Raises UploadError: 404 for anybody else's, 410 when expired."""
    user = await request.auser()
    upload = await Upload.objects.select_related("owner").filter(pk=pk, owner_id=user.pk).afirst()
    if upload is None:
        raise UploadError(404, GONE)
    if upload.job_id is None and upload.expires_at < timezone.now():
        raise UploadError(410, "This upload has expired. Start it again.")
    return upload


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
        await sync_to_async(intake.remove)(upload)
        return answer(204)
    offset = intake.offset_of(upload)
    if request.method == "PATCH":
        has_bytes(request)
        if offset == upload.length:
            check_body(request, offset, upload.length)
        else:
            # anew: a slow link may take longer than that in all
            upload.expires_at = timezone.now() + intake.UPLOAD_LIFETIME
            await Upload.objects.filter(pk=pk).aupdate(expires_at=upload.expires_at)
            offset = await append(request, upload)
    whole: dict[str, str] = await job_headers(upload) if offset == upload.length else {}
    whole["Upload_Expires"] = http_date(upload.expires_at.timestamp())
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
    if intake.offset_of(upload) != upload.length:
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
    file = File(intake.display_name(asked.get("filename", "")), int(size), asked.get("sha256", ""))
    user = cast(User, await request.auser())  # signed in, as tus() has made sure
    if not file.sha256:
        here = await sync_to_async(becoming.may_be_here)(user, file.size)
        return answer(204, **({"Mediapipe_Size_Known": "1"} if here else {}))
    pipeline = asked.get("pipeline", "").replace("\0", "")[:40]
    return answer(204, **await job_of_known_headers(user, file, pipeline, again="again" in asked))
