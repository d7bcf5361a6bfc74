"""How fast a server must send: above a floor at every moment, and on average by a floor that rises with age.

It knows bytes and the clock, and neither HTTP nor files. Pure.
"""

from __future__ import annotations

import time
from typing import Literal

MIN_RATE = 1024  # bytes a second: less is a server that stalls
WINDOW = 30.0  # seconds over which that is measured
MAX_FLOOR = 64 << 10  # bytes a second that nobody has to exceed on average


class Pace:
    """The pace of one download; its *waits* are those of ours, and are not counted.

    *age* and *received*: seconds and bytes of a download that goes on.
    """

    def __init__(self, age: float = 0.0, received: int = 0) -> None:
        self.since = time.monotonic()
        self.began = self.since - age
        self.received = self.measured = received

    @property
    def age(self) -> float:
        """Seconds that it has taken so far."""
        return time.monotonic() - self.began

    def add(self, size: int) -> None:
        """So many bytes more have arrived."""
        self.received += size

    def again(self) -> None:
        """Another try begins: its first window begins now."""
        self.since = time.monotonic()
        self.measured = self.received

    def skip(self, seconds: float) -> None:
        """A wait of our own is over: for the disk, or because the server asked us to come later."""
        self.began += seconds
        self.since += seconds

    def judge(self) -> Literal["", "stalls", "slow"]:
        """What the window that ends now, if one does, has shown: it brought almost nothing, or too little.

        At twice the age a download must have been twice as fast on average.
        """
        now = time.monotonic()
        if (passed := now - self.since) <= WINDOW:
            return ""
        brought = self.received - self.measured
        self.measured = self.received
        self.since = now
        if brought < MIN_RATE * passed:
            return "stalls"
        age = self.age
        return "slow" if self.received < min(MIN_RATE * age / WINDOW, MAX_FLOOR) * age else ""

    def __str__(self) -> str:
        return f"{self.received / max(self.age, 0.001) / 1000:.0f} kB/s on average"
