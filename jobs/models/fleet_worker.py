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
    stopped_at = models.DateTimeField(null=True)  # as it was asked to, and not by a fault
    takes = models.BooleanField(default=True, db_default=True)  # the engine's work, by its last sign
    paused_at = models.DateTimeField(null=True)  # by a person; each start under this name heeds it
    paused_by = models.CharField(max_length=150, blank=True, db_default="")
    paused_why = models.CharField(max_length=200, blank=True, db_default="")

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
    def is_paused(cls, name: str) -> bool:
        """Whether the worker *name* is to take none of the engine's work."""
        return cls.objects.filter(name=name, paused_at__isnull=False).exists()

    def pause(self, who: str, why: str) -> bool:
        """Has it take nothing more of the engine's; False where somebody has paused it already."""
        now = timezone.now()
        fresh = FleetWorker.objects.filter(pk=self.pk, paused_at=None)
        return bool(fresh.update(paused_at=now, paused_by=who[:150], paused_why=why[:200]))

    def resume(self) -> bool:
        """Has it take work again; False where nobody has paused it."""
        paused = FleetWorker.objects.filter(pk=self.pk, paused_at__isnull=False)
        return bool(paused.update(paused_at=None, paused_by="", paused_why=""))

    @classmethod
    def known(cls, now: datetime) -> models.QuerySet[FleetWorker, FleetWorker]:
        """Those that gave a sign within a day."""
        return cls.objects.filter(seen_at__gt=now - FORGOTTEN_AFTER)

    def is_silent(self, now: datetime) -> bool:
        """Whether it should have given a sign and hasn't."""
        return self.stopped_at is None and now - self.seen_at > SILENT_AFTER

    def runs(self, now: datetime) -> bool:
        """Whether it gives signs."""
        return self.stopped_at is None and not self.is_silent(now)

    def works(self, now: datetime) -> bool:
        """Whether it takes work."""
        return self.runs(now) and self.paused_at is None and self.takes
