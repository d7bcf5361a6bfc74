"""Removes what became of nothing: expired uploads, and bytes that no upload knows, whoever left them.

Rows are looked through by the worker; files of a machine by each web server for its own disk, too, since it
may share it with nobody. It knows no requests.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress

from django.conf import settings
from django.utils import timezone

from jobs.models import Upload
from jobs.uploads import intake, one_piece
from mediapipe import storage
from mediapipe.storage import multipart, s3

INTERVAL = 3600.0  # seconds: of what nobody knows nothing is in a hurry
BEGUN = "sources/"  # what the names of uploads begin with in the bucket
log = logging.getLogger(__name__)
_last: dict[str, float] = {}  # when (monotonic) this process looked at what


def sweep() -> int:
    """Removes expired uploads that became no job, and what nobody knows; how many."""
    removed = 0
    for upload in Upload.objects.filter(job=None, expires_at__lt=timezone.now()):
        try:
            intake.remove(upload)
            removed += 1
        except s3.BucketUnavailable as error:  # the next round tries again
            log.warning("an expired upload can't be removed yet: %s", error)
            break
    removed += remove_strays()
    if settings.S3_BUCKET and _is_due("bucket"):
        removed += remove_strays_in_bucket()
    return removed


def sweep_own_disk() -> None:
    """Looks through this machine's disk, if that is due: whoever takes a new upload does so."""
    if _is_due("disk"):
        remove_strays()
        one_piece.sweep()


def _is_due(what: str) -> bool:
    now = time.monotonic()
    if now - _last.get(what, -INTERVAL) < INTERVAL:
        return False
    _last[what] = now
    return True


def _known() -> set[str]:
    return {pk.hex for pk in Upload.objects.filter(job=None).values_list("pk", flat=True)}


def _oldest() -> float:
    return time.time() - intake.UPLOAD_LIFETIME.total_seconds()


def remove_strays() -> int:
    """Removes part files of no upload from this machine's disk, once they are old; how many."""
    incoming = storage.path("incoming")
    paths = list(incoming.iterdir()) if incoming.is_dir() else []
    known = _known() if paths else set[str]()
    removed = 0
    for path in paths:
        with suppress(FileNotFoundError):  # it has just become a source
            if path.stem not in known and path.lstat().st_mtime < _oldest():
                path.unlink()
                removed += 1
    return removed


def remove_strays_in_bucket() -> int:
    """Ends multipart uploads that no upload knows, and removes ends of parts, once they are old; how many."""
    removed = 0
    try:
        ids = set(Upload.objects.exclude(multipart="").values_list("multipart", flat=True))
        for begun in multipart.begun(BEGUN):
            if begun.upload_id not in ids and begun.at < _oldest():
                with suppress(FileNotFoundError):
                    multipart.abort(begun.name, begun.upload_id)
                removed += 1
        known = _known()
        for name, _, changed in s3.under("incoming"):
            if name.split("/")[1] not in known and changed < _oldest():
                s3.remove(name)
                removed += 1
    except s3.BucketUnavailable as error:
        log.warning("the bucket can't be looked through for what uploads left: %s", error)
    return removed
