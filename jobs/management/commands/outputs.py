"""Lists the media that no job refers to any more, and removes it with --remove."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from jobs.dashboard.formatting import filesize
from jobs.removal import orphans
from mediapipe import storage


class Command(BaseCommand):
    """`manage.py outputs [--remove] [--older-than HOURS]`."""

    help = (
        "Lists sources and outputs that no job refers to: of deleted jobs, and of attempts that were retried."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Whether to remove them, and how old they must be."""
        parser.add_argument("--remove", action="store_true")
        parser.add_argument("--older-than", type=float, default=24, metavar="HOURS", help="24 by default")

    def handle(self, *args: Any, **options: Any) -> None:
        """Prints each file and its size, and what they come to."""
        total = 0
        count = 0
        for name, length in list(orphans.orphaned_files(before=time.time() - options["older_than"] * 3600)):
            total += length
            count += 1
            self.stdout.write(f"{filesize(length):>9}  {name}")
            if options["remove"]:
                storage.remove(name)
        files = "1 file" if count == 1 else f"{count} files"
        result = "Removed." if options["remove"] else "Add --remove to remove them."
        self.stdout.write(
            f"{files}, {filesize(total)}. {result}" if count else "Every file belongs to a job."
        )
