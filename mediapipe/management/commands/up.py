"""Starts the whole product on one machine: Temporal's dev server, the workers and the web server."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobs.workflow import search_attributes
from mediapipe import home, temporal, temporal_ui
from mediapipe.accounts import magic_link
from mediapipe.management.commands.web import (
    check_port,
    close_home,
    collect_static,
    raise_open_files,
    server,
)
from mediapipe.management.process import exit_now
from mediapipe.supervisor import Service, Supervisor, free_port, is_listening

HOST = "127.0.0.1"
# In the home, readable by its owner alone, until the first admin has signed in.
FIRST_PASSWORD = "first_password"  # noqa: S105 - a file's name
SIGN_IN_LINK = "sign_in_link"
RETENTION = "30d"  # Temporal forgets a closed workflow after this; its dev server's default is one day
# Measured: 2 to 5 times faster than SQLite's and the dev server's defaults.
SQLITE_OPTIONS = ("--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=NORMAL")
DYNAMIC_CONFIG = (
    *("--dynamic-config-value", "history.transferProcessorMaxPollRPS=1000"),
    # Temporal is fair to owners within a partition of a task queue, and hardly across several.
    *("--dynamic-config-value", "matching.enableFairness=true"),
    *("--dynamic-config-value", "matching.numTaskqueueReadPartitions=1"),
    *("--dynamic-config-value", "matching.numTaskqueueWritePartitions=1"),
    # Its HTTP API takes orders from any page in a browser. No request can have this for its Host.
    *("--dynamic-config-value", 'frontend.httpAllowedHosts=["#"]'),
)


async def prepare_namespace(address: str) -> None:
    """Has the dev server keep closed workflows for RETENTION, and know our search attributes.

    One command for each: of several names in one command Temporal registers the first, and says success.
    """
    program = str(Path(sys.executable).with_name("temporal"))
    commands = [["namespace", "update", "--retention", RETENTION]]
    commands += [
        ["search-attribute", "create", "--name", name, "--type", "Keyword"]
        for name in search_attributes.NAMES
    ]
    for command in commands:
        process = await asyncio.create_subprocess_exec(
            *(program, "operator", *command, "--namespace", temporal.namespace(), "--address", address),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await process.wait()


class Command(BaseCommand):
    """`manage.py up [--host H] [--port N]`."""

    help = "Starts everything and keeps it running until Ctrl-C."
    requires_system_checks: list[str] = []  # the tests run them; they cost a second at each start

    def add_arguments(self, parser: CommandParser) -> None:
        """Where the dashboard listens."""
        parser.add_argument("--host", default=HOST, help="the address to listen at (127.0.0.1)")
        parser.add_argument("--port", type=int, default=settings.PORT, help="the dashboard's port (8000)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Prepares, then runs until a signal."""
        with open(settings.HOME / "up.lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                web = temporal.addresses().get("web", "")
                raise CommandError(f"mediapipe is already running here. {web}".strip()) from None
            check_port(options["host"], options["port"])
            close_home()  # `web` says where it can't
            call_command("migrate", verbosity=0, interactive=False, skip_checks=True)
            collect_static()
            raise_open_files()
            self.create_first_admin()
            try:
                asyncio.run(self._run(options["host"], options["port"]))
            finally:
                temporal.addresses_file().unlink(missing_ok=True)
        exit_now()

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

    async def _run(self, host: str, port: int) -> None:
        web = f"http://{HOST if host in ('0.0.0.0', '::') else host}:{port}"  # noqa: S104
        dev_server, addresses, door = self._temporal(web)
        addresses["web"] = web
        home.write_file(temporal.addresses_file(), json.dumps(addresses))
        env = {"MEDIAPIPE_PORT": str(port), "PYTHONUNBUFFERED": "1"}
        unversioned = {"MEDIAPIPE_BUILD_ID": ""}  # a run that waits for other code would wait for ever

        async def is_healthy() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                async with httpx.AsyncClient(trust_env=False, timeout=2) as http:
                    return (await http.get(f"{web}/healthz")).status_code == 200
            return False

        manage = [sys.executable, str(settings.BASE_DIR / "manage.py")]
        worker = Service("worker", [*manage, "worker"], ready_line="worker: ready", env=env | unversioned)
        web_server = Service("web", server(host, port), check=is_healthy, env=env)

        async def on_ready() -> None:
            self.print_line(f"Temporal: {addresses['temporal']}")
            if addresses["temporal_ui"]:
                self.print_line(f"Temporal UI: {addresses['temporal_ui']}")
            admin = await get_user_model().objects.filter(is_superuser=True, last_login=None).afirst()
            if admin:
                path = await asyncio.to_thread(magic_link.create, admin.get_username())
                shown = self.shown(SIGN_IN_LINK, f"{web}{path}")
                self.print_line(f"Sign in once, within an hour, by the link {shown}")
            self.print_line(f"Ready: {web}")
            if dev_server:
                await prepare_namespace(addresses["temporal"])

        services = [worker, web_server]
        supervisor = Supervisor([dev_server, *services] if dev_server else services, self.print_line)
        async with door:
            await supervisor.run(on_ready)

    def _temporal(self, web: str) -> tuple[Service | None, dict[str, str], AbstractAsyncContextManager[None]]:
        """Temporal's dev server, the addresses, and the door of its UI.

        No server where TEMPORAL_ADDRESS names a cluster; no UI where it can't be hidden behind the door.
        """
        if cluster_address := os.environ.get("TEMPORAL_ADDRESS"):
            url = os.environ.get("TEMPORAL_UI_URL", "")
            return None, {"temporal": cluster_address, "temporal_ui": url}, contextlib.nullcontext()
        port = free_port(7233)
        ui = temporal_ui.hidden_address()
        argv = [str(Path(sys.executable).with_name("temporal")), "server", "start-dev", "--ip", HOST]
        argv += ["--port", str(port)]
        argv += (
            ["--ui-ip", ui[0], "--ui-port", str(ui[1]), "--ui-disable-news-fetch"] if ui else ["--headless"]
        )
        argv += ["--db-filename", str(settings.HOME / "temporal.sqlite3"), "--log-level", "error"]
        argv += [*SQLITE_OPTIONS, *DYNAMIC_CONFIG]
        for name in search_attributes.NAMES:  # heeded only where the database is new
            argv += ["--search-attribute", f"{name}=Keyword"]
        if (namespace := temporal.namespace()) != "default":
            argv += ["--namespace", namespace]
        service = Service("temporal", argv, check=lambda: is_listening(port), errors_only=True)
        if not ui:
            return service, {"temporal": f"{HOST}:{port}", "temporal_ui": ""}, contextlib.nullcontext()
        door_port = free_port(8233)
        addresses = {"temporal": f"{HOST}:{port}", "temporal_ui": f"http://{HOST}:{door_port}"}
        return service, addresses, temporal_ui.door(door_port, ui, web)
