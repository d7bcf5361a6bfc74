"""Notice: an event of a job that somebody may want to hear of. It knows no channels.

Written in the transaction that changes the job's row, so that none is lost and none is sent of a change that
didn't come to be; jobs.notifications.outbox takes it from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Q
from django.utils import timezone

from jobs.notifications import events
from jobs.state import JobState, PipelineStatus

if TYPE_CHECKING:
    from jobs.models.job import Job


class Notice(models.Model):
    """Something happened to a job; *handled*: whoever wants to know has a delivery of it."""

    job = models.ForeignKey("jobs.Job", on_delete=models.CASCADE, related_name="notices")
    key = models.CharField(max_length=160, unique=True)  # the same key is the same event
    type = models.CharField(max_length=30)
    stage = models.CharField(max_length=40, blank=True)
    text = models.TextField(blank=True)
    at = models.DateTimeField(default=timezone.now, db_index=True)
    handled = models.BooleanField(default=False)

    class Meta:
        ordering = ["at", "id"]
        indexes = [models.Index(fields=["id"], name="notices_to_handle", condition=Q(handled=False))]

    def __str__(self) -> str:
        return self.type

    @classmethod
    def store(cls, job: Job, happened: list[events.Happened], mark: str | int) -> None:
        """Keeps what has happened to *job*, each once; *mark* tells an event from its like in this run."""
        rows = (
            Notice(job=job, key=f"{job.pk}/{job.run}/{mark}/{each.type}/{each.stage}", **each._asdict())
            for each in happened
        )
        Notice.objects.bulk_create(rows, ignore_conflicts=True)

    @classmethod
    def of_report(cls, row: Job, stages: Mapping[str, str], status: PipelineStatus) -> None:
        """What *status* has that the row of the job, and its *stages* by their names, didn't have before."""
        if happened := events.changes(row.state, stages, status):
            cls.store(row, happened, status.seq)

    @classmethod
    def of_end(cls, job: Job, state: JobState, text: str = "") -> None:
        """The end of a job that no workflow reported."""
        cls.store(job, [events.Happened(events.OF_STATES[state], text=text)], "end")
