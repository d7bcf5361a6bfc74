"""Puts a backup into an empty home, from which `up` continues the jobs that were running."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

from mediapipe.backup import BackupError, newest, put_back
from mediapipe.management.commands.backup import puts, uses_sqlite


class Command(BaseCommand):
    """`manage.py restore BACKUP`."""

    help = "Puts a backup back, after it has read and checked all of it. The home must be empty."
    requires_system_checks: list[str] = []  # there is nothing to check yet

    def add_arguments(self, parser: CommandParser) -> None:
        """Which backup."""
        parser.add_argument("backup", type=Path, help="a backup, or the folder of several: then the newest")

    def handle(self, *args: Any, **options: Any) -> None:
        """Checks, puts back, and says what to do next."""
        backup = newest(options["backup"])
        if backup is None:
            raise CommandError(
                f"There is no backup in {options['backup']}. Name a folder that `manage.py backup` has"
                " printed, or the one in which it lies."
            )
        with open(settings.HOME / "up.lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CommandError("mediapipe is running here. Stop it first.") from None
            if self._is_used():
                raise CommandError(
                    f"There are jobs here already (MEDIAPIPE_HOME is {settings.HOME}), and a backup would"
                    " replace them. Set MEDIAPIPE_HOME to a new folder, and DATABASE_URL, where you use it,"
                    " to an empty database."
                )
            try:
                put_back(backup, settings.HOME, puts())
            except BackupError as error:
                raise CommandError(str(error)) from error
            except OSError as error:
                raise CommandError(
                    f"The backup can’t be put back: {error.strerror} ({error.filename}). Free some space and"
                    " run the same command again."
                ) from error
        self.stdout.write(f"{backup} is back in {settings.HOME}. Start it: manage.py up")

    def _is_used(self) -> bool:
        if uses_sqlite():
            return Path(settings.DATABASE["NAME"]).exists()
        return bool(connection.introspection.table_names())
