"""How pictures follow each other where an edit list has cut something out between them. Pure.

FFmpeg gives the first that is stored the time at which one is to be shown: with pictures that are stored in
another order than shown, all up to the next cut come late by as much as that one is stored too early.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

ALL = 3600.0 * 24 * 366  # seconds: longer than any film
REORDERED = 16  # pictures, at most, that are stored before another that is shown before them


@dataclass
class _Part:
    """What is shown between two cuts: from which packet on, whether that is hidden, from when, until when."""

    at: int
    hidden: bool
    first: float = ALL
    end: float = -ALL


@dataclass
class Edits:
    """The parts of a film of which a picture stands so many seconds (*turn*)."""

    turn: float
    parts: list[_Part] = field(default_factory=list)
    stored: float = ALL

    def see(self, number: int, stored: float, shown: float, *, hidden: bool) -> None:
        """Another packet, in seconds; *hidden*: the edit list cuts it out."""
        if stored < self.stored:
            self.parts.append(_Part(number, hidden))
        self.stored = stored
        if not hidden:
            self.parts[-1].first = min(self.parts[-1].first, shown)
            self.parts[-1].end = max(self.parts[-1].end, shown + self.turn)

    def late(self) -> list[tuple[int, float]]:
        """The packets from which on pictures come late, and how much later than those before, in seconds."""
        gaps = [(part, part.first - before.end) for before, part in pairwise(self.parts) if part.hidden]
        return [(part.at, by) for part, by in gaps if self.turn / 2 < abs(by) <= REORDERED * self.turn]
