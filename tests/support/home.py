"""What a home gives away: files that others on the machine may open, and the secrets it must keep."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path


def open_parts(home: Path) -> list[str]:
    """The files and folders of a home, and the home itself, that somebody else may do something with."""
    found = []
    for folder, folders, files in os.walk(home):
        for path in (Path(folder), *(Path(folder, name) for name in (*folders, *files))):
            with suppress(FileNotFoundError):  # a file of the moment
                mode = path.lstat().st_mode
                if mode & 0o077 and not stat.S_ISLNK(mode):
                    found.append(f"{mode & 0o777:o} {path}")
    return found


def where(secrets: dict[str, str], places: dict[str, bytes]) -> list[str]:
    """Which secret lies in which place."""
    return [
        f"{secret} in {place}"
        for place, content in places.items()
        for secret, text in secrets.items()
        if text.encode() in content
    ]


def processes() -> list[str]:
    """The ids of all processes."""
    return [name for name in os.listdir("/proc") if name.isdecimal()]


def arguments(process: str) -> bytes:
    """The command line of a process, which every user of a machine may read; empty where it has ended."""
    with suppress(OSError):
        return Path("/proc", process, "cmdline").read_bytes()
    return b""
