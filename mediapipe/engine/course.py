"""How far all pieces of a film are together, on whichever machines they are: a row for each that was begun.

It knows numbers and seconds, and neither FFmpeg nor files.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.db import models
from django.db.models import Q, Sum
from django.utils import timezone

SOUND = -1  # the number of a film's sound among its pieces
MAX_AGE = timedelta(seconds=5)  # in which a piece that is at work says how far it is


class PieceCourse(models.Model):
    """How far a piece of a task is, and once it is done how long it took."""

    task = models.ForeignKey("engine.EngineTask", models.CASCADE, related_name="courses")
    number = models.SmallIntegerField()
    seconds = models.FloatField(default=0)  # of the film that are encoded
    speed = models.FloatField(default=0)
    worked = models.FloatField(default=0)  # seconds
    at_work = models.BooleanField(default=False)
    updated_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["task", "number"], name="one_course_of_a_piece")]

    def __str__(self) -> str:
        return f"piece {self.number} of {self.task_id}"


def say(task_id: str, number: int, **about: Any) -> None:
    """Writes how far a piece is."""
    row = PieceCourse(task_id=task_id, number=number, **about, updated_at=timezone.now())
    PieceCourse.objects.bulk_create(
        [row],
        update_conflicts=True,
        unique_fields=["task", "number"],
        update_fields=[*about, "updated_at"],
    )


def worked(task_id: str) -> float:
    """Seconds that a task has encoded its pieces, those that are done."""
    return float(PieceCourse.objects.filter(task=task_id).aggregate(all=Sum("worked"))["all"] or 0)


def is_at_work(task_id: str) -> bool:
    """Whether any of its pieces has lately said how far it is."""
    fresh = timezone.now() - MAX_AGE
    return PieceCourse.objects.filter(task=task_id, at_work=True, updated_at__gt=fresh).exists()


def so_far(task_id: str, seconds: float) -> dict[str, float | None]:
    """Percent, speed and seconds left of a film of so many *seconds*, as its task's row has them."""
    working = Q(at_work=True, updated_at__gt=timezone.now() - MAX_AGE)
    found = PieceCourse.objects.filter(task=task_id).aggregate(
        done=Sum("seconds", filter=Q(at_work=False) | working), speed=Sum("speed", filter=working)
    )
    done = min(seconds, found["done"] or 0)
    speed = found["speed"] or 0
    return {
        "progress": round(min(99.0, done / seconds * 100), 1),
        "speed": round(speed, 2) if speed else None,
        "time_left": round((seconds - done) / speed, 1) if speed else None,
    }


def sweep(active: Iterable[str]) -> int:
    """Removes the rows of tasks that are over, all but those that are *active*; how many."""
    return PieceCourse.objects.exclude(task__status__in=list(active)).delete()[0]
