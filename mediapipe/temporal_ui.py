"""Temporal's own UI for signed-in admins alone: the door that `up` puts before the one of the dev server.

The dev server's UI obeys whoever reaches it, a page on the web by a rebound name too. So it listens at an
address of this machine that nobody guesses, and here only passes what an admin's own browser sends from a
page of the UI itself. One request for each connection: each is checked. It knows HTTP, and nothing of
Temporal; what is refused here is refused before the UI sees a byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import socket
from collections.abc import AsyncIterator
from typing import NamedTuple

from django.conf import settings

from mediapipe.accounts import visitor
from mediapipe.database import OUTAGES, fresh_connections
from mediapipe.supervisor import listen_anywhere

SESSION = settings.SESSION_COOKIE_NAME
HOST = "127.0.0.1"
MOST_HEAD = 32 << 10  # bytes
HEAD_SECONDS = 10
MOST_CONNECTIONS = 100
ARRIVED = "/?from=dashboard"  # where the dashboard sends a signed-in admin
FIELD = re.compile(r"[!#$%&'*+.^_`|~\w-]+:[^\r\n\0]*", re.ASCII)
HOP_BY_HOP = ("connection", "keep-alive", "proxy-connection", "upgrade", "te", "expect")
ELSEWHERE = "This page is for admins who are signed in to the dashboard in this browser, at {web}\n"
DATABASE_UNAVAILABLE = "The database can’t be reached. Try again in a moment.\n"
FOREIGN = "Only pages of this very address may ask here.\n"


class Head(NamedTuple):
    """The head of a request: names of fields in lower case."""

    method: str
    target: str
    fields: list[tuple[str, str]]

    def get(self, name: str) -> str:
        """A field's value, "" where there is none."""
        return next((value for field, value in self.fields if field == name), "")


class Refused(Exception):
    """A request that isn't passed on: the status, and where to go instead or what to say."""

    def __init__(self, status: str, text: str = "", location: str = "") -> None:
        super().__init__(status)
        self.status = status
        self.text = text
        self.location = location


def hidden_address() -> tuple[str, int] | None:
    """An address of this machine that nobody guesses; None where 127.0.0.1 is its only one (macOS)."""
    host = ".".join(str(part) for part in (127, *(1 + secrets.randbelow(254) for _ in range(3))))
    with contextlib.suppress(OSError), socket.socket() as probe:
        probe.bind((host, 0))
        return host, int(probe.getsockname()[1])
    return None


def parse(head: bytes) -> Head:
    """A request's head. Raises Refused where it is not one, or could be read in two ways."""
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[1].startswith("/") or not all(map(FIELD.fullmatch, lines)):
        raise Refused("400 Bad Request")
    fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    names = [name for name, _ in fields]
    lengths = names.count("content-length") + names.count("transfer-encoding")
    if names.count("host") != 1 or names.count("origin") > 1 or lengths > 1:
        raise Refused("400 Bad Request")
    return Head(parts[0], parts[1], fields)


def check_origin(head: Head) -> None:
    """Raises Refused for what a page of another origin, or under another name, makes a browser send."""
    host = head.get("host")
    reads = head.method in ("GET", "HEAD")
    if host.rpartition(":")[0] not in (HOST, "localhost"):
        raise Refused("403 Forbidden", FOREIGN)
    origin = head.get("origin")
    if origin != f"http://{host}" and (origin or not reads):
        raise Refused("403 Forbidden", FOREIGN)
    opened = reads and (head.get("sec-fetch-mode"), head.get("sec-fetch-dest")) == ("navigate", "document")
    if head.get("sec-fetch-site") not in ("", "same-origin", "none") and not opened:
        raise Refused("403 Forbidden", FOREIGN)


def is_admin(cookies: str) -> bool:
    """Whether a Cookie field is of an admin's session."""
    with fresh_connections():
        person = visitor.signed_in(cookies)
        return person is not None and person.is_staff


async def check(head: Head, web: str) -> None:
    """Raises Refused unless an admin's own browser asks from the UI's own page, or opens it."""
    check_origin(head)
    try:
        if await asyncio.to_thread(is_admin, head.get("cookie")):
            return
    except OUTAGES:
        raise Refused("503 Service Unavailable", DATABASE_UNAVAILABLE) from None
    if head.method == "GET" and not head.target.startswith(("/api/", ARRIVED)):
        raise Refused("302 Found", location=f"{web}/temporal/")
    raise Refused("403 Forbidden", ELSEWHERE.format(web=web))


def passed_on(head: Head) -> bytes:
    """The head as the UI gets it: for one request, without the session's cookie."""
    lines = [f"{head.method} {head.target} HTTP/1.1", "Connection: close"]
    for name, value in head.fields:
        if name == "cookie":
            kept = (each.strip() for each in value.split(";"))
            value = "; ".join(each for each in kept if each.partition("=")[0].strip() != SESSION)
        if name not in HOP_BY_HOP:
            lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")


def answer(refused: Refused) -> bytes:
    """The answer to what isn't passed on."""
    lines = [f"HTTP/1.1 {refused.status}", "Content-Type: text/plain; charset=utf-8", "Connection: close"]
    lines += ["Cache-Control: no-store", f"Content-Length: {len(refused.text.encode())}"]
    lines += [f"Location: {refused.location}"] if refused.location else []
    return "\r\n".join([*lines, "", refused.text]).encode()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while block := await reader.read(1 << 16):
            writer.write(block)
            await writer.drain()


class Door:
    """What listens on the UI's port."""

    def __init__(self, ui: tuple[str, int], web: str) -> None:
        self.ui = ui
        self.web = web
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the one request of a connection."""
        self.connections += 1
        try:
            if self.connections <= MOST_CONNECTIONS:
                await self._answer(reader, writer)
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            pass  # it went away, was too slow, or sent no head
        finally:
            self.connections -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                head = parse(await reader.readuntil(b"\r\n\r\n"))
            await check(head, self.web)
        except Refused as refused:
            writer.write(answer(refused))
            return await writer.drain()
        ui_reader, ui_writer = await asyncio.open_connection(*self.ui)
        ui_writer.write(passed_on(head))
        sending = asyncio.create_task(_copy(reader, ui_writer))
        try:
            await _copy(ui_reader, writer)
        finally:
            sending.cancel()
            ui_writer.close()


@contextlib.asynccontextmanager
async def door(preferred: int, ui: tuple[str, int], web: str) -> AsyncIterator[int]:
    """Listens for the block, on *preferred* or where that is taken elsewhere; yields the port.

    *ui* is the UI itself, *web* the dashboard's URL.
    """
    listener = listen_anywhere(preferred)
    server = await asyncio.start_server(Door(ui, web).serve, sock=listener, limit=MOST_HEAD)
    try:
        yield int(listener.getsockname()[1])
    finally:
        server.close()  # and waits for no page that is still open
