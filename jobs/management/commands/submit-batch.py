"""Submits many sources at once from the command line: a file of links, or a table as CSV."""

from __future__ import annotations

import time
import uuid
from json import dumps
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobs import pipelines, serialize
from jobs.batches import sources
from jobs.batches.forms import title_of
from jobs.management import remote
from jobs.management.verbs import find_owner
from jobs.models import Batch, Pipeline
from mediapipe.management.process import exit_now

LOOK_INTERVAL = 1.0  # seconds
WAIT_SECONDS = 30  # seconds for which the API is asked to wait for the end
MOST_REASONS = 10  # that are printed; lines of a table may each have one of their own
Answer = dict[str, Any]


class Command(BaseCommand):
    """`manage.py submit-batch FILE [--title T] [--pipeline NAME] [--owner USER] [--wait] [--json]`."""

    help = (
        "Submits the links of a file: one on each line, or a table that ends in .csv with the columns url, "
        "title and pipeline. Exit status: 0 each was taken, with --wait: is done; 1 some were not; "
        "3 cancelled; 2 the file can't be used, and nothing was submitted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The sources and what to do with them."""
        parser.add_argument("file", help="a text with a link on each line, or a .csv")
        parser.add_argument("--title", default="")
        parser.add_argument("--pipeline", default=pipelines.DEFAULT)
        parser.add_argument("--owner", default="", help="whose jobs they are; the first admin by default")
        parser.add_argument("--wait", action="store_true", help="wait until the batch is over")
        parser.add_argument("--json", action="store_true", help="print the batch as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Submits, and exits with the status that `help` lists. Raises CommandError, exit status 2."""
        written = self._written(Path(options["file"]).expanduser())
        there = remote.from_environment()
        answer = self._elsewhere(there, written, options) if there else self._here(written, options)
        if options["json"]:
            self.stdout.write(dumps(answer))
        else:
            counted = ", ".join(f"{many} {name}" for name, many in answer["counts"].items() if many)
            self.stdout.write(f"{answer['id']}  {answer['status']}  {answer['url']}\n{counted}")
        self._tell_rejected(answer)
        if answer["counts"]["done"] == answer["total"]:
            exit_now(0)
        if not options["wait"]:  # a script that stops at an error hears of a line that is lost, as by rsync
            exit_now(1 if answer["rejected"] else 0)
        exit_now(3 if answer["status"] == "cancelled" else 1)

    def _tell_rejected(self, answer: Answer) -> None:
        """Why sources weren't taken, on standard error; the batch's page says of each which."""
        many = answer["counts"]["rejected"]
        total = answer["total"]
        verb = "wasn’t" if many == 1 else "weren’t"
        said = "No source was taken" if many == total else f"{many} of {total} sources {verb} taken"
        for why in answer["rejected"][:MOST_REASONS]:
            times = f" ({why['sources']} times)" if why["sources"] > 1 else ""
            self.stderr.write(f"{said}: {why['sentence']}{times}")
            said = "And"
        if answer["rejected"]:
            self.stderr.write(f"The batch’s page lists them: {answer['url']}")

    def _written(self, path: Path) -> list[sources.Written]:
        try:
            data = path.read_bytes()
            if path.suffix.lower() == ".csv":
                return sources.of_csv(data)
            return sources.of_lines(data.decode("utf-8-sig"))
        except OSError as error:
            said = f"{path} can’t be read: {error.strerror or error}. Check the path."
            raise CommandError(said, returncode=2) from None
        except UnicodeDecodeError:
            raise CommandError(f"{path} isn’t a text: write a link on each line.", returncode=2) from None
        except sources.NotAList as error:
            raise CommandError(str(error), returncode=2) from None

    def _here(self, written: list[sources.Written], options: dict[str, Any]) -> Answer:
        try:
            owner = find_owner(options["owner"])
            items = sources.items_of(written, options["pipeline"], Pipeline.usable_by(owner))
        except (LookupError, sources.NotAList) as error:
            raise CommandError(error.args[0], returncode=2) from None
        batch = Batch.submit(owner, options["title"] or title_of(items), items, uuid.uuid4())
        while options["wait"] and batch.finished_at is None:
            time.sleep(LOOK_INTERVAL)
            batch.refresh_from_db()
        return serialize.batch_whole(batch)

    def _elsewhere(
        self, elsewhere: remote.Installation, written: list[sources.Written], options: dict[str, Any]
    ) -> Answer:
        """The same by another installation's API, which checks each link."""
        if options["owner"]:
            raise CommandError("The token says whose jobs they are: leave --owner out.", returncode=2)
        body = {
            "sources": [each._asdict() for each in written],
            "title": options["title"],
            "pipeline": options["pipeline"],
        }
        try:
            answer: Answer = elsewhere.request(
                "POST", "/batches", json=body, headers={"Idempotency-Key": uuid.uuid4().hex}
            )
            while options["wait"] and answer["status"] == "running":
                answer = elsewhere.request("GET", f"/batches/{answer['id']}", params={"wait": WAIT_SECONDS})
        except (remote.ErrorAnswer, remote.NoAnswer) as error:
            raise CommandError(str(error), returncode=2) from None
        return answer
