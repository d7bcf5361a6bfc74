"""What the page of the fleet says of what is no longer kept: what went last, and when it is looked again.

It reads the audit log and Temporal's schedule, and decides nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from asgiref.sync import async_to_sync

from jobs.dashboard.polling import once
from jobs.removal import pruning
from jobs.removal.retention import ACTOR
from mediapipe.accounts.audit import Act
from mediapipe.accounts.models import AuditEntry

ANSWERS_FOR = 20.0  # seconds for which what Temporal says counts


class Pruned(NamedTuple):
    """*entry*: of the last time that something went. *found_nothing*: when that was looked for since."""

    entry: AuditEntry | None
    by: str
    times: pruning.Times | None
    found_nothing: datetime | None


def pruned() -> Pruned:
    """As it is now."""
    times = once("pruned", None, async_to_sync(pruning.times), max_age=ANSWERS_FOR)
    return view(AuditEntry.objects.filter(act=Act.PRUNE).first(), times)


def view(entry: AuditEntry | None, times: pruning.Times | None) -> Pruned:
    """The same of the last *entry*, and of what Temporal says."""
    looked = times.last if times and not times.runs else None
    if entry and looked and looked <= entry.at:
        looked = None
    return Pruned(entry, entry.actor if entry and entry.actor != ACTOR else "", times, looked)
