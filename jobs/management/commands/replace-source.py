"""Runs a job again on another source: what the page does, with a file of this machine or a link."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobs import finished
from jobs.management import remote
from jobs.management.sources import Unusable, sent, source_of
from jobs.management.verbs import actor, find_job, perform, why


class Command(BaseCommand):
    """`manage.py replace-source JOB SOURCE [--reason R]`."""

    help = "Runs a job again on another file or link; what it has made stays as earlier versions."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which job, which source."""
        parser.add_argument("job", help="a job's id")
        parser.add_argument("source", help="a file's path, or an http(s) URL")
        parser.add_argument("--reason", default="")

    def handle(self, *args: Any, **options: Any) -> None:
        """Exit status 0: begun; 1: not possible, 2: no such job or source; the sentence says why."""
        try:
            if elsewhere := remote.from_environment():
                body = {**sent(elsewhere, options["source"], self.stderr), **why(options)}
                remote.perform(elsewhere, "source", options["job"], body, self.stdout, self.stderr)
            job = find_job(options["job"])
            source = source_of(options["source"])
        except Unusable as error:
            raise CommandError(str(error), returncode=2) from None
        perform(finished.replace_source(job, source, actor(), options["reason"]), self.stdout, self.stderr)
