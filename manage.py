#!/usr/bin/env python3
"""Django's command line; on a fresh machine it first creates .venv and installs what is locked.

This file runs on the system's Python before anything is installed: the standard library only.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = Path(os.environ.get("MEDIAPIPE_VENV") or ROOT / ".venv")
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".installed"
RUNTIME = ROOT / "requirements.txt"
DEVELOPMENT = ROOT / "requirements-dev.txt"


def digest(lock: Path) -> str:
    """What an environment built from *lock* by this Python is stamped with."""
    return hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()


def stamped() -> list[str]:
    """What the environment holds, by their digests."""
    return STAMP.read_text().split() if PYTHON.exists() and STAMP.exists() else []


def is_ready(lock: Path) -> bool:
    """Whether the environment holds what *lock* names."""
    return digest(lock) in stamped()


def install(lock: Path) -> None:
    """Makes .venv hold what *lock* names; the development lock holds all of the runtime's too."""
    if is_ready(lock):
        return
    print(f"Installing {lock.name} into {VENV.name} ...", file=sys.stderr, flush=True)
    os.umask(0o022)  # a service of another user reads it, and nothing in it is secret
    if not stamped() and not works():
        make_venv()
    uv = shutil.which("uv")
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command = [uv, "pip", "install", "--quiet", "--python", str(PYTHON)] if uv else pip
    if subprocess.run([*command, "--require-hashes", "-r", str(lock)]).returncode:
        sys.exit(
            f"Installing {lock.name} failed; the lines above say why. Run the same command to try again."
        )
    covered = [RUNTIME, DEVELOPMENT] if lock == DEVELOPMENT else [lock]
    STAMP.write_text("\n".join(map(digest, covered)))


def works() -> bool:
    """Whether .venv's Python starts and pip or uv can install into it."""
    check = [str(PYTHON), *([] if shutil.which("uv") else ["-m", "pip"]), "--version"]
    return PYTHON.exists() and not subprocess.run(check, capture_output=True).returncode


def make_venv() -> None:
    """A new .venv, in place of a missing or unfinished one."""
    shutil.rmtree(VENV, ignore_errors=True)
    uv = shutil.which("uv")
    base = getattr(sys, "_base_executable", sys.executable)  # this very process may run from the old .venv
    command = [uv, "venv", "--quiet", "--python", base] if uv else [base, "-m", "venv"]
    if subprocess.run([*command, str(VENV)], stdout=subprocess.DEVNULL).returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        sys.exit("Python's venv module isn't complete. On Debian or Ubuntu: apt-get install python3-venv")


def enter_venv() -> None:
    """Continues in .venv's Python, which holds what is locked. A ready one is only read."""
    lock = DEVELOPMENT if sys.argv[1:2] == ["test"] else RUNTIME
    try:
        if not is_ready(lock):
            VENV.parent.mkdir(parents=True, exist_ok=True)
            with open(VENV.parent / ".venv.lock", "w") as guard:
                fcntl.flock(guard, fcntl.LOCK_EX)  # two first starts at once must not install into each other
                install(lock)  # unless that other start has just done so
    except OSError as error:
        sys.exit(
            f"{VENV} isn't ready, and can't be made: {error.strerror} ({error.filename}). Run the same"
            " command once as the user it belongs to, or choose another folder: set MEDIAPIPE_VENV."
        )
    if Path(sys.prefix).resolve() != VENV.resolve():
        os.execv(PYTHON, [str(PYTHON), __file__, *sys.argv[1:]])


def run_command() -> None:
    """Runs Django's command. Status 2, and a sentence, where settings, home or database can't be used."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mediapipe.settings")
    from django.core.exceptions import ImproperlyConfigured

    from mediapipe import home
    from mediapipe.management.command_line import CommandLine

    if sys.argv[1:2] != ["worker"]:  # the others say in a sentence what the pool says at each of its tries
        logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    try:
        CommandLine(sys.argv).execute()
    except Exception as error:
        if isinstance(error, ImproperlyConfigured):
            sentence = str(error)
        else:
            from mediapipe import database

            sentence = database.sentence(error) or home.sentence(error)
        if not sentence:
            raise
        print(sentence, file=sys.stderr)
        sys.exit(2)


def main() -> None:
    """Runs the command that was given."""
    if sys.version_info < (3, 11):  # noqa: UP036 - it is the system's Python that runs this
        sys.exit("mediapipe needs Python 3.11 or newer; this is " + sys.version.split()[0] + ".")
    if not os.environ.get("MEDIAPIPE_NO_VENV"):
        enter_venv()
    run_command()


if __name__ == "__main__":
    main()
