"""The door of Temporal's UI by itself: what it takes for a request, and what it passes on."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from mediapipe import temporal_ui
from tests.support.product import free_port


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\nHost: 127.0.0.1\n\n\r\n\r\n",
        b"GET http://127.0.0.1/ HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1:1\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1:1\r\nX: a\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : 127.0.0.1:1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1:1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1:1\r\nX: a\nCookie: b\r\n\r\n",
        b"\r\n\r\n",
    ],
)
def test_a_head_that_could_be_read_in_two_ways_is_refused(head):
    with pytest.raises(temporal_ui.Refused, match="400"):
        temporal_ui.parse(head)


def test_the_ui_gets_one_request_for_each_connection_and_no_session():
    head = b"GET /a HTTP/1.1\r\nHost: 127.0.0.1:1\r\nCookie: a=1; sessionid=s; _csrf=c=\r\n"
    head += b"Connection: keep-alive, X\r\nUpgrade: h2c\r\n\r\n"
    lines = temporal_ui.passed_on(temporal_ui.parse(head)).split(b"\r\n")
    assert lines == [
        b"GET /a HTTP/1.1",
        b"Connection: close",
        b"host: 127.0.0.1:1",
        b"cookie: a=1; _csrf=c=",
        b"",
        b"",
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\nX: " + b"a" * (1 << 16), b"GET / HTTP/1.1\r\nX: "])
async def test_who_sends_too_much_or_no_end_of_a_head_is_hung_up_on(head, monkeypatch):
    monkeypatch.setattr(temporal_ui, "HEAD_SECONDS", 0.2)
    async with temporal_ui.door(port := free_port(), ("127.0.0.1", 1), "http://127.0.0.1:1"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()
