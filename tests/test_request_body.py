"""The layer before Django: tus bodies are streamed, others capped, and silence is not waited for."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from mediapipe.web import request_body

pytestmark = pytest.mark.anyio


async def ask(app, path="/", headers=(), messages=()):
    sent, queue = [], list(messages)

    async def receive():
        if queue:
            return queue.pop(0)
        await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": path, "headers": [(k.encode(), v.encode()) for k, v in headers]}
    await app(scope, receive, send)
    return sent


async def form_limit(cookie):
    return 1000 if cookie == "sessionid=x" else 0


def layered(app):
    limits = {"limit": 100, "form_path": "/form/", "form_limit": form_limit}
    return request_body.raw_body(app, **limits, too_large=lambda limit: f"at most {limit}")


async def whole(scope, receive, send):
    """An application that reads its whole body and tells how much there was."""
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            break
    await send({"type": "told", "size": size, "how": message["type"]})


@pytest.mark.parametrize(
    ("path", "cookie", "length", "refused"),
    [
        ("/", "", 100, False),
        ("/", "", 101, True),
        ("/form/", "sessionid=x", 1000, False),
        ("/form/", "", 1000, True),
        ("/form/", "sessionid=forged", 1000, True),
        ("/form/", "sessionid=forged", 100, False),
        ("/form/", "sessionid=x", 1001, True),
    ],
)
async def test_a_body_over_its_limit_is_refused_before_it_is_read(path, cookie, length, refused):
    body = {"type": "http.request", "body": b"x" * length, "more_body": False}
    headers = [("content-length", str(length)), ("cookie", cookie)]
    sent = await ask(layered(whole), path, headers, [body])
    assert (sent[0].get("status") == 413) is refused
    if not refused:
        assert sent[0]["size"] == length


async def test_a_body_that_names_no_length_is_cut_off_at_its_limit():
    part = {"type": "http.request", "body": b"x" * 60, "more_body": True}
    chunked = [("transfer-encoding", "chunked")]
    for path, headers in (("/", chunked), ("/form/", chunked), ("/form/", [*chunked, ("cookie", "a=b")])):
        assert (await ask(layered(whole), path, headers, [part, part, part]))[0]["how"] == "http.disconnect"
    parts = [part, part, {**part, "more_body": False}]
    known = [*chunked, ("cookie", "sessionid=x")]
    assert (await ask(layered(whole), "/form/", known, parts))[0] == {
        "type": "told",
        "size": 180,
        "how": "http.request",
    }


async def test_django_sees_an_empty_body_of_an_upload_and_the_view_the_real_one():
    async def app(scope, receive, send):
        assert (await receive())["body"] == b""

        request = SimpleNamespace(scope=scope)
        parts = [block async for blocks in request_body.chunks(request) for block in blocks]
        await send({"type": "told", "body": b"".join(parts)})

    headers = [("content-type", request_body.OFFSET_STREAM), ("content-length", "999999")]
    body = [
        {"type": "http.request", "body": b"ab", "more_body": True},
        {"type": "http.request", "body": b"c"},
    ]
    assert (await ask(layered(app), "/uploads/x/", headers, body))[0]["body"] == b"abc"


async def test_who_holds_the_line_and_says_nothing_is_hung_up_on(monkeypatch):
    monkeypatch.setattr(request_body, "MAX_PAUSE", 0.1)
    got = []

    async def app(scope, receive, send):
        request = SimpleNamespace(scope=scope)
        try:
            async for blocks in request_body.chunks(request):
                got.extend(blocks)
        except request_body.Disconnected:
            got.append(b" and hung up")

    headers = [("content-type", request_body.OFFSET_STREAM)]
    first = {"type": "http.request", "body": b"a", "more_body": True}
    await asyncio.wait_for(ask(layered(app), "/uploads/x/", headers, [first]), 5)
    assert b"".join(got) == b"a and hung up"  # what came is kept
