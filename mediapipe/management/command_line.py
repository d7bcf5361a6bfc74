"""Django's command line, which says of an error the sentence alone, without the name of its class."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management import ManagementUtility
from django.core.management.base import BaseCommand, CommandError, OutputWrapper


class Sentences(OutputWrapper):
    """A command's standard error, where Django would write "CommandError: " before each of its sentences."""

    def write(self, msg: str = "", *given: Any, **named: Any) -> None:  # type: ignore[override]  # as Django's
        """Writes it on a line of its own."""
        super().write(msg.removeprefix(f"{CommandError.__name__}: "), *given, **named)


class CommandLine(ManagementUtility):
    """Runs a command, ours or one of Django's."""

    def fetch_command(self, subcommand: str) -> BaseCommand:
        """The command of that name; one that there isn't ends the process."""
        command = super().fetch_command(subcommand)
        command.stderr = Sentences(sys.stderr)
        command.stderr.style_func = command.style.ERROR
        return command
