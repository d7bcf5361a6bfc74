"""What a server's reply says: JSON, when to ask again; of a file all of it, the rest, or a refusal. Pure.

It reads replies, and neither asks nor writes.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, NoReturn

import httpx

from mediapipe import content_disposition
from mediapipe.content_encoding import layers

UNREADABLE = re.compile("illegal|too long|invalid", re.IGNORECASE)  # what h11 says of what isn't HTTP
CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", re.ASCII)
LONGEST_RETRY_AFTER = 3600.0  # seconds, after which it is asked again
GONE_STATUSES = (404, 410)
LINK_REFUSED = (400, 401, 403)  # also what a signed link gets once it has expired
# These ask to come back, as every 5xx does, and every 4xx that says when.
RETRY_LATER = (202, 408, 423, 425, 429)
WHOLE = (200, 201, 203)  # 203: a proxy has looked at it
NO_FILE = "the server sends no file"
REFUSALS = {
    206: "the server sends only a part of the file",
    402: "the server wants to be paid for it",
    451: "the server may not give it away, for legal reasons",
}
Reason = Literal["unsafe", "refused", "not_found", "unreachable", "too_large", "no_space", "incomplete"]


@dataclass(frozen=True)
class Downloaded:
    """A file that has arrived: its bytes, and what its server calls it, "" where it doesn't say."""

    size: int
    filename: str = ""


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
    """A try that did not bring the whole file; the next one continues behind what has arrived.

    *cause*: what our own storage failed by.
    """

    def __init__(self, message: str, cause: Exception | None = None) -> None:
        super().__init__(message)
        self.cause = cause


class Away(Interrupted):
    """A try that the server didn't answer at all, or with a plea to come back later.

    *retry_after*: seconds, where it says so.
    """

    retry_after: float | None = None


class Changed(Interrupted):
    """What the server sends does not continue what has arrived: the next try begins anew."""


def refuse(response: httpx.Response) -> NoReturn:
    """Raises what its status means: DownloadError where no further try would help, else Interrupted."""
    status = response.status_code
    answered = f"the server answered {status}"
    if status in GONE_STATUSES:
        raise DownloadError("not_found", f"there is no such file ({answered})", permanent=True)
    wait = retry_after(response.headers.get("retry-after"))
    if status >= 500 or status in RETRY_LATER or (status >= 400 and wait):
        away = Away("the file isn’t ready at its server (it answered 202)" if status == 202 else answered)
        away.retry_after = wait
        raise away
    if status in (401, 403):
        asks = "www-authenticate" in response.headers
        why = "the server asks for a user name and a password" if asks else "the link may have expired"
        raise DownloadError("refused", f"{why} ({answered})", permanent=True)
    why = REFUSALS.get(status, "the server doesn’t accept the link" if status >= 400 else NO_FILE)
    raise DownloadError("refused", f"{why} (it answered {status})", permanent=True)


def unanswered(error: httpx.HTTPError, *, ours: bool) -> Away | DownloadError:
    """What a request that got no reply ends with, or waits by; a server of *ours* is mended meanwhile."""
    cause: BaseException | None = error
    while cause and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if cause and not ours:
        return DownloadError("refused", "the server’s certificate can’t be verified", permanent=True)
    return Away(broken(error))


def broken(error: httpx.HTTPError) -> str:
    """Why no reply came, or not the whole."""
    if isinstance(error, httpx.TimeoutException):
        return "the server isn’t responding in time"
    if isinstance(error, httpx.ConnectError):
        return "the server isn’t responding"
    if isinstance(error, httpx.RemoteProtocolError) and UNREADABLE.search(str(error)):
        return "the server’s answer can’t be read"
    return "the connection broke too often"


def json_of(response: httpx.Response) -> object:
    """What its body says. Raises ValueError where that isn't JSON, or nested too deeply to be read."""
    try:
        return response.json()
    except RecursionError:
        raise ValueError("nested too deeply") from None


def retry_after(
    value: str | None, now: datetime | None = None, *, longest: float = LONGEST_RETRY_AFTER
) -> float | None:
    """Seconds to wait by a Retry-After header (RFC 9110 10.2.3: seconds or a date), at most *longest*.

    None where there is none, or one that can't be read.
    """
    if not value:
        return None
    value = value.strip()
    if value.isascii() and value.isdecimal():
        return min(float(value), longest)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max(0.0, (at - (now or datetime.now(UTC))).total_seconds()), longest)


def filename(response: httpx.Response) -> str:
    """What the server calls the file (Content-Disposition, RFC 6266); "" where it says nothing of that."""
    raw = (value for name, value in response.headers.raw if name.lower() == b"content-disposition")
    return next((name for value in raw if (name := content_disposition.filename(value))), "")


def encoding(response: httpx.Response) -> str:
    """How its body is packed, by its own word; "" where it isn't."""
    name = str(response.headers.get("content-encoding", ""))
    return name if layers(name) else ""


def version(response: httpx.Response) -> str:
    """What tells this version of the file from others: a strong ETag or a date; "" without one."""
    etag = str(response.headers.get("etag", ""))
    return etag if etag.startswith('"') else str(response.headers.get("last-modified", ""))


def length(response: httpx.Response) -> int | None:
    """How many bytes the file has, where it says so: its body, or what that is the beginning of."""
    of_range = CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    of_all = of_range[2] if of_range and response.status_code == 206 else ""
    text = of_all if of_all.isdecimal() else response.headers.get("content-length", "")
    return int(text) if text.isdecimal() and len(text) < 19 else None


def brings_file(response: httpx.Response) -> bool:
    """Whether its body is the file from its beginning, whatever was asked for.

    One that is only accepted as yet (202) may come with words about that.
    """
    headers = response.headers
    if response.status_code == 206:
        of_range = CONTENT_RANGE.fullmatch(headers.get("content-range", "bytes 0-0/*"))
        return of_range is not None and int(of_range[1]) == 0
    if response.status_code == 202 and "retry-after" not in headers:
        return str(headers.get("content-type", "")).startswith(("video/", "audio/"))
    return response.status_code in WHOLE


def continues(response: httpx.Response, have: int, total: int | None, validator: str) -> bool:
    """Whether it continues what has arrived (*have* of *total* bytes), in the same version of the file."""
    match = CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if response.status_code != 206 or match is None or int(match[1]) != have:
        return False
    if total is not None and match[2] not in ("*", str(total)):
        return False
    etag = response.headers.get("etag", validator)
    return validator in (etag, response.headers.get("last-modified"))


def says_whole(response: httpx.Response, have: int) -> bool:
    """Whether the connection broke just behind the last byte, so that nothing is left to send."""
    return response.status_code == 416 and response.headers.get("content-range") == f"bytes */{have}"
