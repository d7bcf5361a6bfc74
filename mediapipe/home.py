"""MEDIAPIPE_HOME, the folder of all state: its secrets, its small files, a sentence where it can't be used.

Pure: settings and every command need it before anything else works.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import sqlite3
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

HOME = Path(os.environ.get("MEDIAPIPE_HOME") or Path(__file__).resolve().parents[1] / "var").resolve()
# Characters: nobody guesses 128 bits, the least that so many hexadecimal digits have. Those made here: 64.
SHORTEST_SECRET = 32

FREE_SOME = "Free some space and start again."
ELSEWHERE = "Or choose another folder: set MEDIAPIPE_HOME."
REASONS = {
    errno.ENOSPC: ("no space left on device", FREE_SOME),
    errno.EDQUOT: ("the disk quota is used up", FREE_SOME),
    errno.EROFS: ("its file system is read-only", f"Make it writable. {ELSEWHERE}"),
    errno.EACCES: ("permission denied", f"Start as the user it belongs to. {ELSEWHERE}"),
    errno.ENOENT: ("it can’t be made there", f"Make that folder. {ELSEWHERE}"),
    errno.EEXIST: ("it isn’t a folder", f"Move that file away. {ELSEWHERE}"),
    errno.ENOTDIR: ("it isn’t a folder", f"Move that file away. {ELSEWHERE}"),
}
REASONS[errno.EPERM] = REASONS[errno.EACCES]
# What file systems without hard links answer: FAT, some network and container mounts.
NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # these say no file name where a write fails
SQLITE = {  # primary result codes about the file and not about what was asked
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_READONLY: errno.EACCES,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
}


def prepare(passable: bool = False) -> None:
    """Makes the home where there is none, and closes it: this process and its children write for their user.

    *passable*: the group may pass through it, to what is opened below. Raises OSError where there is no home.
    """
    HOME.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.umask(0o077)
    with suppress(OSError):  # close() says so
        _set_mode(HOME, 0o700, 0o010 if passable else 0)


def close(readable: Path | None = None) -> str:
    """Takes from everybody else what they may do with what is there already: a sentence where it can't.

    The group may read what is in *readable*. What a symbolic link leads to is not the home's.
    """
    prepare(readable is not None)
    mode = HOME.stat().st_mode
    for folder, folders, files in os.walk(HOME):
        shared = readable is not None and (Path(folder) == readable or readable in Path(folder).parents)
        for name in files:
            with suppress(OSError):
                _set_mode(Path(folder, name), 0o600, 0o040 if shared else 0)
        for name in folders:
            with suppress(OSError):
                _set_mode(path := Path(folder, name), 0o700, 0o050 if shared or path == readable else 0)
    if not mode & (0o067 if readable else 0o077):
        return ""
    return (
        f"Others on this machine can look into MEDIAPIPE_HOME ({HOME}): its mode can’t be changed."
        f" Start as the user it belongs to. {ELSEWHERE}"
    )


def open_to_others(readable: Path | None = None) -> list[Path]:
    """What is there that others on this machine may read or change, or the group outside of *readable*."""
    found = []
    for folder, folders, files in os.walk(HOME):
        shared = readable is not None and (Path(folder) == readable or readable in Path(folder).parents)
        for path in (Path(folder, name) for name in (*folders, *files)):
            with suppress(FileNotFoundError):  # a file of the moment
                mode = path.lstat().st_mode
                if not stat.S_ISLNK(mode) and mode & (0o027 if shared or path == readable else 0o077):
                    found.append(path)
    return found


def _set_mode(path: Path, kept: int, given: int) -> None:
    """Leaves a file the bits *kept* of its own, and gives it the bits *given*."""
    mode = os.lstat(path).st_mode
    wanted = mode & kept | given
    if not stat.S_ISLNK(mode) and stat.S_IMODE(mode) != wanted:
        os.chmod(path, wanted)


class BadSecret(Exception):
    """A stored secret can't be used; the sentence says which, where it is, and what to do."""


def stored_secret(path: Path) -> str:
    """The secret at *path*, made where there is none (0600). However many make it, one wins, and it is whole.

    Raises BadSecret, OSError.
    """
    if not path.exists():
        _put_first(_written(path, secrets.token_urlsafe(48)), path)
    secret = path.read_text().strip()
    if len(secret) < SHORTEST_SECRET:
        raise BadSecret(
            f"The secret in {path} is {'cut off' if secret else 'empty'}. Put it back from a backup. Or"
            " remove it and start again: a new one is made, everybody signs in again, and earlier links end."
        )
    return secret


def _put_first(part: Path, path: Path) -> None:
    """Gives *part* the name *path*, unless another has it by now; *part* is gone in any case."""
    try:
        try:
            os.link(part, path)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX)  # is let go with the descriptor
                if not path.exists():
                    os.replace(part, path)
            finally:
                os.close(folder)
    finally:
        part.unlink(missing_ok=True)


def write_file(path: Path, text: str) -> None:
    """Writes a small file: a reader sees the old text or all of the new. Raises OSError."""
    os.replace(_written(path, text), path)


def _written(path: Path, text: str) -> Path:
    """A file with *text* beside *path*, on the disk."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(handle)
    except OSError:
        os.unlink(name)
        raise
    return Path(name)


def probe() -> None:
    """Raises OSError where the home can't be written. A SQLite that can't begin doesn't always say so."""
    _written(HOME / "probe", "x" * 65536).unlink()


def sentence(error: BaseException) -> str:
    """What *error* means for the home, and what to do; "" where it is about something else."""
    if isinstance(error, BadSecret):
        return str(error)
    number = _error_number(error)
    if number not in REASONS:
        return ""
    reason, remedy = REASONS[number]
    return f"MEDIAPIPE_HOME ({HOME}) can’t be written: {reason}. {remedy}"


def remedy(error: OSError) -> str:
    """What to do where a file in the home can't be written; "" where that isn't known."""
    return REASONS.get(error.errno or 0, ("", ""))[1]


def _error_number(error: BaseException) -> int | None:
    cause: BaseException | None = error
    while cause and not isinstance(cause, sqlite3.Error):  # Django wraps it, and what it has wrapped, too
        cause = cause.__cause__ or cause.__context__
    cause = cause or error
    if isinstance(cause, sqlite3.Error):
        number = SQLITE.get(getattr(cause, "sqlite_errorcode", 0) & 0xFF)
        try:
            probe()
        except OSError as found:  # the folder knows better
            return found.errno
        return number
    if not isinstance(cause, OSError):
        return None
    if cause.filename is None:
        return cause.errno if cause.errno in OF_THE_DISK else None
    path = Path(os.fsdecode(cause.filename))
    return cause.errno if path == HOME or HOME in path.parents or path in HOME.parents else None
