"""Turn: who of several processes does what one of them has to do for all. It knows no work.

Whoever did it last does it again when it is due; the others come in where it is overdue. The database's clock
counts, so that theirs may differ.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

THIS_PROCESS = uuid4()  # this process
OVERDUE_FACTOR = 1.5  # times as long as usual


class Turn(models.Model):
    """A piece of work by its name, who did it last, and when they began."""

    name = models.CharField(max_length=40, primary_key=True)
    by = models.UUIDField()
    at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name

    @classmethod
    def take(cls, name: str, every: timedelta, me: UUID = THIS_PROCESS) -> bool:
        """Whether it is this process' turn; then it is nobody else's for a while."""
        due = Q(by=me, at__lte=Now() - every) | Q(at__lte=Now() - OVERDUE_FACTOR * every)
        if cls.objects.filter(due, name=name).update(by=me, at=Now()):
            return True
        return not cls.objects.filter(name=name).exists() and cls._begin(name, me)

    @classmethod
    def give_up(cls, name: str, me: UUID = THIS_PROCESS) -> None:
        """Whoever comes next takes it at once: this process ends."""
        cls.objects.filter(name=name, by=me).delete()

    @classmethod
    def _begin(cls, name: str, me: UUID) -> bool:
        Turn.objects.bulk_create([Turn(name=name, by=me, at=Now())], ignore_conflicts=True)
        return cls.objects.filter(name=name, by=me).exists()
