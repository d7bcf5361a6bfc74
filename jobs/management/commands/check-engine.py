"""Says in a line which engine answers, whether it takes our key, and by which resource."""

from __future__ import annotations

import asyncio
from typing import Any

from django.core.management.base import BaseCommand

from jobs import engine
from mediapipe.management.process import exit_now


class Command(BaseCommand):
    """`manage.py check-engine`."""

    help = "Checks the engine's address, key and resource; creates nothing. Exit status: 0 good, 1 not."

    def handle(self, *args: Any, **options: Any) -> None:
        """Prints the line."""
        good, line = asyncio.run(engine.check())
        (self.stdout if good else self.stderr).write(line)
        exit_now(0 if good else 1)
