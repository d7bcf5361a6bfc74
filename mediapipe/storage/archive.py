"""Many files of ours as one zip, made while it is sent. It knows nothing of jobs, nor who may have them.

Media are compressed already, so they are only put one behind the other. There is never more of them in
memory than a block.
"""

from __future__ import annotations

import time
import zipfile
from collections.abc import AsyncIterator, Generator, Iterable
from contextlib import closing
from typing import IO

from django.conf import settings

from mediapipe import storage
from mediapipe.storage import s3
from mediapipe.threads import run_to_completion

BLOCK = 1 << 20


class _Sink:
    """Takes what zipfile writes; it can't go back in it."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        """As of a file."""
        self.parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """As of a file: nothing is kept back."""

    def take(self) -> bytes:
        """What was written since the last time."""
        taken = b"".join(self.parts)
        self.parts.clear()
        return taken


def _open(name: str) -> IO[bytes]:
    """The file, to be read once. Raises OSError."""
    return s3.stream(name) if settings.S3_BUCKET else open(storage.path(name), "rb")


def _zipped(files: Iterable[tuple[str, str]]) -> Generator[bytes]:
    sink = _Sink()
    now = time.localtime()[:6]
    with zipfile.ZipFile(sink, "w") as archive:  # type: ignore[call-overload]
        for called, name in files:
            entry = zipfile.ZipInfo(called, now)
            with closing(_open(name)) as file, archive.open(entry, "w", force_zip64=True) as target:
                while block := file.read(BLOCK):
                    target.write(block)
                    yield sink.take()
    yield sink.take()


class Archive:
    """The bytes of a zip of *files*: what each is called in it, and its name in the storage.

    An object with close(), as mediapipe.storage.views.Blocks is and for the same reason. A file that can't be
    read ends it in the middle: who saves it sees that it isn't whole.
    """

    def __init__(self, files: Iterable[tuple[str, str]]) -> None:
        self.blocks = _zipped(files)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        data: bytes = await run_to_completion(next, self.blocks, b"")
        if not data:
            raise StopAsyncIteration
        return data

    def close(self) -> None:
        """Closes the file that is being read."""
        self.blocks.close()
