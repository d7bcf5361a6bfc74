"""Fate: deals the blows of a script at their moments. It knows processes, lines and disks, and no jobs."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections import Counter

from tests.chaos.installation import Installation
from tests.chaos.script import RARE, Blow

FULL = 796 << 20  # bytes of a filler that leaves nothing of the disk
RESERVE = 400 << 20  # of one that touches the reserve


class Fate:
    """Each kind of blow is a method; those that last run beside each other, those that stop all run alone."""

    def __init__(self, installation: Installation, blows: list[Blow]) -> None:
        self.installation = installation
        self.blows = blows
        self.dealt: Counter[str] = Counter()
        self.encoders_killed_at: list[float] = []

    def run(self, began: float) -> None:
        """Until the last blow is over; *began* is the script's moment 0, by the monotonic clock."""
        lasting: list[threading.Thread] = []
        for blow in self.blows:
            time.sleep(max(0.0, began + blow.at - time.monotonic()))
            if blow.fault in RARE:
                self._wait_for(lasting)
                self.deal(blow)
            else:
                lasting.append(threading.Thread(target=self.deal, args=[blow]))
                lasting[-1].start()
        self._wait_for(lasting)

    @staticmethod
    def _wait_for(threads: list[threading.Thread]) -> None:
        for thread in threads:
            thread.join()

    def deal(self, blow: Blow) -> None:
        """One blow, until it is over."""
        if getattr(self, blow.fault)(blow) is not False:
            self.dealt[f"{blow.fault} {blow.victim}".strip()] += 1

    def kill(self, blow: Blow) -> bool:
        """A process dies at once."""
        pid = self.installation.send(blow.victim, signal.SIGKILL)
        if pid and blow.victim == "encoder":
            self.encoders_killed_at.append(time.time())
        return bool(pid)

    def redeploy(self, blow: Blow) -> bool:
        """The worker is stopped as a deploy stops it."""
        return bool(self.installation.send(blow.victim, signal.SIGTERM))

    def freeze(self, blow: Blow) -> None:
        """A process hangs."""
        self.installation.freeze(blow.victim, blow.seconds)

    def api(self, blow: Blow) -> None:
        """The API answers nonsense, late, or not at all."""
        gateway = self.installation.gateway
        gateway.always = dict.fromkeys(("GET", "POST", "DELETE"), blow.victim)
        time.sleep(blow.seconds)
        gateway.always = {}

    def network(self, blow: Blow) -> None:
        """The line between Temporal and everybody who talks to it."""
        self.installation.lines["temporal"].disturb(blow.victim, blow.seconds)

    def line(self, blow: Blow) -> None:
        """Any other line: to a browser, to the API, or by which the product asks its own engine."""
        name, what = blow.victim.split()
        self.installation.lines[name].disturb(what, blow.seconds)

    def database(self, blow: Blow) -> None:
        """Somebody else holds the database's lock."""
        path = self.installation.product.home / "mediapipe.sqlite3"
        other = sqlite3.connect(path, isolation_level=None, timeout=10)
        try:
            other.execute("BEGIN EXCLUSIVE")
            time.sleep(blow.seconds)
            other.execute("ROLLBACK")
        finally:
            other.close()

    def disk(self, blow: Blow) -> bool:
        """The media's disk is full for a time; only where it is one of its own."""
        if not self.installation.own_disk:
            return False
        filler = self.installation.media / f".filler-{threading.get_ident()}"
        with open(filler, "wb") as file:
            for part in range(0, FULL if blow.victim == "full" else RESERVE, 4 << 20):
                try:
                    os.posix_fallocate(file.fileno(), part, 4 << 20)
                except OSError:
                    break
        time.sleep(blow.seconds)
        filler.unlink()
        return True

    def history(self, blow: Blow) -> None:
        """Temporal's database is lost."""
        self.installation.lose_history()

    def move(self, blow: Blow) -> None:
        """`up` comes back at another port, with another key of its engine."""
        self.installation.move()
