"""Retries a failed stage, or a closed job: what the button does."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from django.core.management.base import BaseCommand, CommandParser

from jobs import control
from jobs.management import remote
from jobs.management.verbs import actor, find_job, perform, why


class Command(BaseCommand):
    """`manage.py retry JOB [STAGE] [--force]`."""

    help = "Runs a failed stage of a job again, or all that failed; a closed job is restarted."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which job, which stage."""
        parser.add_argument("job", help="a job's id")
        parser.add_argument("stage", nargs="?", default=None)
        parser.add_argument("--reason", default="")
        parser.add_argument(
            "--force", action="store_true", help="end a run that can't continue, and start the job again"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Exit status 0: done; 1: not possible, the sentence says why."""
        if elsewhere := remote.from_environment():
            stage = f"stages/{quote(options['stage'], safe='')}/retry" if options["stage"] else "retry"
            path = "force-restart" if options["force"] else stage
            remote.perform(elsewhere, path, options["job"], why(options), self.stdout, self.stderr)
        job = find_job(options["job"])
        if options["force"]:
            verb = control.force_restart(job, actor(), options["reason"])
        else:
            verb = control.retry(job, options["stage"], actor(), options["reason"])
        perform(verb, self.stdout, self.stderr)
