"""Sound whose packets say one time again and again, though each lasts: they are counted instead. Pure.

Recorders of fragments that hold a packet each write every second one so, and old RealAudio all of them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

SHARE = 0.05  # of a sound's packets that say the time of the one before, at least
LEEWAY = 0.02  # by which its clock may say that it is longer than all its packets,
PACKETS = 4  # and so many of them: more are holes


@dataclass
class SameTimes:
    """What the packets of a sound say of their times, in ticks."""

    first: int | None = None
    last: int = 0
    packets: int = 0
    again: int = 0  # of them those that say the time of the one before
    lengths: Counter[int] = field(default_factory=Counter)

    def see(self, stored: int | None, lasts: int | None) -> None:
        """Another packet: when it is stored, and how long it says that it lasts."""
        if stored is None:
            return
        self.again += self.first is not None and stored == self.last
        self.first = stored if self.first is None else self.first
        self.last = stored
        self.packets += 1
        if lasts:
            self.lengths[lasts] += 1

    def counted(self) -> int:
        """The ticks that each of its packets lasts, where they are to be counted; else 0."""
        if self.first is None or not self.lengths or self.again <= SHARE * self.packets:
            return 0
        each = self.lengths.most_common(1)[0][0]
        clock = self.last - self.first
        return each if clock <= ((1 + LEEWAY) * self.packets + PACKETS) * each else 0
