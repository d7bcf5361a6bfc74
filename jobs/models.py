"""Job, Stage, Event and Upload: states, and the verbs that change them.

The database is the memory: what a workflow did is recorded here, so lists, history and finished
jobs never ask Temporal. Nothing here knows Temporal or HTTP.
"""

from __future__ import annotations

import uuid
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import models, transaction
from django.db.models import Exists, Q
from django.urls import reverse
from django.utils import timezone

from jobs import pipelines
from jobs.pipelines import JobState, Output, PipelineInput, PipelineStatus, StageState, StageStatus
from mediapipe import files


def moment(seconds: float | None) -> datetime | None:
    """Unix seconds as an aware datetime."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


class JobQuerySet(models.QuerySet["Job"]):
    """The questions asked of many jobs."""

    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> JobQuerySet:
        """Staff see all jobs, an editor sees their own."""
        if getattr(user, "is_staff", False):
            return self
        return self.filter(owner_id=user.pk)

    def active(self) -> JobQuerySet:
        """Jobs that may still change by themselves or by a person."""
        return self.filter(state__in=pipelines.ACTIVE)

    def unstarted(self, older_than: timedelta = timedelta(0)) -> JobQuerySet:
        """Jobs whose workflow isn't known to have started."""
        return self.filter(
            state=JobState.QUEUED, workflow_started_at=None, created_at__lte=timezone.now() - older_than
        )


class Job(models.Model):
    """One run of a pipeline on one source."""

    State = JobState

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="jobs")
    title = models.CharField(max_length=300)
    pipeline = models.CharField(max_length=40, default=pipelines.DEFAULT)
    plan = models.JSONField(default=list)  # the pipeline's stages as they were at submission
    state = models.CharField(
        max_length=10, choices={s.value: s.value.title() for s in JobState}, default=JobState.QUEUED
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
    note = models.TextField(blank=True)  # why it is queued, in plain words
    seq = models.IntegerField(default=0)  # of the last recorded status
    run = models.IntegerField(default=1)  # workflows started for this job
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

    def get_absolute_url(self) -> str:
        """The job's page."""
        return reverse("jobs:detail", args=[self.pk])

    @classmethod
    @transaction.atomic
    def submit(cls, owner: AbstractBaseUser, *, title: str, pipeline: str, source: pipelines.Source) -> Job:
        """A new job and its stages, `queued`. The caller starts its workflow after commit."""
        stages = pipelines.PIPELINES[pipeline].stages
        job = cls.objects.create(
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
        job.happened("submitted", actor=owner.get_username(), text=f"{title} was submitted")
        return job

    @property
    def workflow_id(self) -> str:
        """The id of this job's workflow."""
        return f"media-{self.pk}"

    @property
    def active(self) -> bool:
        """Whether it may still change."""
        return self.state in pipelines.ACTIVE

    @property
    def source(self) -> pipelines.Source:
        """What the job works on."""
        return pipelines.Source(self.source_url, self.source_name, self.source_filename, self.source_size)

    def workflow_input(self) -> PipelineInput:
        """What the workflow gets; the finished outputs of an earlier run are carried over."""
        stages = [
            pipelines.Stage(**{**stage, "retry": pipelines.RetryPolicy(**stage["retry"])})
            for stage in self.plan
        ]
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
        )

    def status(self) -> PipelineStatus:
        """The job as last recorded, in the words of the status query."""
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

    def happened(self, kind: str, *, stage: str = "", actor: str = "", text: str = "") -> Event:
        """Adds a line to the job's timeline that no workflow told us."""
        return Event.objects.create(job=self, kind=kind, stage=stage, actor=actor, text=text)

    @transaction.atomic
    def mark_started(self) -> bool:
        """The workflow is known to run; False where the job was cancelled a moment before."""
        row = Job.objects.select_for_update().get(pk=self.pk)
        if row.state == JobState.CANCELLED and row.run == self.run:
            return False
        Job.objects.filter(pk=self.pk, workflow_started_at=None).update(
            workflow_started_at=timezone.now(), note=""
        )
        Job.objects.filter(pk=self.pk, state=JobState.QUEUED).update(state=JobState.RUNNING)
        return True

    def mark_cancelling(self) -> None:
        """A cancel was asked for; the workflow will say what came of it."""
        Job.objects.filter(pk=self.pk, state__in=pipelines.ACTIVE).update(cancelling=True)

    def explain_wait(self, note: str) -> None:
        """Says in plain words why the job is still queued."""
        Job.objects.filter(pk=self.pk, state=JobState.QUEUED).update(note=note)

    @transaction.atomic
    def cancel_unstarted(self, actor: str) -> bool:
        """Cancels a job whose workflow never started; False where it has."""
        changed = Job.objects.filter(pk=self.pk, state=JobState.QUEUED, workflow_started_at=None).update(
            state=JobState.CANCELLED,
            finished_at=timezone.now(),
            receipt="Cancelled before it started: nothing had been handed over.",
            note="",
        )
        if changed:
            self.stages.update(state=StageState.CANCELLED)
            self.happened("cancelled", actor=actor, text="Cancelled before it started")
        return bool(changed)

    @transaction.atomic
    def start_again(self, actor: str, reason: str = "") -> bool:
        """Makes a closed job `queued` for one more workflow; its finished outputs are kept.

        False where another request was faster, or the job isn't closed or has nothing left to do.
        """
        failed = Stage.objects.filter(job=self.pk, state=StageState.FAILED)
        again = Q(state__in=(JobState.FAILED, JobState.CANCELLED)) | Q(
            Exists(failed), state=JobState.SUCCEEDED
        )
        changed = Job.objects.filter(again, pk=self.pk).update(
            state=JobState.QUEUED,
            workflow_started_at=None,
            finished_at=None,
            cancelling=False,
            receipt="",
            error="",
            note="",
            reason=reason[:500],
            run=models.F("run") + 1,
        )
        if changed:
            self.stages.exclude(state=StageState.SUCCEEDED).update(
                state=StageState.PENDING, error="", error_kind="", details="", finished_at=None, attempt=0
            )
            self.happened("restarted", actor=actor, text=reason or "Started again; finished outputs are kept")
        return bool(changed)

    @transaction.atomic
    def record(self, status: PipelineStatus, events: list[pipelines.EventRecord]) -> bool:
        """Takes over what the workflow tells; an old or repeated telling changes nothing."""
        Event.objects.bulk_create(
            [
                Event(
                    job=self,
                    run=self.run,
                    seq=event.seq,
                    at=datetime.fromtimestamp(event.at, UTC),
                    kind=event.kind,
                    stage=event.stage,
                    actor=event.actor,
                    text=event.text,
                )
                for event in events
            ],
            ignore_conflicts=True,
        )
        changed = Job.objects.filter(pk=self.pk, seq__lt=status.seq).update(
            seq=status.seq,
            state=status.state,
            cancelling=status.cancelling,
            receipt=status.receipt,
            error=status.error,
            note="",
            started_at=moment(status.started_at),
            finished_at=moment(status.finished_at),
            workflow_started_at=self.workflow_started_at or timezone.now(),
        )
        if changed:
            for stage in status.stages:
                self.stages.filter(name=stage.name).update(**Stage.fields_from(stage))
        return bool(changed)

    @transaction.atomic
    def close(self, state: JobState, error: str) -> bool:
        """Settles a job whose workflow ended behind our back (terminated, or its history expired)."""
        changed = Job.objects.filter(pk=self.pk, state__in=pipelines.ACTIVE).update(
            state=state, error=error, finished_at=timezone.now(), cancelling=False, note=""
        )
        if changed:
            self.stages.filter(state__in=(StageState.RUNNING, StageState.PENDING)).update(
                state=StageState.CANCELLED, finished_at=timezone.now()
            )
            self.happened("closed", text=error)
        return bool(changed)


class Stage(models.Model):
    """One step of a job, as last recorded."""

    State = StageState

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="stages")
    position = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=40)
    label = models.CharField(max_length=60)
    state = models.CharField(
        max_length=10, choices={s.value: s.value.title() for s in StageState}, default=StageState.PENDING
    )
    attempt = models.PositiveSmallIntegerField(default=0)
    max_attempts = models.PositiveSmallIntegerField(default=0)
    tries = models.PositiveSmallIntegerField(default=0)
    progress = models.FloatField(null=True, blank=True)
    retry_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    task_id = models.CharField(max_length=200, blank=True)
    output = models.JSONField(null=True, blank=True)
    error = models.TextField(blank=True)
    error_kind = models.CharField(max_length=60, blank=True)
    details = models.TextField(blank=True)
    attempts = models.JSONField(default=list, blank=True)

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["job", "name"], name="one_stage_of_a_name")]

    def __str__(self) -> str:
        return f"{self.label} of {self.job_id}"

    @staticmethod
    def fields_from(stage: StageStatus) -> dict[str, Any]:
        """The row's values for what the workflow tells of the stage."""
        return {
            "state": stage.state,
            "attempt": stage.attempt,
            "max_attempts": stage.max_attempts,
            "tries": stage.tries,
            "progress": stage.progress,
            "retry_at": moment(stage.retry_at),
            "started_at": moment(stage.started_at),
            "finished_at": moment(stage.finished_at),
            "task_id": stage.task_id or "",
            "output": asdict(stage.output) if stage.output else None,
            "error": stage.error or "",
            "error_kind": stage.error_kind or "",
            "details": stage.details or "",
            "attempts": [asdict(attempt) for attempt in stage.attempts],
        }

    def made(self) -> Output | None:
        """The stage's output."""
        return Output(**self.output) if self.output else None

    def status(self) -> StageStatus:
        """The stage as the status query would tell it."""
        return StageStatus(
            name=self.name,
            label=self.label,
            state=StageState(self.state),
            attempt=self.attempt,
            max_attempts=self.max_attempts,
            progress=self.progress,
            started_at=self.started_at.timestamp() if self.started_at else None,
            finished_at=self.finished_at.timestamp() if self.finished_at else None,
            retry_at=self.retry_at.timestamp() if self.retry_at else None,
            task_id=self.task_id or None,
            output=self.made(),
            error=self.error or None,
            error_kind=self.error_kind or None,
            details=self.details or None,
            attempts=[pipelines.Attempt(**attempt) for attempt in self.attempts],
            tries=self.tries,
        )


class Event(models.Model):
    """A line of a job's timeline: what happened, when, and who did it. Never edited."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="events")
    run = models.IntegerField(default=0)  # 0: told by the dashboard, not by a workflow
    seq = models.IntegerField(null=True, blank=True)
    at = models.DateTimeField(default=timezone.now)
    kind = models.CharField(max_length=30)
    stage = models.CharField(max_length=40, blank=True)
    actor = models.CharField(max_length=150, blank=True)
    text = models.TextField(blank=True)

    class Meta:
        ordering = ["at", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["job", "run", "seq"], condition=Q(seq__isnull=False), name="an_event_is_recorded_once"
            )
        ]

    def __str__(self) -> str:
        return self.text or self.kind


class Upload(models.Model):
    """A file on its way in by tus: how long it will be, whose it is, and the job it became.

    How much has arrived is the size of its part file, not a column that could disagree.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="uploads")
    length = models.BigIntegerField()
    filename = models.CharField(max_length=300, blank=True)
    metadata = models.TextField(blank=True)
    pipeline = models.CharField(max_length=40, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    sha256 = models.CharField(max_length=64, blank=True)
    job = models.OneToOneField(Job, null=True, blank=True, on_delete=models.SET_NULL, related_name="upload")

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.filename or str(self.pk)


def link(output: Output | None) -> str:
    """A path or URL at which a browser gets the output; ours are signed anew."""
    if output is None:
        return ""
    return files.link(output.name) if output.name else output.url
