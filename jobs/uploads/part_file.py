"""A part file: an upload's bytes on a disk of ours, whose size is the upload's offset.

It knows files and locks. Of HTTP it knows only the status of an UploadError.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from jobs.models import Upload
from jobs.uploads.arriving import LOCKED, Arriving
from jobs.uploads.errors import UploadError
from jobs.uploads.naming import source_of, suffix
from mediapipe import disk, storage

if TYPE_CHECKING:
    from hashlib import _Hash as Hash


def part_path(upload: Upload) -> Path:
    """Where the bytes arrive: on the media's own disk, so that a rename finishes them."""
    return storage.path(_name(upload))


def _name(upload: Upload) -> str:
    return f"incoming/{upload.pk.hex}{suffix(upload.filename)}"


class PartFile(Arriving):
    """The file in which an upload arrives, so nothing can get out of step with its size."""

    on_our_disk = True

    def __init__(self, upload: Upload, fd: int) -> None:
        self.fd = fd
        super().__init__(upload, os.fstat(fd).st_size)

    @classmethod
    def open(cls, upload: Upload) -> Self:
        """Opens and locks it. Raises UploadError (423) while another writes it."""
        part_path(upload).parent.mkdir(parents=True, exist_ok=True)
        return cls._open(upload, os.O_CREAT)

    @classmethod
    def _open(cls, upload: Upload, flags: int) -> Self:
        fd = os.open(part_path(upload), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise UploadError(423, LOCKED) from None
        return cls(upload, fd)

    def close(self) -> None:
        """Lets others write it."""
        stat = os.fstat(self.fd)  # without a name it has been removed: no request will continue it
        if self._digest is not None and self.offset == stat.st_size > 0 and stat.st_nlink:
            self.digests[self.pk] = (self.offset, self._digest)
        os.close(self.fd)

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
        """Waits until the bytes of a whole file are on the disk."""
        if self.is_whole:
            os.fsync(self.fd)

    def stay(self) -> None:
        """The lock lives as long as the process does."""

    @classmethod
    def is_locked(cls, upload: Upload) -> bool:
        """Whether somebody is writing it."""
        try:
            cls._open(upload, 0).close()
        except FileNotFoundError:
            return False
        except UploadError:
            return True
        return False

    @classmethod
    def offset_of(cls, upload: Upload) -> int:
        """The file's size."""
        with suppress(FileNotFoundError):
            return part_path(upload).stat().st_size
        return 0

    @classmethod
    def seal(cls, upload: Upload) -> str:
        """The name of the part file."""
        return _name(upload)

    @classmethod
    def read_sha256(cls, upload: Upload) -> str:
        """sha256 of the part file."""
        with open(part_path(upload), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @classmethod
    def publish(cls, upload: Upload) -> None:
        """Moves the file to its place. Raises FileNotFoundError, OSError."""
        storage.publish(part_path(upload), source_of(upload))

    @classmethod
    def remove(cls, upload: Upload) -> None:
        """Removes the bytes; whoever still writes them writes into a file without a name."""
        part_path(upload).unlink(missing_ok=True)
        cls.digests.pop(upload.pk, None)
