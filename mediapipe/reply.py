"""What a server's reply says of a file: all of it, the rest of what has arrived, or a refusal. Pure.

It reads replies, and neither asks nor writes.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, NoReturn
from urllib.parse import unquote

import httpx

CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", re.ASCII)
# A file's name by RFC 6266: the extended form (RFC 8187) goes before the plain one.
EXTENDED_NAME = re.compile(r";\s*filename\*\s*=\s*([\w-]+)'[^']*'([^;\s]+)", re.ASCII | re.IGNORECASE)
PLAIN_NAME = re.compile(r';\s*filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;"]+))', re.IGNORECASE)
LONGEST_RETRY_AFTER = 3600.0  # seconds, after which it is asked again
GONE_STATUSES = (404, 410)
LINK_REFUSED = (400, 401, 403)  # also what a signed link gets once it has expired
RETRY_LATER = (408, 425, 429)  # these ask to come back, as every 5xx does
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
    if status in (401, 403):
        raise DownloadError("refused", f"the link may have expired ({answered})", permanent=True)
    if status >= 500 or status in RETRY_LATER:
        away = Away(answered)
        away.retry_after = retry_after(response.headers.get("retry-after"))
        raise away
    if status >= 400:
        raise DownloadError(
            "refused", f"the server doesn’t accept the link (it answered {status})", permanent=True
        )
    raise Interrupted(answered)


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
    return "the connection broke too often"


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds to wait by a Retry-After header (RFC 9110 10.2.3: seconds or a date); None without one."""
    if not value:
        return None
    value = value.strip()
    if value.isascii() and value.isdecimal():
        return min(float(value), LONGEST_RETRY_AFTER)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max(0.0, (at - (now or datetime.now(UTC))).total_seconds()), LONGEST_RETRY_AFTER)


def filename(response: httpx.Response) -> str:
    """What the server calls the file (Content-Disposition, RFC 6266); "" where it says nothing of that."""
    text = f";{response.headers.get('content-disposition', '').partition(';')[2]}"
    if match := EXTENDED_NAME.search(text):
        try:
            return unquote(match[2], match[1], "strict")
        except (LookupError, UnicodeError):
            pass  # no charset, or not in it
    match = PLAIN_NAME.search(text)
    return re.sub(r"\\(.)", r"\1", match[1] or match[2] or "").strip() if match else ""


def encoding(response: httpx.Response) -> str:
    """How its body is packed, by its own word in lower case; "" where it isn't."""
    name = str(response.headers.get("content-encoding", "")).strip().lower()
    return "" if name == "identity" else name


def version(response: httpx.Response) -> str:
    """What tells this version of the file from others: a strong ETag or a date; "" without one."""
    etag = str(response.headers.get("etag", ""))
    return etag if etag.startswith('"') else str(response.headers.get("last-modified", ""))


def length(response: httpx.Response) -> int | None:
    """How many bytes the body has, where it says so."""
    text = response.headers.get("content-length", "")
    return int(text) if text.isdecimal() and len(text) < 19 else None


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
