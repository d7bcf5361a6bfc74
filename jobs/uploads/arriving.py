"""Where the bytes of an upload arrive: what a part file and a bucket's parts have in common.

It knows bytes and digests; who may send them, and what becomes of them, is said elsewhere.
"""

from __future__ import annotations

import hashlib
import uuid
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Self

from jobs.models import Upload

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

LOCKED = "Another connection is sending this file. Try again in a moment."
UPLOAD_GONE = "This upload no longer exists. Start it again."


class Arriving(ABC):
    """An upload's bytes, open for one writer. The methods block: call them in a thread.

    The sha256 of what has arrived is carried from one request to the next, while this process has seen every
    byte; otherwise the whole file is read for it once.
    """

    on_our_disk: ClassVar[bool]  # what is written takes space on it
    digests: ClassVar[dict[uuid.UUID, tuple[int, Hash]]] = {}  # of an upload's first so many bytes

    def __init__(self, upload: Upload, start: int) -> None:
        self.upload = upload
        self.pk = upload.pk
        self.length = upload.length
        self.start = start
        self.offset = start
        seen, digest = self.digests.pop(upload.pk, (0, hashlib.sha256()))
        self._digest = digest if seen == start else None

    @property
    def is_whole(self) -> bool:
        """Whether every byte has arrived."""
        return self.offset == self.length

    @abstractmethod
    def write(self, blocks: list[bytes], checksum: Hash | None = None) -> None:
        """Appends *blocks*, and feeds them to *checksum*, which may yet say that they are wrong.

        Raises OSError, and UploadError where somebody else writes by now.
        """

    @abstractmethod
    def truncate(self) -> None:
        """Drops what this writer has written, as far as it may yet be wrong."""

    @abstractmethod
    def sync(self) -> None:
        """Keeps what this writer has written. Raises as write() does."""

    @abstractmethod
    def stay(self) -> None:
        """Says that this writer is still there."""

    @classmethod
    @abstractmethod
    def open(cls, upload: Upload) -> Self:
        """Opens and locks it. Raises UploadError (423) while another writes it, OSError."""

    @abstractmethod
    def close(self) -> None:
        """Lets others write it, and keeps what a digest is known of. Raises as write() does."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @classmethod
    @abstractmethod
    def is_locked(cls, upload: Upload) -> bool:
        """Whether somebody is writing it."""

    @classmethod
    @abstractmethod
    def offset_of(cls, upload: Upload) -> int:
        """How many bytes have arrived. Raises UploadError (404) where they are lost, OSError."""

    @classmethod
    @abstractmethod
    def seal(cls, upload: Upload) -> str:
        """Makes the bytes of a whole upload one file; its name. Raises OSError."""

    @classmethod
    def take_sha256(cls, upload: Upload) -> str:
        """sha256 of a whole upload: as carried along, else by reading it. Raises OSError."""
        seen, digest = cls.digests.pop(upload.pk, (0, None))
        if digest is not None and seen == upload.length:
            return digest.hexdigest()
        return cls.read_sha256(upload)

    @classmethod
    @abstractmethod
    def read_sha256(cls, upload: Upload) -> str:
        """sha256 of what is there of a whole upload. Raises as take_sha256() does."""

    @classmethod
    @abstractmethod
    def publish(cls, upload: Upload) -> None:
        """Moves the file to its place as a source. Raises FileNotFoundError, OSError."""

    @classmethod
    @abstractmethod
    def remove(cls, upload: Upload) -> None:
        """Removes what has arrived of an upload that hasn't been published. Raises OSError."""
