"""Runs child processes for `up`: restarted when they exit, stopped together, none left running.

It knows processes and ports, and nothing of Temporal or Django.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
# Seconds: between an exit and the restart, doubled each time up to the longest; a service that ran
# longer than STABLE begins with the first again.
FIRST_RESTART_DELAY = 0.5
LONGEST_RESTART_DELAY = 15.0
STABLE = 30.0
UNCLAIMED = range(10000, 30000)  # ports that no system gives to outgoing connections


@dataclass
class Service:
    """A child process: how it is started, and how it is known to be ready."""

    name: str
    argv: Callable[[], list[str]]  # asked before each start
    listener: Callable[[], socket.socket] | None = None  # anew for each start: it is given this as `--fd N`
    check: Callable[[], Awaitable[bool]] | None = None  # whether it is ready, called until it is
    ready_line: str = ""  # or the beginning of a line that it prints when it is
    errors_only: bool = False  # its standard output is not shown
    noise: str = ""  # in a line that is not shown: what it says to a look before it is ready
    env: dict[str, str] = field(default_factory=dict)
    grace: float = 15.0  # seconds from SIGTERM to SIGKILL
    process: asyncio.subprocess.Process | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)


def exit_with_parent(parent: int) -> Callable[[], None]:
    """What a child runs before exec: the kernel ends it with process *parent*, even one killed with -9."""

    def set_death_signal() -> None:
        if LIBC:
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

    return set_death_signal


async def is_listening(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server accepts connections there."""
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there. Another may, a moment later: reserve() keeps it from us others."""
    return obstacle(port, host) is None


def obstacle(port: int, host: str) -> OSError | None:
    """Why no server could listen there; None where one could."""
    with socket.socket(_family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None


def reserve(port: int, host: str = "127.0.0.1") -> bool:
    """Keeps *port* from every other process that asks here, while this one lives; False where it is taken.

    What is held is UDP's port of that number: at TCP's a server of ours is to listen, again and again.
    """
    twin = socket.socket(_family(host), socket.SOCK_DGRAM)
    try:
        twin.bind((host, port))
    except OSError:
        twin.close()
        return False
    if not is_free(port, host):
        twin.close()
        return False
    twin.detach()  # it stays open as long as this process lives
    return True


def free_port(preferred: int) -> int:
    """*preferred*, or where it is taken a port of UNCLAIMED, reserved: a server can come back to it."""
    port = preferred
    while not reserve(port):
        port = secrets.choice(UNCLAIMED)
    return port


def listen(port: int, host: str = "127.0.0.1") -> socket.socket:
    """A socket that listens there, for a server that takes it over. Raises OSError."""
    return socket.create_server((host, port), family=_family(host))


def listen_anywhere(preferred: int) -> socket.socket:
    """The same on *preferred*, or where it is taken on a port of UNCLAIMED."""
    port = preferred
    while True:
        try:
            return listen(port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            port = secrets.choice(UNCLAIMED)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


class Supervisor:
    """Runs services until a signal: SIGINT, SIGTERM or SIGHUP."""

    def __init__(self, services: list[Service], print_line: Callable[[str], None]) -> None:
        """*services* start together and are stopped in reverse order; *print_line* gets their output."""
        self.services = services
        self.print_line = print_line
        self.stopping = asyncio.Event()

    async def run(self, on_ready: Callable[[], Awaitable[None]]) -> None:
        """Starts everything, awaits *on_ready* when all are ready, and returns when all have ended."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.stopping.set)
        started = [(service, asyncio.create_task(self._run_service(service))) for service in self.services]
        events = {asyncio.create_task(self.stopping.wait()), asyncio.create_task(self._all_ready())}
        _, pending = await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        if not self.stopping.is_set():
            await on_ready()
            await self.stopping.wait()
        for service, running in reversed(started):
            await self._stop(service, running)

    async def _all_ready(self) -> Literal[True]:
        for service in self.services:
            await service.ready.wait()
        return True

    async def _run_service(self, service: Service) -> None:
        """Restarts the service whenever it exits, with growing delays while it exits early."""
        delay = FIRST_RESTART_DELAY
        while not self.stopping.is_set():
            started_at = time.monotonic()
            try:
                ended = f"exited with status {await self._run_once(service)}"
            except OSError as error:
                ended = f"can’t be started: {error.strerror or error}"
            if self.stopping.is_set():
                return
            delay = FIRST_RESTART_DELAY if time.monotonic() - started_at > STABLE else delay
            self.print_line(f"{service.name} {ended}; restarting in {delay:.1f} s.")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), delay)
            delay = min(delay * 2, LONGEST_RESTART_DELAY)

    async def _run_once(self, service: Service) -> int:
        listener = service.listener() if service.listener else None
        try:
            service.process = await self._start(service, listener)
        finally:
            if listener:
                listener.close()  # it is the child's alone: its end is the end of listening
        checking = asyncio.create_task(self._check_until_ready(service))
        try:
            await self._forward_output(service, service.process)
            return await service.process.wait()
        finally:
            checking.cancel()

    async def _start(self, service: Service, listener: socket.socket | None) -> asyncio.subprocess.Process:
        argv = service.argv()
        if listener:
            argv += ["--fd", str(listener.fileno())]
        return await asyncio.create_subprocess_exec(
            *argv,
            env={**os.environ, **service.env},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL if service.errors_only else asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE if service.errors_only else asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=exit_with_parent(os.getpid()),
            pass_fds=[listener.fileno()] if listener else [],
            limit=1 << 20,
        )

    def restart(self, service: Service) -> None:
        """Has a service that runs end; it is started again as after any other end."""
        if service.process and service.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(service.process.pid, signal.SIGTERM)

    async def _check_until_ready(self, service: Service) -> None:
        while service.check and not service.ready.is_set():
            if await service.check():
                service.ready.set()
            await asyncio.sleep(0.05)

    async def _forward_output(self, service: Service, process: asyncio.subprocess.Process) -> None:
        stream = process.stderr if service.errors_only else process.stdout
        assert stream is not None
        while True:
            try:
                raw = await stream.readline()
            except ValueError:  # a line of more than a megabyte
                continue
            if not raw:
                return
            line = raw.decode(errors="replace").rstrip()
            if service.ready_line and line.startswith(service.ready_line):
                service.ready.set()
            elif line and not (service.noise and service.noise in line):
                self.print_line(f"{service.name}: {line}")

    async def _stop(self, service: Service, task: asyncio.Task[None]) -> None:
        """SIGTERM to the child's process group, SIGKILL after its grace; returns when *task* has ended."""
        for number, timeout in ((signal.SIGTERM, service.grace), (signal.SIGKILL, 5.0)):
            if service.process and service.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(service.process.pid, number)
            done, _ = await asyncio.wait({task}, timeout=timeout)
            if done:
                return
