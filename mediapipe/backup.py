"""A backup of an installation, made while it runs: databases, keys and media, in a folder that is checked.

It knows files, SQLite and Postgres's own two programs; what is in them it doesn't know.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

CONTENTS = "backup.json"  # written last: a folder without it is no backup
FORMAT = 1
UNFINISHED = ".unfinished"
# Of a home: made anew by every start, of the moment, or copied as databases.
LEFT_OUT = {"static", "static.stamp", "work", "addresses.json"}
LEFT_OUT_ENDINGS = (".lock", ".sqlite3", "-wal", "-shm", "-journal")
# Writes a database into the given file, or puts it back from there.
Copy = Callable[[Path], None]


class BackupError(Exception):
    """A backup can't be made or put back; the sentence says why and what to do."""


@dataclass(frozen=True)
class Copied:
    """A file of a backup: bytes, when its original was changed (nanoseconds), SHA-256 in hexadecimal."""

    size: int
    changed: int
    sha256: str


def make(home: Path, folder: Path, databases: Mapping[str, Copy]) -> Path:
    """A new backup in *folder*, which may hold earlier ones: the folder it is in.

    *databases*: by the file's name, in the order in which they are copied; media come last, so that each file
    that a row names is there. What hasn't changed since the last backup is a hard link to that one's file.
    Raises BackupError, OSError; nothing of an unfinished backup stays.
    """
    if home == folder.resolve() or home in folder.resolve().parents:
        raise BackupError(f"{folder} is inside the installation itself. Choose a folder on another disk.")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone_in(folder):
        for left in folder.glob(f"*{UNFINISHED}"):
            shutil.rmtree(left)
        earlier = newest(folder)
        finished = folder / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S.%fZ}"
        making = finished.with_name(finished.name + UNFINISHED)
        try:
            making.mkdir(mode=0o700)
            contents = _fill(making, home, databases, earlier)
            text = {"format": FORMAT, "files": {name: asdict(copied) for name, copied in contents.items()}}
            (making / CONTENTS).write_text(json.dumps(text, indent=1))
            os.sync()
            making.rename(finished)
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise
    return finished


def newest(folder: Path) -> Path | None:
    """The last backup in *folder*, or *folder* itself where it is one; None where there is none."""
    if (folder / CONTENTS).exists():
        return folder
    return max(
        (path.parent for path in folder.glob(f"*/{CONTENTS}") if path.parent.suffix != UNFINISHED),
        default=None,
    )


def check(backup: Path) -> dict[str, Copied]:
    """Reads all of a backup: its files by name. Raises BackupError where one is missing or damaged."""
    contents = _contents(backup)
    for name, copied in contents.items():
        path = backup / name
        if not path.is_file() or path.stat().st_size != copied.size or _digest(path) != copied.sha256:
            raise BackupError(
                f"{path} is damaged or missing, so this backup can’t be put back. Take an earlier one."
            )
    return contents


def put_back(backup: Path, home: Path, databases: Mapping[str, Copy]) -> None:
    """Puts a backup into a home without databases; the databases come last, so that it can be done again.

    What the home holds already, such as keys that a command has just made, is replaced.
    Raises BackupError, OSError.
    """
    contents = check(backup)
    of_databases = {name for name in contents if "/" not in name}
    if unknown := of_databases - set(databases):
        raise BackupError(
            f"The backup’s {' and '.join(sorted(unknown))} can’t be put back with these settings. Set"
            " DATABASE_URL and TEMPORAL_ADDRESS as they were where it was made."
        )
    for name in contents.keys() - of_databases:
        path = home / Path(name).relative_to("home")
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}-restore")
        shutil.copy2(backup / name, part)
        part.chmod(0o600)
        part.replace(path)
    for name, put in databases.items():
        if name in of_databases:
            put(backup / name)
    os.sync()


def copy_sqlite(source: Path) -> Copy:
    """Copies a SQLite database that others are writing to, as it is at one moment, and checks the copy."""

    def copy(target: Path) -> None:
        reading = sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)
        with closing(reading), closing(sqlite3.connect(target)) as copied:
            reading.backup(copied)
            if (found := copied.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
                raise BackupError(f"{source} is damaged ({found}). Keep your earlier backups.")

    return copy


def put_sqlite(target: Path) -> Copy:
    """Puts a copy to *target*."""

    def put(source: Path) -> None:
        part = target.with_name(f".{target.name}-restore")
        shutil.copyfile(source, part)
        part.chmod(0o600)
        part.replace(target)

    return put


def postgres(program: str, *arguments: str, settings: Mapping[str, str]) -> Copy:
    """pg_dump or pg_restore with the file as its last argument; *settings* are libpq's variables."""

    def run(path: Path) -> None:
        command = (
            [program, *arguments, f"--file={path}"]
            if program == "pg_dump"
            else [program, *arguments, str(path)]
        )
        try:
            done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True)
        except FileNotFoundError:
            raise BackupError(
                f"There is no {program} on this machine. Install Postgres’s client programs (on Debian:"
                " apt-get install postgresql-client), of the server’s version or newer."
            ) from None
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["it said nothing"]
            reason = next((line for line in said if "error: " in line), said[-1]).split("error: ")[-1]
            raise BackupError(f"{program} failed: {reason.strip()}. Check DATABASE_URL.")

    return run


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError(f"A backup into {folder} is being made already. Wait for it.") from None
        yield


def _fill(making: Path, home: Path, databases: Mapping[str, Copy], earlier: Path | None) -> dict[str, Copied]:
    """Writes everything into *making*: what there is."""
    contents = {}
    for name, copy in databases.items():
        copy(making / name)
        contents[name] = _copied(making / name, 0)
    known = {}
    with suppress(BackupError):
        known = _contents(earlier) if earlier else {}
    for path in _files(home):
        name = f"home/{path.relative_to(home)}"
        (making / name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(FileNotFoundError):  # a file of the moment
            copied = (
                _linked(path, making / name, earlier / name, known[name])
                if earlier and name in known
                else None
            )
            contents[name] = copied or _copy(path, making / name)
    return contents


def _files(home: Path) -> Iterator[Path]:
    """What is kept of a home beside its databases; media may lie behind a symbolic link."""
    for folder, folders, files in os.walk(home, followlinks=True):
        if Path(folder) == home:
            folders[:] = set(folders) - LEFT_OUT
            files = sorted(set(files) - LEFT_OUT)
        for name in files:
            if not name.startswith(".") and not name.endswith(LEFT_OUT_ENDINGS):
                yield Path(folder, name)


def _linked(path: Path, target: Path, earlier: Path, known: Copied) -> Copied | None:
    """The earlier backup's file once more, where the original is as it was; None where it must be copied."""
    stat = path.stat()
    if (known.size, known.changed) != (stat.st_size, stat.st_mtime_ns):
        return None
    try:
        os.link(earlier, target)
    except OSError:  # it has gone, or the disk knows no links
        return None
    return known


def _copy(path: Path, target: Path) -> Copied:
    changed = path.stat().st_mtime_ns  # before: what changes meanwhile is copied again the next time
    shutil.copyfile(path, target)
    target.chmod(0o600)
    return _copied(target, changed)


def _copied(path: Path, changed: int) -> Copied:
    return Copied(path.stat().st_size, changed, _digest(path))


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _contents(backup: Path) -> dict[str, Copied]:
    try:
        text = json.loads((backup / CONTENTS).read_text())
        files = {name: Copied(**fields) for name, fields in text["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise BackupError(f"{backup} holds no backup that can be read.") from None
    if text["format"] != FORMAT:
        raise BackupError(f"{backup} was made by a newer version. Put it back with that version.")
    for name in files:
        if (
            Path(name).is_absolute()
            or ".." in Path(name).parts
            or ("/" in name and not name.startswith("home/"))
        ):
            raise BackupError(f"{backup} names a file outside of itself ({name!r}): it isn’t one of ours.")
    return files
