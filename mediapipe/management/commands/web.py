"""Runs the web server alone: the dashboard and the embedded engine's API."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from mediapipe import home, supervisor


def server(host: str, port: int) -> list[str]:
    """The command line of the web server."""
    options = ["--lifespan", "off", "--log-level", "warning", "--no-access-log", "--no-server-header"]
    program = [str(Path(sys.executable).with_name("uvicorn")), "mediapipe.asgi:application"]
    program += ["--app-dir", str(settings.BASE_DIR)]  # else it is the folder that the command is given in
    return [*program, "--host", host, "--port", str(port), "--timeout-graceful-shutdown", "5", *options]


def close_home() -> str:
    """Closes the home, but for nginx where that sends the media: a sentence where it can't be closed."""
    return home.close(Path(settings.MEDIA_ROOT) if settings.ACCEL_PREFIX else None)


def check_port(host: str, port: int) -> None:
    """Raises CommandError where the port is taken."""
    if not supervisor.is_free(port, host):
        raise CommandError(
            f"Port {port} is taken by another program. Stop it, or choose another port: --port {port + 1}"
        )


class Command(BaseCommand):
    """`manage.py web [--host H] [--port N]`."""

    help = "Runs the web server alone, for machines that run the parts apart. `up` runs everything."
    requires_system_checks: list[str] = []  # the tests run them; they cost a second at each start

    def add_arguments(self, parser: CommandParser) -> None:
        """Where to listen."""
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=settings.PORT)

    def handle(self, *args: Any, **options: Any) -> None:
        """Replaces this process by the server."""
        check_port(options["host"], options["port"])
        if sentence := close_home():
            self.stderr.write(sentence)
        os.environ["MEDIAPIPE_PORT"] = str(options["port"])
        command = server(options["host"], options["port"])
        os.execv(command[0], command)  # noqa: S606 - replacing the process is the point
