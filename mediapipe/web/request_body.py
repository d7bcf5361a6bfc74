"""An ASGI layer that lets an upload keep its body as a stream, and limits size and time of every other body.

Django reads each ASGI body into a temporary file before it routes the request: a tus body would be
written twice, and anybody could fill the disk before having signed in. So this layer shows Django
an empty body for tus' content type and leaves the real `receive` on the scope for the view. It knows
bytes and headers, and nothing of uploads.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from django.http import HttpRequest

from mediapipe.web import refusal

OFFSET_STREAM = "application/offset+octet-stream"
SCOPE_KEY = "mediapipe.receive"
MAX_PAUSE = 60.0  # seconds that an upload's body may pause
SILENT_SECONDS = 3.0  # seconds of a pause after which a line may be dead
STRANGERS_BYTES = 32 * 1024  # of a body without an owner: signing in, a webhook
BODY_SECONDS = 20.0  # for a body, and as long again as MIN_RATE needs for what has come of it
MIN_RATE = 8 * 1024  # bytes per second

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
GiveUp = Callable[[], Awaitable[bool]]
Grant = Callable[[str, dict[str, str]], Awaitable[int]]  # path and headers in, bytes out
TooLarge = Callable[[int, dict[str, str]], Awaitable[str]]  # a limit and headers in, a page out


class Disconnected(Exception):
    """The client disconnected in the middle of its body."""


def needs_owner(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a head announces a body that a stranger may not send: a large one, or an upload's."""
    for name, value in headers:
        if name == b"content-length" and (not value.isdigit() or int(value) > STRANGERS_BYTES):
            return True
        if name == b"content-type" and value == OFFSET_STREAM.encode():
            return True
    return False


def raw_body(app: App, *, granted: Grant, too_large: TooLarge) -> App:
    """*app* with streamed tus bodies; of others a stranger may send STRANGERS_BYTES.

    Who sends more is asked for: *granted* says how many bytes the path and the headers may bring. *too_large*
    renders the page for a client over its limit.
    """

    async def wrapped(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        headers = dict(scope["headers"])
        if headers.get(b"content-type") == OFFSET_STREAM.encode():
            return await app({**scope, SCOPE_KEY: receive}, _empty_body(), send)
        length = headers.get(b"content-length", b"0")
        body = _Body(scope, receive, send, granted, too_large)
        if length.isdigit() and int(length) > STRANGERS_BYTES and not await body.may_bring(int(length)):
            return await body.refuse(413)
        return await app(scope, body.receive, send)

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


class _Body:
    """A body on its way to Django: cut off where it grows too large, and where it is too slow."""

    def __init__(
        self, scope: Message, receive: Receive, send: Send, granted: Grant, too_large: TooLarge
    ) -> None:
        self.scope = scope
        self.next = receive
        self.send = send
        self.granted = granted
        self.too_large = too_large
        self.limit = STRANGERS_BYTES
        self.seen = 0
        self.more = True
        self.began = asyncio.get_running_loop().time()

    async def may_bring(self, size: int) -> bool:
        """Whether this client may bring *size* bytes."""
        self.limit = max(STRANGERS_BYTES, await self.granted(self.scope["path"], self._headers()))
        return size <= self.limit

    def _headers(self) -> dict[str, str]:
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self.scope["headers"]}

    async def refuse(self, status: int) -> None:
        """Answers instead of the application: with the page where it is a person's own limit."""
        own = status == 413 and self.limit > STRANGERS_BYTES
        page = await self.too_large(self.limit, self._headers()) if own else None
        await refusal.refuse(self.send, status, self.scope["path"], page)

    async def receive(self) -> Message:
        """The next part. A client over a limit has its answer, and is gone as far as Django knows."""
        if not self.more:
            return await self.next()
        try:
            async with asyncio.timeout_at(self.began + BODY_SECONDS + self.seen / MIN_RATE):
                message = await self.next()
        except TimeoutError:
            return await self._cut_off(408)
        self.seen += len(message.get("body", b""))
        self.more = bool(message.get("more_body", False))
        if self.seen > self.limit and not (self.limit == STRANGERS_BYTES and await self.may_bring(self.seen)):
            return await self._cut_off(413)
        return message

    async def _cut_off(self, status: int) -> Message:
        await self.refuse(status)
        return {"type": "http.disconnect"}


async def _never() -> bool:
    return False


async def _next(receive: Receive, give_up: GiveUp) -> Message:
    """The next message; a disconnect where none comes, and soon where somebody else waits for that."""
    now = asyncio.get_running_loop().time
    ends = now() + MAX_PAUSE
    pause = SILENT_SECONDS
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(min(now() + pause, ends)):
                return await receive()
        if now() >= ends or await give_up():  # a silent client would lock everybody else out of this upload
            return {"type": "http.disconnect"}
        pause = 1.0


async def chunks(
    request: HttpRequest, give_up: GiveUp = _never, size: int = 1 << 20
) -> AsyncIterator[list[bytes]]:
    """The raw body of *request*, in lists of buffers of about *size* bytes. Raises Disconnected.

    *give_up*: asked while the client is silent, whether that is enough.
    """
    receive: Receive | None = getattr(request, "scope", {}).get(SCOPE_KEY)
    if receive is None:  # Django's test client, or another content type
        while block := request.read(size):
            yield [block]
        return
    parts: list[bytes] = []
    held = 0
    more = True
    while more:
        message = await _next(receive, give_up)
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
