"""The trash: jobs that were deleted lie in it for some days, and come back as they were until then.

To everybody a job in it is gone: its page, its links, its place in lists and counts. Its files stay; after
TRASH_DAYS jobs.reconcile deletes it for good, as a person may at once (jobs.control). It knows no Temporal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Count
from django.utils import timezone

from jobs.models import Event, IdempotencyKey, Job, JobQuerySet, TrashedFile, Upload
from jobs.models.earlier_version import SOURCES, files_of
from mediapipe import storage
from mediapipe.accounts import audit
from mediapipe.accounts.audit import Act

TRASH_ACTOR = "the trash"  # who deletes what has lain there for its days


def lifetime() -> timedelta:
    """How long a job lies in the trash; none: a delete is for good."""
    return timedelta(days=settings.TRASH_DAYS)


def _files(jobs: list[Job]) -> Iterator[TrashedFile]:
    """The files that no other job has, by their names; a folder's stand for what is in it."""
    made = files_of(job__in=jobs)
    ours = {job.source_name for job in jobs if job.source_name.startswith(SOURCES)}
    users = Job.with_trash.filter(source_name__in=ours).order_by().values_list("source_name")
    alone = set(users.annotate(jobs=Count("pk")).filter(jobs=1).values_list("source_name", flat=True))
    for job in jobs:
        names = {storage.folder_of(name) or name for name in made.get(job.pk, ())} | {f"outputs/{job.pk}"}
        names |= {job.source_name} & alone
        yield from (TrashedFile(job=job, name=name) for name in names)


@transaction.atomic
def put_in(jobs: Sequence[Job], actor: str) -> set[UUID]:
    """Puts closed jobs into the trash; the keys of those that were: not of what runs, or is gone already."""
    runs = {job.pk: job.run for job in jobs}
    locked = Job.with_trash.select_for_update().filter(pk__in=runs).order_by("pk").defer("plan", "searched")
    rows = [row for row in locked if row.run == runs[row.pk] and not row.active and not row.being_deleted]
    if not rows:
        return set()
    done = {row.pk for row in rows}
    Job.with_trash.filter(pk__in=done).update(trashed_at=timezone.now(), kept_wishes=None)
    Upload.objects.filter(job__in=done).delete()  # a second request makes another job, as it does for good
    IdempotencyKey.objects.filter(job__in=done).delete()
    TrashedFile.objects.bulk_create(_files(rows))
    Event.objects.bulk_create(Event(job=row, kind="trashed", actor=actor, text="Deleted") for row in rows)
    audit.record_each(Act.DELETE, actor, [(row.pk, row.title) for row in rows])
    return done


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
