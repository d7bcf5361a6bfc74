"""An ASGI layer that lets an upload keep its body as a stream, and limits every other body.

Django reads each ASGI body into a temporary file before it routes the request: a tus body would be
written twice, and anybody could fill the disk before having signed in. So this layer shows Django
an empty body for tus' content type and leaves the real `receive` on the scope for the view. It knows
bytes and headers, and nothing of uploads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from django.http import HttpRequest

OFFSET_STREAM = "application/offset+octet-stream"
SCOPE_KEY = "mediapipe.receive"
MAX_PAUSE = 60.0  # seconds that a body may pause

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
FormLimit = Callable[[str], Awaitable[int]]  # Cookie header in, bytes out


class Disconnected(Exception):
    """The client disconnected in the middle of its body."""


def raw_body(
    app: App, *, limit: int, form_path: str, form_limit: FormLimit, too_large: Callable[[int], str]
) -> App:
    """*app* with streamed tus bodies; others are at most *limit* bytes.

    The plain form at *form_path* may carry as many as *form_limit* grants the Cookie header. *too_large*
    renders the page for a client over its limit.
    """

    async def wrapped(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        headers = dict(scope["headers"])
        if headers.get(b"content-type") == OFFSET_STREAM.encode():
            return await app({**scope, SCOPE_KEY: receive}, _empty_body(), send)
        length = headers.get(b"content-length", b"0")
        granted = limit
        large = b"transfer-encoding" in headers or (length.isdigit() and int(length) > limit)
        if large and scope["path"] == form_path:
            granted = max(limit, await form_limit(headers.get(b"cookie", b"").decode("latin-1")))
        if length.isdigit() and int(length) > granted:
            return await _answer_413(send, too_large(granted))
        return await app(scope, _limited(receive, granted), send)

    return wrapped


def _empty_body() -> Receive:
    """A body that is empty, and a client that then stays connected."""
    sent = False

    async def receive() -> Message:
        nonlocal sent
        if sent:
            await asyncio.Event().wait()  # the view itself sees the disconnect
        sent = True
        return {"type": "http.request", "body": b"", "more_body": False}

    return receive


def _limited(receive: Receive, limit: int) -> Receive:
    """*receive*, for a body that names no length and may not end: a client that sends more is cut off."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return {"type": "http.disconnect"} if seen > limit else message

    return counted


async def _answer_413(send: Send, page: str) -> None:
    headers = [(b"content-type", b"text/html; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": page.encode()})


async def chunks(request: HttpRequest, size: int = 1 << 20) -> AsyncIterator[list[bytes]]:
    """The raw body of *request*, in lists of buffers of about *size* bytes. Raises Disconnected."""
    receive: Receive | None = getattr(request, "scope", {}).get(SCOPE_KEY)
    if receive is None:  # Django's test client, or another content type
        while block := request.read(size):
            yield [block]
        return
    parts: list[bytes] = []
    held = 0
    more = True
    while more:
        try:
            async with asyncio.timeout(MAX_PAUSE):
                message = await receive()
        except TimeoutError:  # a silent client would lock everybody else out of this upload
            message = {"type": "http.disconnect"}
        if message["type"] == "http.disconnect":
            if parts:
                yield parts
            raise Disconnected
        if body := message.get("body", b""):
            parts.append(body)
            held += len(body)
        more = bool(message.get("more_body", False))
        if parts and (held >= size or not more or len(parts) == 1000):
            yield parts
            parts = []
            held = 0
