"""Uploads: a tus 1.0 server (core, creation, creation-with-upload, checksum, expiration, termination).

Bytes go to a part file whose size is the upload's offset, so nothing can get out of step with it; a
whole file is synced, moved to its place and becomes exactly one job. https://tus.io/protocols/resumable-upload
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import uuid
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.http import http_date

from jobs import incoming, temporal
from jobs.incoming import (
    LIFE,
    Refused,
    check_length,
    finish,
    offset_of,
    plain_name,
    put,
    remove,
    writing,
)
from jobs.models import Upload
from mediapipe.rawbody import OFFSET_STREAM, Disconnected, chunks, see_through

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,expiration,checksum,termination"
ALGORITHMS = {"sha1": hashlib.sha1, "sha256": hashlib.sha256, "md5": hashlib.md5}
UNFINISHED = 200  # uploads a person may have under way


def answer(status: int, text: str = "", **headers: object) -> HttpResponse:
    """A tus reply; header names with _ for -."""
    response = HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")
    if not text:
        del response["Content-Type"]
    response["Tus-Resumable"] = VERSION
    response["Cache-Control"] = "no-store"
    for name, value in headers.items():
        response[name.replace("_", "-")] = str(value)
    return response


def number(request: HttpRequest, name: str) -> int:
    """A header that must be a non-negative integer."""
    raw = request.headers.get(name, "")
    if not (raw.isascii() and raw.isdecimal() and len(raw) < 19):
        raise Refused(400, f"{name} must be a non-negative integer.")
    return int(raw)


def metadata(raw: str) -> dict[str, str]:
    """Upload-Metadata: comma separated keys, each with a base64 value."""
    found: dict[str, str] = {}
    if len(raw) > 8192:
        raise Refused(400, "Upload-Metadata is too long.")
    for pair in filter(None, (part.strip() for part in raw.split(","))):
        key, _, value = pair.partition(" ")
        try:
            found[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise Refused(400, "Upload-Metadata is not base64 of UTF-8.") from None
    return found


def checksum(request: HttpRequest) -> tuple[Any, bytes]:
    """The digest to fill and the value to meet; (None, b"") where none is asked for."""
    raw = request.headers.get("Upload-Checksum")
    if raw is None:
        return None, b""
    name, _, value = raw.partition(" ")
    if name not in ALGORITHMS:
        raise Refused(400, f"Unknown checksum algorithm. Known: {', '.join(ALGORITHMS)}.")
    try:
        return ALGORITHMS[name](), base64.b64decode(value, validate=True)
    except binascii.Error:
        raise Refused(400, "Upload-Checksum is not base64.") from None


async def append(request: HttpRequest, upload: Upload) -> int:
    """Writes the body behind what has arrived; the new offset. Raises Refused, Disconnected."""
    digest, wanted = checksum(request)
    with writing(upload) as fd:
        start = offset = os.fstat(fd).st_size
        if request.method == "PATCH" and number(request, "Upload-Offset") != start:
            raise Refused(409, "Upload-Offset does not match what has arrived.", Upload_Offset=start)
        seen, running = incoming.digests.pop(upload.pk, (0, hashlib.sha256()))
        digests = [each for each in (digest, running if seen == start else None) if each is not None]
        try:
            async for parts in chunks(request):
                if offset + sum(map(len, parts)) > upload.length:
                    raise Refused(413, "More bytes came than Upload-Length promised.")
                offset = await see_through(put, fd, parts, offset, digests)
        except (Refused, Disconnected, OSError) as error:
            if isinstance(error, Refused) or digest:
                os.ftruncate(fd, start)
                offset = start
            if isinstance(error, OSError):
                raise Refused(
                    507, "The server's disk is full. The upload goes on once there is room."
                ) from None
            raise
        finally:
            if seen == start and offset == os.fstat(fd).st_size and offset > start:
                incoming.digests[upload.pk] = (offset, running)
        if digest and digest.digest() != wanted:
            os.ftruncate(fd, start)
            incoming.digests.pop(upload.pk, None)
            raise Refused(460, "The checksum does not match; the part was dropped and can be sent again.")
        if offset == upload.length:
            await see_through(os.fsync, fd)
    return offset


async def finished(upload: Upload, *, again: bool = False) -> dict[str, str]:
    """Makes the job, starts it, and tells the browser where it is."""
    try:
        job, older = await sync_to_async(finish, thread_sensitive=False)(upload, again=again)
    except OSError:
        raise Refused(
            503, "The storage cannot be reached. The upload is whole and goes on by itself."
        ) from None
    if older:
        return {"Mediapipe_Duplicate": job.get_absolute_url()}
    if job.workflow_started_at is None:
        await temporal.start(job)
    return {"Mediapipe_Job": job.get_absolute_url()}


View = Callable[..., Coroutine[Any, Any, HttpResponse]]


def tus(view: View) -> View:
    """The protocol's frame: version, method override, who may, and refusals as plain sentences."""

    @login_not_required  # a redirect to the login page would be no answer to a tus client
    @wraps(view)
    async def wrapped(request: HttpRequest, **parts: Any) -> HttpResponse:
        if request.method == "POST" and (method := request.headers.get("X-HTTP-Method-Override")):
            request.method = method.upper()
        if request.method == "OPTIONS":
            maximum = settings.MAX_UPLOAD_BYTES
            known = ",".join(ALGORITHMS)
            return answer(
                204,
                Tus_Version=VERSION,
                Tus_Extension=EXTENSIONS,
                Tus_Max_Size=maximum,
                Tus_Checksum_Algorithm=known,
            )
        try:
            if request.headers.get("Tus-Resumable") != VERSION:
                raise Refused(412, "This server speaks tus 1.0.0.", Tus_Version=VERSION)
            if not (await request.auser()).is_authenticated:
                raise Refused(401, "You are signed out. Sign in again; the upload goes on where it stopped.")
            return await view(request, **parts)
        except Refused as refused:
            return answer(refused.status, refused.text, **refused.headers)
        except Disconnected:
            return answer(400, "The connection was lost; the upload goes on where it stopped.")

    return wrapped


@tus
async def collection(request: HttpRequest) -> HttpResponse:
    """POST makes an upload (creation, creation-with-upload)."""
    if request.method != "POST":
        raise Refused(405, "Only POST is known here.", Allow="POST, OPTIONS")
    length = number(request, "Upload-Length")
    check_length(length)
    raw = request.headers.get("Upload-Metadata", "")
    about = metadata(raw)
    user = await request.auser()
    if await Upload.objects.filter(owner_id=user.pk, job=None).acount() >= UNFINISHED:
        raise Refused(429, f"You have {UNFINISHED} unfinished uploads. Finish or remove some first.")
    upload = await Upload.objects.acreate(
        owner_id=int(user.pk or 0),
        length=length,
        metadata=raw,
        pipeline=about.get("pipeline", "")[:40],
        filename=plain_name(about.get("filename", about.get("name", ""))),
        expires_at=timezone.now() + LIFE,
    )
    offset, extra = 0, dict[str, str]()
    if request.headers.get("Content-Type") == OFFSET_STREAM:
        offset = await append(request, upload)
        extra = await finished(upload) if offset == length else {}
    return answer(
        201,
        Location=reverse("jobs:upload", args=[upload.pk]),
        Upload_Offset=offset,
        Upload_Expires=http_date(upload.expires_at.timestamp()),
        **extra,
    )


async def find(request: HttpRequest, pk: uuid.UUID) -> Upload:
    """The signed-in person's upload. Raises Refused: 404 for anybody else's, 410 when expired."""
    user = await request.auser()
    upload = await Upload.objects.select_related("owner").filter(pk=pk, owner_id=user.pk).afirst()
    if upload is None:
        raise Refused(404, "There is no such upload; start it again.")
    if upload.job_id is None and upload.expires_at < timezone.now():
        raise Refused(410, "This upload has expired; start it again.")
    return upload


@tus
async def resource(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """HEAD tells the offset, PATCH appends, DELETE gives up."""
    if request.method not in ("HEAD", "PATCH", "DELETE"):
        raise Refused(
            405, "Only HEAD, PATCH and DELETE are known here.", Allow="HEAD, PATCH, DELETE, OPTIONS"
        )
    if request.method == "PATCH" and request.headers.get("Content-Type") != OFFSET_STREAM:
        raise Refused(415, f"The content type must be {OFFSET_STREAM}.")
    upload = await find(request, pk)
    expires = http_date(upload.expires_at.timestamp())
    if request.method == "DELETE":
        if upload.job_id is None:
            with writing(upload):
                await sync_to_async(remove)(upload)
        return answer(204)
    offset = offset_of(upload)
    if request.method == "PATCH" and offset < upload.length:
        offset = await append(request, upload)
    whole: dict[str, str] = await finished(upload) if offset == upload.length else {}
    if request.method == "PATCH":
        return answer(204, Upload_Offset=offset, Upload_Expires=expires, **whole)
    about = {"Upload_Metadata": upload.metadata} if upload.metadata else {}
    return answer(
        200, Upload_Offset=offset, Upload_Length=upload.length, Upload_Expires=expires, **about, **whole
    )


@tus
async def run_again(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """POST makes a job of an upload whose bytes have been a job before."""
    if request.method != "POST":
        raise Refused(405, "Only POST is known here.", Allow="POST")
    upload = await find(request, pk)
    if offset_of(upload) != upload.length:
        raise Refused(409, "This upload is not whole yet.")
    return answer(201, **await finished(upload, again=True))
