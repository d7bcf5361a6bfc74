"""Cancels a job: what the button does."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from jobs import control
from jobs.management import remote
from jobs.management.verbs import actor, find_job, perform, why


class Command(BaseCommand):
    """`manage.py cancel JOB`."""

    help = "Cancels a job; its finished outputs are kept."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which job."""
        parser.add_argument("job", help="a job's id")
        parser.add_argument("--reason", default="")

    def handle(self, *args: Any, **options: Any) -> None:
        """Exit status 0: done; 1: not possible, the sentence says why."""
        if elsewhere := remote.from_environment():
            remote.perform(elsewhere, "cancel", options["job"], why(options), self.stdout, self.stderr)
        job = find_job(options["job"])
        perform(control.cancel(job, actor(), options["reason"]), self.stdout, self.stderr)
