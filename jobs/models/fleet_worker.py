"""FleetWorker: a worker as the fleet knows it: where it runs, what it is at, its last sign."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import models
from django.utils import timezone

SILENT_AFTER = timedelta(seconds=15)  # without a sign, after which something is wrong
FORGOTTEN_AFTER = timedelta(days=1)  # without one, after which it is no part of the fleet


class FleetWorker(models.Model):
    """One process of `manage.py worker`, by the name that it keeps when it is started again."""

    name = models.CharField(max_length=200, unique=True)
    machine = models.CharField(max_length=200)
    version = models.CharField(max_length=100, blank=True)
    slots = models.JSONField(default=dict)  # activities at once, by task queue
    doing = models.JSONField(default=list)  # what it is at: [task queue, activity, workflow, unix seconds]
    disk_free = models.BigIntegerField(null=True)  # bytes where it encodes
    started_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(default=timezone.now)
    stopped_at = models.DateTimeField(null=True)  # as it was told to, and not by a fault

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def tell(cls, name: str, **fields: Any) -> None:
        """A sign of the worker *name*, with all that is to be known of it."""
        cls.objects.update_or_create(name=name, defaults={**fields, "seen_at": timezone.now()})

    @classmethod
    def stopped(cls, name: str) -> None:
        """It stops, as it was asked to."""
        now = timezone.now()
        cls.objects.filter(name=name).update(stopped_at=now, seen_at=now, doing=[])

    @classmethod
    def known(cls, now: datetime) -> models.QuerySet[FleetWorker, FleetWorker]:
        """Those that gave a sign within a day."""
        return cls.objects.filter(seen_at__gt=now - FORGOTTEN_AFTER)

    def is_silent(self, now: datetime) -> bool:
        """Whether it should have given a sign and hasn't."""
        return self.stopped_at is None and now - self.seen_at > SILENT_AFTER

    def works(self, now: datetime) -> bool:
        """Whether it takes work."""
        return self.stopped_at is None and not self.is_silent(now)
