"""Runs the workers of one or more task queues until SIGTERM, then hands their work over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.module_loading import import_string
from temporalio.client import Client
from temporalio.service import RPCError

from jobs.fleet import presence
from mediapipe import log, metrics, temporal, tracing
from mediapipe.kernel import has_seccomp, landlock_abi, weaknesses
from mediapipe.management.commands.web import check_port, check_tables, protect
from mediapipe.management.process import exit_now
from mediapipe.supervisor import free_port


class Command(BaseCommand):
    """`manage.py worker [--queue NAME ...]`."""

    help = "Runs the workers of the pipeline and of the embedded engine."
    client: Client | None = None  # once its workers run
    sdk_metrics = ""  # host:port of those of Temporal's SDK
    requires_system_checks: list[str] = []  # the tests run them; they cost a second at each start

    def add_arguments(self, parser: CommandParser) -> None:
        """Which task queues; all by default."""
        parser.add_argument("--queue", action="append", choices=sorted(settings.WORKERS), metavar="NAME")

    def handle(self, *args: Any, **options: Any) -> None:
        """Runs until SIGTERM or Ctrl-C; a second signal ends it at once."""
        queues = options["queue"] or list(settings.WORKERS)
        for sentence in protect():
            self.stderr.write(sentence)
        check_tables()
        tracing.begin("worker")
        log.leave_out_late_cancels()
        asyncio.run(self._run(queues))
        exit_now()

    async def _run(self, queues: list[str]) -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()

        def on_signal(number: int, frame: object) -> None:
            if stop.is_set():
                os._exit(128 + number)
            loop.call_soon_threadsafe(stop.set)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_signal)
        async with contextlib.AsyncExitStack() as stack:
            self._show_metrics(stack, loop)
            if (client := await self._connect(stop)) is None:
                return
            workers = []
            for queue in queues:
                built = await stack.enter_async_context(import_string(settings.WORKERS[queue])(client))
                workers.extend(built)
            name = stack.enter_context(presence.own_name())
            async with presence.announced(name, workers), temporal.run_workers(workers) as running:
                version = f", version {settings.BUILD_ID}" if settings.BUILD_ID else ""
                if "media-engine" in queues:
                    self._tell_protection()
                self.client = client
                self.stdout.write(f"worker: ready ({', '.join(queues)}){version}")
                self.stdout.flush()
                stopped = asyncio.ensure_future(stop.wait())
                done, _ = await asyncio.wait({stopped, *running}, return_when=asyncio.FIRST_COMPLETED)
                stopped.cancel()
            for task in done - {stopped}:
                if error := task.exception():
                    raise CommandError(f"A worker stopped: {error}") from error

    def _show_metrics(self, stack: contextlib.AsyncExitStack, loop: asyncio.AbstractEventLoop) -> None:
        """Answers Prometheus and health checks until *stack* ends, where the settings say so."""
        if settings.METRICS_ADDRESS is None:
            return

        def is_ready() -> bool:
            if self.client is None:
                return False
            asking = self.client.service_client.check_health(timeout=timedelta(seconds=1))
            with contextlib.suppress(RPCError, RuntimeError, TimeoutError):
                return asyncio.run_coroutine_threadsafe(asking, loop).result(2)
            return False

        host, port = settings.METRICS_ADDRESS
        check_port(host, port, "MEDIAPIPE_METRICS_ADDRESS")
        self.sdk_metrics = f"127.0.0.1:{free_port(port + 1 if port < 65535 else port - 1)}"
        stack.enter_context(metrics.shown(host, port, f"http://{self.sdk_metrics}/metrics", is_ready))

    def _tell_protection(self) -> None:
        """Says what holds FFmpeg on this machine, and what an admin can do where a layer is missing."""
        held = [name for name, kept in (("Landlock", landlock_abi()), ("seccomp", has_seccomp())) if kept]
        others = f"{', '.join(held)} and " if held else ""
        self.stdout.write(f"FFmpeg is held by {others}resource limits.")
        for sentence in weaknesses():
            self.stdout.write(sentence)

    async def _connect(self, stop: asyncio.Event) -> Client | None:
        """A client, however long Temporal takes to come up; None where *stop* is set first."""
        reported = False
        while not stop.is_set():
            try:
                return await temporal.worker_client(self.sdk_metrics)
            except (RPCError, RuntimeError) as error:
                if not reported:
                    reason = temporal.explain(error)
                    self.stderr.write(f"worker: waiting for Temporal at {temporal.target()}: {reason}.")
                reported = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.5)
        return None
