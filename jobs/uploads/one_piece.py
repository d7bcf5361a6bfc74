"""Files that arrive in one piece, by the plain form or a command: none stays where its job was never made.

Who stores a file may be killed before the job's row is there. So each leaves a mark until it has its job;
what is marked for long and is no job's goes. It knows files and rows; of HTTP it knows only the status of an
UploadError.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from asgiref.sync import async_to_sync
from django.core.files.uploadedfile import UploadedFile

from jobs.models import Job
from jobs.state import Source
from jobs.uploads.errors import UploadError
from jobs.uploads.intake import UPLOAD_LIFETIME, check_length
from jobs.uploads.naming import display_name, source_name, suffix
from jobs.uploads.source_check import find_problem
from mediapipe import storage

MARKS_FOLDER = "storing"  # the folder of the marks


def store_form_file(file: UploadedFile[Any], job: uuid.UUID) -> Source:
    """The plain form's file as *job*'s source: one, however often it is sent. Raises UploadError."""
    check_length(file.size or 0)
    temporary: str | None = file.temporary_file_path() if hasattr(file, "temporary_file_path") else None
    try:
        with incoming_file(file.name or "") as part:
            if temporary:
                shutil.move(temporary, part)
            else:
                with open(part, "wb") as out:
                    shutil.copyfileobj(file, out)
            return _publish(part, file.name or "", job)
    except OSError:
        raise UploadError(507, "The file couldn’t be saved. Ask an admin to check the storage.") from None


def store_local_file(path: Path) -> Source:
    """A copy of a file of this machine as a source. Raises UploadError for an unacceptable one, OSError."""
    check_length(path.stat().st_size)
    with incoming_file(path.name) as part:
        shutil.copyfile(path, part)  # on one disk and a modern file system this shares the blocks
        return _publish(part, path.name)


@contextmanager
def incoming_file(filename: str) -> Iterator[Path]:
    """A place on the media's own disk for a file that arrives in one piece; what is left there goes."""
    folder = storage.path("incoming")
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{uuid.uuid4().hex}{suffix(filename)}"
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def _publish(part: Path, filename: str, key: uuid.UUID | None = None) -> Source:
    """Moves a whole file to its place. Raises UploadError where it is no media, OSError."""
    if problem := async_to_sync(find_problem)(f"incoming/{part.name}"):
        raise UploadError(422, problem)
    name = source_name(key or uuid.uuid4(), filename)
    size = part.stat().st_size
    mark = _mark(name)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    storage.publish(part, name)
    return Source(name=name, filename=display_name(filename), size=size)


def has_job(source: Source) -> None:
    """A file has its job, and goes with it from here on; a link needs nothing."""
    if source.name:
        with suppress(OSError):  # the sweep finds that it has one
            _mark(source.name).unlink()


def _mark(name: str) -> Path:
    folder, file = Path(name).parts[-2:]
    return storage.path(MARKS_FOLDER) / f"{folder}{Path(file).suffix}"


def sweep() -> int:
    """Removes the files that no job was made for, as old as an upload may be; how many."""
    removed = 0
    oldest = time.time() - UPLOAD_LIFETIME.total_seconds()
    marks = storage.path(MARKS_FOLDER)
    for mark in marks.iterdir() if marks.is_dir() else ():
        with suppress(FileNotFoundError):  # it has just got its job
            if mark.stat().st_mtime < oldest:
                name = source_name(mark.stem, mark.name)
                if not Job.with_trash.filter(source_name=name).exists():
                    storage.remove(name)
                    removed += 1
                mark.unlink()
    return removed
