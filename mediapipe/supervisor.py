"""Runs child processes for `up`: restarted when they die, stopped together, none left behind.

It knows processes and ports, and nothing of Temporal or Django.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
FIRST_PAUSE, LONGEST_PAUSE, STABLE = 0.5, 15.0, 30.0  # seconds


@dataclass
class Service:
    """A child: how it is started, and how it is known to be of use."""

    name: str
    argv: list[str]
    ready: Callable[[], Awaitable[bool]] | None = None
    says: str = ""  # or a line that it begins when it is
    quiet: bool = False  # only its errors are shown
    env: dict[str, str] = field(default_factory=dict)
    grace: float = 15.0  # seconds from SIGTERM to SIGKILL
    process: asyncio.subprocess.Process | None = None
    is_ready: asyncio.Event = field(default_factory=asyncio.Event)


def die_with(parent: int) -> Callable[[], None]:
    """What a child runs before exec: the kernel ends it with *parent*, even when that is killed with -9."""

    def ask() -> None:
        if LIBC:
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

    return ask


async def answers(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something listens there."""
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(wanted: int) -> int:
    """*wanted*, or where it is taken any other free port."""
    if is_free(wanted):
        return wanted
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Supervisor:
    """Keeps services running until a signal asks for the end."""

    def __init__(self, services: list[Service], say: Callable[[str], None]) -> None:
        """*services* start together, each waits for what it needs, and they end in reverse order."""
        self.services, self.say = services, say
        self.stopping = asyncio.Event()

    async def run(self, on_ready: Callable[[], Awaitable[None]]) -> None:
        """Starts everything, calls *on_ready*, and returns when all has ended."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.stopping.set)
        kept = [(service, asyncio.create_task(self._keep(service))) for service in self.services]
        tasks = {asyncio.create_task(self.stopping.wait()), asyncio.create_task(self._ready())}
        _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        if not self.stopping.is_set():
            await on_ready()
            await self.stopping.wait()
        for service, keeper in reversed(kept):
            await self._end(service, keeper)

    async def _ready(self) -> Literal[True]:
        for service in self.services:
            await service.is_ready.wait()
        return True

    async def _keep(self, service: Service) -> None:
        """Runs the service again and again, with growing pauses while it keeps dying."""
        pause = FIRST_PAUSE
        while not self.stopping.is_set():
            began = time.monotonic()
            code = await self._once(service)
            if self.stopping.is_set():
                return
            pause = FIRST_PAUSE if time.monotonic() - began > STABLE else pause
            self.say(f"{service.name} ended with status {code}; it is started again in {pause:.1f} s.")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _once(self, service: Service) -> int:
        service.process = await asyncio.create_subprocess_exec(
            *service.argv,
            env={**os.environ, **service.env},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL if service.quiet else asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE if service.quiet else asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with(os.getpid()),
            limit=1 << 20,
        )
        looking = asyncio.create_task(self._look(service))
        try:
            await self._lines(service, service.process)
            return await service.process.wait()
        finally:
            looking.cancel()

    async def _look(self, service: Service) -> None:
        while service.ready and not service.is_ready.is_set():
            if await service.ready():
                service.is_ready.set()
            await asyncio.sleep(0.05)

    async def _lines(self, service: Service, process: asyncio.subprocess.Process) -> None:
        stream = process.stderr if service.quiet else process.stdout
        assert stream is not None
        while True:
            try:
                raw = await stream.readline()
            except ValueError:  # a line of more than a megabyte
                continue
            if not raw:
                return
            line = raw.decode(errors="replace").rstrip()
            if service.says and line.startswith(service.says):
                service.is_ready.set()
            elif line:
                self.say(f"{service.name}: {line}")

    async def _end(self, service: Service, keeper: asyncio.Task[None]) -> None:
        """SIGTERM to the child's process group, SIGKILL when its time is up."""
        for number, patience in ((signal.SIGTERM, service.grace), (signal.SIGKILL, 5.0)):
            if service.process and service.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(service.process.pid, number)
            done, _ = await asyncio.wait({keeper}, timeout=patience)
            if done:
                return
