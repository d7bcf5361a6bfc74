"""Makes a stage of a closed job again, or adds one that another pipeline has: what the buttons do."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobs import finished
from jobs.management import remote
from jobs.management.verbs import actor, find_job, perform, why
from jobs.pipelines import Option


def _change(text: str) -> tuple[str, Option | None]:
    """An option as the command line has it: `width=640`, or `width=` for the engine's choice."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise CommandError(f"{text!r} isn’t an option: write it like width=640.", returncode=2)
    try:
        read = json.loads(value) if value else None
    except ValueError:
        return name, value
    return name, read if isinstance(read, bool | int | float) or read is None else value


class Command(BaseCommand):
    """`manage.py make-again JOB STAGE [NAME=VALUE ...] [--add] [--reason R]`."""

    help = (
        "Makes a stage of a closed job again with other options, and what needs it; "
        "what it was stays as an earlier version."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Which job, which stage, what is to be other."""
        parser.add_argument("job", help="a job's id")
        parser.add_argument("stage")
        parser.add_argument("options", nargs="*", help="like width=640; width= leaves it to the engine")
        parser.add_argument("--add", action="store_true", help="a stage that another pipeline has, like hls")
        parser.add_argument("--reason", default="")

    def handle(self, *args: Any, **options: Any) -> None:
        """Exit status 0: begun; 1: not possible, the sentence says why."""
        changes = dict(map(_change, options["options"]))
        stage = options["stage"]
        if options["add"] and changes:
            raise CommandError(
                "A stage is added as its pipeline has it: leave the options out.", returncode=2
            )
        if elsewhere := remote.from_environment():
            path = f"stages/{quote(stage, safe='')}/{'add' if options['add'] else 'make-again'}"
            body = why(options) if options["add"] else {**why(options), "options": changes}
            remote.perform(elsewhere, path, options["job"], body, self.stdout, self.stderr)
        job = find_job(options["job"])
        if options["add"]:
            verb = finished.add_stage(job, stage, actor(), options["reason"])
        else:
            verb = finished.make_again(job, stage, changes, actor(), options["reason"])
        perform(verb, self.stdout, self.stderr)
