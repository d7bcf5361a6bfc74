"""Batch and BatchItem: many sources submitted at once, and what came of each.

A batch and its items are one transaction. An item becomes one job, by an id that is the item's own; where a
job stands is the job's matter. Nothing here knows Temporal, HTTP or how a list of sources is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID, uuid4, uuid5

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import models, transaction
from django.db.models import Case, Count, F, Q, When
from django.urls import reverse
from django.utils import timezone

from jobs.models.job import Job
from jobs.models.job_queryset import JobQuerySet
from jobs.models.stage import Stage
from jobs.state import JobState, Source
from mediapipe.accounts import audit
from mediapipe.accounts.audit import Act

AT_A_TIME = 10  # jobs of a batch that are queued or run: others’ jobs, and their owner's own, go between them
AT_ONCE = 1  # jobs that begin at each look, a second after the last: never a burst that others would feel
UNDER_WAY = (JobState.QUEUED, JobState.RUNNING)
NEED_SOMEBODY = (JobState.ATTENTION, JobState.FAILED)

# An item's states. Of one that is submitted its job says the rest.
PIPELINE_NOT_OFFERED = "The pipeline “{}” isn’t offered to you any more. Choose another."
WAITING = "waiting"
REJECTED = "rejected"
CANCELLED = "cancelled"
SUBMITTED = "submitted"
NEVER_STARTED = "Cancelled before it started."


class Counts(NamedTuple):
    """How many items of a batch stand where; each is counted once."""

    done: int = 0
    attention: int = 0  # their jobs have failed, or wait for a person
    rejected: int = 0
    running: int = 0
    waiting: int = 0
    cancelled: int = 0
    deleted: int = 0  # their jobs

    @property
    def total(self) -> int:
        """All items."""
        return sum(self)

    @property
    def settled(self) -> int:
        """Those of which nothing more is expected by itself."""
        return self.total - self.running - self.waiting


def _column(item: str, job: str | None) -> str:
    """Which of Counts an item belongs to, by its own state and its job's."""
    if item != SUBMITTED:
        return item
    if job is None:
        return "deleted"
    if job in UNDER_WAY:
        return "running"
    return {JobState.SUCCEEDED: "done", JobState.CANCELLED: "cancelled"}.get(JobState(job), "attention")


class BatchQuerySet(models.QuerySet["Batch"]):
    """Batches in the database."""

    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> BatchQuerySet:
        """Staff see all batches, an editor sees their own."""
        return self if getattr(user, "is_staff", False) else self.filter(owner_id=user.pk)

    def with_counts(self) -> list[tuple[Batch, Counts]]:
        """These batches, each with its counts: one query for all."""
        batches = list(self)
        found: dict[UUID, Counter[str]] = {batch.pk: Counter() for batch in batches}
        items = BatchItem.objects.order_by().filter(batch__in=list(found))
        job_state = Case(When(job__trashed_at=None, then=F("job__state")), default=None)
        rows = items.annotate(of_job=job_state).values_list("batch", "state", "of_job")
        for batch, item, job, many in rows.annotate(Count("pk")):
            found[batch][_column(item, job)] += many
        return [(batch, Counts(**found[batch.pk])) for batch in batches]


class Batch(models.Model):
    """Many sources of one person; its workflow starts their jobs, a few at a time."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="batches")
    title = models.CharField(max_length=300)
    cancelled_by = models.CharField(max_length=150, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)  # when nothing more was under way, once

    objects = BatchQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["owner", "-created_at"]),
            models.Index(fields=["id"], name="batches_open", condition=Q(finished_at=None)),
        ]

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        """The batch's page."""
        return reverse("jobs:batch", args=[self.pk])

    @property
    def workflow_id(self) -> str:
        """The id of its workflow."""
        return f"batch-{self.pk}"

    @classmethod
    @transaction.atomic
    def submit(cls, owner: AbstractBaseUser, title: str, items: Iterable[BatchItem], pk: UUID) -> Batch:
        """The batch with its *items*, or the one that was submitted as *pk* before."""
        batch, new = cls.objects.get_or_create(pk=pk, defaults={"owner_id": owner.pk, "title": title[:300]})
        if new:
            for number, item in enumerate(made := list(items), 1):
                item.batch = batch
                item.number = number
            BatchItem.objects.bulk_create(made, batch_size=500)
            text = f"{len(made)} sources"
            audit.record(Act.SUBMIT_BATCH, owner.get_username(), key=pk, name=batch.title, text=text)
        return batch

    def counts(self) -> Counts:
        """How many of its items stand where."""
        return Batch.objects.filter(pk=self.pk).with_counts()[0][1]

    @property
    def jobs(self) -> JobQuerySet:
        """Its jobs."""
        return Job.objects.filter(batch_item__batch=self.pk)

    def failed(self, why: str = "") -> JobQuerySet:
        """Its jobs that need somebody; *why*: those in which a stage failed by an error of this kind."""
        jobs = self.jobs.filter(state__in=NEED_SOMEBODY)
        return jobs.filter(pk__in=Stage.failed_by(why)) if why else jobs

    def rejected(self) -> list[tuple[str, int]]:
        """Why items were rejected, and how many by each sentence, the most frequent first."""
        rows = self.items.order_by().filter(state=REJECTED).values_list("error").annotate(many=Count("pk"))
        return list(rows.order_by("-many", "error"))

    def due(self) -> list[BatchItem]:
        """The items whose turn it is, in their order: AT_ONCE, where there is room."""
        room = AT_A_TIME - self.jobs.filter(state__in=UNDER_WAY).count()
        return list(self.items.filter(state=WAITING)[: max(0, min(room, AT_ONCE))])

    def to_cancel(self) -> JobQuerySet:
        """Its jobs that its cancel has not reached yet."""
        jobs = self.jobs.select_related("owner").filter(state__in=UNDER_WAY, cancelling=False)
        return jobs if self.cancelled_by else jobs.none()

    @property
    def has_work(self) -> bool:
        """Whether its workflow has something to do now: to start jobs, to cancel some, or to end it."""
        if self.finished_at is not None:
            return False
        under_way = self.jobs.filter(state__in=UNDER_WAY).count()
        waiting = self.items.filter(state=WAITING).exists()
        return bool((under_way < AT_A_TIME and waiting) or not (under_way or waiting) or self.to_cancel())

    @transaction.atomic
    def cancel(self, actor: str) -> bool:
        """What hasn't started never will; its workflow cancels what runs. False where it is over."""
        mine = Batch.objects.filter(pk=self.pk, finished_at=None, cancelled_by="")
        if not mine.update(cancelled_by=actor):
            return False
        self.items.filter(state=WAITING).update(state=CANCELLED, error=NEVER_STARTED)
        audit.record(Act.CANCEL_BATCH, actor, key=self.pk, name=self.title)
        return True

    def finish(self) -> bool:
        """Ends it where nothing is waiting or under way; whether this call did.

        A job that a person retries later changes its counts and opens it no more.
        """
        waiting = BatchItem.objects.filter(batch=self.pk, state=WAITING)
        if waiting.exists() or self.jobs.filter(state__in=UNDER_WAY).exists():
            return False
        return bool(Batch.objects.filter(pk=self.pk, finished_at=None).update(finished_at=timezone.now()))


class BatchItem(models.Model):
    """One source of a batch: an http(s) *url*, or *name*, a file in the bucket; *text*: as it was written."""

    batch = models.ForeignKey(Batch, on_delete=models.CASCADE, related_name="items")
    number = models.PositiveIntegerField()
    text = models.CharField(max_length=4000)
    url = models.CharField(max_length=4000, blank=True)
    name = models.CharField(max_length=300, blank=True)
    filename = models.CharField(max_length=300, blank=True)
    title = models.CharField(max_length=300, blank=True)
    pipeline = models.CharField(max_length=40)
    state = models.CharField(max_length=10, default=WAITING)
    error = models.TextField(blank=True)  # why there is no job, as a sentence
    job = models.OneToOneField(
        Job, null=True, blank=True, on_delete=models.SET_NULL, related_name="batch_item"
    )

    class Meta:
        ordering = ["batch", "number"]
        constraints = [models.UniqueConstraint(fields=["batch", "number"], name="an_item_has_its_own_number")]
        indexes = [models.Index(fields=["batch", "state"])]

    def __str__(self) -> str:
        return self.text

    @property
    def says(self) -> str:
        """Where it stands, in the words of Counts."""
        return _column(self.state, self.job_shown.state if self.job_shown else None)

    @property
    def job_shown(self) -> Job | None:
        """Its job, where that isn't deleted."""
        return self.job if self.job and not self.job.trashed_at else None

    @transaction.atomic
    def submit(self) -> Job | None:
        """Its one job, new or as it was made before; None where it was cancelled meanwhile or is rejected."""
        rows = BatchItem.objects.select_for_update(of=("self",)).select_related("batch__owner")
        row = rows.get(pk=self.pk)
        if row.state != WAITING:
            return row.job
        source = Source(row.url, row.name, row.filename)
        pk = uuid5(row.batch_id, str(row.number))
        about = {"title": row.title or row.filename, "pipeline": row.pipeline}
        try:
            job = Job.submit(row.batch.owner, **about, source=source, pk=pk)
        except KeyError:  # an admin has retired it since, or opened it to others
            BatchItem.objects.filter(pk=row.pk).update(
                state=REJECTED, error=PIPELINE_NOT_OFFERED.format(row.pipeline)
            )
            return None
        BatchItem.objects.filter(pk=row.pk).update(state=SUBMITTED, job=job)
        return job
