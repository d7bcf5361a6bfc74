"""Makes, lists and revokes links to what a job has made, for people without an account."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.core.management.base import BaseCommand, CommandParser

from jobs import shares
from jobs.management import remote
from jobs.management.verbs import actor, find_job, perform
from jobs.models import Job
from mediapipe.management.arguments import whole


class Command(BaseCommand):
    """`manage.py share JOB [--days N] [--revoke NUMBER]`."""

    help = "Prints a new link to what a job has made, for people without an account; or ends one."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which job, for how long."""
        parser.add_argument("job", help="a job's id")
        parser.add_argument("--days", type=whole(1, shares.MAX_DAYS), default=7, metavar="N")
        parser.add_argument("--revoke", type=whole(1), metavar="NUMBER", help="end the link of this number")

    def handle(self, *args: Any, **options: Any) -> None:
        """Exit status 0: done; 1: not possible, the sentence says why."""
        number = options["revoke"]
        if elsewhere := remote.from_environment():
            path = "shares" if number is None else f"shares/{number}"
            method = "POST" if number is None else "DELETE"
            about = {"days": options["days"]}
            remote.perform(elsewhere, path, options["job"], about, self.stdout, self.stderr, method=method)
        job = find_job(options["job"])
        perform(self._done(job, options["days"], number), self.stdout, self.stderr)

    async def _done(self, job: Job, days: int, number: int | None) -> str:
        """The new link, or that one was ended. Raises NotPossible."""
        if number is not None:
            return await sync_to_async(shares.revoke)(job, number, actor())
        _, token = await sync_to_async(shares.make)(job, actor(), days)
        return shares.address(token)
