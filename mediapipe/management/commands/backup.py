"""Makes a backup of the installation while it runs; `restore` puts one back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from mediapipe import home, temporal
from mediapipe.backup import BackupError, Copy, copy_sqlite, make, postgres, put_sqlite

TEMPORAL = "temporal.sqlite3"
SQLITE = "database.sqlite3"
DUMP = "database.dump"


def libpq() -> dict[str, str]:
    """Postgres's address and its TLS in libpq's own variables: no password stands in a list of processes."""
    names = {
        "PGHOST": "HOST",
        "PGPORT": "PORT",
        "PGUSER": "USER",
        "PGPASSWORD": "PASSWORD",
        "PGDATABASE": "NAME",
    }
    given = {variable: str(settings.DATABASE.get(name) or "") for variable, name in names.items()}
    for name in ("sslmode", "sslrootcert", "sslcert", "sslkey"):
        given[f"PG{name.upper()}"] = str(settings.DATABASE.get("OPTIONS", {}).get(name) or "")
    return {variable: value for variable, value in given.items() if value}


def uses_sqlite() -> bool:
    """Whether the rows are in a file."""
    return "sqlite3" in settings.DATABASE["ENGINE"]


def copies() -> dict[str, Copy]:
    """How each database is copied; Temporal's first, so that each of its workflows has a row.

    Raises BackupError where there is none: a folder without rows is no installation.
    """
    found = {}
    if not temporal.is_cluster() and (settings.HOME / TEMPORAL).exists():
        found[TEMPORAL] = copy_sqlite(settings.HOME / TEMPORAL)
    if uses_sqlite():
        database = Path(settings.DATABASE["NAME"])
        if not database.exists():
            raise BackupError(
                f"There is no {database}, so there is nothing to save. Set MEDIAPIPE_HOME, or DATABASE_URL,"
                " as the installation itself has it."
            )
        return {**found, SQLITE: copy_sqlite(database)}
    return {**found, DUMP: postgres("pg_dump", "--format=custom", settings=libpq())}


def puts() -> dict[str, Copy]:
    """How each is put back; the rows last: without them the home counts as empty."""
    found = {} if temporal.is_cluster() else {TEMPORAL: put_sqlite(settings.HOME / TEMPORAL)}
    if uses_sqlite():
        return {**found, SQLITE: put_sqlite(Path(settings.DATABASE["NAME"]))}
    into = f"--dbname={settings.DATABASE['NAME']}"
    options = ("--single-transaction", "--exit-on-error", "--no-owner", into)
    return {**found, DUMP: postgres("pg_restore", *options, settings=libpq())}


class Command(BaseCommand):
    """`manage.py backup FOLDER`."""

    help = "Copies databases, keys and media into a new folder inside FOLDER, while everything runs."
    requires_system_checks: list[str] = []  # what is wrong with a set-up must not keep it from being saved

    def add_arguments(self, parser: CommandParser) -> None:
        """Where to."""
        parser.add_argument("folder", type=Path, help="where backups are kept: another disk")

    def handle(self, *args: Any, **options: Any) -> None:
        """Prints the new backup's folder, and what is kept elsewhere."""
        try:
            self.stdout.write(str(make(settings.HOME, options["folder"], copies())))
        except BackupError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            remedy = "Free some space, or choose" if error.errno in home.OF_THE_DISK else "Choose"
            raise CommandError(
                f"The backup can’t be written: {error.strerror} ({error.filename or options['folder']})."
                f" Nothing of it was left. {remedy} another folder."
            ) from error
        if settings.S3_BUCKET:
            self.stderr.write(f"The media are in the bucket {settings.S3_BUCKET}, and not in this backup.")
        if temporal.is_cluster():
            self.stderr.write("Temporal’s history is in its cluster, and not in this backup.")
