"""Job: one run of a pipeline on one source, its states, and the verbs that change them.

The database is the memory: workflows report here, so lists and finished jobs need no Temporal. Each verb
compares before it sets: who owns a job's state when is in docs/durability.md. It knows no Temporal, no HTTP.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import Exists, F, Q
from django.utils import timezone

from jobs.models.earlier_version import files_alone_of
from jobs.models.event import Event
from jobs.models.job_queryset import JobManager, JobQuerySet
from jobs.models.job_row import JobRow
from jobs.models.notice import Notice
from jobs.models.pipeline import Pipeline
from jobs.models.removal import Removal
from jobs.models.stage import Stage, to_datetime
from jobs.models.upload import Upload
from jobs.models.wish import CANCEL, DELETE, DELETE_AT_END, FORCE_RESTART, RETRY, Wish
from jobs.pipelines import PipelineDefinition, StageDefinition, for_try
from jobs.state import ACTIVE, EventRecord, JobState, PipelineInput, PipelineStatus, Source, StageState
from mediapipe import storage
from mediapipe.accounts.audit import Act

CLAIM_TIME = timedelta(seconds=10)  # for which nobody else starts a job; longer than a start may take


class Job(JobRow):
    """One run of a pipeline on one source."""

    objects = JobManager()
    with_trash = JobQuerySet.as_manager()

    @classmethod
    @transaction.atomic
    def submit(
        cls, owner: AbstractBaseUser, *, title: str, pipeline: str, source: Source, pk: UUID | None = None
    ) -> Job:
        """A new job and its stages, `queued`; the caller starts its workflow after commit.

        Raises IntegrityError where there is a job *pk* already, KeyError where *owner* has no such pipeline.
        """
        return cls._submit(owner, title, Pipeline.usable_by(owner)[pipeline], source, pk=pk or uuid4())

    @classmethod
    @transaction.atomic
    def submit_try(cls, owner: AbstractBaseUser, chosen: PipelineDefinition, source: Source) -> Job:
        """The same for a try of a pipeline on ten seconds of *source*, whichever version is in use."""
        return cls._submit(owner, f"Try of {chosen.label}", for_try(chosen), source, is_try=True)

    @classmethod
    def _submit(
        cls, owner: AbstractBaseUser, title: str, chosen: PipelineDefinition, source: Source, **fields: Any
    ) -> Job:
        job = cls.objects.create(owner_id=owner.pk, **cls.columns_of(title, chosen, source), **fields)
        Stage.objects.bulk_create(
            Stage(job=job, position=at, name=stage.name, label=stage.label, max_attempts=stage.retry.attempts)
            for at, stage in enumerate(chosen.stages)
        )
        job.add_event("submitted", actor=owner.get_username(), text=f"Submitted: {job.made_by}")
        job.recorded(Act.SUBMIT, owner.get_username(), job.made_by)
        return job

    def workflow_input(self) -> PipelineInput:
        """The workflow's input; finished stages of an earlier run are carried over."""
        rows = list(self.stages.all())
        return PipelineInput(
            job_id=str(self.pk),
            source=self.source,
            stages=[StageDefinition.from_plan(stage) for stage in self.plan],
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
        Job.with_trash.filter(pk=self.pk).update()  # the timeline is part of the job's page
        return Event.objects.create(job=self, kind=kind, stage=stage, actor=actor, text=text)

    def locked(self) -> Job | None:
        """The row of this very run as it is now, locked until the transaction ends."""
        return Job.with_trash.select_for_update().filter(pk=self.pk, run=self.run).first()

    @transaction.atomic
    def keep_wish(self, wish: Wish) -> bool:
        """Stores what a person asks for, once; False where the job can't take it as it now stands."""
        row = self.locked()
        if row is None or row.active == (wish.kind == DELETE):
            return False
        moot = (RETRY, FORCE_RESTART) if wish.kind == CANCEL else ()
        kept = [other for other in row.wishes if other.kind not in moot]
        if not any(other.same(wish) for other in kept):
            kept.append(wish)
            if wish.act:
                row.recorded(wish.act, wish.actor, wish.text)
        cancelling = row.cancelling or wish.kind == CANCEL
        values = [each.as_json() for each in kept]
        Job.with_trash.filter(pk=self.pk).update(kept_wishes=values, cancelling=cancelling)
        return True

    @transaction.atomic
    def drop_wish(self, wish: Wish) -> None:
        """Removes a wish that was taken, or that there is no more use in."""
        row = Job.with_trash.select_for_update().filter(pk=self.pk).first()
        if row and row.wishes:
            values = [each.as_json() for each in row.wishes if not each.same(wish)]
            Job.with_trash.filter(pk=self.pk).update(kept_wishes=values or None)

    def claim(self) -> bool:
        """Takes it upon this process to start the workflow, for CLAIM_TIME.

        False where the job is cancelled, or started, or somebody else is at it: a starter that has died
        loses its claim by time.
        """
        free = Q(claimed_at=None) | Q(claimed_at__lt=timezone.now() - CLAIM_TIME)
        mine = Job.objects.filter(free, pk=self.pk, run=self.run, cancelling=False).unstarted()
        return bool(mine.update(claimed_at=timezone.now()))

    @transaction.atomic
    def mark_started(self) -> bool:
        """Records that the workflow has started; False where the row was closed before it had."""
        row = self.locked()
        if row is None or row.workflow_started_at is not None:
            return True
        state = JobState.RUNNING if row.state == JobState.QUEUED else row.state
        started = Job.objects.filter(pk=self.pk, state__in=ACTIVE)
        return bool(started.update(state=state, workflow_started_at=timezone.now(), note=""))

    def explain_wait(self, note: str) -> None:
        """Stores a sentence about why the job is still queued."""
        Job.objects.filter(pk=self.pk, state=JobState.QUEUED).update(note=note)

    @transaction.atomic
    def cancel_unstarted(self, actor: str, *, unclaimed_for: timedelta | None = None) -> bool:
        """Cancels a job whose workflow nobody has gone to start; False where somebody has.

        *unclaimed_for*: for a caller who knows that there is no workflow; a claim may be that old.
        """
        free = Q(claimed_at=None)
        if unclaimed_for is not None:
            free |= Q(claimed_at__lt=timezone.now() - unclaimed_for)
        row = self.locked()
        kept = [each.as_json() for each in (row.wishes if row else ()) if each.kind == DELETE_AT_END]
        changed = (Job.objects.filter(free, pk=self.pk, run=self.run).unstarted()).update(
            state=JobState.CANCELLED,
            finished_at=timezone.now(),
            receipt="Cancelled before it started.",
            note="",
            cancelling=False,
            kept_wishes=kept or None,
        )
        if changed:
            self.stages.exclude(state=StageState.SUCCEEDED).update(state=StageState.CANCELLED)
            self.add_event("cancelled", actor=actor, text="Cancelled before it started")
            if not self.cancelling:  # else the wish was recorded
                self.recorded(Act.CANCEL, actor, "Cancelled before it started")
            Notice.of_end(self, JobState.CANCELLED)
        return bool(changed)

    @transaction.atomic
    def start_again(self, actor: str, reason: str = "") -> bool:
        """Queues a closed job for one more workflow; its finished outputs stay.

        False where another request was faster, or the job is not closed, or nothing in it failed.
        """
        row = self.locked()
        if row is None or row.being_deleted or Removal.is_under_way(row):
            return False
        failed = Stage.objects.filter(job=self.pk, state=StageState.FAILED)
        unfinished = Q(state__in=(JobState.FAILED, JobState.CANCELLED))
        failed_in_part = Q(Exists(failed), state=JobState.SUCCEEDED)
        changed = self.queue_again(unfinished | failed_in_part, reason)
        if changed:
            self.add_event("restarted", actor=actor, text=f"Restarted: “{reason}”" if reason else "Restarted")
            self.recorded(Act.RESTART, actor, reason)
        return changed

    def queue_again(self, where: Q, reason: str = "") -> bool:
        """Queues the job for one more workflow where it is as *where* says; what has succeeded stays.

        Raises SourceGone where a stage needs a source that was removed.
        """
        changed = Job.objects.filter(where, pk=self.pk).update(
            state=JobState.QUEUED,
            workflow_started_at=None,
            claimed_at=None,
            kept_wishes=None,
            finished_at=None,
            cancelling=False,
            receipt="",
            error="",
            note="",
            reason=reason[:500],
            run=F("run") + 1,
        )
        if changed:
            Removal.make_all_again(self)
            self.stages.exclude(state=StageState.SUCCEEDED).update(
                state=StageState.PENDING, error="", error_kind="", details="", finished_at=None, attempt=0
            )
            Removal.check_source(self)
        return bool(changed)

    @transaction.atomic
    def record(self, status: PipelineStatus, events: list[EventRecord], run: int) -> bool:
        """Stores a status reported by workflow run *run*; stale or duplicate reports are ignored.

        Whether the report was news. A closed row is never opened again by its run, and a run's end is news
        even where its workflow counts from an earlier number: it was reset, or a worker that died had
        reported what was then decided otherwise. So the events of news replace those reported before.
        """
        row = Job.objects.select_for_update().filter(pk=self.pk, run=run).first()
        if row is None or (not row.active and row.workflow_started_at is None):
            return False  # started again since, or closed here before it had started
        active = status.state in ACTIVE
        news = Job.objects.filter(pk=self.pk, run=run, state__in=ACTIVE)
        changed = (news.filter(seq__lt=status.seq) if active else news).update(
            seq=status.seq,
            state=status.state,
            cancelling=active and (status.cancelling or row.cancelling),
            receipt=status.receipt,
            error=status.error,
            note="",
            started_at=to_datetime(status.started_at),
            finished_at=to_datetime(status.finished_at),
            workflow_started_at=row.workflow_started_at or timezone.now(),
            **row.named_by(status),
        )
        if changed:
            Event.store(events, job=row, run=run)
            before = {each.name: each for each in row.stages.all()}
            Notice.of_report(row, {name: each.state for name, each in before.items()}, status)
            for stage in status.stages:
                if (kept := before.get(stage.name)) and kept.take(stage):
                    Stage.count_end(stage)
        return bool(changed)

    def remove(self, actor: str = "") -> bool:
        """Deletes the job and its media, the wish first and the row last; False while it is active."""
        if not self.keep_wish(Wish(DELETE, actor, run=self.run)):
            return False
        for member in files_alone_of(self, with_source=not self.shares_source()):
            storage.remove(member)
        with transaction.atomic():
            Upload.objects.filter(job=self).delete()  # a second request would start a job without a file
            self.delete()
        return True

    def requeue(self) -> bool:
        """Queues the job anew: its row says that this run has started, and Temporal has not seen it."""
        started = Job.objects.filter(pk=self.pk, run=self.run, state__in=ACTIVE)
        return bool(started.update(state=JobState.QUEUED, workflow_started_at=None, claimed_at=None))

    @transaction.atomic
    def close(self, state: JobState, error: str, receipt: str = "") -> bool:
        """Ends a job whose workflow is gone without a report (terminated, or its history expired)."""
        # of this very run: it may have been started again since this instance was read
        changed = Job.objects.filter(pk=self.pk, run=self.run, state__in=ACTIVE).update(
            state=state, error=error, receipt=receipt, finished_at=timezone.now(), cancelling=False, note=""
        )
        if changed:
            self.stages.filter(state__in=(StageState.RUNNING, StageState.PENDING)).update(
                state=StageState.CANCELLED, finished_at=timezone.now()
            )
            self.add_event("closed", text=error or receipt)
            Notice.of_end(self, state, error)
        return bool(changed)
