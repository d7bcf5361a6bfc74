"""Rows that have been kept for their days: how many there are, and their removal, some at a time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from mediapipe.retention import Going, Removed

ROWS = 1000  # that one step removes


def before(days: int) -> datetime:
    """What is older than this has been kept for its days."""
    return timezone.now() - timedelta(days=days)


def going_rows(rows: QuerySet[Any], moment: str) -> Going:
    """The *rows* that would go; *moment*: the column by which they are old."""
    return Going(rows.count(), None, rows.order_by(moment).values_list(moment, flat=True).first())


def remove_rows(rows: QuerySet[Any]) -> Removed:
    """Removes some of the *rows*, to which no others belong."""
    keys = list(rows.order_by("pk").values_list("pk", flat=True)[:ROWS])
    many, _ = rows.model._default_manager.filter(pk__in=keys).delete()
    return Removed(many, more=len(keys) == ROWS)
