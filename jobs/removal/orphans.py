"""Orphaned media: files that no job refers to. It knows rows and storage, and nothing of tasks."""

from __future__ import annotations

from collections.abc import Iterator

from jobs.models import Job
from jobs.models.earlier_version import files_of
from mediapipe import storage

FOLDERS = ("sources", "outputs")


def orphaned_files(before: float) -> Iterator[tuple[str, int]]:
    """The files last changed *before* (unix seconds) that no job refers to: name and size in bytes.

    What belongs to a job are the files that it names, and all that stands in a playlist's folder.
    """
    used = set(Job.with_trash.exclude(source_name="").values_list("source_name", flat=True))
    used.update(*files_of().values())
    folders = {storage.folder_of(name) for name in used}
    for folder in FOLDERS:
        for name, size, changed in storage.under(folder):
            if name not in used and name.rsplit("/", 1)[0] not in folders and changed < before:
                yield name, size
