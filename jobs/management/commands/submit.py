"""Starts a job from the command line, and waits for it with --wait: the client for scripts."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandParser

from jobs import control, pipelines, serialize
from jobs.dashboard.forms import no_pipeline
from jobs.live import Live, reader
from jobs.management import remote
from jobs.management.remote import Installation
from jobs.management.sources import Unusable, sent, source_of
from jobs.management.verbs import find_owner, show_changes
from jobs.models import Job, Pipeline
from jobs.state import JobState, PipelineStatus, StageState
from jobs.uploads import one_piece
from mediapipe.management.process import exit_now

EXIT = {JobState.SUCCEEDED: 0, JobState.FAILED: 1, JobState.ATTENTION: 1, JobState.CANCELLED: 3}


class Command(BaseCommand):
    """`manage.py submit SOURCE [--title T] [--pipeline NAME] [--owner USER] [--wait] [--json]`."""

    help = (
        "Starts a job on a file or an http(s) URL. Exit status: "
        "0 succeeded, 1 failed or needs attention, 3 cancelled, 2 not startable."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The source and what to do with it."""
        parser.add_argument("source", help="a file's path, or an http(s) URL")
        parser.add_argument("--title", default="")
        parser.add_argument("--pipeline", default=pipelines.DEFAULT)
        parser.add_argument("--owner", default="", help="whose job it is; the first admin by default")
        parser.add_argument("--wait", action="store_true", help="show progress until the job settles")
        parser.add_argument("--json", action="store_true", help="print the job as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Submits, and exits with the status that `help` lists."""
        # A refusal is this command's answer: it needs no line of the log as well.
        logging.getLogger("jobs.uploads.source_check").setLevel(logging.WARNING)
        elsewhere = remote.from_environment()
        try:
            if elsewhere:
                self._submit_elsewhere(elsewhere, options)
            job = self._job(options)
        except Unusable as error:
            self.stderr.write(str(error))
            if options["json"]:
                self.stdout.write(json.dumps({"error": str(error)}))
            exit_now(2)
        if not asyncio.run(control.start(job)) and not options["wait"]:
            self.stderr.write(control.QUEUED_NOTE)
        job.refresh_from_db()
        status = asyncio.run(self._wait(job)) if options["wait"] else job.status()
        answer = serialize.summary(job, status)
        if status.state in EXIT and status.state != JobState.SUCCEEDED:
            answer["error"] = serialize.error(status)
        self._print(answer, options["json"])
        exit_now(EXIT.get(status.state, 0))

    def _submit_elsewhere(self, elsewhere: Installation, options: dict[str, Any]) -> NoReturn:
        """The same by another installation's API. Raises Unusable."""
        if options["owner"]:
            raise Unusable("The token says whose job it is: leave --owner out.")
        try:
            source = sent(elsewhere, options["source"], self.stderr)
            job = elsewhere.submit(source, options["title"], options["pipeline"])
        except (remote.ErrorAnswer, remote.NoAnswer) as error:
            raise Unusable(str(error)) from None
        if options["wait"]:
            shown: dict[str, str] = {}
            job = elsewhere.settled(job, lambda now: show_changes(shown, remote.lines(now), self.stderr))
        answer = {key: job[key] for key in ("id", "workflow_id", "status", "url", "result")}
        if job["status"] in EXIT and job["status"] != JobState.SUCCEEDED:
            answer["error"] = job["error"] or ""
        self._print(answer, options["json"])
        exit_now(EXIT.get(job["status"], 0))

    def _print(self, answer: dict[str, Any], as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(answer))
            return
        self.stdout.write(f"{answer['id']}  {answer['status']}  {answer['url']}")
        for name, url in (answer["result"] or {}).items():
            self.stdout.write(f"{name}: {url or '(skipped)'}")
        if answer.get("error"):
            self.stderr.write(answer["error"])

    def _job(self, options: dict[str, Any]) -> Job:
        """The new job. Raises Unusable."""
        try:
            owner = find_owner(options["owner"])
        except LookupError as error:
            raise Unusable(error.args[0]) from None
        if options["pipeline"] not in (usable := Pipeline.usable_by(owner)):
            raise Unusable(no_pipeline(options["pipeline"], usable))
        source = source_of(options["source"])
        title = options["title"] or source.filename or options["source"]
        job = Job.submit(owner, title=title, pipeline=options["pipeline"], source=source)
        one_piece.has_job(source)
        return job

    async def _wait(self, job: Job) -> PipelineStatus:
        """The job's status once it settles; each change until then is a line on stderr."""
        shown: dict[str, str] = {}  # each stage's last line; under "" the banner
        while True:
            if job.workflow_started_at is None:
                await control.start(job)
            live = await reader.aread(job)
            self._show_changes(shown, live)
            if live.status.state in EXIT:
                return live.status
            await asyncio.sleep(0.5)
            await job.arefresh_from_db()

    def _show_changes(self, shown: dict[str, str], live: Live) -> None:
        lines = {"": f"{live.banner} {live.remedy}".strip()}
        for stage in live.status.stages:
            line = str(stage.state)
            if stage.state == StageState.RUNNING:
                percent = "" if stage.progress is None else f" {stage.progress:.0f}%"
                line = f"running{percent} {live.waits.get(stage.name, '')}".rstrip()
            elif stage.error:
                line = f"{stage.state}: {stage.error}"
            lines[stage.label] = line
        show_changes(shown, lines, self.stderr)
