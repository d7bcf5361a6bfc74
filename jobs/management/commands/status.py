"""Prints where a job stands, live."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandParser

from jobs import serialize
from jobs.live import reader
from jobs.management import remote
from jobs.management.verbs import find_job
from mediapipe.management.process import exit_now


class Command(BaseCommand):
    """`manage.py status JOB [--json]`."""

    help = "Prints the live status of a job and of each of its stages."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which job."""
        parser.add_argument("job", help="a job's id")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        """Prints it."""
        if elsewhere := remote.from_environment():
            self._print_elsewhere(remote.find(elsewhere, options["job"]), options["json"])
        job = find_job(options["job"])
        live = asyncio.run(reader.aread(job))
        if options["json"]:
            self.stdout.write(json.dumps(serialize.full(job, live.status)))
            exit_now()
        self.stdout.write(f"{job.title}: {live.status.state}")
        if live.banner:
            self.stdout.write(f"{live.banner} {live.remedy}".strip())
        for stage in live.status.stages:
            percent = "" if stage.progress is None else f"{stage.progress:.0f}%"
            why = str(live.waits.get(stage.name) or stage.error or "")
            attempts = f"{stage.attempt}/{stage.max_attempts}"
            self.stdout.write(f"  {stage.name:12} {stage.state:10} {attempts:6} {percent:6} {why}".rstrip())
        exit_now()

    def _print_elsewhere(self, job: dict[str, Any], as_json: bool) -> NoReturn:
        """The same of a job as another installation's API has it."""
        note = job.pop("note")
        del job["version"]
        if as_json:
            self.stdout.write(json.dumps(job))
            exit_now()
        self.stdout.write(f"{job['title']}: {job['status']}")
        if note:
            self.stdout.write(note)
        for stage in job["stages"]:
            percent = "" if stage["progress"] is None else f"{stage['progress']:.0f}%"
            attempts = f"{stage['attempt']}/{stage['max_attempts']}"
            line = f"  {stage['name']:12} {stage['state']:10} {attempts:6} {percent:6} {stage['error'] or ''}"
            self.stdout.write(line.rstrip())
        exit_now()
