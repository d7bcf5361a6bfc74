"""What is no longer to be kept: each part says what of its own would go, and removes it, some at a time.

The parts are named in the settings; this knows none of them. It is harmless to do twice at once, or to be
killed at: what is left is found again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from django.conf import settings
from django.utils.module_loading import import_string


class Going(NamedTuple):
    """What would go: how many, how many bytes of files (None: no files), the oldest one’s moment."""

    many: int = 0
    size: int | None = None
    oldest: datetime | None = None


class Removed(NamedTuple):
    """What one step has removed, and whether there may be more."""

    many: int = 0
    size: int = 0
    more: bool = False


@dataclass(frozen=True)
class Kind:
    """Something that is kept for a time: its *name* for programs, and in the plural, in words.

    *kept*: for how long, in words. *remove*: one step, of some seconds; an OSError ends this kind alone.
    """

    name: str
    words: str
    kept: Callable[[], str]
    going: Callable[[], Going]
    remove: Callable[[], Removed]


def kinds() -> list[Kind]:
    """All of them, in the order in which they are looked at."""
    return [kind for name in settings.RETENTION for kind in import_string(name)]


def in_days(count: int) -> str:
    """For how long, in words; 0 is for ever."""
    return "for ever" if not count else "1 day" if count == 1 else f"{count} days"
