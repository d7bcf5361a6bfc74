"""What the accounts no longer keep: ended sessions, counted sign-ins, and old entries of the audit log."""

from __future__ import annotations

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from mediapipe.accounts import audit
from mediapipe.accounts.limits import WINDOW
from mediapipe.accounts.models import AuditEntries, AuditEntry, Session, Tries
from mediapipe.old_rows import ROWS, before, going_rows, remove_rows
from mediapipe.retention import Kind, Removed, in_days


def ended_sessions() -> QuerySet[Session]:
    """Sessions in which nobody is signed in any more."""
    return Session.objects.filter(expire_date__lte=timezone.now())


def old_tries() -> QuerySet[Tries]:
    """Counts of tries to sign in that limit nothing any more."""
    return Tries.objects.filter(since__lt=timezone.now() - WINDOW)


def old_entries() -> AuditEntries:
    """Entries of the audit log that have been kept for their days: none, unless these are set."""
    days = settings.KEEP_DAYS["audit"]
    return AuditEntry.objects.filter(at__lt=before(days)) if days else AuditEntry.objects.none()


def remove_entries() -> Removed:
    """Removes some of them, while the database lets the log change."""
    if not old_entries().exists():
        return Removed()
    with transaction.atomic(), audit.changeable():
        keys = list(old_entries().order_by("pk").values_list("pk", flat=True)[:ROWS])
        many = AuditEntry.objects.filter(pk__in=keys)._raw_delete("default")
    return Removed(many, more=len(keys) == ROWS)


KINDS = [
    Kind(
        "sessions",
        "ended sessions",
        lambda: "until they end",
        lambda: going_rows(ended_sessions(), "expire_date"),
        lambda: remove_rows(ended_sessions()),
    ),
    Kind(
        "tries",
        "counts of tries to sign in",
        lambda: f"{WINDOW.seconds // 60} minutes",
        lambda: going_rows(old_tries(), "since"),
        lambda: remove_rows(old_tries()),
    ),
    Kind(
        "audit",
        "entries of the audit log",
        lambda: in_days(settings.KEEP_DAYS["audit"]),
        lambda: going_rows(old_entries(), "at"),
        remove_entries,
    ),
]
