"""An upload's bytes in the bucket, so that any web server may take the next ones: an S3 multipart upload.

All parts but the last have one size, so each has its place. What is too small for one lies beside them as a
file, whose name says where it begins and how long it is: an offset that somebody was given never comes back.
A part is sent only once it is certain, and one writer at a time sends them: whoever has the row's lease.
"""

from __future__ import annotations

import hashlib
import tempfile
import uuid
from contextlib import suppress
from typing import IO, TYPE_CHECKING, ClassVar, NamedTuple, Self

from jobs.models import Upload
from jobs.uploads.arriving import LOCKED, UPLOAD_GONE, Arriving
from jobs.uploads.errors import UploadError
from jobs.uploads.naming import source_of
from mediapipe import storage
from mediapipe.database import fresh_connections
from mediapipe.storage import multipart, s3
from mediapipe.storage.multipart import Part

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

BLOCK = 1 << 20


class Place(NamedTuple):
    """How far an upload is, as the bucket says."""

    parts: int  # that are whole, from the first one on
    start: int  # byte behind them
    tail: int  # bytes behind that
    tails: list[str]  # every file that holds or held some of these


def _folder(pk: uuid.UUID) -> str:
    return f"incoming/{pk.hex}"


def look(upload: Upload) -> Place:
    """How far an upload is. Raises FileNotFoundError where the bucket knows nothing of it."""
    sent = multipart.parts(source_of(upload), upload.multipart)
    size = multipart.part_size(upload.length)
    count = 0
    while (start := min(count * size, upload.length)) < upload.length:
        part = sent.get(count + 1)
        if part is None or part.size != min(size, upload.length - start):
            break
        count += 1
    tails = [name for name, _, _ in s3.under(_folder(upload.pk))]
    here = [tail for name in tails if (tail := _lies_at(name, start))]
    return Place(count, start, max(here, default=0), tails)


def _lies_at(name: str, start: int) -> int:
    """The bytes of the tail *name* if it begins at *start*, else 0."""
    begins, _, size = name.rpartition("/")[2].partition("-")
    return int(size) if begins == str(start) and size.isdecimal() else 0


class BucketPart(Arriving):
    """The writer of an upload whose bytes lie in the bucket."""

    on_our_disk = False
    sent: ClassVar[dict[uuid.UUID, dict[int, Part]]] = {}  # by this process, of what `digests` is about

    def __init__(self, upload: Upload, writer: str) -> None:
        self.upload = upload
        self.writer = writer
        place = look(upload)
        super().__init__(upload, place.start + place.tail)
        self._parts = place.parts
        self._tails = place.tails
        self._tail = s3.read(f"{_folder(self.pk)}/{place.start}-{place.tail}") if place.tail else b""
        self._waiting = bytearray(self._tail)  # what is not in a part yet
        self._unsure: IO[bytes] | None = None  # what a checksum may yet refuse
        self._usable = True  # while the bucket takes what comes, and nobody else writes
        self._sent = self.sent.pop(self.pk, {})

    @classmethod
    def open(cls, upload: Upload) -> Self:
        """Takes the lease. Raises UploadError (423 while another has it, 404), OSError."""
        with fresh_connections():
            writer = upload.begin_writing()
        if not writer:
            raise UploadError(423, LOCKED)
        try:
            return cls(upload, writer)
        except OSError as error:
            with fresh_connections():
                upload.end_writing(writer, upload.arrived)
            if isinstance(error, FileNotFoundError):
                raise UploadError(404, UPLOAD_GONE) from None
            raise

    def close(self) -> None:
        """Keeps what is in no part yet, and ends the lease."""
        try:
            self._keep_tail()
        finally:
            with fresh_connections():
                self.upload.end_writing(self.writer, self.offset)

    def write(self, blocks: list[bytes], checksum: Hash | None = None) -> None:
        """Takes *blocks*; each part is sent when it is full, and nothing before *checksum* has its say."""
        for block in blocks:
            if checksum is None:
                self._take(block)
            else:
                checksum.update(block)
                if self._unsure is None:
                    folder = storage.path("incoming")
                    folder.mkdir(parents=True, exist_ok=True)
                    self._unsure = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - sync() or truncate() end it
                self._unsure.write(block)
                self.offset += len(block)

    def _take(self, block: bytes) -> None:
        rest = memoryview(block)
        while rest:
            if not self._usable:
                raise UploadError(423, LOCKED)
            full = min(multipart.part_size(self.length), self.length - self._begin)
            taken = rest[: full - len(self._waiting)]
            self._waiting += taken
            self.offset += len(taken)
            if self._digest:
                self._digest.update(taken)
            rest = rest[len(taken) :]
            if len(self._waiting) == full:
                self._send()

    @property
    def _begin(self) -> int:
        """The byte behind the parts that were sent."""
        return min(self._parts * multipart.part_size(self.length), self.length)

    def _send(self) -> None:
        """Sends a part. One that the bucket doesn't take is lost, as if its bytes had never come."""
        number = self._parts + 1
        self._usable = False
        try:
            self._sent[number] = multipart.put(
                source_of(self.upload), self.upload.multipart, number, self._waiting
            )
        except OSError as error:
            self._digest = None
            if isinstance(error, FileNotFoundError):
                raise UploadError(404, UPLOAD_GONE) from None
            raise
        self._usable = True
        self._parts = number
        self._waiting = bytearray()

    def truncate(self) -> None:
        """Drops what this writer has written and is in no part yet."""
        if self._unsure:
            self._unsure.close()
            self._unsure = None
            self.offset = self._begin + len(self._waiting)
            return
        self._waiting = bytearray(self._tail if self._begin + len(self._tail) == self.start else b"")
        self._digest = None
        self.offset = self._begin + len(self._waiting)

    def sync(self) -> None:
        """Takes what a checksum has found right."""
        if self._unsure is None:
            return
        certain = self._unsure
        self._unsure = None
        self.offset = self._begin + len(self._waiting)
        with certain:
            certain.seek(0)
            while block := certain.read(BLOCK):
                self._take(block)

    def stay(self) -> None:
        """Renews the lease; without it nothing more is sent."""
        with fresh_connections():
            if not self.upload.keep_writing(self.writer, self._begin):
                self._usable = False

    def _keep_tail(self) -> None:
        """Stores what is in no part yet, and then removes what is stored elsewhere by now."""
        if self._unsure:
            self.truncate()
        self.stay()
        if not self._usable:
            self.offset = self._begin
            return
        own = f"{_folder(self.pk)}/{self._begin}-{len(self._waiting)}" if self._waiting else ""
        if own and own not in self._tails:
            s3.write(own, self._waiting)
        for name in self._tails:
            if name != own:
                s3.remove(name)
        if self._digest and self.offset:
            self.digests[self.pk] = (self.offset, self._digest)
            self.sent[self.pk] = self._sent

    @classmethod
    def is_locked(cls, upload: Upload) -> bool:
        """Whether somebody has its lease."""
        with fresh_connections():
            return upload.is_being_written()

    @classmethod
    def offset_of(cls, upload: Upload) -> int:
        """What the bucket has. Raises UploadError (404) where it lost it, OSError."""
        try:
            place = look(upload)
        except FileNotFoundError:
            if not _is_complete(upload):
                raise UploadError(404, UPLOAD_GONE) from None
            return upload.length
        return place.start + place.tail

    @classmethod
    def seal(cls, upload: Upload) -> str:
        """Completes the file, of the right size and of exactly the parts that were sent. Raises OSError."""
        name = source_of(upload)
        ours = cls.sent.pop(upload.pk, None)
        try:
            found = multipart.parts(name, upload.multipart)
            if found != ours:  # some came by another process: the digest isn't of these bytes for certain
                cls.digests.pop(upload.pk, None)
            multipart.complete(name, upload.multipart, found)
        except FileNotFoundError:  # another request was faster
            cls.digests.pop(upload.pk, None)
        if not _is_complete(upload):
            raise OSError(f"{name} isn’t in the bucket as it was sent")
        return name

    @classmethod
    def read_sha256(cls, upload: Upload) -> str:
        """sha256 of what the bucket has."""
        digest = hashlib.sha256()
        with s3.stream(source_of(upload)) as body:
            while block := body.read(BLOCK):
                digest.update(block)
        return digest.hexdigest()

    @classmethod
    def publish(cls, upload: Upload) -> None:
        """It is in its place already; what lay beside it goes."""
        for name, _, _ in s3.under(_folder(upload.pk)):
            s3.remove(name)

    @classmethod
    def remove(cls, upload: Upload) -> None:
        """Removes the parts; whoever still sends some is refused by the bucket."""
        with suppress(FileNotFoundError):
            multipart.abort(source_of(upload), upload.multipart)
        cls.publish(upload)
        cls.digests.pop(upload.pk, None)
        cls.sent.pop(upload.pk, None)


def _is_complete(upload: Upload) -> bool:
    try:
        return s3.size(source_of(upload)) == upload.length
    except FileNotFoundError:
        return False
