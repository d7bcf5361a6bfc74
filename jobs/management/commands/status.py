"""Prints where a job stands, live."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobs import serialize
from jobs.live import live as read_live
from jobs.models import Job
from jobs.state import workflow_id


def find(text: str) -> Job:
    """The job of this id (or workflow id). Raises CommandError, exit status 2."""
    try:
        return Job.objects.get(pk=text.removeprefix(workflow_id("")))
    except (Job.DoesNotExist, ValidationError):
        raise CommandError(f"There is no job {text!r}.", returncode=2) from None


def leave(code: int = 0) -> None:
    """Ends the process: the SDK's threads may crash a Python that is ending (temporalio/sdk-python#300)."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class Command(BaseCommand):
    """`manage.py status JOB [--json]`."""

    help = "Prints the live status of a job and of each of its stages."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which job."""
        parser.add_argument("job", help="a job's id")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        """Prints it."""
        job = find(options["job"])
        live = asyncio.run(read_live(job))
        if options["json"]:
            self.stdout.write(json.dumps(serialize.full(job, live.status)))
            leave()
        self.stdout.write(f"{job.title}: {live.status.state}")
        if live.banner:
            self.stdout.write(live.banner)
        for stage in live.status.stages:
            percent = "" if stage.progress is None else f"{stage.progress:.0f} %"
            why = str(live.waits.get(stage.name) or stage.error or "")
            attempts = f"{stage.attempt}/{stage.max_attempts}"
            self.stdout.write(f"  {stage.name:12} {stage.state:10} {attempts:6} {percent:6} {why}".rstrip())
        leave()
