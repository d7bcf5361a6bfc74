"""What a server's reply says of a file: all of it, the rest of what has arrived, or a refusal. Pure.

It reads replies, and neither asks nor writes.
"""

from __future__ import annotations

import re
from typing import Literal, NoReturn

import httpx

CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", re.ASCII)
GONE = (404, 410)
LINK_REFUSED = (400, 401, 403)  # also what a signed link gets once it has expired
LATER = (408, 425, 429)  # these ask to come back, as every 5xx does
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
    """A try that did not bring the whole file; the next one continues behind what has arrived.

    *cause*: what our own storage failed by.
    """

    def __init__(self, message: str, cause: Exception | None = None) -> None:
        super().__init__(message)
        self.cause = cause


class Away(Interrupted):
    """A try that the server didn't answer at all, or with a plea to come back later."""


class Changed(Interrupted):
    """What the server sends does not continue what has arrived: the next try begins anew."""


def refuse(status: int) -> NoReturn:
    """Raises what *status* means: DownloadError where no further try would help, else Interrupted."""
    answered = f"the server answered {status}"
    if status in GONE:
        raise DownloadError("not_found", f"there is no such file ({answered})", permanent=True)
    if status in (401, 403):
        raise DownloadError("refused", f"the link may have expired ({answered})", permanent=True)
    if status >= 500 or status in LATER:
        raise Away(answered)
    if status >= 400:
        raise DownloadError(
            "refused", f"the server doesn’t accept the link (it answered {status})", permanent=True
        )
    raise Interrupted(answered)


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
