"""Downloads a remote source: the address of every hop checked, sizes capped, lost connections resumed.

FFmpeg never sees a URL: it gets the file that is made here, under a neutral name.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
from django.conf import settings

from mediapipe import addresses, files
from mediapipe.engine import room
from mediapipe.engine.media import Unusable

TIMEOUT = httpx.Timeout(30, connect=10)
HOPS = 5
TRIES = 5
Tell = Callable[[float | None], None]  # percent


class Lost(Exception):
    """The connection broke; what has arrived is kept."""


async def fetch(url: str, target: Path, tell: Tell) -> None:
    """Downloads *url* to *target*. Raises Unusable."""
    fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=False) as http:
            for attempt in range(TRIES):
                try:
                    await _download(http, url, fd, tell)
                    break
                except Lost as lost:
                    if attempt == TRIES - 1:
                        raise Unusable(
                            "source_unreachable", f"The source cannot be downloaded: {lost}."
                        ) from None
                    await asyncio.sleep(0.5 * 2**attempt)
        head = os.pread(fd, 16, 0).lstrip().lower()
    finally:
        os.close(fd)
    if not head:
        raise Unusable("invalid_input", "The source is empty (0 bytes).")
    if head.startswith((b"#extm3u", b"<", b"ffconcat", b"[playlist]")):
        raise Unusable("invalid_input", "The URL leads to a page or a playlist, not to a media file.")


async def _download(http: httpx.AsyncClient, url: str, fd: int, tell: Tell) -> None:
    for _ in range(HOPS + 1):
        try:
            request = http.build_request("GET", **await pinned(url, os.fstat(fd).st_size))
            async with contextlib.aclosing(await http.send(request, stream=True)) as response:
                if not response.is_redirect:
                    return await _body(response, fd, tell)
                url = urljoin(url, response.headers.get("location", ""))
        except httpx.HTTPError as error:
            raise Lost(type(error).__name__) from None
    raise Unusable("source_refused", f"The source redirects more than {HOPS} times.")


async def pinned(url: str, have: int = 0) -> dict[str, Any]:
    """The request for *url*, to the very address that was checked. Raises Unusable."""
    try:
        found = await asyncio.to_thread(addresses.check_url, url, trusted=files.is_in_bucket(url))
    except addresses.Refused as refused:
        raise Unusable("source_refused", str(refused)) from None
    parts = urlsplit(url)
    ip = f"[{found[0]}]" if ":" in found[0] else found[0]
    netloc = f"{ip}:{parts.port}" if parts.port else ip
    headers = {"Host": parts.netloc, "Accept-Encoding": "identity", "User-Agent": "mediapipe"}
    if have:
        headers["Range"] = f"bytes={have}-"
    return {
        "url": parts._replace(netloc=netloc, fragment="").geturl(),
        "headers": headers,
        "extensions": {"sni_hostname": parts.hostname},
    }


async def _body(response: httpx.Response, fd: int, tell: Tell) -> None:
    status, have = response.status_code, os.fstat(fd).st_size
    if status in (404, 410):
        raise Unusable("source_not_found", f"The source's server answered {status}: there is no such file.")
    if status in (401, 403):
        raise Unusable("source_refused", f"The source's server answered {status}: the link may have expired.")
    if status not in (200, 206):
        raise Lost(f"its server answered {status}")
    if status == 200 and have:
        os.ftruncate(fd, 0)
        have = 0
    length = response.headers.get("content-length", "")
    whole = have + int(length) if length.isdecimal() else 0
    if whole > settings.MAX_UPLOAD_BYTES:
        raise Unusable("too_large", f"The source is larger than {settings.MAX_UPLOAD_BYTES >> 30} GB.")
    if whole > room.free():
        raise Unusable("no_space", "There is not enough free space for the source.")
    async for data in response.aiter_raw(1 << 18):
        await asyncio.to_thread(os.pwrite, fd, data, have)
        have += len(data)
        if have > settings.MAX_UPLOAD_BYTES:
            raise Unusable("too_large", f"The source is larger than {settings.MAX_UPLOAD_BYTES >> 30} GB.")
        tell(have / whole * 100 if whole else None)
    if whole and have < whole:
        raise Lost("it ended too early")
