"""The web server's protocol, on real sockets: whatever a stranger holds has a limit and an end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading

import pytest
import uvicorn

from mediapipe.recent import Recent
from mediapipe.web import connections
from mediapipe.web.request_body import raw_body
from tests.support.product import until

HOST = b"Host: localhost\r\n"
WHOLE = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
CLOSING = b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"


class Server:
    """uvicorn with our protocol, and an application that answers when it is let."""

    def __init__(self, **options) -> None:
        self.asked, self.patient = [], threading.Event()
        self.patient.set()
        application = raw_body(self._app, granted=self._granted, too_large=self._too_large)
        config = uvicorn.Config(
            application,
            port=0,
            http=connections.Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            **{"proxy_headers": False, **options},
        )
        self.server = uvicorn.Server(config)
        self.server.capture_signals = contextlib.nullcontext  # they are the tests'
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        until(lambda: self.server.started, 60, 0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]

    @staticmethod
    async def _granted(path, headers) -> int:
        return 1 << 30 if "authorization" in headers else 0

    @staticmethod
    async def _too_large(limit, headers) -> str:
        return str(limit)

    async def _app(self, scope, receive, send) -> None:
        self.asked.append(scope)
        if scope["path"] != "/early":
            while (message := await receive()).get("more_body"):
                pass
            if message["type"] == "http.disconnect":
                return
        while not self.patient.is_set():
            await asyncio.sleep(0.01)
        size = int(scope["query_string"] or 2)
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]}
        )
        await send({"type": "http.response.body", "body": b"x" * size})

    def line(self, data: bytes = b"") -> socket.socket:
        """A connection on which *data* has been sent."""
        line = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        line.sendall(data)
        return line

    def ask(self, data: bytes) -> bytes:
        """All that is answered until the server hangs up."""
        with self.line(data) as line:
            return rest(line)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join()


def rest(line: socket.socket) -> bytes:
    answer = b""
    with contextlib.suppress(ConnectionError):
        while block := line.recv(65536):
            answer += block
    return answer


@pytest.fixture(scope="module")
def running():
    running = Server()
    yield running
    running.stop()


@pytest.fixture
def server(running):
    yield running
    running.patient.set()


@pytest.fixture
def soon(monkeypatch):
    """Deadlines that a test can wait for."""
    for name in ("HEAD_SECONDS", "DRAIN_SECONDS", "STALL_SECONDS"):
        monkeypatch.setattr(connections, name, 0.3)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 300_000, 431),
        (b"GET /" + b"a" * 300_000, 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 101 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Host: evil.example\r\n\r\n", 400),
        (
            b"POST / HTTP/1.1\r\n"
            + HOST
            + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"rubbish\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 40000\r\n\r\n", 413),
    ],
)
def test_what_is_too_large_or_no_http_gets_a_sentence_and_the_headers_of_every_page(server, data, status):
    server.asked.clear()
    answer = server.ask(data)
    head, _, text = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status) and text.count(b"\n") == 1 and b". " in text
    for each in (b"x-content-type-options: nosniff", b"cache-control: no-store", b"connection: close"):
        assert each in head
    assert b"default-src 'self'" in head and b"frame-ancestors 'none'" in head
    assert not server.asked


def test_the_engines_api_is_refused_in_json(server):
    answer = server.ask(b"POST /ittybit/tasks HTTP/1.1\r\n" + HOST + b"Content-Length: 40000\r\n\r\n")
    assert b"413" in answer[:20] and b'{"kind": "request_too_large"' in answer


def test_our_own_api_is_refused_by_a_problem(server):
    answer = server.ask(b"POST /api/v1/jobs HTTP/1.1\r\n" + HOST + b"Content-Length: 40000\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    problem = json.loads(body)
    assert b" 413 " in head[:20] and b"content-type: application/problem+json" in head
    assert problem["status"] == 413 and "Sign in first" in problem["detail"]


def test_a_websocket_is_not_to_be_had_and_no_error(server):
    upgrade = b"Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\n\r\n"
    with server.line(b"GET / HTTP/1.1\r\n" + HOST + upgrade) as line:
        assert line.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_who_sends_nothing_or_a_byte_at_a_time_is_hung_up_on(server, soon):
    with server.line() as silent, server.line(b"GET / HT") as half, server.line(WHOLE) as second:
        assert second.recv(4096).startswith(b"HTTP/1.1 200 ")
        second.sendall(b"GET / HTTP/1.1\r\nX: ")
        stop = threading.Event()

        def drip() -> None:
            with contextlib.suppress(OSError):
                while not stop.wait(0.02):
                    second.sendall(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        assert rest(silent) == b""
        assert b" 408 " in rest(half) and b" 408 " in rest(second)
        stop.set()
        thread.join()


def test_who_is_still_sending_when_answered_may_not_go_on_for_ever(server, soon):
    with server.line(b"POST /early HTTP/1.1\r\n" + HOST + b"Content-Length: 9000\r\n\r\n") as line:
        assert line.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert rest(line) == b""


def test_who_does_not_read_the_answer_is_hung_up_on(server, soon):
    large = b"GET /?60000000 HTTP/1.1\r\n" + HOST + b"\r\n"
    with server.line(large) as line:
        until(lambda: not connections.house.open)
        assert len(rest(line)) < 60_000_000


def test_a_thousand_requests_in_one_breath_are_not_kept(server):
    server.patient.clear()
    server.asked.clear()
    assert server.ask(WHOLE * 1000) == b""
    server.patient.set()
    assert len(server.asked) == 1


def test_trailers_are_a_head_too(server):
    chunked = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: "
    with server.line(chunked) as line, contextlib.suppress(ConnectionError):
        for _ in range(1000):
            line.sendall(b"a" * 10_000)
        pytest.fail("ten megabytes of a trailer were taken")


def test_a_chunked_body_is_no_head_however_small_its_chunks(server):
    chunked = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    with server.line(chunked + b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n") as line:
        assert line.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_a_few_pipelined_requests_are_answered_in_their_order(server):
    with server.line(WHOLE * 4) as line:
        until(lambda: line.recv(65536, socket.MSG_PEEK).count(b"HTTP/1.1 200") == 4)


def test_where_an_address_holds_too_much_its_longest_dawdler_goes_and_nobody_who_is_served(
    server, monkeypatch
):
    monkeypatch.setattr(connections, "PER_ADDRESS", 10)
    until(lambda: not connections.house.open)
    server.asked.clear()
    server.patient.clear()
    with contextlib.ExitStack() as held:
        busy = held.enter_context(server.line(WHOLE))
        owned = b"POST / HTTP/1.1\r\n" + HOST + b"Authorization: x\r\nContent-Length: 90000\r\n\r\n"
        sending = held.enter_context(server.line(owned))
        until(lambda: len(server.asked) == 2 and not connections.house.waiting)
        dawdlers = [held.enter_context(server.line(b"GET")) for _ in range(8)]
        until(lambda: connections.house.open["127.0.0.1"] == 10)
        late = [held.enter_context(server.line(WHOLE)) for _ in range(3)]
        assert [rest(each) for each in dawdlers[:3]] == [b""] * 3
        server.patient.set()
        sending.sendall(b"x" * 90000)
        for each in (busy, sending, *late):
            assert each.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert connections.house.open["127.0.0.1"] == 10
    until(lambda: not connections.house.open)


def test_who_comes_again_and_again_is_hung_up_on_and_let_in_when_it_slows_down(server, monkeypatch):
    monkeypatch.setattr(connections, "AT_A_STROKE", 10)
    monkeypatch.setattr(connections, "RATE", 2.0)
    monkeypatch.setattr(connections.house, "lately", Recent(9))
    answers = [server.ask(CLOSING) for _ in range(10)]
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
    assert b"" in (server.ask(CLOSING) for _ in range(50))
    until(lambda: server.ask(CLOSING), 60, 0.1)


def test_a_proxy_brings_more_connections_than_a_person_and_says_for_whom():
    trusting = Server(proxy_headers=True, forwarded_allow_ips="127.0.0.1")
    try:
        forwarded = b"GET / HTTP/1.1\r\n" + HOST + b"X-Forwarded-For: 203.0.113.9\r\n\r\n"
        with trusting.line(forwarded) as line:
            assert b" 200 " in line.recv(4096)
            # a moment after its answer it waits for the next request
            until(lambda: [each.most for each in connections.house.waiting] == [connections.house.most])
        assert trusting.asked[0]["client"][0] == "203.0.113.9"
    finally:
        trusting.stop()
