"""The trash: jobs that were deleted lie in it for some days, and come back as they were until then.

To everybody a job in it is gone: its page, its links, its place in lists and counts. Its files stay; after
TRASH_DAYS jobs.reconcile deletes it for good, as a person may at once (jobs.control). It knows no Temporal.
"""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from jobs.models import IdempotencyKey, Job, JobQuerySet, TrashedFile, Upload
from jobs.models.earlier_version import SOURCES, files_of
from mediapipe import storage
from mediapipe.accounts.audit import Act

NOBODY = "the trash"  # who deletes what has lain there for its days


def lifetime() -> timedelta:
    """How long a job lies in the trash; none: a delete is for good."""
    return timedelta(days=settings.TRASH_DAYS)


def _names(job: Job) -> set[str]:
    """The files that no other job has, by their names; a folder's stand for what is in it."""
    names = {storage.folder_of(name) or name for name in files_of(job=job.pk)} | {f"outputs/{job.pk}"}
    ours = job.source_name.startswith(SOURCES) and not job.shares_source()
    return names | ({job.source_name} if ours else set())


@transaction.atomic
def put_in(job: Job, actor: str) -> bool:
    """Puts a closed job into the trash; False where it runs, or is gone already."""
    row = job.locked()
    if row is None or row.active or row.being_deleted:
        return False
    Job.with_trash.filter(pk=row.pk).update(trashed_at=timezone.now(), kept_wishes=None)
    Upload.objects.filter(job=row).delete()  # a second request makes another job, as after a delete for good
    IdempotencyKey.objects.filter(job=row).delete()
    TrashedFile.objects.bulk_create(TrashedFile(job=row, name=name) for name in _names(row))
    row.add_event("trashed", actor=actor, text="Deleted")
    row.recorded(Act.DELETE, actor)
    return True


@transaction.atomic
def take_out(job: Job, actor: str) -> bool:
    """Gives a job back as it was; False where it isn't there, or is about to be deleted for good."""
    row = job.locked()
    if row is None or row.trashed_at is None or row.wishes:
        return False
    Job.with_trash.filter(pk=row.pk).update(trashed_at=None)
    TrashedFile.objects.filter(job=row).delete()
    row.add_event("restored", actor=actor, text="Restored from the trash")
    row.recorded(Act.RESTORE, actor)
    return True


def jobs() -> JobQuerySet:
    """The jobs in the trash, the last deleted first."""
    return Job.with_trash.filter(trashed_at__isnull=False).order_by("-trashed_at", "pk")


def overdue() -> JobQuerySet:
    """Those that have lain there for their days."""
    return jobs().filter(trashed_at__lte=timezone.now() - lifetime())
