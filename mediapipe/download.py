"""Copies of what the API made, in our own storage: how long its files live is nobody's promise.

Where they lie is said by somebody else, so every hop's address is checked (jobs fetch nothing from a
private network), sizes are capped, and a broken copy goes on only where it is still the same file.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx
from django.conf import settings

from mediapipe import disk, storage, url_safety
from mediapipe.threads import run_to_completion

HOPS = 5
PAUSES = (0.2, 1.0, 3.0, 6.0)  # seconds before the next try; after the last one it has failed
PART = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", re.ASCII)

Heartbeat = Callable[[int], None]  # bytes so far


class DownloadError(Exception):
    """An output of the API that cannot be copied. *permanent*: trying again would not help."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


class Changed(Exception):
    """What the server sends is no continuation of what has arrived."""


@dataclass
class Copy:
    """A copy under way: its file, and which version of the output has arrived so far."""

    fd: int
    validator: str = ""  # a strong ETag or a date; without one nothing can be continued (RFC 9110 13.1.5)
    whole: int | None = None  # bytes in all, where the server says so

    def begin(self, response: httpx.Response) -> None:
        """Starts over, with the version that *response* brings."""
        os.ftruncate(self.fd, 0)
        etag = response.headers.get("etag", "")
        self.validator = etag if etag.startswith('"') else response.headers.get("last-modified", "")
        length = response.headers.get("content-length", "")
        self.whole = int(length) if length.isdecimal() else None


async def download(
    http: httpx.AsyncClient, url: str, name: str, expected: int | None, heartbeat: Heartbeat
) -> int:
    """Copies *url* to our file *name*; the bytes written. A broken connection resumes by Range.

    Nothing is visible under *name* before it is whole. Raises httpx.HTTPError, DownloadError, OSError.
    """
    folder = storage.path("incoming")
    folder.mkdir(parents=True, exist_ok=True)
    mark = f"adopt-{hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}-"
    for left in folder.glob(f"{mark}*"):  # of a worker that was killed
        left.unlink(missing_ok=True)
    fd, part = tempfile.mkstemp(prefix=mark, dir=folder)
    try:
        copy = Copy(fd)
        for pause in (*PAUSES, None):
            try:
                await _append(http, url, copy, heartbeat)
                break
            except (httpx.TransportError, Changed) as error:
                if isinstance(error, Changed):
                    copy.validator = ""
                if pause is None:
                    raise DownloadError("the connection broke too often") from None
                await asyncio.sleep(pause)
        size = os.fstat(fd).st_size
        if expected is not None and size != expected:
            raise DownloadError(f"{size} bytes came where {expected} were promised")
        await asyncio.to_thread(storage.publish, Path(part), name)
        return size
    finally:
        os.close(fd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)


def is_trusted(url: str) -> bool:
    """Whether *url* leads to the API itself or to our own bucket, wherever their addresses are."""
    there, api = urlsplit(url), urlsplit(settings.ITTYBIT_API_URL)
    return (there.scheme, there.netloc) == (api.scheme, api.netloc) or storage.is_in_bucket(url)


@contextlib.asynccontextmanager
async def _opened(
    http: httpx.AsyncClient, url: str, headers: dict[str, str]
) -> AsyncIterator[httpx.Response]:
    """The reply behind all redirects, each hop to the very address that was checked."""
    for _ in range(HOPS + 1):
        try:
            pinned = await asyncio.to_thread(url_safety.pin, url, trusted=is_trusted(url))
        except url_safety.UnsafeUrl as refused:
            raise DownloadError(str(refused)) from None
        request = http.build_request(
            "GET", pinned.url, headers={**headers, "Host": pinned.host}, extensions=pinned.extensions
        )
        async with contextlib.aclosing(await http.send(request, stream=True)) as response:
            if not response.is_redirect:
                yield response
                return
            url = urljoin(url, response.headers.get("location", ""))
    raise DownloadError(f"the output's URL redirects more than {HOPS} times", permanent=True)


async def _append(http: httpx.AsyncClient, url: str, copy: Copy, heartbeat: Heartbeat) -> None:
    headers = {"Accept-Encoding": "identity", "User-Agent": "mediapipe"}
    have = os.fstat(copy.fd).st_size if copy.validator else 0
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": copy.validator}
    async with _opened(http, url, headers) as response:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise DownloadError("the output came compressed although it was not to be")
        if have and response.status_code in (206, 416):
            if _is_whole_already(response, have):
                return
            _check_part(response, copy, have)
        elif response.status_code == 200:
            copy.begin(response)
            have = 0
        else:
            gone = response.status_code in (401, 403, 404, 410)
            raise DownloadError(f"the output's URL answered {response.status_code}", permanent=gone)
        _check_size(copy.whole or 0, have)
        async for data in response.aiter_raw():  # as it comes: a held-back block would be lost with the link
            await run_to_completion(os.pwrite, copy.fd, data, have)
            have += len(data)
            _check_size(have, have)
            heartbeat(have)


def _is_whole_already(response: httpx.Response, have: int) -> bool:
    """Whether the connection broke just behind the last byte."""
    return response.status_code == 416 and response.headers.get("content-range") == f"bytes */{have}"


def _check_part(response: httpx.Response, copy: Copy, have: int) -> None:
    """Raises Changed unless *response* goes on where the copy stands, in the same version of the file."""
    match = PART.fullmatch(response.headers.get("content-range", ""))
    if response.status_code != 206 or match is None or int(match[1]) != have:
        raise Changed
    if copy.whole is not None and match[2] not in ("*", str(copy.whole)):
        raise Changed
    if copy.validator not in (
        response.headers.get("etag", copy.validator),
        response.headers.get("last-modified"),
    ):
        raise Changed


def _check_size(size: int, have: int) -> None:
    """Raises DownloadError for an output that is larger than any source may be, or has no room."""
    if size > settings.MAX_UPLOAD_BYTES:
        raise DownloadError(f"it is larger than {settings.MAX_UPLOAD_BYTES >> 30} GB", permanent=True)
    if not disk.has_media_space(size - have):
        raise DownloadError("there is not enough free space for it")
