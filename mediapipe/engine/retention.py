"""What the engine no longer keeps: the records of tasks that are over. The files of their outputs stay."""

from __future__ import annotations

from django.conf import settings
from django.db.models import QuerySet

from mediapipe.engine.models import KEY_LIFETIME, EngineTask
from mediapipe.old_rows import before, going_rows, remove_rows
from mediapipe.retention import Kind, in_days


def days() -> int:
    """For how many they are kept; 0: for ever. A job that waits for a person may ask for one again."""
    least = max(KEY_LIFETIME.days, settings.HOLD_DAYS) + 1
    return max(settings.KEEP_DAYS["tasks"], least) if settings.KEEP_DAYS["tasks"] else 0


def old_tasks() -> QuerySet[EngineTask]:
    """Tasks that are over, and have been for these days."""
    if not days():
        return EngineTask.objects.none()
    over = [status for status in EngineTask.Status if status not in EngineTask.ACTIVE]
    then = before(days())
    return EngineTask.objects.filter(status__in=over, created_at__lt=then, finished_at__lt=then)


KINDS = [
    Kind(
        "tasks",
        "records of the engine’s tasks",
        lambda: in_days(days()),
        lambda: going_rows(old_tasks(), "created_at"),
        lambda: remove_rows(old_tasks()),
    ),
]
