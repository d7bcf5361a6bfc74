"""Media on the way out: single byte ranges of our files.

A file is served to whoever holds its signed URL (mediapipe.storage); one with an owner, as our pages have
them, needs a session of the owner's or of staff, so it ends with that. This module knows no jobs.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import quote

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import redirect_to_login
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.utils.cache import get_conditional_response
from django.utils.http import content_disposition_header, http_date

from mediapipe import storage
from mediapipe.accounts import audit
from mediapipe.accounts.audit import Act
from mediapipe.storage import s3
from mediapipe.threads import run_to_completion

BLOCK = 512 * 1024  # bytes at a time: each is a hop to a thread and back
RANGE = re.compile(r"bytes=[ \t]*(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))[ \t]*", re.ASCII | re.IGNORECASE)
# A file beside the playlist or storyboard that names it: a line of its own, or URI="…".
LINKED_NAME = r"[\w-]+\.(?:m3u8|m4s|mp4|webp|jpeg|png)"
LINKS = re.compile(rf'^((?:#.*URI=")?)({LINKED_NAME})((?:"|#xywh=[\d,]+)?)$', re.MULTILINE)

NOT_YOURS = "This address is for who is signed in and may see the job. “Copy link” makes one to hand on."


_withholding: list[Callable[[str], bool]] = []


def withhold(where: Callable[[str], bool]) -> None:
    """From now on no link leads to a file *where* says so of its name, though it is there."""
    _withholding.append(where)


def withheld(name: str) -> bool:
    """Whether somebody says so of this name."""
    return any(where(name) for where in _withholding)


class Unsatisfiable(Exception):
    """The range begins behind the end of the file."""


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """(start, stop) of a Range header (RFC 9110 14.2); None where the whole file is the answer.

    Several ranges at once get the whole file, which a server may do; no player sends them.
    """
    match = RANGE.fullmatch(header) if header else None
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
        self.path = path
        self.at = start
        self.stop = stop
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
        data = await run_to_completion(self._read) if self.at < self.stop else b""
        if not data:
            self.close()
            raise StopAsyncIteration
        self.at += len(data)
        return data

    def close(self) -> None:
        """Closes the file."""
        fd = self.fd
        self.fd = None
        self.at = self.stop
        if fd is not None:
            os.close(fd)


@login_not_required
async def serve(request: HttpRequest, name: str) -> HttpResponseBase:
    """A file of ours: the signature in the URL is the right to it. `?download=NAME` saves it as NAME."""
    if request.method not in ("GET", "HEAD"):
        return HttpResponse(status=405, headers={"Allow": "GET, HEAD"})
    owner = request.GET.get("owner", "")
    try:
        expires = request.GET.get("expires", "")
        signature = request.GET.get("signature", "")
        storage.check_signature(name, expires, signature, owner)
        if owner and (refusal := await _refuse_reader(request, owner)):
            return refusal
        if await sync_to_async(withheld)(name):
            raise FileNotFoundError(name)
        answer = await deliver(request, name, owner)
        if not owner:
            await sync_to_async(_note_fetch)(name)
        return answer
    except storage.Forbidden as error:
        return _plain_text(403, f"This link can’t be used: {error}. Open the job’s page for a new one.")
    except (FileNotFoundError, NotADirectoryError):
        return _plain_text(404, "This file no longer exists. Open the job’s page to see what does.")


def _note_fetch(name: str) -> None:
    """Has the audit log say that somebody fetches by a link that was copied: one entry for a folder's files.

    The embedded engine reads files in place: what comes here are people and programs.
    """
    folder, _, file = name.rpartition("/")
    audit.record_visit(Act.FETCH, key=folder if folder.count("/") else name, name=file, text=name)


async def deliver(
    request: HttpRequest, name: str, owner: str = "", *, beside: bool = False
) -> HttpResponseBase:
    """The file, to a reader who may have it, asked for by GET or HEAD.

    *beside*: the files that it names are asked for beside its own address, by the same right. Raises
    Forbidden for a name that is none, FileNotFoundError, NotADirectoryError.
    """
    lasting = not owner and not beside
    headers = _headers(request, name, lasting=lasting)
    if name.endswith(storage.LINKING) or (settings.S3_BUCKET and name.endswith(storage.TEXTS)):
        text = await asyncio.to_thread(storage.read_text, name)
        return HttpResponse(text if beside else signed_links(name, text, owner), headers=headers)
    if storage.in_bucket(name):
        return _to_bucket(name, _saved_as(request), s3.URL_LIFETIME if lasting else s3.PAGE_LIFETIME)
    path = storage.path(name)
    stat = await asyncio.to_thread(os.stat, path)
    if settings.ACCEL_PREFIX:
        return HttpResponse(headers={"X-Accel-Redirect": f"{settings.ACCEL_PREFIX}{quote(name)}", **headers})
    return _ranged(request, path, stat, headers)


async def _refuse_reader(request: HttpRequest, owner: str) -> HttpResponse | None:
    """None for the *owner* and for staff, with a session at this moment; who isn't signed in may do that."""
    person = await request.auser()
    if person.is_authenticated and (str(person.pk) == owner or person.is_staff):
        return None
    if not person.is_authenticated and request.headers.get("Sec-Fetch-Mode") == "navigate":
        return redirect_to_login(request.get_full_path())
    return _plain_text(403, NOT_YOURS)


def _to_bucket(name: str, save_as: str, lifetime: int) -> HttpResponse:
    """To where the file lies, by a URL that ends after *lifetime* seconds."""
    return HttpResponseRedirect(
        s3.url(name, save_as, lifetime=lifetime), headers={"Cache-Control": "no-store"}
    )


def signed_links(name: str, text: str, owner: str = "") -> str:
    """A playlist (RFC 8216) or WebVTT file with the files beside it that it names as URLs like its own."""
    folder = name.rpartition("/")[0]

    def sign(match: re.Match[str]) -> str:
        before, relative, after = match.groups()
        beside = f"{folder}/{relative}"
        if owner and storage.in_bucket(beside):
            return f"{before}{s3.url(beside, lifetime=s3.PAGE_LIFETIME)}{after}"
        return f"{before}{storage.page_link(beside, owner) if owner else storage.link(beside)}{after}"

    return LINKS.sub(sign, text)


def _plain_text(status: int, text: str, headers: dict[str, str] | None = None) -> HttpResponse:
    return HttpResponse(text, status=status, content_type="text/plain; charset=utf-8", headers=headers)


def _saved_as(request: HttpRequest) -> str:
    return re.sub(r"[\x00-\x1f\x7f/\\]", "_", request.GET.get("download", ""))[:200]


def _headers(request: HttpRequest, name: str, *, lasting: bool) -> dict[str, str]:
    headers = {
        "Content-Type": storage.content_type(name),
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        # a page's file is asked for again each time, so that none is shown after a sign-out
        "Cache-Control": "private, max-age=86400" if lasting else "private, no-cache",
    }
    if saved_as := _saved_as(request):
        headers["Content-Disposition"] = content_disposition_header(True, saved_as) or "attachment"
    return headers


def _ranged(
    request: HttpRequest, path: Path, stat: os.stat_result, headers: dict[str, str]
) -> HttpResponseBase:
    etag = f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"'
    modified = int(stat.st_mtime)
    validators = {"ETag": etag, "Last-Modified": http_date(modified)}
    early = get_conditional_response(request, etag, modified)
    if early is not None:
        repeated = {**validators, "Cache-Control": headers["Cache-Control"]}  # RFC 9110 15.4.5
        for name, value in repeated.items():
            early[name] = value
        return early
    header = request.headers.get("Range")
    condition = request.headers.get("If-Range")
    if request.method != "GET" or (condition and condition not in (etag, http_date(modified))):
        header = None  # ranges are defined for GET alone (RFC 9110 14.2)
    try:
        span = parse_range(header, stat.st_size)
    except Unsatisfiable:
        return _plain_text(
            416, "This range begins behind the end of the file.", {"Content-Range": f"bytes */{stat.st_size}"}
        )
    start, stop = span or (0, stat.st_size)
    headers |= {**validators, "Accept-Ranges": "bytes", "Content-Length": str(stop - start)}
    if span:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stat.st_size}"
    status = 206 if span else 200
    if request.method == "HEAD":
        return HttpResponse(status=status, headers=headers)
    return StreamingHttpResponse(Blocks(path, start, stop), status=status, headers=headers)
