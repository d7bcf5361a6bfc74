"""Bytes on their way in: part files, one writer each, and the one job that a whole file becomes.

It knows files and rows, and nothing of HTTP but the status that a refusal is answered with.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import logging
import os
import shutil
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.urls import reverse
from django.utils import timezone
from django.utils.module_loading import import_string

from jobs import pipelines
from jobs.models import Job, Upload
from jobs.state import JobState, Source
from mediapipe import disk, storage

LIFE = timedelta(days=2)
CHOICE = timedelta(hours=1)  # for which the same bytes as before are kept, should they be wanted twice
KNOWN = ("mp4", "m4v", "mov", "webm", "mkv", "mp3", "m4a", "wav", "flac", "ogg", "opus", "aac")
log = logging.getLogger(__name__)

# sha256 of the bytes seen so far, while this process has seen every one of them.
digests: dict[uuid.UUID, tuple[int, Any]] = {}


class UploadError(Exception):
    """An upload request that cannot be granted: HTTP status, sentence, headers."""

    def __init__(self, status: int, text: str = "", **headers: object) -> None:
        super().__init__(text)
        self.status, self.text, self.headers = status, text, headers


def plain_name(text: str) -> str:
    """A file's name as people may see it: no path, no control characters."""
    name = "".join(sign for sign in text.replace("\\", "/").rsplit("/", 1)[-1] if sign.isprintable()).strip()
    return name[-200:] or "upload"


def part_path(upload: Upload) -> Path:
    """Where the bytes arrive: on the media's own disk, so that a rename finishes them."""
    return Path(settings.MEDIA_ROOT) / "incoming" / f"{upload.pk.hex}{suffix(upload.filename)}"


def offset_of(upload: Upload) -> int:
    """How many bytes have arrived."""
    if upload.job_id or upload.sha256:
        return upload.length
    with suppress(FileNotFoundError):
        return part_path(upload).stat().st_size
    return 0


@contextmanager
def writing(upload: Upload, *, create: bool = True) -> Iterator[int]:
    """The part file's descriptor, for one writer at a time. Raises UploadError (423), FileNotFoundError."""
    path = part_path(upload)
    path.parent.mkdir(parents=True, exist_ok=True)
    made = os.O_CREAT if create else 0
    fd = os.open(path, os.O_RDWR | made | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UploadError(423, "Another request is writing this upload; try again in a moment.") from None
        yield fd
    finally:
        os.close(fd)


def write_at(fd: int, parts: list[bytes], offset: int, digests: list[Any]) -> int:
    """Writes *parts* at *offset*; the new offset."""
    for part in parts:
        for digest in digests:
            digest.update(part)
        view = memoryview(part)
        while view:
            written = os.pwrite(fd, view, offset)
            view, offset = view[written:], offset + written
    return offset


def check_length(length: int) -> None:
    """Raises UploadError for a file that is empty, too large, or has no room."""
    if length == 0:
        raise UploadError(400, "This file is empty (0 bytes). Choose a file with something in it.")
    if length > settings.MAX_UPLOAD_BYTES:
        limit = settings.MAX_UPLOAD_BYTES / (1 << 30)
        raise UploadError(
            413, f"This file is too large: at most {limit:g} GB are accepted. Compress it first."
        )
    if not disk.has_media_space(length):
        raise UploadError(507, "There is not enough free space for this file. Ask an admin to make room.")


def suffix(filename: str) -> str:
    """The extension, where it is one we know; readers of media go by it where the bytes leave a doubt."""
    found = Path(filename).suffix.lower()
    return found if found.removeprefix(".") in KNOWN else ".bin"


def source_name(key: object, filename: str) -> str:
    """Our neutral name for a source."""
    return f"sources/{key}/source{suffix(filename)}"


async def what_is_wrong(part: Path) -> str:
    """Why a file that has arrived is certainly no media; "" where it may be, or where nobody can tell."""
    check: Callable[[Path], Awaitable[str]] = import_string(settings.SOURCE_CHECK)
    try:
        return await check(part)
    except Exception:  # it says nothing about the file, and must not cost anybody an upload
        log.exception("a file could not be checked and was taken")
        return ""


def digest_of(path: Path) -> str:
    """sha256 of a whole file, by reading it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def finish(upload: Upload, *, again: bool = False) -> tuple[Job, bool]:
    """The job of a whole upload, and whether it is an older one of the same bytes.

    One job per upload, however often it is called; *again* runs the same bytes once more.
    """
    name, part = source_name(upload.pk, upload.filename), part_path(upload)
    with suppress(FileNotFoundError):  # another request was faster
        if not upload.sha256:
            seen, digest = digests.pop(upload.pk, (0, None))
            sha256 = digest.hexdigest() if digest and seen == upload.length else digest_of(part)
            Upload.objects.filter(pk=upload.pk).update(sha256=sha256)
        storage.publish(part, name)
    return _one_job(upload, name, again)


@transaction.atomic
def _one_job(upload: Upload, name: str, again: bool) -> tuple[Job, bool]:
    upload = Upload.objects.select_for_update().get(pk=upload.pk)
    if upload.job is not None:
        return upload.job, False
    older = (
        Job.objects.filter(owner=upload.owner, source_sha256=upload.sha256)
        .exclude(state__in=(JobState.CANCELLED, JobState.FAILED))
        .first()
    )
    if older and not again:
        Upload.objects.filter(pk=upload.pk).update(expires_at=timezone.now() + CHOICE)
        return older, True
    job = Job.submit(
        upload.owner,
        title=upload.filename,
        pipeline=upload.pipeline if upload.pipeline in pipelines.PIPELINES else pipelines.DEFAULT,
        source=Source(name=name, filename=upload.filename, size=upload.length),
    )
    Job.objects.filter(pk=job.pk).update(source_sha256=upload.sha256)
    upload.job = job
    upload.save(update_fields=["job"])
    return job, False


def store_form_file(file: UploadedFile[Any]) -> Source:
    """The plain form's file as a source. Raises UploadError for one that cannot be taken."""
    check_length(file.size or 0)
    folder = Path(settings.MEDIA_ROOT) / "incoming"
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{uuid.uuid4().hex}{suffix(file.name or '')}"
    temporary: Callable[[], str] | None = getattr(file, "temporary_file_path", None)
    try:
        if temporary:
            shutil.move(temporary(), part)
        else:
            with open(part, "wb") as out:
                shutil.copyfileobj(file, out)
        return publish_source(part, file.name or "")
    except OSError:
        raise UploadError(507, "The file could not be stored. Ask an admin to check the storage.") from None
    finally:
        part.unlink(missing_ok=True)


def publish_source(part: Path, filename: str) -> Source:
    """Publishes a whole file as a source. Raises UploadError where it is no media, OSError."""
    if sentence := async_to_sync(what_is_wrong)(part):
        raise UploadError(422, sentence)
    name, size = source_name(uuid.uuid4(), filename), part.stat().st_size
    storage.publish(part, name)
    return Source(name=name, filename=plain_name(filename), size=size)


@dataclass(frozen=True)
class Stopped:
    """An upload that waits for the rest of its bytes; *modified* is the file's time, by the browser."""

    url: str
    name: str
    size: int
    modified: str
    percent: int


def unfinished_uploads(owner_id: int | None) -> list[Stopped]:
    """What a person began to upload and has not finished: any browser may go on with it."""
    found = []
    for upload in Upload.objects.filter(
        owner_id=owner_id, job=None, sha256="", expires_at__gt=timezone.now()
    ).order_by("created_at"):
        modified = next((p[9:] for p in upload.metadata.split(",") if p.startswith("modified ")), "")
        found.append(
            Stopped(
                url=reverse("jobs:upload", args=[upload.pk]),
                name=upload.filename,
                size=upload.length,
                modified=base64.b64decode(modified).decode(errors="replace"),
                percent=offset_of(upload) * 100 // upload.length,
            )
        )
    return found


def sweep() -> int:
    """Removes expired uploads that became no job, and part files nobody knows; how many."""
    removed = 0
    for upload in Upload.objects.filter(job=None, expires_at__lt=timezone.now()):
        remove(upload)
        removed += 1
    incoming = Path(settings.MEDIA_ROOT) / "incoming"
    known = {pk.hex for pk in Upload.objects.filter(job=None).values_list("pk", flat=True)}
    old = time.time() - LIFE.total_seconds()
    for path in incoming.iterdir() if incoming.is_dir() else ():
        with suppress(FileNotFoundError):  # it has just become a source
            if path.stem not in known and path.lstat().st_mtime < old:
                path.unlink()
                removed += 1
    return removed


@transaction.atomic
def remove(upload: Upload) -> None:
    """Forgets an upload, and its bytes where no job has them."""
    part_path(upload).unlink(missing_ok=True)
    digests.pop(upload.pk, None)
    now = Upload.objects.select_for_update().filter(pk=upload.pk).first()
    if now is None:
        return
    if now.job_id is None:
        storage.remove(source_name(now.pk, now.filename))
    now.delete()
