"""Shows what is no longer to be kept, and removes it."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from jobs.dashboard.formatting import filesize
from jobs.management.verbs import actor
from jobs.removal import pruning
from mediapipe import retention
from mediapipe.retention import Going, Kind

Found = list[tuple[Kind, Going]]
NOTHING_TO_REMOVE = "Nothing is kept longer than it is to be."
SHOWN_ONLY = "Nothing was removed: this only shows it."
UNDONE = "What is removed can’t be restored."


def lines(found: Found) -> list[str]:
    """The table: a line for each kind, in columns."""
    rows = [("what", "kept", "goes", "size", "oldest")]
    for kind, going in found:
        oldest = f"{timezone.localtime(going.oldest):%Y-%m-%d}" if going.oldest else ""
        rows.append((kind.words, kind.kept(), f"{going.many:,}", filesize(going.size), oldest))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def as_json(found: Found) -> list[dict[str, Any]]:
    """The same for programs."""
    return [
        {
            "what": kind.name,
            "kept": kind.kept(),
            "count": going.many,
            "bytes": going.size,
            "oldest": going.oldest.isoformat() if going.oldest else None,
        }
        for kind, going in found
    ]


class Command(BaseCommand):
    """`manage.py prune [--dry-run] [--json]`."""

    help = "Removes what has been kept for its days (MEDIAPIPE_KEEP_…), as is done by itself each night."

    def add_arguments(self, parser: CommandParser) -> None:
        """Whether to remove it, and for whom it is shown."""
        parser.add_argument("--dry-run", action="store_true", help="only shows what would go")
        parser.add_argument("--json", action="store_true", help="as one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Shows first, and then removes."""
        found = [(kind, kind.going()) for kind in retention.kinds()]
        if not options["json"]:
            self.stdout.write("\n".join(lines(found)))
            self.stdout.flush()
        totals = {} if options["dry_run"] else pruning.remove_all(actor())
        if options["json"]:
            removed = {name: {"count": count, "bytes": size} for name, (count, size) in totals.items()}
            answer = {"going": as_json(found), "removed": removed}
            self.stdout.write(json.dumps(answer, ensure_ascii=False))
        elif options["dry_run"]:
            some = any(going.many for _, going in found)
            self.stdout.write(f"{SHOWN_ONLY} {UNDONE}" if some else NOTHING_TO_REMOVE)
        else:
            text = pruning.in_words(totals)
            self.stdout.write(f"Removed: {text}." if text else NOTHING_TO_REMOVE)
