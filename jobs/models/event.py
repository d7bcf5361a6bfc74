"""Event: one line of a job's timeline. It knows no workflow."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Q
from django.utils import timezone

from jobs.state import EventRecord

if TYPE_CHECKING:
    from jobs.models.job import Job


class Event(models.Model):
    """A line of a job's timeline: what happened, when, and who did it. Never edited."""

    job = models.ForeignKey("jobs.Job", on_delete=models.CASCADE, related_name="events")
    run = models.IntegerField(default=0)  # 0: written by the dashboard, not reported by a workflow
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

    @classmethod
    def store(cls, records: list[EventRecord], *, job: Job, run: int) -> None:
        """Stores what workflow run *run* of *job* reported, in place of what it reported before."""
        if records:
            Event.objects.filter(job=job, run=run, seq__gte=records[0].seq).delete()
            Event.objects.bulk_create(cls.from_record(record, job=job, run=run) for record in records)

    @classmethod
    def from_record(cls, record: EventRecord, *, job: Job, run: int) -> Event:
        """An unsaved row of what workflow run *run* of *job* reported."""
        return cls(
            job=job,
            run=run,
            seq=record.seq,
            at=datetime.fromtimestamp(record.at, UTC),
            kind=record.kind,
            stage=record.stage,
            actor=record.actor,
            text=record.text,
        )
