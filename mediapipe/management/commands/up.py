"""Starts the whole product on one machine: Temporal's dev server, the workers and the web server."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from mediapipe import home, temporal, temporal_ui
from mediapipe.accounts import magic_link
from mediapipe.management import arguments
from mediapipe.management.commands.web import (
    cannot_listen,
    close_home,
    collect_static,
    raise_open_files,
    server,
)
from mediapipe.management.dev_server import HOST, DevServer, prepare_namespace
from mediapipe.management.process import exit_now
from mediapipe.remote import tls
from mediapipe.supervisor import Service, Supervisor, listen, obstacle, reserve

UI_PORT = 8233  # where the door of Temporal's UI is looked for first
# In the home, readable by its owner alone, until the first admin has signed in.
FIRST_PASSWORD = "first_password"  # noqa: S105 - a file's name
SIGN_IN_LINK = "sign_in_link"


def own_address(host: str, port: int) -> str:
    """Where this machine itself finds the web server that listens there."""
    near = {"0.0.0.0": HOST, "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{near}]:{port}" if ":" in near else f"http://{near}:{port}"


class Command(BaseCommand):
    """`manage.py up [--host H] [--port N]`."""

    help = "Starts everything and keeps it running until Ctrl-C."
    requires_system_checks: list[str] = []  # the tests run them; they cost a second at each start

    def add_arguments(self, parser: CommandParser) -> None:
        """Where the dashboard listens."""
        parser.add_argument("--host", type=arguments.host, default=HOST, help="where to listen (127.0.0.1)")
        parser.add_argument(
            "--port", type=arguments.port, default=settings.PORT, help="the dashboard's port (8000)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Prepares, then runs until a signal."""
        with open(settings.HOME / "up.lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                web = temporal.addresses().get("web", "")
                raise CommandError(f"mediapipe is already running here. {web}".strip()) from None
            listener = self.listen(options["host"], options["port"])
            close_home()  # `web` says where it can't
            call_command("migrate", verbosity=0, interactive=False, skip_checks=True)
            collect_static()
            raise_open_files()
            self.create_first_admin()
            try:
                asyncio.run(self._run(options["host"], options["port"], listener))
            finally:
                temporal.addresses_file().unlink(missing_ok=True)
        exit_now()

    def listen(self, host: str, port: int) -> socket.socket:
        """Where the web server will listen, and nobody else from now on. Raises CommandError."""
        try:
            if reserve(port, host):
                return listen(port, host)
        except OSError as error:
            raise cannot_listen(host, port, error) from None
        raise cannot_listen(host, port, obstacle(port, host))

    def print_line(self, line: str) -> None:
        """Prints at once, also into a pipe."""
        print(line, flush=True)

    def create_first_admin(self) -> None:
        """Creates an admin where there is none, and shows the password, this once."""
        users = get_user_model().objects
        if not users.filter(is_superuser=True).exists():
            password = secrets.token_urlsafe(12)
            users.create_superuser("admin", "", password)
            self.print_line(f"Admin: name admin, password {self.shown(FIRST_PASSWORD, password)}")
        if not users.filter(is_superuser=True, last_login=None).exists():
            for name in (FIRST_PASSWORD, SIGN_IN_LINK):
                (settings.HOME / name).unlink(missing_ok=True)

    def shown(self, name: str, secret: str) -> str:
        """The secret itself on a terminal; elsewhere, where it would stay in a log, the file that has it."""
        if sys.stdout.isatty():
            return f"{secret} (shown once)"
        home.write_file(settings.HOME / name, f"{secret}\n")
        return f"in {settings.HOME / name}"

    async def _run(self, host: str, port: int, listener: socket.socket) -> None:
        web = own_address(host, port)
        env = {"MEDIAPIPE_PORT": str(port), "PYTHONUNBUFFERED": "1"}
        unversioned = {"MEDIAPIPE_BUILD_ID": ""}  # a run that waits for other code would wait for ever
        listeners = [listener]

        async def is_healthy() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                async with httpx.AsyncClient(trust_env=False, timeout=2, verify=tls()) as http:
                    return (await http.get(f"{web}/healthz")).status_code == 200
            return False

        manage = [sys.executable, str(settings.BASE_DIR / "manage.py")]
        worker = Service(
            "worker", lambda: [*manage, "worker"], ready_line="worker: ready", env=env | unversioned
        )
        web_server = Service(
            "web",
            server,
            listener=lambda: listeners.pop() if listeners else listen(port, host),
            check=is_healthy,
            env=env,
        )
        supervisor = Supervisor([worker, web_server], self.print_line)
        async with self._temporal(web, supervisor):
            await supervisor.run(self._on_ready)

    async def _on_ready(self) -> None:
        """Says where everything is."""
        addresses = temporal.addresses()
        self.print_line(f"Temporal: {addresses['temporal']}")
        if addresses["temporal_ui"]:
            self.print_line(f"Temporal UI: {addresses['temporal_ui']}")
        admin = await get_user_model().objects.filter(is_superuser=True, last_login=None).afirst()
        if admin:
            path = await asyncio.to_thread(magic_link.create, admin.get_username())
            shown = self.shown(SIGN_IN_LINK, f"{addresses['web']}{path}")
            self.print_line(f"Sign in once, within an hour, by the link {shown}")
        self.print_line(f"Ready: {addresses['web']}")
        if not os.environ.get("TEMPORAL_ADDRESS"):
            await prepare_namespace(addresses["temporal"])

    @contextlib.asynccontextmanager
    async def _temporal(self, web: str, supervisor: Supervisor) -> AsyncIterator[None]:
        """Adds Temporal's dev server to the services, opens the door of its UI, and writes who listens where.

        No server where TEMPORAL_ADDRESS names a cluster; no UI where it can't be hidden behind the door.
        """

        def write(at: str, ui: str) -> None:
            written = {"temporal": at, "temporal_ui": ui, "web": web}
            home.write_file(temporal.addresses_file(), json.dumps(written))

        if cluster := os.environ.get("TEMPORAL_ADDRESS"):
            write(cluster, os.environ.get("TEMPORAL_UI_URL", ""))
            yield
            return
        worker = supervisor.services[0]

        def moved() -> None:
            write(dev_server.address, ui)
            supervisor.restart(worker)  # its connection leads to the old address

        dev_server = DevServer(moved)
        service = Service(
            "temporal",
            dev_server.argv,
            check=dev_server.is_ready,
            errors_only=True,
            noise="Frontend is not healthy yet",
        )
        supervisor.services.insert(0, service)
        async with contextlib.AsyncExitStack() as stack:
            ui = ""
            if dev_server.ui:
                port = await stack.enter_async_context(temporal_ui.door(UI_PORT, dev_server.ui, web))
                ui = f"http://{HOST}:{port}"
            write(dev_server.address, ui)
            yield
