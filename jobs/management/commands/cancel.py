"""Cancels a job: what the button does."""

from __future__ import annotations

import asyncio
import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from jobs import control
from jobs.management.commands.status import find, leave


class Command(BaseCommand):
    """`manage.py cancel JOB`."""

    help = "Cancels a job; what is finished is kept."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which job."""
        parser.add_argument("job", help="a job's id")
        parser.add_argument("--reason", default="")

    def handle(self, *args: Any, **options: Any) -> None:
        """Exit status 0: done; 1: not possible, the sentence says why."""
        job = find(options["job"])
        try:
            said = asyncio.run(control.cancel(job, f"{getpass.getuser()} (command)", options["reason"]))
        except (control.NotPossible, control.TemporalUnavailable) as error:
            self.stderr.write(str(error))
            leave(1)
        else:
            self.stdout.write(said)
        leave()
