"""Stage: one step of a job, as it was last recorded. It knows no workflow."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import models

from jobs.findings import Finding
from jobs.pipelines import known
from jobs.state import Attempt, Output, StageState, StageStatus
from mediapipe.metrics import STAGES, count_failure

if TYPE_CHECKING:
    from uuid import UUID

    from jobs.models.job import Job

REASONS = 8  # why jobs failed, that are named


class Reason(NamedTuple):
    """Why jobs failed: the kind of an error, one of its sentences, and how many jobs it kept from success."""

    kind: str
    sentence: str
    jobs: int


def to_datetime(seconds: float | None) -> datetime | None:
    """Unix seconds as an aware datetime."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def parse_output(value: dict[str, Any]) -> Output:
    """An output as the dataclass it was, from its column, where a newer version may have written more."""
    source = value.get("source")
    findings = [Finding(**known(Finding, each)) for each in value.get("findings") or ()]
    read = {"source": Output(**known(Output, source)) if source else None, "findings": findings}
    return Output(**{**known(Output, value), **read})


class Stage(models.Model):
    """One step of a job, as last recorded."""

    State = StageState

    job = models.ForeignKey("jobs.Job", on_delete=models.CASCADE, related_name="stages")
    position = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=40)
    label = models.CharField(max_length=60)
    state = models.CharField(
        max_length=10,
        choices={s.value: s.value.title() for s in StageState},
        default=StageState.PENDING.value,
    )
    attempt = models.PositiveSmallIntegerField(default=0)
    max_attempts = models.PositiveSmallIntegerField(default=0)
    tries = models.PositiveSmallIntegerField(default=0)
    progress = models.FloatField(null=True, blank=True)
    retry_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    task_id = models.CharField(max_length=200, blank=True)
    engine = models.CharField(max_length=10, default="", db_default="", blank=True)  # as in StageStatus
    output = models.JSONField(null=True, blank=True)
    error = models.TextField(blank=True)
    error_kind = models.CharField(max_length=60, blank=True)
    details = models.TextField(blank=True)
    attempts = models.JSONField(default=list, blank=True)

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["job", "name"], name="one_stage_of_a_name")]
        indexes = [
            models.Index(fields=["error_kind", "state", "-id", "job"], name="stages_by_reason"),
            models.Index(fields=["name", "state", "-id"], name="stages_by_name"),
            models.Index(fields=["state", "-id"], name="stages_by_state"),
        ]

    def __str__(self) -> str:
        return f"{self.label} of {self.job_id}"

    @classmethod
    def usual_seconds(cls, name: str) -> float | None:
        """How long a stage of this *name* takes here: the median of the last hundred; None without any."""
        done = cls.objects.filter(name=name, state=StageState.SUCCEEDED)
        times = done.exclude(started_at=None).exclude(finished_at=None).order_by("-pk")
        took = [
            (to - since).total_seconds() for since, to in times.values_list("started_at", "finished_at")[:100]
        ]
        return median(took) if took else None

    @classmethod
    def failed_by(cls, kind: str) -> models.QuerySet[Stage, Any]:
        """The ids of the jobs in which a stage has failed by an error of this *kind*."""
        return cls.objects.filter(state=StageState.FAILED, error_kind=kind).values("job")

    @classmethod
    def reasons(cls, jobs: models.QuerySet[Job] | list[UUID]) -> list[Reason]:
        """Why *jobs* failed, the most frequent first."""
        stages = cls.objects.filter(job__in=jobs).exclude(error_kind="").order_by()
        kept: dict[str, set[UUID]] = {}
        sentences: dict[str, str] = {}
        # by its state the database would look at all that ever failed
        for state, kind, error, job in stages.values_list("state", "error_kind", "error", "job").iterator():
            if state == StageState.FAILED:
                kept.setdefault(kind, set()).add(job)
                sentences[kind] = max(error, sentences.get(kind, ""))
        frequent = sorted(kept, key=lambda kind: (-len(kept[kind]), kind))[:REASONS]
        return [Reason(kind, sentences[kind], len(kept[kind])) for kind in frequent]

    @staticmethod
    def fields_from(stage: StageStatus) -> dict[str, Any]:
        """The columns of a status that the workflow reported, for `update()`."""
        return {
            "state": stage.state,
            "attempt": stage.attempt,
            "max_attempts": stage.max_attempts,
            "tries": stage.tries,
            "progress": stage.progress,
            "retry_at": to_datetime(stage.retry_at),
            "started_at": to_datetime(stage.started_at),
            "finished_at": to_datetime(stage.finished_at),
            "task_id": stage.task_id or "",
            "engine": stage.engine,
            "output": asdict(stage.output) if stage.output else None,
            "error": stage.error or "",
            "error_kind": stage.error_kind or "",
            "details": stage.details or "",
            "attempts": [asdict(attempt) for attempt in stage.attempts],
        }

    def take(self, stage: StageStatus) -> bool:
        """Writes what a reported status has that the row hasn't; whether its state is another one."""
        fields = self.fields_from(stage)
        if any(getattr(self, name) != value for name, value in fields.items()):
            Stage.objects.filter(pk=self.pk).update(**fields)
        return bool(stage.state != self.state)

    @staticmethod
    def count_end(stage: StageStatus) -> None:
        """Counts the end of a stage for Prometheus; nothing where it hasn't ended."""
        if stage.started_at and stage.finished_at:
            STAGES.labels(stage.name, str(stage.state)).observe(stage.finished_at - stage.started_at)
        if stage.state == StageState.FAILED:
            count_failure(stage.name, stage.error_kind or "unknown")

    def parsed_output(self) -> Output | None:
        """The output column as the dataclass it was; None where the stage has no output."""
        return parse_output(self.output) if self.output else None

    def status(self) -> StageStatus:
        """The stage as last recorded, in the shape that the status query returns."""
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
            output=self.parsed_output(),
            error=self.error or None,
            error_kind=self.error_kind or None,
            details=self.details or None,
            attempts=[Attempt(**known(Attempt, attempt)) for attempt in self.attempts],
            tries=self.tries,
            engine=self.engine,
        )
