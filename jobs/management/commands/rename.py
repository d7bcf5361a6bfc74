"""Gives a job another title: what the field on its page does."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from jobs import control
from jobs.management import remote
from jobs.management.verbs import actor, find_job, perform


class Command(BaseCommand):
    """`manage.py rename JOB TITLE`."""

    help = "Gives a job another title."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which job, which title."""
        parser.add_argument("job", help="a job's id")
        parser.add_argument("title")

    def handle(self, *args: Any, **options: Any) -> None:
        """Exit status 0: done; 1: not possible, the sentence says why."""
        if elsewhere := remote.from_environment():
            title = {"title": options["title"]}
            remote.perform(elsewhere, "rename", options["job"], title, self.stdout, self.stderr)
        perform(control.rename(find_job(options["job"]), options["title"], actor()), self.stdout, self.stderr)
