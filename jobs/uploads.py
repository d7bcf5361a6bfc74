"""Uploads: a tus 1.0 server (core, creation, creation-with-upload, checksum, expiration, termination).

Bytes go to a part file whose size is the upload's offset, so nothing can get out of step with it; a
whole file is synced, moved to its place and becomes exactly one job. https://tus.io/protocols/resumable-upload
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.models import AbstractBaseUser
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.http import http_date

from jobs import pipelines, temporal
from jobs.models import Job, Upload
from jobs.pipelines import JobState, Source
from mediapipe import files
from mediapipe.rawbody import OFFSET_STREAM, Disconnected, chunks, see_through

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,expiration,checksum,termination"
ALGORITHMS = {"sha1": hashlib.sha1, "sha256": hashlib.sha256, "md5": hashlib.md5}
LIFE = timedelta(days=2)
UNFINISHED = 200  # uploads a person may have under way
RESERVE = 512 * 1024 * 1024  # bytes that uploads leave free on the disk

# sha256 of the bytes seen so far, while this process has seen every one of them.
_digests: dict[uuid.UUID, tuple[int, Any]] = {}


class Refused(Exception):
    """An upload request that cannot be granted: HTTP status, sentence, headers."""

    def __init__(self, status: int, text: str = "", **headers: object) -> None:
        super().__init__(text)
        self.status, self.text, self.headers = status, text, headers


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


def plain_name(text: str) -> str:
    """A file's name as people may see it: no path, no control characters."""
    name = "".join(sign for sign in text.replace("\\", "/").rsplit("/", 1)[-1] if sign.isprintable()).strip()
    return name[-200:] or "upload"


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


def part_path(upload: Upload) -> Path:
    """Where the bytes arrive: on the media's own disk, so that a rename finishes them."""
    return Path(settings.MEDIA_ROOT) / "incoming" / upload.pk.hex


def offset_of(upload: Upload) -> int:
    """How many bytes have arrived."""
    if upload.job_id or upload.sha256:
        return upload.length
    with suppress(FileNotFoundError):
        return part_path(upload).stat().st_size
    return 0


@contextmanager
def writing(upload: Upload) -> Iterator[int]:
    """The part file's descriptor, for one writer at a time. Raises Refused (423)."""
    path = part_path(upload)
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(423, "Another request is writing this upload; try again in a moment.") from None
        yield fd
    finally:
        os.close(fd)


def put(fd: int, parts: list[bytes], offset: int, digests: list[Any]) -> int:
    """Writes *parts* at *offset*; the new offset."""
    for part in parts:
        for digest in digests:
            digest.update(part)
        view = memoryview(part)
        while view:
            written = os.pwrite(fd, view, offset)
            view, offset = view[written:], offset + written
    return offset


async def append(request: HttpRequest, upload: Upload) -> int:
    """Writes the body behind what has arrived; the new offset. Raises Refused, Disconnected."""
    digest, wanted = checksum(request)
    with writing(upload) as fd:
        start = offset = os.fstat(fd).st_size
        if request.method == "PATCH" and number(request, "Upload-Offset") != start:
            raise Refused(409, "Upload-Offset does not match what has arrived.", Upload_Offset=start)
        seen, running = _digests.pop(upload.pk, (0, hashlib.sha256()))
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
                _digests[upload.pk] = (offset, running)
        if digest and digest.digest() != wanted:
            os.ftruncate(fd, start)
            _digests.pop(upload.pk, None)
            raise Refused(460, "The checksum does not match; the part was dropped and can be sent again.")
        if offset == upload.length:
            await see_through(os.fsync, fd)
    return offset


def room_for(length: int) -> bool:
    """Whether the disk takes *length* more bytes and keeps its reserve."""
    root = Path(settings.MEDIA_ROOT)
    root.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(root).free - RESERVE > length


def check_length(length: int) -> None:
    """Raises Refused for a file that is empty, too large, or has no room."""
    if length == 0:
        raise Refused(400, "This file is empty (0 bytes). Choose a file with something in it.")
    if length > settings.MAX_UPLOAD_BYTES:
        limit = settings.MAX_UPLOAD_BYTES / (1 << 30)
        raise Refused(413, f"This file is too large: at most {limit:g} GB are accepted. Compress it first.")
    if not room_for(length):
        raise Refused(507, "There is not enough free space for this file. Ask an admin to make room.")


def source_name(key: object, filename: str) -> str:
    """Our neutral name for a source; the extension only where it is one we know."""
    suffix = Path(filename).suffix.lower().removeprefix(".")
    known = suffix in ("mp4", "m4v", "mov", "webm", "mkv", "mp3", "m4a", "wav", "flac", "ogg", "opus", "aac")
    return f"sources/{key}/source.{suffix if known else 'bin'}"


def digest_of(path: Path) -> str:
    """sha256 of a whole file, by reading it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@transaction.atomic
def finish(upload: Upload, *, again: bool = False) -> tuple[Job, bool]:
    """The job of a whole upload, and whether it is an older one of the same bytes.

    One job per upload, however often it is called; *again* runs the same bytes once more.
    """
    upload = Upload.objects.select_for_update().get(pk=upload.pk)
    if upload.job is not None:
        return upload.job, False
    name = source_name(upload.pk, upload.filename)
    target, part = files.path(name), part_path(upload)
    if not upload.sha256:
        seen, digest = _digests.pop(upload.pk, (0, None))
        upload.sha256 = digest.hexdigest() if digest and seen == upload.length else digest_of(part)
        upload.save(update_fields=["sha256"])
    if part.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(part, target)
    older = (
        Job.objects.filter(owner=upload.owner, source_sha256=upload.sha256)
        .exclude(state__in=(JobState.CANCELLED, JobState.FAILED))
        .first()
    )
    if older and not again:
        return older, True
    about = metadata(upload.metadata)
    pipeline = about.get("pipeline", "")
    job = Job.submit(
        upload.owner,
        title=upload.filename,
        pipeline=pipeline if pipeline in pipelines.PIPELINES else pipelines.DEFAULT,
        source=Source(name=name, filename=upload.filename, size=upload.length),
    )
    Job.objects.filter(pk=job.pk).update(source_sha256=upload.sha256)
    upload.job = job
    upload.save(update_fields=["job"])
    return job, False


async def finished(upload: Upload, *, again: bool = False) -> dict[str, str]:
    """Makes the job, starts it, and tells the browser where it is."""
    job, older = await sync_to_async(finish)(upload, again=again)
    if older:
        return {"Mediapipe_Duplicate": job.get_absolute_url()}
    if job.workflow_started_at is None:
        await temporal.start(job)
    return {"Mediapipe_Job": job.get_absolute_url()}


def keep(file: UploadedFile[Any], owner: AbstractBaseUser) -> Source:
    """The plain form's file as a source. Raises Refused for one that cannot be taken."""
    check_length(file.size or 0)
    filename = plain_name(file.name or "")
    name = source_name(uuid.uuid4(), filename)
    target = files.path(name)
    target.parent.mkdir(parents=True)
    temporary: Callable[[], str] | None = getattr(file, "temporary_file_path", None)
    if temporary:
        shutil.move(temporary(), target)
        os.chmod(target, 0o640)
    else:
        with open(target, "wb") as out:
            for block in file.chunks():
                out.write(block)
    return Source(name=name, filename=filename, size=file.size)


def sweep() -> int:
    """Removes expired uploads that became no job, and part files nobody knows; how many."""
    removed = 0
    for upload in Upload.objects.filter(job=None, expires_at__lt=timezone.now()):
        _remove(upload)
        removed += 1
    incoming = Path(settings.MEDIA_ROOT) / "incoming"
    known = {pk.hex for pk in Upload.objects.filter(job=None).values_list("pk", flat=True)}
    old = time.time() - LIFE.total_seconds()
    for path in incoming.iterdir() if incoming.is_dir() else ():
        if path.name not in known and path.stat().st_mtime < old:
            path.unlink(missing_ok=True)
            removed += 1
    return removed


def _remove(upload: Upload) -> None:
    part_path(upload).unlink(missing_ok=True)
    if upload.job_id is None:
        shutil.rmtree(files.path(source_name(upload.pk, upload.filename)).parent, ignore_errors=True)
    _digests.pop(upload.pk, None)
    upload.delete()


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
                await sync_to_async(_remove)(upload)
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
