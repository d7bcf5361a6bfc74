"""Answers to requests that never reach Django: a status, one sentence, and the headers that our pages have.

Pure: the server gives them before there is an application.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

SENTENCES = {
    400: "This request isn’t valid HTTP. Send it again from a browser, or correct the program that sent it.",
    408: "The request took too long to arrive. Check your connection and send it again.",
    413: "The request is too large. Sign in first, or send less.",
    431: "The head of the request is too large. Delete this site’s cookies, or send a shorter address.",
}
KINDS = {400: "request_invalid", 408: "request_timeout", 413: "request_too_large", 431: "request_invalid"}
PROBLEM = "application/problem+json"
HEADERS = (
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"connection", b"close"),
)
Send = Callable[[dict[str, Any]], Awaitable[None]]


def problem(status: int, detail: str) -> str:
    """An error of our API as RFC 9457 has it: JSON with one sentence."""
    title = HTTPStatus(status).phrase
    return json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail})


def _parts(status: int, path: str, page: str | None) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body. Both APIs answer as themselves whatever they are asked."""
    if path.startswith("/ittybit/"):
        kind = "application/json"
        text = json.dumps({"kind": KINDS[status], "message": SENTENCES[status]})
    elif path.startswith("/api/"):
        kind = PROBLEM
        text = problem(status, SENTENCES[status])
    elif page is not None:
        kind = "text/html; charset=utf-8"
        text = page
    else:
        kind = "text/plain; charset=utf-8"
        text = SENTENCES[status] + "\n"
    body = text.encode()
    about = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    return [*about, *HEADERS], body


async def refuse(send: Send, status: int, path: str = "", page: str | None = None) -> None:
    """Answers an ASGI request, with *page* for people where there is one."""
    headers, body = _parts(status, path, page)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def app(status: int) -> Callable[[Any, Any, Send], Awaitable[None]]:
    """An ASGI application that refuses everything with *status*."""

    async def refusing(scope: Any, receive: Any, send: Send) -> None:
        await refuse(send, status, scope["path"])

    return refusing


def message(status: int) -> bytes:
    """The whole answer as HTTP/1.1, for a request of which not even the head could be read."""
    headers, body = _parts(status, "", None)
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
    return b"\r\n".join([*lines, *(name + b": " + value for name, value in headers), b"", body])
