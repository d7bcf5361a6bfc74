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
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urljoin, urlsplit

import httpx
from django.conf import settings

from mediapipe import disk, reply, storage, url_safety
from mediapipe.reply import Away, Changed, Interrupted
from mediapipe.reply import DownloadError as DownloadError
from mediapipe.storage import WaitOut
from mediapipe.storage.outage import Patience
from mediapipe.threads import run_to_completion

TIMEOUT = httpx.Timeout(30, connect=10)
MAX_REDIRECTS = 5
BACKOFF = (0.5, 1.0, 3.0, 6.0)  # seconds after the first, second… try in a row that brought nothing new
TOTAL_SECONDS = 6 * 3600.0  # that a download may take in all
MIN_RATE = 1024  # bytes a second: less is a server that stalls
RATE_WINDOW = 30.0  # seconds over which that is measured
CHECK_SPACE = 8 << 20  # bytes between two checks of the free space

# A URL, or what makes one for each try, blocking; True: anew, because the last one was refused.
Location = str | Callable[[bool], str]
ReportBytes = Callable[[int, int | None], None]  # bytes so far, and in all where the server says so
WaitForSpace = Callable[[int], Awaitable[None]]  # returns when so many bytes may be written, or raises


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
    url: Location,
    fd: int,
    *,
    report: ReportBytes,
    wait_for_space: WaitForSpace = refuse_without_space,
    trusted_origin: str = "",
    patience: Patience | None = None,
) -> int:
    """Downloads *url* into the empty file *fd*; the bytes written. Raises DownloadError, OSError.

    *patience*: with a server of our own, while it doesn't answer. One that answers and brings nothing new
    is given up as any other.
    """
    under_way = _Download(url, fd, report, wait_for_space, trusted_origin, patience)
    try:
        async with (
            asyncio.timeout(TOTAL_SECONDS) as under_way.limit,
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

    url: Location
    fd: int
    report: ReportBytes
    wait_for_space: WaitForSpace
    trusted_origin: str
    patience: Patience | None = None
    have: int = 0  # bytes that have arrived
    furthest: int = 0  # bytes that any try before this one has brought
    total: int | None = None  # bytes in all, where the server says so
    validator: str = ""  # nothing is continued without one (RFC 9110 13.1.5)
    anew: bool = False  # the last URL was refused, and its maker makes another one
    waited: bool = False  # the server was away, and hasn't brought anything new since
    limit: asyncio.Timeout = field(default_factory=lambda: asyncio.timeout(None))

    async def run(self, http: httpx.AsyncClient) -> None:
        """Tries until the file is whole, or until several tries in a row have brought nothing new."""
        fruitless = away = 0
        while True:
            try:
                return await self._try(http)
            except Interrupted as error:
                fruitful = self.have - self.furthest > MIN_RATE * RATE_WINDOW
                self.furthest = max(self.furthest, self.have)
                if isinstance(error, Changed):
                    self.validator = ""
                away = away + 1 if isinstance(error, Away) else 0
                if self.patience and away > 1:
                    await self._wait_out(self.patience, error)
                    continue
                fruitless = 0 if fruitful else fruitless + (not self.patience or not away)
                if fruitless > len(BACKOFF):
                    raise DownloadError("unreachable", str(error)) from None
                await asyncio.sleep(BACKOFF[max(0, fruitless - 1)])

    async def _wait_out(self, patience: Patience, error: Interrupted) -> None:
        self.waited = True
        async with self._off_the_clock():
            await patience.wait_out(error.cause or error)

    @contextlib.asynccontextmanager
    async def _off_the_clock(self) -> AsyncIterator[None]:
        """Around a wait of ours, which is no part of the time that a download may take."""
        now = asyncio.get_running_loop().time
        left = (self.limit.when() or 0.0) - now()
        self.limit.reschedule(None)
        yield
        self.limit.reschedule(now() + left)

    async def _try(self, http: httpx.AsyncClient) -> None:
        have = self.have if self.validator else 0
        headers = {"Range": f"bytes={have}-", "If-Range": self.validator} if have else {}
        try:
            async with self._open(http, headers) as response:
                if have and reply.says_whole(response, have):
                    return
                self._accept(response, have)
                await self._receive(response)
        except httpx.HTTPError as error:
            raise Interrupted(_sentence(error)) from None

    async def _locate(self) -> str:
        if isinstance(self.url, str):
            return self.url
        try:
            return await asyncio.to_thread(self.url, self.anew)
        except OSError as error:  # what signs it is away
            raise Away(str(error), error) from None

    @contextlib.asynccontextmanager
    async def _open(self, http: httpx.AsyncClient, headers: dict[str, str]) -> AsyncIterator[httpx.Response]:
        """The reply behind all redirects."""
        url = first = await self._locate()
        for _ in range(MAX_REDIRECTS + 1):
            try:
                request = await pinned_request(url, trusted_origin=self.trusted_origin)
                request["headers"] |= headers
                answer = await http.send(http.build_request("GET", **request), stream=True)
            except url_safety.UnsafeUrl as unsafe:
                if self.patience and url == first:  # a name of our own that isn't found at the moment
                    raise Away(str(unsafe)) from None
                raise DownloadError("unsafe", str(unsafe)) from None
            except httpx.HTTPError as error:
                raise Away(_sentence(error)) from None
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
        if have and status in (206, 416):
            if not reply.continues(response, have, self.total, self.validator):
                raise Changed("the file changed while it was downloaded")
        elif status == 200:
            self._begin(response)
        else:
            self._refuse(status)
        if response.headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
            raise DownloadError("refused", "the server sends it compressed")
        self.anew = False

    def _refuse(self, status: int) -> NoReturn:
        if status in reply.LINK_REFUSED and not isinstance(self.url, str) and not self.anew:
            self.anew = True
            raise Interrupted(f"the server answered {status}")
        reply.refuse(status)

    def _begin(self, response: httpx.Response) -> None:
        """Starts over, with the version that *response* brings."""
        os.ftruncate(self.fd, 0)
        self.have = 0
        self.validator = reply.version(response)
        self.total = reply.length(response)

    async def _receive(self, response: httpx.Response) -> None:
        """Writes the body behind what has arrived. Raises DownloadError, Interrupted."""
        _check_size(self.total or 0)
        async with self._off_the_clock():
            await self.wait_for_space(max(0, (self.total or 0) - self.have))
        checked = self.have
        measured = self.have
        since = time.monotonic()
        async for data in response.aiter_raw():  # as it comes: a held-back block would be lost with the link
            self.have = await run_to_completion(disk.write_at, self.fd, data, self.have)
            _check_size(self.have)
            if self.patience and self.waited and self.have > self.furthest:
                self.waited = False
                await self.patience.answered()
            if self.have - checked >= CHECK_SPACE:
                checked = self.have
                waited = time.monotonic()
                async with self._off_the_clock():
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


def _sentence(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "the server isn’t responding in time"
    if isinstance(error, httpx.ConnectError):
        return "the server isn’t responding"
    return "the connection broke too often"


def _check_size(size: int) -> None:
    """Raises DownloadError for a file that is larger than any source may be."""
    limit = settings.MAX_UPLOAD_BYTES
    if size > limit:
        raise DownloadError("too_large", f"it is larger than {limit / (1 << 30):.3g} GB", permanent=True)
