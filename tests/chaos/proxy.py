"""A TCP proxy whose line can be slow, dead or cut. It knows bytes, and nothing of what they say."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable

from tests.support.product import free_port

SLOW = 0.3  # seconds that each piece waits


class Proxy:
    """Listens at *port* (*url*) for what is at *upstream* now; *line*: "", slow, hole, reset."""

    def __init__(self, upstream: Callable[[], tuple[str, int]]) -> None:
        self.upstream = upstream
        self.line = ""
        self.loop = asyncio.new_event_loop()
        self.server: asyncio.Server | None = None
        self.open: set[asyncio.StreamWriter] = set()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Proxy:
        self.thread.start()
        self.ready.wait(10)
        return self

    def __exit__(self, *problem) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)

    def disturb(self, line: str, seconds: float) -> None:
        """The line is like that for a time: slow, a hole that swallows everything, or cut and refused."""
        self.line = line
        if line == "reset":
            self.loop.call_soon_threadsafe(self._cut)
        time.sleep(seconds)
        self.line = ""
        if line == "hole":  # what was swallowed would be missed for ever
            self.loop.call_soon_threadsafe(self._cut)

    def move(self) -> None:
        """It listens at another port, and at the one before no more."""
        asyncio.run_coroutine_threadsafe(self._listen(), self.loop).result(10)

    async def _listen(self) -> None:
        if self.server:
            self.server.close()
            self._cut()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    def _cut(self) -> None:
        for writer in list(self.open):
            writer.transport.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._listen())
        self.ready.set()
        self.loop.run_forever()
        self.loop.run_until_complete(self._end())
        self.loop.close()

    async def _end(self) -> None:
        if self.server:
            self.server.close()
        self._cut()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for each in rest:
            each.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, KeyError, ValueError):
            if self.line != "reset":
                there, back = await asyncio.open_connection(*self.upstream())
                self.open |= {writer, back}
                await asyncio.gather(self._copy(reader, back), self._copy(there, writer))
                self.open -= {writer, back}
        writer.close()

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if self.line == "slow":
                    await asyncio.sleep(SLOW)
                if self.line != "hole":
                    target.write(data)
                    await target.drain()
        target.close()
