"""Downloads a remote source: the address of every hop checked, sizes capped, lost connections resumed.

FFmpeg never sees a URL: it gets the file that is made here, under a neutral name.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
from django.conf import settings

from mediapipe import storage, url_safety
from mediapipe.engine.media import Unusable

TIMEOUT = httpx.Timeout(30, connect=10)
HOPS = 5
TRIES = 5  # in a row that bring nothing new
LONGEST = 6 * 3600.0  # seconds that a download may take
SLOWEST, WINDOW = 1024, 30.0  # bytes a second, over so many seconds: less holds a place for nothing
CHECK_ROOM = 64 << 20  # bytes between two looks at the disk
Tell = Callable[[float | None], None]  # percent
Room = Callable[[int], Awaitable[None]]  # waits until so many bytes are free


class Lost(Exception):
    """The connection broke; what has arrived is kept."""


@dataclass
class Part:
    """What has arrived so far, and by which mark the server knows the same file again."""

    fd: int
    mark: str = ""

    @property
    def have(self) -> int:
        """Bytes."""
        return os.fstat(self.fd).st_size


async def fetch(url: str, target: Path, tell: Tell, wait_for_room: Room) -> None:
    """Downloads *url* to *target*. Raises Unusable."""
    fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        async with asyncio.timeout(LONGEST), httpx.AsyncClient(timeout=TIMEOUT, trust_env=False) as http:
            await _persist(http, url, Part(fd), tell, wait_for_room)
        head = os.pread(fd, 16, 0).lstrip().lower()
    except TimeoutError:
        hours = f"{LONGEST / 3600:g} hours"
        raise Unusable("source_unreachable", f"The source was not downloaded within {hours}.") from None
    finally:
        os.close(fd)
    if not head:
        raise Unusable("invalid_input", "The source is empty (0 bytes).")
    if head.startswith((b"#extm3u", b"<", b"ffconcat", b"[playlist]")):
        raise Unusable("invalid_input", "The URL leads to a page or a playlist, not to a media file.")


async def _persist(http: httpx.AsyncClient, url: str, part: Part, tell: Tell, wait_for_room: Room) -> None:
    """Tries until it is whole, and goes on where it broke off."""
    fruitless = 0
    while True:
        before = part.have
        try:
            return await _download(http, url, part, tell, wait_for_room)
        except Lost as lost:
            fruitless = 0 if part.have - before > SLOWEST * WINDOW else fruitless + 1
            if fruitless >= TRIES:
                said = f"The source cannot be downloaded: {lost}."
                raise Unusable("source_unreachable", said) from None
            await asyncio.sleep(0.5 * 2**fruitless)


async def _download(http: httpx.AsyncClient, url: str, part: Part, tell: Tell, wait_for_room: Room) -> None:
    for _ in range(HOPS + 1):
        try:
            request = http.build_request("GET", **await pinned(url, part.have, part.mark))
            async with contextlib.aclosing(await http.send(request, stream=True)) as response:
                if not response.is_redirect:
                    return await _body(response, part, tell, wait_for_room)
                url = urljoin(url, response.headers.get("location", ""))
        except httpx.HTTPError as error:
            raise Lost(_in_words(error)) from None
    raise Unusable("source_refused", f"The source redirects more than {HOPS} times.")


def _in_words(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "its server does not answer in time"
    return (
        "nobody answers at its address" if isinstance(error, httpx.ConnectError) else "the connection broke"
    )


async def pinned(url: str, have: int = 0, mark: str = "") -> dict[str, Any]:
    """The request for *url*, to the very address that was checked. Raises Unusable."""
    try:
        pin = await asyncio.to_thread(url_safety.pin, url, trusted=storage.is_in_bucket(url))
    except url_safety.UnsafeUrl as refused:
        raise Unusable("source_refused", str(refused)) from None
    headers = {"Host": pin.host, "Accept-Encoding": "identity", "User-Agent": "mediapipe"}
    if have:
        headers["Range"] = f"bytes={have}-"
        headers |= {"If-Range": mark} if mark else {}
    return {"url": pin.url, "headers": headers, "extensions": pin.extensions}


def _begin(response: httpx.Response, part: Part) -> int:
    """The length that it should come to, 0 where the server does not say. Raises Unusable, Lost."""
    status, have = response.status_code, part.have
    if status in (404, 410):
        raise Unusable("source_not_found", f"The source's server answered {status}: there is no such file.")
    if status in (401, 403):
        raise Unusable("source_refused", f"The source's server answered {status}: the link may have expired.")
    follows = response.headers.get("content-range", "").startswith(f"bytes {have}-")
    if have and not (status == 206 and follows):
        os.ftruncate(part.fd, 0)  # another file by now, or a server that cannot resume
    if status not in (200, 206) or (status == 206 and not follows):
        raise Lost(f"its server answered {status}")
    etag = response.headers.get("etag", "")
    part.mark = response.headers.get("last-modified", "") if etag.startswith("W/") or not etag else etag
    length = response.headers.get("content-length", "")
    return part.have + int(length) if length.isdecimal() and len(length) < 20 else 0


async def _body(response: httpx.Response, part: Part, tell: Tell, wait_for_room: Room) -> None:
    whole = _begin(response, part)
    have, limit = part.have, settings.MAX_UPLOAD_BYTES
    too_large = Unusable("too_large", f"The source is larger than {limit >> 30} GB.")
    if whole > limit:
        raise too_large
    await wait_for_room(max(0, whole - have))
    checked, looked, began = have, have, time.monotonic()
    async for data in response.aiter_raw():  # as it comes: a chunk size would wait for a whole chunk
        await asyncio.to_thread(os.pwrite, part.fd, data, have)
        have += len(data)
        if have > limit:
            raise too_large
        if have - checked > CHECK_ROOM:
            checked = have
            await wait_for_room(1)
        if (passed := time.monotonic() - began) > WINDOW:
            if have - looked < SLOWEST * passed:
                raise Lost("its server sends almost nothing")
            looked, began = have, time.monotonic()
        tell(have / whole * 100 if whole else None)
    if whole and have < whole:
        raise Lost("it ended too early")
