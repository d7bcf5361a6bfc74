"""Uploads: a tus 1.0 server (core, creation, creation-with-upload, checksum, expiration, termination).

Bytes go to a part file whose size is the upload's offset, so nothing can get out of step with it; a
whole file is synced, looked at, moved to its place and becomes exactly one job. The protocol's own rules
are in jobs.tus. https://tus.io/protocols/resumable-upload
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import uuid
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.http import http_date

from jobs import control
from jobs.models import Upload
from jobs.pipelines import PIPELINES
from jobs.uploads import intake
from jobs.uploads.intake import (
    LIFE,
    UploadError,
    check_length,
    finish,
    offset_of,
    plain_name,
    remove,
    what_is_wrong,
    write_at,
    writing,
)
from jobs.uploads.tus import answer, check_body, checksum, has_bytes, metadata, number, tus
from mediapipe import disk
from mediapipe.threads import run_to_completion
from mediapipe.web.request_body import Disconnected, chunks

UNFINISHED = 200  # uploads a person may have under way
FULL = "The server's disk is full. The upload goes on once there is room."
UNSTORED = "The server could not store this part. The upload goes on where it stopped."


async def append(request: HttpRequest, upload: Upload) -> int:
    """Writes the body behind what has arrived; the new offset. Raises UploadError, Disconnected."""
    digest, wanted = checksum(request)
    with writing(upload) as fd:
        start = os.fstat(fd).st_size
        check_body(request, start, upload.length)
        offset = await receive(request, upload, fd, digest)
        if digest and digest.digest() != wanted:
            os.ftruncate(fd, start)
            intake.digests.pop(upload.pk, None)
            raise UploadError(460, "The checksum does not match; the part was dropped and can be sent again.")
        if offset == upload.length:
            await run_to_completion(os.fsync, fd)
    return offset


async def receive(request: HttpRequest, upload: Upload, fd: int, digest: Any) -> int:
    """Writes what comes to *fd* and into the digests; the new offset.

    A part that breaks off stays as far as it came, unless a checksum was to say that it is right.
    """
    start = offset = os.fstat(fd).st_size
    seen, running = intake.digests.pop(upload.pk, (0, hashlib.sha256()))
    digests = [each for each in (digest, running if seen == start else None) if each is not None]
    try:
        async for parts in chunks(request):
            if offset + sum(map(len, parts)) > upload.length:
                raise UploadError(413, "More bytes came than Upload-Length promised.")
            if not disk.has_media_space():
                raise OSError(errno.ENOSPC, "the reserve is reached")
            offset = await run_to_completion(write_at, fd, parts, offset, digests)
    except (UploadError, Disconnected, OSError) as error:
        if isinstance(error, UploadError) or digest:
            os.ftruncate(fd, start)
            offset = start
        if isinstance(error, OSError):
            raise UploadError(
                507, FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else UNSTORED
            ) from None
        raise
    finally:
        written = os.fstat(fd)  # without a name it was removed meanwhile: nobody goes on with it
        if seen == start and offset == written.st_size and offset > start and written.st_nlink:
            intake.digests[upload.pk] = (offset, running)
    return offset


async def settled(upload: Upload) -> None:
    """Waits until nobody writes the part file any more: its last part may yet fail its checksum."""
    for _ in range(40):
        try:
            with writing(upload, create=False):
                return
        except FileNotFoundError:
            return
        except UploadError:
            await asyncio.sleep(0.05)
    raise UploadError(423, "Another request is writing this upload; try again in a moment.")


async def finished(upload: Upload, *, again: bool = False) -> dict[str, str]:
    """Makes the job, starts it, and tells the browser where it is. Raises UploadError."""
    if not (upload.job_id or upload.sha256):
        await settled(upload)
        if sentence := await what_is_wrong(intake.part_path(upload)):
            await sync_to_async(remove)(upload)
            raise UploadError(422, sentence)
    try:
        job, older = await sync_to_async(finish, thread_sensitive=False)(upload, again=again)
    except Upload.DoesNotExist:
        raise UploadError(404, "There is no such upload; start it again.") from None
    except OSError:
        raise UploadError(
            503, "The storage cannot be reached. The upload is whole and goes on by itself."
        ) from None
    if older:
        return {"Mediapipe_Duplicate": job.get_absolute_url()}
    if job.workflow_started_at is None:
        await control.start(job)
    return {"Mediapipe_Job": job.get_absolute_url()}


@tus
async def collection(request: HttpRequest) -> HttpResponse:
    """POST makes an upload (creation, creation-with-upload)."""
    if request.method != "POST":
        raise UploadError(405, "Only POST is known here.", Allow="POST, OPTIONS")
    length = number(request, "Upload-Length")
    check_length(length)
    raw = request.headers.get("Upload-Metadata", "")
    about, carries = metadata(raw), has_bytes(request)
    user = await request.auser()
    if await Upload.objects.filter(owner_id=user.pk, job=None).acount() >= UNFINISHED:
        raise UploadError(429, f"You have {UNFINISHED} unfinished uploads. Finish or remove some first.")
    upload = await Upload.objects.acreate(
        owner_id=int(user.pk or 0),
        length=length,
        metadata=raw,
        pipeline=about["pipeline"] if about.get("pipeline") in PIPELINES else "",
        filename=plain_name(about.get("filename", about.get("name", ""))),
        expires_at=timezone.now() + LIFE,
    )
    offset, extra = 0, dict[str, str]()
    if carries:
        try:
            offset = await append(request, upload)
        except (UploadError, Disconnected):  # the client has not learned where it is
            await sync_to_async(remove)(upload)
            raise
        extra = await finished(upload) if offset == length else {}
    return answer(
        201,
        Location=reverse("jobs:upload", args=[upload.pk]),
        Upload_Offset=offset,
        Upload_Expires=http_date(upload.expires_at.timestamp()),
        **extra,
    )


async def find(request: HttpRequest, pk: uuid.UUID) -> Upload:
    """The signed-in person's upload. Raises UploadError: 404 for anybody else's, 410 when expired."""
    user = await request.auser()
    upload = await Upload.objects.select_related("owner").filter(pk=pk, owner_id=user.pk).afirst()
    if upload is None:
        raise UploadError(404, "There is no such upload; start it again.")
    if upload.job_id is None and upload.expires_at < timezone.now():
        raise UploadError(410, "This upload has expired; start it again.")
    return upload


@tus
async def resource(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """HEAD tells the offset, PATCH appends, DELETE gives up."""
    if request.method not in ("HEAD", "PATCH", "DELETE"):
        raise UploadError(
            405, "Only HEAD, PATCH and DELETE are known here.", Allow="HEAD, PATCH, DELETE, OPTIONS"
        )
    upload = await find(request, pk)
    if request.method == "DELETE":  # whoever writes it: the rest goes into a file without a name
        await sync_to_async(remove)(upload)
        return answer(204)
    offset = offset_of(upload)
    if request.method == "PATCH":
        has_bytes(request)
        if offset == upload.length:
            check_body(request, offset, upload.length)
        else:
            upload.expires_at = timezone.now() + LIFE  # a slow link may take longer than that in all
            await Upload.objects.filter(pk=pk).aupdate(expires_at=upload.expires_at)
            offset = await append(request, upload)
    whole: dict[str, str] = await finished(upload) if offset == upload.length else {}
    whole["Upload_Expires"] = http_date(upload.expires_at.timestamp())
    if request.method == "PATCH":
        return answer(204, Upload_Offset=offset, **whole)
    if upload.metadata:
        whole["Upload_Metadata"] = upload.metadata
    return answer(200, Upload_Offset=offset, Upload_Length=upload.length, **whole)


@tus
async def run_again(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """POST makes a job of an upload whose bytes have been a job before."""
    if request.method != "POST":
        raise UploadError(405, "Only POST is known here.", Allow="POST")
    upload = await find(request, pk)
    if offset_of(upload) != upload.length:
        raise UploadError(409, "This upload is not whole yet.")
    return answer(201, **await finished(upload, again=True))
