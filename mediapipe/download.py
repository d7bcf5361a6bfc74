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
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import httpx
from django.conf import settings

from mediapipe import disk, reply, storage, url_safety
from mediapipe.content_encoding import Unpackable, Unpacker
from mediapipe.pace import Pace
from mediapipe.part import Part
from mediapipe.remote import BadRedirect, Remote
from mediapipe.reply import Away, Changed, Downloaded, Interrupted
from mediapipe.reply import DownloadError as DownloadError
from mediapipe.storage import WaitOut
from mediapipe.storage.outage import Patience
from mediapipe.threads import run_to_completion

TIMEOUT = httpx.Timeout(30, connect=10)
BACKOFF = (0.5, 1.0, 3.0, 6.0)  # seconds after the first, second… try in a row that brought nothing new
TOTAL_SECONDS = 6 * 3600.0  # that a download may take in all
MAX_ASKED_WAIT = 6 * 3600.0  # seconds that a server may ask us to come back later, in all
MIN_PROGRESS = 30 << 10  # bytes that a try must bring, or it was in vain
CHECK_SPACE = 8 << 20  # bytes between two checks of the free space

# A URL, or what makes one for each try, blocking; True: anew, because the last one was refused.
Location = str | Callable[[bool], str]
ReportBytes = Callable[[int, int | None], None]  # bytes so far, and in all where the server says so
WaitForSpace = Callable[[int], Awaitable[None]]  # returns when so many bytes may be written, or raises
WaitForServer = Callable[[float], Awaitable[None]]  # returns after the seconds that the server asked for


async def refuse_without_space(length: int) -> None:
    """A WaitForSpace that doesn't wait. Raises DownloadError where *length* bytes touch the reserve."""
    if not disk.has_media_space(length):
        raise DownloadError("no_space", "there isn’t enough free space for it")


async def download(
    url: Location,
    fd: int,
    *,
    report: ReportBytes,
    wait_for_space: WaitForSpace = refuse_without_space,
    wait_for_server: WaitForServer = asyncio.sleep,
    trusted_origin: str = "",
    patience: Patience | None = None,
    part: Part | None = None,
) -> Downloaded:
    """Downloads *url* into the file *fd*, which holds *part* of it. Raises DownloadError, OSError.

    *patience*: with a server of our own, while it doesn't answer. One that answers and brings nothing new
    is given up as any other. What *wait_for_server* raises ends it; *part* goes on later.
    """
    under_way = _Download(url, fd, report, wait_for_space, wait_for_server, patience, part or Part())
    try:
        async with (
            asyncio.timeout(TOTAL_SECONDS - under_way.part.seconds) as under_way.limit,
            Remote(TIMEOUT, trusted_origin) as remote,
        ):
            await under_way.run(remote)
    except TimeoutError:
        raise DownloadError("unreachable", f"it took longer than {TOTAL_SECONDS / 3600:g} hours") from None
    finally:
        under_way.note()
    return Downloaded(under_way.part.have, under_way.part.filename)


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
        size = (await download(url, fd, report=report, trusted_origin=trusted_origin)).size
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
    wait_for_server: WaitForServer
    patience: Patience | None
    part: Part
    anew: bool = False  # the last URL was refused, and its maker makes another one
    unpacker: Unpacker | None = None  # of a body that comes packed
    waited: bool = False  # the server was away, and hasn't brought anything new since
    limit: asyncio.Timeout = field(default_factory=lambda: asyncio.timeout(None))

    def __post_init__(self) -> None:
        self.pace = Pace(self.part.seconds, self.part.received)
        self.furthest = self.part.have  # bytes that any try before this one has brought

    def note(self) -> None:
        """Tells the part what it has used up."""
        self.part.seconds = self.pace.age
        self.part.received = self.pace.received

    async def run(self, remote: Remote) -> None:
        """Tries until the file is whole, or until several tries in a row have brought nothing new."""
        fruitless = away = 0
        while True:
            try:
                return await self._try(remote)
            except Interrupted as error:
                fruitful = self.part.have - self.furthest > MIN_PROGRESS
                self.furthest = max(self.furthest, self.part.have)
                if isinstance(error, Changed):
                    self.part.validator = ""
                away = away + 1 if isinstance(error, Away) else 0
                if self.patience and away > 1:
                    self.waited = True
                    async with self._off_the_clock():
                        await self.patience.wait_out(error.cause or error)
                    continue
                if isinstance(error, Away) and error.retry_after and not self.patience:
                    await self._come_back(error.retry_after, str(error))
                    continue
                fruitless = 0 if fruitful else fruitless + (not self.patience or not away)
                if fruitless > len(BACKOFF):
                    raise DownloadError("unreachable", str(error)) from None
                await asyncio.sleep(BACKOFF[max(0, fruitless - 1)])

    async def _come_back(self, seconds: float, answered: str) -> None:
        """Waits as the server asked us to, which costs no try. Raises DownloadError when it is enough."""
        self.part.asked_to_wait += seconds
        if self.part.asked_to_wait > MAX_ASKED_WAIT:
            raise DownloadError("unreachable", f"{answered} again and again for hours")
        async with self._off_the_clock():
            await self.wait_for_server(max(seconds, BACKOFF[0]))

    @contextlib.asynccontextmanager
    async def _off_the_clock(self) -> AsyncIterator[None]:
        """Around a wait of ours, which is no part of the time that a download may take."""
        now = asyncio.get_running_loop().time
        began = now()
        left = (self.limit.when() or 0.0) - began
        self.limit.reschedule(None)
        yield
        self.limit.reschedule(now() + left)
        self.pace.skip(now() - began)

    async def _try(self, remote: Remote) -> None:
        have = self.part.have if self.part.validator else 0
        headers = {"Range": f"bytes={have}-", "If-Range": self.part.validator} if have else {}
        try:
            async with self._open(remote, headers) as response:
                if have and reply.says_whole(response, have):
                    return
                self._accept(response, have)
                await self._receive(response)
        except Unpackable as error:
            raise DownloadError("refused", str(error), permanent=True) from None
        except httpx.HTTPError as error:
            raise Interrupted(reply.broken(error)) from None

    async def _locate(self) -> str:
        if isinstance(self.url, str):
            return self.url
        try:
            return await asyncio.to_thread(self.url, self.anew)
        except OSError as error:  # what signs it is away
            raise Away(str(error), error) from None

    @contextlib.asynccontextmanager
    async def _open(self, remote: Remote, headers: dict[str, str]) -> AsyncIterator[httpx.Response]:
        """The reply behind all redirects."""
        async with contextlib.AsyncExitStack() as stack:
            try:
                url = await self._locate()
                response = await stack.enter_async_context(remote.follow(url, headers))
            except url_safety.LookupFailed:
                raise Away("its server’s name can’t be looked up at the moment") from None
            except url_safety.UnsafeUrl as unsafe:
                if self.patience:  # a name of our own that isn't found at the moment
                    raise Away(str(unsafe)) from None
                raise DownloadError("unsafe", str(unsafe)) from None
            except httpx.HTTPError as error:
                raise reply.unanswered(error, ours=bool(self.patience)) from None
            except BadRedirect as error:
                raise DownloadError("refused", f"the server {error}", permanent=True) from None
            except (httpx.InvalidURL, ValueError):
                raise DownloadError("refused", "its address can’t be read", permanent=True) from None
            yield response

    def _accept(self, response: httpx.Response, have: int) -> None:
        """Takes *response* as the file or as its rest behind *have*. Raises DownloadError, Interrupted."""
        status = response.status_code
        if have and status in (206, 416):
            if not reply.continues(response, have, self.part.total, self.part.validator):
                raise Changed("the file changed while it was downloaded")
        elif reply.brings_file(response):
            self._begin(response)
        else:
            self._refuse(response)
        self.anew = False

    def _refuse(self, response: httpx.Response) -> NoReturn:
        if response.status_code in reply.LINK_REFUSED and not isinstance(self.url, str) and not self.anew:
            self.anew = True
            raise Interrupted(f"the server answered {response.status_code}")
        reply.refuse(response)

    def _begin(self, response: httpx.Response) -> None:
        """Starts over, with the version that *response* brings."""
        os.ftruncate(self.fd, 0)
        self.part.again(reply.length(response), reply.version(response), reply.filename(response))
        self.unpacker = None
        if encoding := reply.encoding(response):
            self.unpacker = Unpacker(encoding)
            self.part.again(filename=reply.filename(response))  # length and version are of the packed

    async def _receive(self, response: httpx.Response) -> None:
        """Writes the body behind what has arrived. Raises DownloadError, Interrupted."""
        _check_size(self.part.total or 0)
        async with self._off_the_clock():
            await self.wait_for_space(max(0, (self.part.total or 0) - self.part.have))
        checked = self.part.have
        self.pace.again()
        async for block in disk.blocks(self._pieces(response)):
            self.part.have = await run_to_completion(disk.write_at, self.fd, block, self.part.have)
            _check_size(self.part.have)
            if self.part.have - checked >= CHECK_SPACE:
                checked = self.part.have
                async with self._off_the_clock():  # that is our disk, and not the server
                    await self.wait_for_space(1)
            if self.patience and self.waited and self.part.have > self.furthest:
                self.waited = False
                await self.patience.answered()
            self._check_pace()
            self.report(self.part.have, self.part.total)
        if self.part.have < (self.part.total or 0) or (self.unpacker and not self.unpacker.finish()):
            raise Interrupted("the connection broke too often")

    async def _pieces(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """The body as it belongs into the file. Raises Unpackable, httpx.HTTPError."""
        try:
            async for data in response.aiter_raw():
                self.pace.add(len(data))
                for piece in self.unpacker.feed(data) if self.unpacker else (data,):
                    yield piece
        except httpx.RemoteProtocolError:
            if not (self.unpacker and self.unpacker.is_all(reply.length(response))):
                raise

    def _check_pace(self) -> None:
        """Raises Interrupted where the server stalls, DownloadError where it is too slow on average."""
        self.note()
        if (judgement := self.pace.judge()) == "stalls":
            raise Interrupted("the server sends almost nothing")
        if judgement == "slow" and not self.patience:
            raise DownloadError("unreachable", f"the server sends too slowly ({self.pace})")


def _check_size(size: int) -> None:
    """Raises DownloadError for a file that is larger than any source may be."""
    if size > (limit := settings.MAX_UPLOAD_BYTES):
        raise DownloadError("too_large", f"it is larger than {limit / (1 << 30):.3g} GB", permanent=True)
