"""Removal: what of a job was removed since it was kept for its days, in words; it knows no storage.

A row says so before the first file goes, and *done* when none is left: a kill in between is finished later.
"""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.timezone import localtime

from jobs.models.job_row import JobRow
from jobs.models.stage import Stage
from jobs.state import StageState
from mediapipe.retention import in_days

SOURCE = "source"
OUTPUTS = "outputs"
TIMELINE = "timeline"
WHAT = {
    SOURCE: "The source was removed on {} (kept {}).",
    OUTPUTS: "The outputs were removed on {} (kept {}).",
    TIMELINE: "The timeline until {} was removed (kept {}).",
}
ALL_AGAIN = "Make one of them again, and all of them are made."
ANOTHER_SOURCE = "Replace the source to run this job again."
UNDER_WAY = "Files of this job are being removed. Try again in a minute."
AS_NOTHING: dict[str, object] = {"started_at": None, "task_id": "", "progress": None, "attempts": []}


class SourceGone(Exception):
    """A stage needs the source, which was removed; the text says what to do."""


class Removal(models.Model):
    """That the source, the outputs or the timeline of a job was removed; *days*: for how many it was kept."""

    job = models.ForeignKey("jobs.Job", on_delete=models.CASCADE, related_name="removals")
    what = models.CharField(max_length=10)
    days = models.PositiveIntegerField()
    at = models.DateTimeField(default=timezone.now)
    done = models.BooleanField(default=False)

    class Meta:
        ordering = ["what"]
        constraints = [models.UniqueConstraint(fields=["job", "what"], name="removed_once")]
        indexes = [
            models.Index(fields=["what"], name="removals_under_way", condition=models.Q(done=False)),
        ]

    def __str__(self) -> str:
        return WHAT[self.what].format(f"{localtime(self.at):%-d %b %Y}", in_days(self.days))

    @classmethod
    def is_under_way(cls, job: JobRow) -> bool:
        """Whether files of the job are about to go: it rests until they have."""
        return cls.objects.filter(job=job.pk, done=False).exists()

    @classmethod
    def sentences(cls, job: JobRow) -> list[str]:
        """What was removed of the job, and what can be done about it."""
        rows = {row.what: str(row) for row in cls.objects.filter(job=job.pk)}
        if SOURCE in rows:
            rows[SOURCE] = f"{rows[SOURCE]} {ANOTHER_SOURCE}"
        elif OUTPUTS in rows:
            rows[OUTPUTS] = f"{rows[OUTPUTS]} {ALL_AGAIN}"
        return list(rows.values())

    @classmethod
    def make_all_again(cls, job: JobRow) -> None:
        """Where the outputs of a job that is queued again are gone, no stage counts as done any more."""
        if cls.objects.filter(job=job.pk, what=OUTPUTS).delete()[0]:
            done = Stage.objects.filter(job=job.pk, state=StageState.SUCCEEDED)
            done.update(state=StageState.PENDING, **AS_NOTHING)

    @classmethod
    def check_source(cls, job: JobRow) -> None:
        """Raises SourceGone where a stage that waits works on the source, and that was removed."""
        row = type(job)._base_manager.only("source_url", "source_name", "plan").get(pk=job.pk)
        if row.source_url or row.source_name:
            return
        names = [stage["name"] for stage in row.plan if not stage["needs"]]
        if Stage.objects.filter(job=job.pk, state=StageState.PENDING, name__in=names).exists():
            said = cls.objects.filter(job=job.pk, what=SOURCE).first()
            raise SourceGone(f"{said or 'The source is gone.'} {ANOTHER_SOURCE}")
