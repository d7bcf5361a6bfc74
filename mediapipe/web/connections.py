"""The web server's HTTP protocol: uvicorn's, with a limit and a deadline on all that a stranger can hold.

It knows connections and the heads of requests; bodies are mediapipe.web.request_body's. A full house turns
nobody away: the connection that has kept it waiting for the longest goes.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections import Counter
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mediapipe.recent import Recent
from mediapipe.web import refusal
from mediapipe.web.request_body import needs_owner

MAX_HEAD = 32 * 1024  # bytes; browsers and proxies stop at 8 to 16 KB
MAX_FIELDS = 100
MAX_PIPELINED = 8  # requests that wait for the answer to the one before; browsers send none
HEAD_SECONDS = 10.0  # from its first byte to its last; also for the first byte of a new connection
DRAIN_SECONDS = 30.0  # for the rest of a body that has had its answer
STALL_SECONDS = 300.0  # that a reader may stop, as a paused player does
LINGER_SECONDS = 1.0  # for a refusal to arrive before the connection is cut
PER_ADDRESS = 256
AT_A_STROKE = 256  # new connections of one address, and then
RATE = 200.0  # so many per second
OWN_FILES = 200  # descriptors that the database, Temporal and the workers' calls need beside the connections


def most_connections() -> int:
    """How many connections the descriptors of this process allow: each may have a file beside it."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(50, min(1024, (soft - OWN_FILES) // 2))


class House:
    """The connections that are open, and those of them that wait for their client, the longest first."""

    def __init__(self) -> None:
        self.most = most_connections()
        self.open: Counter[str] = Counter()
        self.waiting: dict[Connection, None] = {}
        self.lately: Recent[str, tuple[float, float]] = Recent(10_000)  # what an address has left, and when

    def is_rushed_by(self, address: str) -> bool:
        """Whether *address* comes again too fast; counts that it was let in."""
        now = time.monotonic()
        left, since = self.lately.get(address, (AT_A_STROKE, now))
        left = min(AT_A_STROKE, left + (now - since) * RATE)
        rushed = left < 1
        self.lately[address] = (left if rushed else left - 1, now)  # who is refused has used up nothing
        return rushed

    def enter(self, connection: Connection) -> None:
        """Takes one in. Where there is no room for it another one goes, or it goes itself."""
        self.open[connection.address] += 1
        self.waiting[connection] = None
        if self.open[connection.address] > connection.most:
            self._make_room(connection.address)
        elif self.open.total() > self.most:
            self._make_room(self.open.most_common(1)[0][0])

    def _make_room(self, address: str) -> None:
        oldest = next((each for each in self.waiting if each.address == address), None)
        if oldest:
            del self.waiting[oldest]
            oldest.cut()

    def leave(self, connection: Connection) -> None:
        """Forgets one that has ended."""
        self.waiting.pop(connection, None)
        self.open[connection.address] -= 1
        if self.open[connection.address] <= 0:
            del self.open[connection.address]


house = House()


class Connection(HttpToolsProtocol):
    """One client: at most MAX_HEAD bytes and HEAD_SECONDS for a head, and never a wait without an end."""

    timer: asyncio.TimerHandle | None = None
    stalled: asyncio.TimerHandle | None = None
    in_head = True
    held = 0  # bytes of a head that isn't whole, or of what follows a chunk
    refusing = False
    running: Any = None  # the request that is being answered

    def connection_made(self, transport: Any) -> None:
        """Counts it in, and waits for its first request."""
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        trusted = self.address in getattr(self.config.loaded_app, "trusted_hosts", ())
        self.most = house.most if trusted else PER_ADDRESS  # a proxy brings everybody
        self._wait(HEAD_SECONDS)
        house.enter(self)
        if not trusted and house.is_rushed_by(self.address):
            self.cut()  # before its bytes cost anything

    def connection_lost(self, exc: Exception | None) -> None:
        """Counts it out."""
        house.leave(self)
        self._stop_waiting()
        self.resume_writing()
        self._unset_keepalive_if_required()
        if self.running:
            self.running.disconnected = True
        super().connection_lost(exc)

    def cut(self) -> None:
        """Ends it at once; who is just answering notices."""
        if self.running:
            self.running.disconnected = True
        self.transport.abort()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self.running = cycle  # with pipelined requests uvicorn's own self.cycle is the last that came
        super()._start_asgi_task(cycle, app)

    def _wait(self, seconds: float) -> None:
        self.timer = self.loop.call_later(seconds, self._on_late)

    def _stop_waiting(self) -> None:
        if self.timer:
            self.timer.cancel()
            self.timer = None

    def _on_late(self) -> None:
        if self.in_head and self.held and not self.refusing:
            self._refuse(408)
        else:
            self.cut()

    def _refuse(self, status: int) -> None:
        """Answers what never became a request, and hangs up when the answer has had time to arrive."""
        self._stop_waiting()
        if self.transport.is_closing() or (self.cycle and not self.cycle.response_complete):
            return self.cut()
        self.refusing = True
        self.transport.write(refusal.message(status))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._wait(LINGER_SECONDS)

    def data_received(self, data: bytes) -> None:
        """Feeds the parser; a head that is too large or too late goes no further."""
        if self.refusing:
            return
        self._unset_keepalive_if_required()
        self.held += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # the request is answered as if it hadn't asked for another protocol (RFC 9110 7.8)
        except httptools.HttpParserError:
            return self._refuse(400)
        if self.held > MAX_HEAD:
            self._refuse(431)
        elif self.in_head and not self.timer and (not self.cycle or self.cycle.response_complete):
            self._wait(HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        """The head is whole: uvicorn has the request answered, by a refusal where there is one."""
        self.in_head = False
        self._stop_waiting()
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many requests at once")
        if status := self._objection():
            self.app = refusal.app(status)
        super().on_headers_complete()
        if needs_owner(self.headers):
            house.waiting.pop(self, None)  # it is somebody's, or it is refused at once

    def _objection(self) -> int:
        """The status that this head is refused with; 0 where it isn't."""
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MAX_HEAD or len(self.headers) > MAX_FIELDS:
            return 431
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (not hosts and self.parser.get_http_version() == "1.1"):
            return 400  # RFC 9112 3.2
        return 0

    def on_body(self, body: bytes) -> None:
        """A part of a body; the bytes between two of them, and its trailers, are limited as a head's are."""
        self.held = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole: from now on its client waits for us."""
        self.in_head = True
        self.held = 0
        self._stop_waiting()
        house.waiting.pop(self, None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is sent: we wait for the client, for the next request or the rest of this one."""
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self.cycle.response_complete:
            house.waiting[self] = None
        if not self.in_head and not self.timer:
            self._wait(DRAIN_SECONDS)

    def pause_writing(self) -> None:
        """The client doesn't read."""
        super().pause_writing()
        self.stalled = self.loop.call_later(STALL_SECONDS, self.cut)

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        if self.stalled:
            self.stalled.cancel()
            self.stalled = None
