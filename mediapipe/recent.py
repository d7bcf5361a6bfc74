"""A mapping of bounded size for caches. Pure: it knows not even the clock."""

from __future__ import annotations

from threading import Lock
from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(dict[Key, Value]):
    """A dict of at most *maxsize* entries: assigning one more drops the one assigned longest ago.

    Threads may share it. Entries come in by assignment alone: `update` and `setdefault` know no bound.
    """

    def __init__(self, maxsize: int) -> None:
        super().__init__()
        self.maxsize = maxsize
        self._lock = Lock()

    def __setitem__(self, key: Key, value: Value) -> None:
        with self._lock:
            self.pop(key, None)
            super().__setitem__(key, value)
            surplus = len(self) - self.maxsize
            for oldest in list(self)[:surplus] if surplus > 0 else ():  # a copy: others may remove meanwhile
                self.pop(oldest, None)
