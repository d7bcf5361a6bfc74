"""Event: one line of a job's timeline. It knows no workflow."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone


class Event(models.Model):
    """A line of a job's timeline: what happened, when, and who did it. Never edited."""

    job = models.ForeignKey("jobs.Job", on_delete=models.CASCADE, related_name="events")
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
