"""Room to work: how much of the disk the engine leaves free."""

from __future__ import annotations

import shutil
from pathlib import Path

from django.conf import settings

RESERVE = 256 * 1024 * 1024  # bytes


def free() -> int:
    """Bytes that may still be written."""
    root = Path(settings.WORK_ROOT)
    root.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(root).free - RESERVE


def is_full() -> bool:
    """Whether no task can be taken."""
    return free() <= 0
