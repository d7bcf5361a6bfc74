"""Says in a line for each thing what is wrong with this set-up, and what to do about it."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from mediapipe import doctor
from mediapipe.management.process import exit_now


class Command(BaseCommand):
    """`manage.py doctor [--json]`."""

    help = "Says what is wrong with this set-up and what to do; changes nothing. Exit status: 0 good, 1 not."
    requires_system_checks: list[str] = []  # it says itself what is wrong

    def add_arguments(self, parser: CommandParser) -> None:
        """For people or for programs."""
        parser.add_argument("--json", action="store_true", help="an array of name, state, text")

    def handle(self, *args: Any, **options: Any) -> None:
        """Prints a line for each finding."""
        logging.disable()  # what libraries log about what is away is said in the findings
        findings = asyncio.run(doctor.examine())
        if options["json"]:
            self.stdout.write(json.dumps([asdict(each) for each in findings], ensure_ascii=False))
        else:
            for each in findings:
                self.stdout.write(f"{each.name}: {each.state}: {each.text}")
        exit_now(any(each.state == "wrong" for each in findings))
