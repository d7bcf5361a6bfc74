"""Prints the audit log: who did what, when and from where."""

from __future__ import annotations

from argparse import ArgumentTypeError
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from mediapipe.accounts import audit
from mediapipe.accounts.audit import Act, Query
from mediapipe.accounts.models import AuditEntry


def moment(text: str) -> datetime:
    """A moment, by this installation's clock where no zone is given. Raises ArgumentTypeError."""
    try:
        when = datetime.fromisoformat(text)
        return when if when.tzinfo else timezone.make_aware(when)
    except (ValueError, OverflowError):
        raise ArgumentTypeError(f"{text!r} is no moment: write 2026-11-28 or 2026-11-28T18:30") from None


def line(entry: AuditEntry) -> str:
    """An entry for people; no name that came from outside moves the terminal's cursor."""
    token = f" by the token “{entry.token}”" if entry.token else ""
    about = f" “{entry.name}”" if entry.name else ""
    key = f" ({entry.key})" if entry.key else ""
    origin = f" from {entry.network}" if entry.network else ""
    text = f": {entry.text}" if entry.text else ""
    when = timezone.localtime(entry.at).isoformat(timespec="seconds")
    whole = f"{when} {entry.actor}{token} {audit.words(entry.act)}{about}{key}{origin}{text}"
    return "".join(each if each.isprintable() else " " for each in whole)


class Command(BaseCommand):
    """`manage.py audit [--since WHEN] [--until WHEN] [--actor NAME] [--act ACT] [--about TEXT] [--json]`."""

    help = "Prints who did what, the oldest first; nothing here changes or removes it."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which entries, and for whom."""
        parser.add_argument("--since", type=moment, metavar="WHEN", help="such as 2026-11-28")
        parser.add_argument("--until", type=moment, metavar="WHEN")
        parser.add_argument("--actor", default="", help="a user name")
        parser.add_argument("--act", default="", choices=["", *Act.values], metavar="ACT")
        parser.add_argument("--about", default="", help="an id, or part of a name")
        parser.add_argument("--json", action="store_true", help="a line of JSON for each")

    def handle(self, *args: Any, **options: Any) -> None:
        """Prints them as they are read, however many there are."""
        query = Query(**{name: options[name] for name in Query._fields})
        if options["json"]:
            for text in audit.as_lines(query.entries()):
                self.stdout.write(text, ending="")
            return
        for entry in query.entries().order_by("pk").iterator(chunk_size=500):
            self.stdout.write(line(entry))
