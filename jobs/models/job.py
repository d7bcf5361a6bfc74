"""Job: one run of a pipeline on one source, its states, and the verbs that change them.

The database is the memory: workflows report here, so lists, history and finished jobs need no
Temporal. Nothing here knows Temporal or HTTP.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import models, transaction
from django.db.models import Exists, F, Q
from django.urls import reverse
from django.utils import timezone

from jobs import pipelines
from jobs.models.event import Event
from jobs.models.job_queryset import JobQuerySet
from jobs.models.stage import Stage, to_datetime
from jobs.models.upload import Upload
from jobs.state import (
    ACTIVE,
    EventRecord,
    JobState,
    PipelineInput,
    PipelineStatus,
    Source,
    StageState,
    workflow_id,
)
from mediapipe import storage


class Job(models.Model):
    """One run of a pipeline on one source."""

    State = JobState

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="jobs")
    title = models.CharField(max_length=300)
    pipeline = models.CharField(max_length=40, default=pipelines.DEFAULT)
    plan = models.JSONField(default=list)  # the pipeline's stages as they were at submission
    state = models.CharField(
        max_length=10, choices={s.value: s.value.title() for s in JobState}, default=JobState.QUEUED.value
    )
    source_url = models.CharField(max_length=4000, blank=True)
    source_name = models.CharField(max_length=300, blank=True)  # under the media root
    source_filename = models.CharField(max_length=300, blank=True)  # as the editor's machine called it
    source_size = models.BigIntegerField(null=True, blank=True)
    source_sha256 = models.CharField(max_length=64, blank=True, db_index=True)
    reason = models.CharField(max_length=500, blank=True)  # why a person started it again
    cancelling = models.BooleanField(default=False)
    receipt = models.TextField(blank=True)
    error = models.TextField(blank=True)
    note = models.TextField(blank=True)  # why it is queued, as a sentence
    seq = models.IntegerField(default=0)  # of the last recorded status
    run = models.IntegerField(default=1)  # workflows started for this job
    version = models.PositiveIntegerField(default=0)  # raised by every write: what a page is cached by
    created_at = models.DateTimeField(default=timezone.now)
    workflow_started_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["owner", "-created_at"]),
            models.Index(fields=["state", "-created_at"]),
            models.Index(fields=["-created_at"]),
        ]

    def __str__(self) -> str:
        return self.title

    def save(self, *args: Any, **kwargs: Any) -> None:
        """As Django's, and raises the version in the database, where another process may have raised it."""
        if self._state.adding:
            return super().save(*args, **kwargs)
        self.version = F("version") + 1
        if kwargs.get("update_fields") is not None:
            kwargs["update_fields"] = {*kwargs["update_fields"], "version"}
        super().save(*args, **kwargs)
        self.refresh_from_db(fields=["version"])

    def get_absolute_url(self) -> str:
        """The job's page."""
        return reverse("jobs:detail", args=[self.pk])

    @classmethod
    @transaction.atomic
    def submit(
        cls, owner: AbstractBaseUser, *, title: str, pipeline: str, source: Source, pk: UUID | None = None
    ) -> Job:
        """A new job and its stages, `queued`; the caller starts its workflow after commit.

        Raises IntegrityError where there is a job *pk* already.
        """
        stages = pipelines.PIPELINES[pipeline].stages
        job = cls.objects.create(
            pk=pk or uuid4(),
            owner_id=owner.pk,
            title=title[:300],
            pipeline=pipeline,
            plan=[asdict(stage) for stage in stages],
            source_url=source.url,
            source_name=source.name,
            source_filename=source.filename[:300],
            source_size=source.size,
        )
        Stage.objects.bulk_create(
            Stage(job=job, position=at, name=stage.name, label=stage.label, max_attempts=stage.retry.attempts)
            for at, stage in enumerate(stages)
        )
        job.add_event("submitted", actor=owner.get_username(), text="Submitted")
        return job

    @property
    def workflow_id(self) -> str:
        """The id of this job's workflow."""
        return workflow_id(str(self.pk))

    @property
    def active(self) -> bool:
        """Whether it may still change."""
        return self.state in ACTIVE

    @property
    def source(self) -> Source:
        """The file or URL that the job processes."""
        return Source(self.source_url, self.source_name, self.source_filename, self.source_size)

    def workflow_input(self) -> PipelineInput:
        """The workflow's input; finished stages of an earlier run are carried over."""
        stages = [pipelines.StageDefinition.from_plan(stage) for stage in self.plan]
        rows = list(self.stages.all())
        return PipelineInput(
            job_id=str(self.pk),
            source=self.source,
            stages=stages,
            submitted_by=self.owner.get_username(),
            reason=self.reason,
            hold_days=settings.HOLD_DAYS,
            first_seq=self.seq,
            carried={s.name: s.status() for s in rows if s.state == StageState.SUCCEEDED},
            tries={s.name: s.tries for s in rows if s.tries},
            run=self.run,
            heartbeat_timeout=settings.HEARTBEAT_SECONDS,
        )

    def status(self) -> PipelineStatus:
        """The job as last recorded, in the shape that the status query returns."""
        return PipelineStatus(
            job_id=str(self.pk),
            state=JobState(self.state),
            seq=self.seq,
            stages=[stage.status() for stage in self.stages.all()],
            cancelling=self.cancelling,
            receipt=self.receipt,
            error=self.error,
            started_at=self.started_at.timestamp() if self.started_at else None,
            finished_at=self.finished_at.timestamp() if self.finished_at else None,
        )

    def add_event(self, kind: str, *, stage: str = "", actor: str = "", text: str = "") -> Event:
        """Adds a line to the job's timeline that no workflow reported."""
        Job.objects.filter(pk=self.pk).update()  # the timeline is part of the job's page
        return Event.objects.create(job=self, kind=kind, stage=stage, actor=actor, text=text)

    @transaction.atomic
    def mark_started(self) -> bool:
        """Records that the workflow has started; False where the job was cancelled a moment before."""
        row = Job.objects.select_for_update().get(pk=self.pk)
        if row.state == JobState.CANCELLED and row.run == self.run:
            return False
        Job.objects.filter(pk=self.pk, workflow_started_at=None).update(
            workflow_started_at=timezone.now(), note=""
        )
        Job.objects.filter(pk=self.pk, state=JobState.QUEUED).update(state=JobState.RUNNING)
        return True

    def mark_cancelling(self) -> None:
        """Records that a cancel was requested; the workflow reports the result."""
        Job.objects.filter(pk=self.pk, state__in=ACTIVE).update(cancelling=True)

    def explain_wait(self, note: str) -> None:
        """Stores a sentence about why the job is still queued."""
        Job.objects.filter(pk=self.pk, state=JobState.QUEUED).update(note=note)

    @transaction.atomic
    def cancel_unstarted(self, actor: str) -> bool:
        """Cancels a job whose workflow never started; False where it has."""
        changed = Job.objects.filter(pk=self.pk, state=JobState.QUEUED, workflow_started_at=None).update(
            state=JobState.CANCELLED,
            finished_at=timezone.now(),
            receipt="Cancelled before it started.",
            note="",
        )
        if changed:
            self.stages.update(state=StageState.CANCELLED)
            self.add_event("cancelled", actor=actor, text="Cancelled before it started")
        return bool(changed)

    @transaction.atomic
    def start_again(self, actor: str, reason: str = "") -> bool:
        """Queues a closed job for one more workflow; its finished outputs stay.

        False where another request was faster, or the job is not closed, or nothing in it failed.
        """
        failed = Stage.objects.filter(job=self.pk, state=StageState.FAILED)
        unfinished = Q(state__in=(JobState.FAILED, JobState.CANCELLED))
        failed_in_part = Q(Exists(failed), state=JobState.SUCCEEDED)
        changed = Job.objects.filter(unfinished | failed_in_part, pk=self.pk).update(
            state=JobState.QUEUED,
            workflow_started_at=None,
            finished_at=None,
            cancelling=False,
            receipt="",
            error="",
            note="",
            reason=reason[:500],
            run=F("run") + 1,
        )
        if changed:
            self.stages.exclude(state=StageState.SUCCEEDED).update(
                state=StageState.PENDING, error="", error_kind="", details="", finished_at=None, attempt=0
            )
            self.add_event("restarted", actor=actor, text=f"Restarted: “{reason}”" if reason else "Restarted")
        return bool(changed)

    @transaction.atomic
    def record(self, status: PipelineStatus, events: list[EventRecord], run: int) -> bool:
        """Stores a status reported by workflow run *run*; stale or duplicate reports are ignored.

        Whether the report was news.
        """
        if run != self.run:
            return False  # the job has been started again since
        rows = [Event.from_record(event, job=self, run=run) for event in events]
        Event.objects.bulk_create(rows, ignore_conflicts=True)
        changed = Job.objects.filter(pk=self.pk, run=run, seq__lt=status.seq).update(
            seq=status.seq,
            state=status.state,
            cancelling=status.cancelling,
            receipt=status.receipt,
            error=status.error,
            note="",
            started_at=to_datetime(status.started_at),
            finished_at=to_datetime(status.finished_at),
            workflow_started_at=self.workflow_started_at or timezone.now(),
        )
        if changed:
            for stage in status.stages:
                self.stages.filter(name=stage.name).update(**Stage.fields_from(stage))
        return bool(changed)

    def remove(self) -> bool:
        """Deletes the job and its media; False while it is active."""
        if self.active:
            return False
        outputs = [stage.parsed_output() for stage in self.stages.all()]
        names = {name for output in outputs if output for name in output.names}
        shared = Job.objects.exclude(pk=self.pk).filter(source_name=self.source_name).exists()
        names |= {self.source_name} if self.source_name and not shared else set()
        Upload.objects.filter(job=self).delete()  # a second request for it would start a job without a file
        self.delete()
        for member in list(storage.members(names)):
            storage.remove(member)
        return True

    @transaction.atomic
    def close(self, state: JobState, error: str) -> bool:
        """Ends a job whose workflow is gone without a report (terminated, or its history expired)."""
        # of this very run: it may have been started again since this instance was read
        changed = Job.objects.filter(pk=self.pk, run=self.run, state__in=ACTIVE).update(
            state=state, error=error, finished_at=timezone.now(), cancelling=False, note=""
        )
        if changed:
            self.stages.filter(state__in=(StageState.RUNNING, StageState.PENDING)).update(
                state=StageState.CANCELLED, finished_at=timezone.now()
            )
            self.add_event("closed", text=error)
        return bool(changed)
