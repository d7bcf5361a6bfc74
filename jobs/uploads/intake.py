"""Files on their way in: how much there may be, and where their bytes arrive.

It builds no URLs and reads no headers; of HTTP it knows only the status of an UploadError.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from jobs.models import Upload
from jobs.uploads.arriving import Arriving
from jobs.uploads.bucket_part import BucketPart
from jobs.uploads.errors import UploadError
from jobs.uploads.naming import source_of
from jobs.uploads.part_file import PartFile
from mediapipe import disk, storage
from mediapipe.storage import multipart

UPLOAD_LIFETIME = timedelta(days=2)  # since its last byte


def store_of(upload: Upload) -> type[Arriving]:
    """Where its bytes arrive: in the bucket, where it began there, else in a file of this machine."""
    return BucketPart if upload.multipart else PartFile


def is_finished(upload: Upload) -> bool:
    """Whether it is whole and known to be media: its bytes are where they stay."""
    return bool(upload.job_id or upload.sha256)


def offset_of(upload: Upload) -> int:
    """How many bytes have arrived. Raises UploadError (404) where the bucket lost them, OSError."""
    if not is_finished(upload):
        if arrived := store_of(upload).offset_of(upload):
            return arrived
        with suppress(Upload.DoesNotExist):  # no byte yet, or its file is in its place by now
            upload.refresh_from_db()
    return upload.length if is_finished(upload) else 0


def shown_offset(upload: Upload) -> int:
    """How many bytes have arrived, for a list: of one that is on its way some may be missing."""
    return upload.arrived if upload.multipart and not is_finished(upload) else offset_of(upload)


def check_length(length: int, *, in_bucket: bool = False) -> None:
    """Raises UploadError for a file that is empty, too large, or finds no space on our own disk."""
    if length == 0:
        raise UploadError(400, "This file is empty (0 bytes).")
    if length > settings.MAX_UPLOAD_BYTES:
        limit = settings.MAX_UPLOAD_BYTES / (1 << 30)
        raise UploadError(413, f"This file is too large. The limit is {limit:g} GB.")
    if not in_bucket and not disk.has_media_space(length):
        sentence = "The server doesn’t have enough free space for this file. Ask an admin to free some."
        raise UploadError(507, sentence)


def begin(upload: Upload) -> None:
    """Says where the bytes of a new upload arrive: in the bucket, where there is one. Raises OSError."""
    if settings.S3_BUCKET:
        name = source_of(upload)
        upload.multipart = multipart.begin(name, storage.content_type(name))
        upload.save(update_fields=["multipart"])


def unfinished(owner_id: int | None) -> QuerySet[Upload]:
    """What a person began to upload and has not finished, oldest first: any browser may continue it."""
    waiting = Upload.objects.filter(owner_id=owner_id, job=None, sha256="", expires_at__gt=timezone.now())
    return waiting.order_by("created_at")


@transaction.atomic
def remove(upload: Upload) -> None:
    """Forgets an upload, and its bytes where no job has them."""
    store_of(upload).remove(upload)
    now = Upload.objects.select_for_update().filter(pk=upload.pk).first()
    if now is None:
        return
    if now.job_id is None:
        storage.remove(source_of(now))
    now.delete()
