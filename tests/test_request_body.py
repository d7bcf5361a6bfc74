"""The layer before Django: tus bodies are streamed, others capped, and silence is not waited for."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest

from mediapipe.web import request_body

pytestmark = pytest.mark.anyio
STRANGERS = request_body.STRANGERS_BYTES


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


async def granted(path, headers):
    owned = headers.get("cookie") == "sessionid=x"
    return (STRANGERS * 4 if path == "/form/" else STRANGERS * 2) if owned else 0


async def too_large(limit, headers):
    return f"at most {limit} for {headers['cookie']}"


def layered(app):
    return request_body.raw_body(app, granted=granted, too_large=too_large)


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
        ("/", "", STRANGERS, False),
        ("/", "", STRANGERS + 1, True),
        ("/", "sessionid=x", STRANGERS * 2, False),
        ("/", "sessionid=x", STRANGERS * 2 + 1, True),
        ("/form/", "sessionid=x", STRANGERS * 4, False),
        ("/form/", "sessionid=x", STRANGERS * 4 + 1, True),
        ("/form/", "", STRANGERS + 1, True),
        ("/form/", "sessionid=forged", STRANGERS + 1, True),
        ("/form/", "sessionid=forged", STRANGERS, False),
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
    part = {"type": "http.request", "body": b"x" * (STRANGERS - 1), "more_body": True}
    chunked = [("transfer-encoding", "chunked")]
    for path, headers in (("/", chunked), ("/form/", chunked), ("/form/", [*chunked, ("cookie", "a=b")])):
        answer, text, told = await ask(layered(whole), path, headers, [part, part])
        assert (
            answer["status"] == 413 and b"Sign in first" in text["body"] and told["how"] == "http.disconnect"
        )
    parts = [part, part, {**part, "more_body": False}]
    known = [*chunked, ("cookie", "sessionid=x")]
    told = {"type": "told", "size": 3 * len(part["body"]), "how": "http.request"}
    assert await ask(layered(whole), "/form/", known, parts) == [told]
    answer, text, _ = await ask(layered(whole), "/", known, parts)
    assert answer["status"] == 413 and text["body"] == f"at most {STRANGERS * 2} for sessionid=x".encode()


async def test_a_body_that_drips_is_given_up_and_the_next_part_of_a_whole_one_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(request_body, "BODY_SECONDS", 0.1)
    part = {"type": "http.request", "body": b"x", "more_body": True}
    answer, text, told = await asyncio.wait_for(ask(layered(whole), messages=[part, part]), 30)
    assert answer["status"] == 408 and b"took too long" in text["body"] and told["how"] == "http.disconnect"

    async def patient(scope, receive, send):
        """As Django does while it answers: it waits for a client that leaves."""
        await receive()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receive(), 0.5)
        await send({"type": "told"})

    assert await ask(layered(patient), messages=[{**part, "more_body": False}]) == [{"type": "told"}]


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


async def test_a_silent_line_is_given_up_as_soon_as_somebody_else_waits(monkeypatch):
    monkeypatch.setattr(request_body, "SILENT_SECONDS", 0.05)
    asked = []

    async def give_up() -> bool:
        asked.append(time.monotonic())
        return len(asked) == 2

    async def app(scope, receive, send):
        with pytest.raises(request_body.Disconnected):
            async for _ in request_body.chunks(SimpleNamespace(scope=scope), give_up):
                pass

    headers = [("content-type", request_body.OFFSET_STREAM)]
    first = {"type": "http.request", "body": b"a", "more_body": True}
    await asyncio.wait_for(ask(layered(app), "/uploads/x/", headers, [first]), 30)
    assert len(asked) == 2  # nobody else waited at first


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
    await asyncio.wait_for(ask(layered(app), "/uploads/x/", headers, [first]), 30)
    assert b"".join(got) == b"a and hung up"  # what came is kept
