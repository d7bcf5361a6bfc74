"""Files on their way in: part files with one writer each, and their place once they are whole.

It knows files and rows. It builds no URLs and reads no headers; of HTTP it knows only the status of an
UploadError.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from jobs.models import Upload
from jobs.models.job_queryset import JOINERS
from jobs.uploads.errors import UploadError
from mediapipe import disk, storage

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

UPLOAD_LIFETIME = timedelta(days=2)  # since its last byte
SUFFIXES = ("mp4", "m4v", "mov", "webm", "mkv", "mp3", "m4a", "wav", "flac", "ogg", "opus", "aac")
LOCKED = "Another connection is sending this file. Try again in a moment."


def display_name(text: str) -> str:
    """A file's name as people may see it: no path, no control characters, at most 200 characters.

    What joins letters stays: without it emoji fall apart, and Persian words run together.
    """
    last = text.replace("\\", "/").rsplit("/", 1)[-1]
    name = "".join(sign for sign in last if sign.isprintable() or sign in JOINERS).strip(f" {JOINERS}")
    return name[-200:] or "upload"


def suffix(filename: str) -> str:
    """The extension where it is one of SUFFIXES, else .bin; demuxers use it where the bytes leave a doubt."""
    found = Path(filename).suffix.lower()
    return found if found.removeprefix(".") in SUFFIXES else ".bin"


def source_name(key: object, filename: str) -> str:
    """Our neutral name for a source."""
    return f"sources/{key}/source{suffix(filename)}"


def part_path(upload: Upload) -> Path:
    """Where the bytes arrive: on the media's own disk, so that a rename finishes them."""
    return storage.path("incoming") / f"{upload.pk.hex}{suffix(upload.filename)}"


def offset_of(upload: Upload) -> int:
    """How many bytes have arrived."""
    if upload.job_id or upload.sha256:
        return upload.length
    with suppress(FileNotFoundError):
        return part_path(upload).stat().st_size
    return 0


def check_length(length: int) -> None:
    """Raises UploadError for a file that is empty, too large, or finds no space."""
    if length == 0:
        raise UploadError(400, "This file is empty (0 bytes).")
    if length > settings.MAX_UPLOAD_BYTES:
        limit = settings.MAX_UPLOAD_BYTES / (1 << 30)
        raise UploadError(413, f"This file is too large. The limit is {limit:g} GB.")
    if not disk.has_media_space(length):
        sentence = "The server doesn’t have enough free space for this file. Ask an admin to free some."
        raise UploadError(507, sentence)


class PartFile:
    """The file in which an upload arrives, open for one writer; its size is the upload's offset.

    The sha256 of what has arrived is carried from one request to the next, while this process has seen every
    byte; after a restart the whole file is read for it. The methods block: call them in a thread.
    """

    digests: dict[uuid.UUID, tuple[int, Hash]] = {}  # of an upload's first so many bytes

    def __init__(self, upload: Upload, fd: int) -> None:
        self.pk = upload.pk
        self.length = upload.length
        self.fd = fd
        self.start = os.fstat(fd).st_size
        self.offset = self.start
        seen, digest = self.digests.pop(upload.pk, (0, hashlib.sha256()))
        self._digest = digest if seen == self.start else None

    @classmethod
    @contextmanager
    def open(cls, upload: Upload, *, create: bool = True) -> Iterator[PartFile]:
        """Opens and locks it. Raises UploadError (423) while another writes it, FileNotFoundError."""
        path = part_path(upload)
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        fd = os.open(path, flags, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UploadError(423, LOCKED) from None
            part = cls(upload, fd)
            try:
                yield part
            finally:
                part._remember_digest()
        finally:
            os.close(fd)

    @property
    def is_whole(self) -> bool:
        """Whether every byte has arrived."""
        return self.offset == self.length

    def write(self, blocks: list[bytes], checksum: Hash | None = None) -> None:
        """Appends *blocks*, and feeds them to *checksum*. Raises OSError; what fitted the disk then stays."""
        for block in blocks:
            digest = self._digest
            self._digest = None  # unknown until the block is written: a full disk takes only a piece of it
            self.offset = disk.write_at(self.fd, block, self.offset)
            for each in (digest, checksum):
                if each is not None:
                    each.update(block)
            self._digest = digest

    def truncate(self) -> None:
        """Drops what this writer has written."""
        os.ftruncate(self.fd, self.start)
        if self.offset != self.start:
            self._digest = None
        self.offset = self.start

    def sync(self) -> None:
        """Waits until the bytes are on the disk."""
        os.fsync(self.fd)

    def _remember_digest(self) -> None:
        stat = os.fstat(self.fd)  # without a name it has been removed: no request will continue it
        if self._digest is not None and self.offset == stat.st_size > 0 and stat.st_nlink:
            self.digests[self.pk] = (self.offset, self._digest)

    @classmethod
    def take_sha256(cls, upload: Upload) -> str:
        """sha256 of a whole part file: as carried along, else by reading it. Raises FileNotFoundError."""
        seen, digest = cls.digests.pop(upload.pk, (0, None))
        if digest is not None and seen == upload.length:
            return digest.hexdigest()
        with open(part_path(upload), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @classmethod
    def remove(cls, upload: Upload) -> None:
        """Removes the bytes; whoever still writes them writes into a file without a name."""
        part_path(upload).unlink(missing_ok=True)
        cls.digests.pop(upload.pk, None)


def unfinished(owner_id: int | None) -> QuerySet[Upload]:
    """What a person began to upload and has not finished, oldest first: any browser may continue it."""
    waiting = Upload.objects.filter(owner_id=owner_id, job=None, sha256="", expires_at__gt=timezone.now())
    return waiting.order_by("created_at")


def sweep() -> int:
    """Removes expired uploads that became no job, and part files of no upload; how many."""
    removed = 0
    for upload in Upload.objects.filter(job=None, expires_at__lt=timezone.now()):
        remove(upload)
        removed += 1
    incoming = storage.path("incoming")
    known = {pk.hex for pk in Upload.objects.filter(job=None).values_list("pk", flat=True)}
    oldest = time.time() - UPLOAD_LIFETIME.total_seconds()
    for path in incoming.iterdir() if incoming.is_dir() else ():
        with suppress(FileNotFoundError):  # it has just become a source
            if path.stem not in known and path.lstat().st_mtime < oldest:
                path.unlink()
                removed += 1
    return removed


@transaction.atomic
def remove(upload: Upload) -> None:
    """Forgets an upload, and its bytes where no job has them."""
    PartFile.remove(upload)
    now = Upload.objects.select_for_update().filter(pk=upload.pk).first()
    if now is None:
        return
    if now.job_id is None:
        storage.remove(source_name(now.pk, now.filename))
    now.delete()
