"""Media on the way out and in: single byte ranges of our files, and copies of the API's outputs.

A file is served to whoever holds its signed URL (mediapipe.files); this module knows no jobs.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import quote

import httpx
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.cache import get_conditional_response
from django.utils.http import content_disposition_header, http_date

from mediapipe import files
from mediapipe.rawbody import see_through

BLOCK = 256 * 1024
SPEC = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))", re.ASCII)
# A file beside the playlist or storyboard that names it: a line of its own, or URI="…".
LINKS = re.compile(r'^((?:#.*URI=")?)([\w-]+\.(?:m4s|mp4|webp|jpeg|png))((?:"|#xywh=[\d,]+)?)$', re.MULTILINE)


class Unsatisfiable(Exception):
    """The range begins behind the end of the file."""


def wanted(header: str | None, size: int) -> tuple[int, int] | None:
    """(start, stop) asked for by a Range header (RFC 9110 14.2); None where the whole file is the answer."""
    match = SPEC.fullmatch(header.replace(" ", "")) if header else None
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        if int(suffix) == 0 or size == 0:
            raise Unsatisfiable
        return max(0, size - int(suffix)), size
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        raise Unsatisfiable
    return start, size if not last else min(int(last) + 1, size)


class Blocks:
    """The bytes of *path* from *start* to *stop*.

    An object with close(), not an async generator: Django closes a response's iterator by its
    close() alone, so a generator's open file would outlive an aborted download.
    """

    def __init__(self, path: Path, start: int, stop: int) -> None:
        self.path, self.at, self.stop = path, start, stop
        self.fd: int | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    def _read(self) -> bytes:
        # In one thread job, with the descriptor kept on self: what a cancelled await would have
        # returned is lost, and an opened file with it.
        if self.fd is None:
            self.fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        return os.pread(self.fd, min(BLOCK, self.stop - self.at), self.at)

    async def __anext__(self) -> bytes:
        data = await see_through(self._read) if self.at < self.stop else b""
        if not data:
            self.close()
            raise StopAsyncIteration
        self.at += len(data)
        return data

    def close(self) -> None:
        """Lets go of the file."""
        fd, self.fd, self.at = self.fd, None, self.stop
        if fd is not None:
            os.close(fd)


@login_not_required
async def serve(request: HttpRequest, name: str) -> HttpResponseBase:
    """A file of ours: the signature in the URL is the right to it. `?download=NAME` saves it as NAME."""
    if request.method not in ("GET", "HEAD"):
        return HttpResponse(status=405, headers={"Allow": "GET, HEAD"})
    try:
        files.check(name, request.GET.get("expires", ""), request.GET.get("signature", ""))
        if name.endswith((".m3u8", ".vtt")) or (settings.S3_BUCKET and name.endswith(files.TEXTS)):
            text = await asyncio.to_thread(files.read_text, name)
            return HttpResponse(signed_links(name, text), headers=_about(request, name))
        path = files.path(name)
        stat = await asyncio.to_thread(os.stat, path)
    except files.Forbidden as error:
        return _sentence(403, f"This link cannot be used: {error}. Open the job's page for a new one.")
    except (FileNotFoundError, NotADirectoryError):
        return _sentence(404, "This file is no longer here. Open the job's page to see what is.")
    if settings.ACCEL_PREFIX:
        return HttpResponse(
            headers={"X-Accel-Redirect": f"{settings.ACCEL_PREFIX}{quote(name)}", **_about(request, name)}
        )
    return _ranged(request, path, stat, _about(request, name))


def signed_links(name: str, text: str) -> str:
    """A playlist (RFC 8216) or WebVTT file with the files beside it that it names as signed URLs."""
    folder = name.rpartition("/")[0]

    def sign(match: re.Match[str]) -> str:
        before, relative, after = match.groups()
        return f"{before}{files.link(f'{folder}/{relative}')}{after}"

    return LINKS.sub(sign, text)


def _sentence(status: int, text: str) -> HttpResponse:
    return HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")


def _about(request: HttpRequest, name: str) -> dict[str, str]:
    headers = {
        "Content-Type": files.content_type(name),
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cache-Control": "private, max-age=86400",
    }
    saved_as = re.sub(r"[\x00-\x1f\x7f/\\]", "_", request.GET.get("download", ""))[:200]
    if saved_as:
        headers["Content-Disposition"] = content_disposition_header(True, saved_as) or "attachment"
    return headers


def _ranged(
    request: HttpRequest, path: Path, stat: os.stat_result, headers: dict[str, str]
) -> HttpResponseBase:
    etag, modified = f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"', int(stat.st_mtime)
    early = get_conditional_response(request, etag, modified)
    if early is not None:
        return early
    header, condition = request.headers.get("Range"), request.headers.get("If-Range")
    if condition and condition not in (etag, http_date(modified)):
        header = None
    try:
        span = wanted(header, stat.st_size)
    except Unsatisfiable:
        return HttpResponse(status=416, headers={"Content-Range": f"bytes */{stat.st_size}"})
    start, stop = span or (0, stat.st_size)
    headers |= {
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "Last-Modified": http_date(modified),
        "Content-Length": str(stop - start),
    }
    if span:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stat.st_size}"
    status = 206 if span else 200
    if request.method == "HEAD":
        return HttpResponse(status=status, headers=headers)
    return StreamingHttpResponse(Blocks(path, start, stop), status=status, headers=headers)


class AdoptError(Exception):
    """An output of the API that cannot be copied. *permanent*: trying again would not help."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


async def adopt(
    http: httpx.AsyncClient,
    url: str,
    name: str,
    expected: int | None,
    heartbeat: Callable[[int], None],
) -> int:
    """Copies *url* to our file *name*; the bytes written. A broken connection resumes by Range.

    Nothing is visible under *name* before it is whole. Raises httpx.HTTPError, AdoptError.
    """
    folder = files.path("incoming")
    folder.mkdir(parents=True, exist_ok=True)
    mark = f"adopt-{hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}-"
    for left in folder.glob(f"{mark}*"):  # of a worker that was killed
        left.unlink(missing_ok=True)
    fd, part = tempfile.mkstemp(prefix=mark, dir=folder)
    try:
        for tries_left in (4, 3, 2, 1, 0):
            try:
                await _append(http, url, fd, heartbeat)
                break
            except httpx.TransportError:
                if not tries_left:
                    raise
        size = os.fstat(fd).st_size
        if expected is not None and size != expected:
            raise AdoptError(f"{size} bytes came where {expected} were promised")
        await asyncio.to_thread(files.publish, Path(part), name)
        return size
    finally:
        os.close(fd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)


async def _append(http: httpx.AsyncClient, url: str, fd: int, heartbeat: Callable[[int], None]) -> None:
    have = os.fstat(fd).st_size
    headers = {"Range": f"bytes={have}-"} if have else {}
    async with http.stream("GET", url, headers=headers, follow_redirects=True) as response:
        if response.status_code not in (200, 206):
            gone = response.status_code in (401, 403, 404, 410)
            raise AdoptError(f"the output's URL answered {response.status_code}", permanent=gone)
        if have and response.status_code == 200:
            os.ftruncate(fd, 0)
            have = 0
        async for data in response.aiter_raw():
            await see_through(os.pwrite, fd, data, have)
            have += len(data)
            heartbeat(have)
