"""Runs the web server alone: the dashboard and the embedded engine's API."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError

from mediapipe import database, home, supervisor
from mediapipe.accounts import audited_settings
from mediapipe.doctor_machine import check_keys
from mediapipe.finding import Wrong
from mediapipe.management import arguments


def server() -> list[str]:
    """The command line of the web server, but for where it listens."""
    options = ["--lifespan", "off", "--log-level", "warning", "--no-access-log", "--no-server-header"]
    options += ["--http", "mediapipe.web.connections:Connection", "--ws", "none"]
    proxies = ["--proxy-headers", "--forwarded-allow-ips", ",".join(settings.PROXIES)]
    options += proxies if settings.PROXIES else ["--no-proxy-headers"]
    program = [str(Path(sys.executable).with_name("uvicorn")), "mediapipe.asgi:application"]
    program += ["--app-dir", str(settings.BASE_DIR)]  # else it is the folder that the command is given in
    return [*program, "--timeout-graceful-shutdown", "5", *options]


def close_home() -> str:
    """Closes the home, but for nginx where that sends the media: a sentence where it can't be closed."""
    return home.close(Path(settings.MEDIA_ROOT) if settings.ACCEL_PREFIX else None)


def protect() -> Iterator[str]:
    """Closes the home; sentences of what others may read or guess all the same."""
    if sentence := close_home():
        yield sentence
    try:
        check_keys()
    except Wrong as error:
        yield str(error)


def check_tables() -> None:
    """Raises CommandError where the database lacks tables of this version; one that is away may have them."""
    try:
        lacks = database.missing_migrations()
    except (DatabaseError, InterfaceError):
        return
    if lacks:
        raise CommandError(database.LACKS_TABLES, returncode=2)


def collect_static() -> None:
    """Collects and compresses the static files, if one has changed since the last start here."""
    found = [(name, storage) for finder in get_finders() for name, storage in finder.list([])]
    paths = sorted(str(storage.path(name)) for name, storage in found)
    stats = [(path, (stat := os.stat(path)).st_mtime_ns, stat.st_size) for path in paths]
    digest = hashlib.sha256(repr(stats).encode()).hexdigest()
    stamp = settings.HOME / "static.stamp"
    manifest = settings.STATIC_ROOT / "staticfiles.json"
    with open(settings.HOME / "gathering.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two servers of one home may start at once
        if manifest.exists() and stamp.exists() and stamp.read_text() == digest:
            return
        # anew: what a full disk has cut off looks up to date
        call_command("collectstatic", clear=True, verbosity=0, interactive=False, skip_checks=True)
        stamp.write_text(digest)


def raise_open_files() -> None:
    """Lets this process and its children open as many files as the system allows: 1,024 are soon held."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    with contextlib.suppress(ValueError, OSError):  # macOS has a lower limit that it doesn't tell
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def check_port(host: str, port: int, setting: str = "") -> None:
    """Raises CommandError where nothing can listen there. *setting*: what says where, if it isn't options."""
    if error := supervisor.obstacle(port, host):
        raise cannot_listen(host, port, error, setting)


def cannot_listen(host: str, port: int, error: OSError | None, setting: str = "") -> CommandError:
    """What to do about a place at which nothing can listen; without *error* another of ours is about to."""
    if error is None or error.errno == errno.EADDRINUSE:
        beside = setting or f"--port {port + 1 if port < 65535 else port - 1}"
        return CommandError(f"Port {port} is taken by another program. Stop it, or choose another: {beside}")
    if error.errno in (errno.EACCES, errno.EPERM):
        return CommandError(
            f"Port {port} is one of those that root alone may listen at. Choose one from 1024 on:"
            f" {setting or '--port 8000'}"
        )
    return CommandError(
        f"{host} is no address of this machine, so nothing can listen at its port {port}. Choose one that it"
        f" has, 127.0.0.1 for itself alone, or 0.0.0.0 for all: {setting or '--host'}"
    )


class Command(BaseCommand):
    """`manage.py web [--host H] [--port N]`."""

    help = "Runs the web server alone, for machines that run the parts apart. `up` runs everything."
    requires_system_checks: list[str] = []  # the tests run them; they cost a second at each start

    def add_arguments(self, parser: CommandParser) -> None:
        """Where to listen."""
        parser.add_argument("--host", type=arguments.host, default="127.0.0.1")
        parser.add_argument("--port", type=arguments.port, default=settings.PORT)

    def handle(self, *args: Any, **options: Any) -> None:
        """Replaces this process by the server."""
        host = options["host"]
        port = options["port"]
        check_port(host, port)
        for sentence in protect():
            self.stderr.write(sentence)
        check_tables()
        collect_static()
        audited_settings.note()
        raise_open_files()
        os.environ["MEDIAPIPE_PORT"] = str(port)
        command = [*server(), "--host", host, "--port", str(port)]
        os.execv(command[0], command)  # noqa: S606 - replacing the process is the point
