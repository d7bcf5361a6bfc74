"""The one downloader: a file at a foreign address, checked, capped, resumed where a connection breaks.

Sources and outputs of the API come through here. Every hop of a redirect is checked and pinned to the
address that was checked; a part is continued only where it is still the same file; nothing is unpacked.
It knows HTTP, addresses and our storage, and nothing of jobs or of the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

import httpx
from django.conf import settings

from mediapipe import disk, storage, url_safety
from mediapipe.storage import WaitOut
from mediapipe.threads import run_to_completion

TIMEOUT = httpx.Timeout(30, connect=10)
MAX_REDIRECTS = 5
BACKOFF = (0.5, 1.0, 3.0, 6.0)  # seconds after the first, second… try in a row that brought nothing new
TOTAL_SECONDS = 6 * 3600.0  # that a download may take in all
MIN_RATE = 1024  # bytes a second: less is a server that stalls
RATE_WINDOW = 30.0  # seconds over which that is measured
CHECK_SPACE = 8 << 20  # bytes between two checks of the free space
CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", re.ASCII)

ReportBytes = Callable[[int, int | None], None]  # bytes so far, and in all where the server says so
WaitForSpace = Callable[[int], Awaitable[None]]  # returns when so many bytes may be written, or raises
Reason = Literal["unsafe", "refused", "not_found", "unreachable", "too_large", "no_space", "incomplete"]


class DownloadError(Exception):
    """A download that is given up.

    The text follows "Couldn’t download it: "; for an `unsafe` URL it is a sentence of its own.
    *permanent*: another attempt would not help.
    """

    def __init__(self, reason: Reason, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.permanent = permanent


class Interrupted(Exception):
    """A try that did not bring the whole file; the next one continues behind what has arrived."""


class Changed(Interrupted):
    """What the server sends does not continue what has arrived: the next try begins anew."""


async def refuse_without_space(length: int) -> None:
    """A WaitForSpace that doesn't wait. Raises DownloadError where *length* bytes touch the reserve."""
    if not disk.has_media_space(length):
        raise DownloadError("no_space", "there isn’t enough free space for it")


async def pinned_request(url: str, *, trusted_origin: str = "") -> dict[str, Any]:
    """httpx's arguments for a request to *url*, sent to the address that was checked.

    Our own bucket and *trusted_origin* (the scheme and host of a URL) may be on a private network.
    Raises url_safety.UnsafeUrl.
    """
    trusted = storage.is_in_bucket(url) or (bool(trusted_origin) and _origin(url) == _origin(trusted_origin))
    pin = await asyncio.to_thread(url_safety.pin, url, trusted=trusted)
    headers = {"Host": pin.host, "Accept-Encoding": "identity", "User-Agent": "mediapipe"}
    return {"url": pin.url, "headers": headers, "extensions": pin.extensions}


def _origin(url: str) -> tuple[str, str] | None:
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return parts.scheme, parts.netloc


async def download(
    url: str,
    fd: int,
    *,
    report: ReportBytes,
    wait_for_space: WaitForSpace = refuse_without_space,
    trusted_origin: str = "",
    wait_out: WaitOut | None = None,
) -> int:
    """Downloads *url* into the empty file *fd*; the bytes written. Raises DownloadError, OSError.

    *wait_out*: for a server of our own, which is never given up while it doesn't answer.
    """
    under_way = _Download(url, fd, report, wait_for_space, trusted_origin, wait_out)
    try:
        async with (
            asyncio.timeout(None if wait_out else TOTAL_SECONDS),
            httpx.AsyncClient(timeout=TIMEOUT, trust_env=False) as http,
        ):
            await under_way.run(http)
    except TimeoutError:
        raise DownloadError("unreachable", f"it took longer than {TOTAL_SECONDS / 3600:g} hours") from None
    return under_way.have


async def download_to_storage(
    url: str,
    name: str,
    *,
    expected: int | None,
    report: ReportBytes,
    wait_for_storage: WaitOut,
    trusted_origin: str = "",
) -> int:
    """Copies *url* to our file *name*, which is visible when it is whole; the bytes written.

    *expected*: the size in bytes that it must have, where that is known. *wait_for_storage*: returns when a
    storage that takes no file should be tried again, or raises. Raises DownloadError, OSError.
    """
    folder = storage.path("incoming")
    folder.mkdir(parents=True, exist_ok=True)
    prefix = f"download-{hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}-"
    for stale in folder.glob(f"{prefix}*"):  # of a worker that was killed
        stale.unlink(missing_ok=True)
    fd, part = tempfile.mkstemp(prefix=prefix, dir=folder)
    try:
        size = await download(url, fd, report=report, trusted_origin=trusted_origin)
        if expected is not None and size != expected:
            raise DownloadError("incomplete", f"{size} bytes came where {expected} were promised")
        await storage.publish_patiently(Path(part), name, wait_for_storage)
        return size
    finally:
        os.close(fd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)


@dataclass
class _Download:
    """A download under way: its file, and which version of the remote one has arrived so far."""

    url: str
    fd: int
    report: ReportBytes
    wait_for_space: WaitForSpace
    trusted_origin: str
    wait_out: WaitOut | None = None
    have: int = 0  # bytes that have arrived
    total: int | None = None  # bytes in all, where the server says so
    validator: str = ""  # a strong ETag or a date; nothing is continued without one (RFC 9110 13.1.5)

    async def run(self, http: httpx.AsyncClient) -> None:
        """Tries until the file is whole, or until several tries in a row have brought nothing new."""
        fruitless = 0
        furthest = 0
        while True:
            try:
                return await self._try(http)
            except Interrupted as error:
                fruitless = 0 if self.have - furthest > MIN_RATE * RATE_WINDOW else fruitless + 1
                furthest = max(furthest, self.have)
                if isinstance(error, Changed):
                    self.validator = ""
                if self.wait_out and fruitless > 1:
                    await self.wait_out(error)
                    continue
                if fruitless > len(BACKOFF):
                    raise DownloadError("unreachable", str(error)) from None
                await asyncio.sleep(BACKOFF[max(0, fruitless - 1)])

    async def _try(self, http: httpx.AsyncClient) -> None:
        have = self.have if self.validator else 0
        headers = {"Range": f"bytes={have}-", "If-Range": self.validator} if have else {}
        try:
            async with self._open(http, headers) as response:
                if have and _says_whole(response, have):
                    return
                self._accept(response, have)
                await self._receive(response)
        except httpx.TimeoutException:
            raise Interrupted("the server isn’t responding in time") from None
        except httpx.ConnectError:
            raise Interrupted("the server isn’t responding") from None
        except httpx.HTTPError:
            raise Interrupted("the connection broke too often") from None

    @contextlib.asynccontextmanager
    async def _open(self, http: httpx.AsyncClient, headers: dict[str, str]) -> AsyncIterator[httpx.Response]:
        """The reply behind all redirects."""
        url = self.url
        for _ in range(MAX_REDIRECTS + 1):
            try:
                request = await pinned_request(url, trusted_origin=self.trusted_origin)
                request["headers"] |= headers
                answer = await http.send(http.build_request("GET", **request), stream=True)
            except url_safety.UnsafeUrl as unsafe:
                if self.wait_out and url == self.url:  # a name of our own that isn't found at the moment
                    raise Interrupted(str(unsafe)) from None
                raise DownloadError("unsafe", str(unsafe)) from None
            except (httpx.InvalidURL, ValueError):
                raise DownloadError("refused", "its address can’t be read", permanent=True) from None
            async with contextlib.aclosing(answer) as response:
                if not response.is_redirect:
                    yield response
                    return
                location = response.headers.get("location", "")
            try:
                url = urljoin(url, location)
            except ValueError:
                raise DownloadError("refused", "it redirects to no address", permanent=True) from None
        raise DownloadError("refused", f"it redirects more than {MAX_REDIRECTS} times", permanent=True)

    def _accept(self, response: httpx.Response, have: int) -> None:
        """Takes *response* as the file or as its rest behind *have*. Raises DownloadError, Interrupted."""
        status = response.status_code
        if status in (404, 410):
            raise DownloadError(
                "not_found", f"there is no such file (the server answered {status})", permanent=True
            )
        if status in (401, 403):
            sentence = f"the link may have expired (the server answered {status})"
            raise DownloadError("refused", sentence, permanent=True)
        if have and status in (206, 416):
            self._check_part(response, have)
        elif status == 200:
            self._begin(response)
        else:
            raise Interrupted(f"the server answered {status}")
        if response.headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
            raise DownloadError("refused", "the server sends it compressed")

    def _begin(self, response: httpx.Response) -> None:
        """Starts over, with the version that *response* brings."""
        os.ftruncate(self.fd, 0)
        self.have = 0
        etag = response.headers.get("etag", "")
        self.validator = etag if etag.startswith('"') else response.headers.get("last-modified", "")
        length = response.headers.get("content-length", "")
        self.total = int(length) if length.isdecimal() and len(length) < 19 else None

    def _check_part(self, response: httpx.Response, have: int) -> None:
        """Raises Changed unless *response* continues what has arrived, in the same version of the file."""
        changed = Changed("the file changed while it was downloaded")
        match = CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        if response.status_code != 206 or match is None or int(match[1]) != have:
            raise changed
        if self.total is not None and match[2] not in ("*", str(self.total)):
            raise changed
        etag = response.headers.get("etag", self.validator)
        if self.validator not in (etag, response.headers.get("last-modified")):
            raise changed

    async def _receive(self, response: httpx.Response) -> None:
        """Writes the body behind what has arrived. Raises DownloadError, Interrupted."""
        _check_size(self.total or 0)
        await self.wait_for_space(max(0, (self.total or 0) - self.have))
        checked = self.have
        measured = self.have
        since = time.monotonic()
        async for data in response.aiter_raw():  # as it comes: a held-back block would be lost with the link
            self.have = await run_to_completion(disk.write_at, self.fd, data, self.have)
            _check_size(self.have)
            if self.have - checked >= CHECK_SPACE:
                checked = self.have
                waited = time.monotonic()
                await self.wait_for_space(1)
                since += time.monotonic() - waited  # that was our disk, and not the server
            passed = time.monotonic() - since
            if passed > RATE_WINDOW:
                if self.have - measured < MIN_RATE * passed:
                    raise Interrupted("the server sends almost nothing")
                measured = self.have
                since = time.monotonic()
            self.report(self.have, self.total)
        if self.total is not None and self.have < self.total:
            raise Interrupted("the connection broke too often")


def _says_whole(response: httpx.Response, have: int) -> bool:
    """Whether the connection broke just behind the last byte, so that nothing is left to send."""
    return response.status_code == 416 and response.headers.get("content-range") == f"bytes */{have}"


def _check_size(size: int) -> None:
    """Raises DownloadError for a file that is larger than any source may be."""
    limit = settings.MAX_UPLOAD_BYTES
    if size > limit:
        raise DownloadError("too_large", f"it is larger than {limit / (1 << 30):.3g} GB", permanent=True)
