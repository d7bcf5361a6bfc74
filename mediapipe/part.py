"""The part of a file that a download has brought, so that another process can go on where one was lost.

It knows files and locks, and neither HTTP nor tasks.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


@cache
def boot_id() -> str:
    """Which boot of which machine this is; "" where the system doesn't say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@dataclass
class Part:
    """What has arrived, and what the download has used up so far: plain values, so that they travel."""

    have: int = 0  # bytes that have arrived
    total: int | None = None  # bytes in all, where the server says so
    validator: str = ""  # which version of the file: nothing is continued without one (RFC 9110 13.1.5)
    filename: str = ""  # the server's name for it
    boot: str = ""  # where it was written: after a crash of the machine a file may hold holes
    seconds: float = 0.0  # at it, without waits of ours
    received: int = 0  # bytes, those of versions that were given up too
    asked_to_wait: float = 0.0  # seconds that its server has asked for

    def again(self, length: int | None = None, validator: str = "", filename: str = "") -> None:
        """Begins anew; what was used up stays used up."""
        self.have = 0
        self.total = length
        self.validator = validator
        self.filename = filename

    def take(self, other: dict[str, object]) -> None:
        """Becomes what another process has reported of it."""
        for each in fields(self):
            setattr(self, each.name, other.get(each.name, getattr(self, each.name)))

    def open(self, path: Path) -> int:
        """The file's descriptor, locked; a new file where this part can't be continued in it. Raises OSError.

        A worker that was taken for lost may still write: then its file is left to it.
        """
        if self.have and self.validator and self.boot == boot_id() != "":
            with contextlib.suppress(OSError):
                fd = os.open(path, FLAGS)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if os.fstat(fd).st_size >= self.have:
                        return fd
                except OSError:
                    pass
                os.close(fd)
        self.again()
        self.boot = boot_id()
        path.unlink(missing_ok=True)
        fd = os.open(path, FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd
