"""Sources and outputs on disk, and the signed URLs that lead to them.

A file is named by its path under MEDIA_ROOT ("sources/…", "outputs/…"). This module knows who may
read it only by the URL's signature, and nothing of jobs or tasks.
"""

from __future__ import annotations

import base64
import hmac
import time
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, quote, unquote, urlsplit

from django.conf import settings
from django.utils.crypto import salted_hmac

ROUND = 6 * 3600  # seconds: a poll a moment later signs the very same URL, so no player restarts
LIFE = 7 * 24 * 3600  # seconds: longer than any wait in a queue


class Forbidden(Exception):
    """The URL's signature is missing, wrong or expired."""


def _signature(name: str, expires: int) -> str:
    digest = salted_hmac("mediapipe.files", f"{expires}/{name}", algorithm="sha256").digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def path(name: str) -> Path:
    """The path on disk of the file *name*. Raises Forbidden for a name that leaves MEDIA_ROOT."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\0" in name or not pure.parts:
        raise Forbidden("not a media file")
    return Path(settings.MEDIA_ROOT, *pure.parts)


def signed_path(name: str, *, now: float | None = None) -> str:
    """A path like /media/outputs/x.mp4?expires=…&signature=…, valid for a week or a little more."""
    moment = time.time() if now is None else now
    expires = (int(moment) // ROUND + 1) * ROUND + LIFE
    return f"/media/{quote(name)}?expires={expires}&signature={_signature(name, expires)}"


def signed_url(name: str, *, local: bool = False) -> str:
    """signed_path() with the installation's address in front; *local* for a reader on this machine."""
    base = settings.LOCAL_URL if local or not settings.PUBLIC_URL else settings.PUBLIC_URL
    return f"{base}{signed_path(name)}"


def check(name: str, expires: str, signature: str) -> None:
    """Raises Forbidden unless *signature* is ours for *name* and still valid."""
    if not expires.isdecimal() or not expires.isascii() or len(expires) > 12 or int(expires) < time.time():
        raise Forbidden("this link has expired")
    if not hmac.compare_digest(_signature(name, int(expires)).encode(), signature.encode()):
        raise Forbidden("this link is not valid")


def name_of(url: str) -> str | None:
    """The name of the file behind a URL of ours; None for anybody else's.

    Raises Forbidden for a URL of ours whose signature is wrong or expired.
    """
    for base in filter(None, (settings.LOCAL_URL, settings.PUBLIC_URL)):
        if url.startswith(f"{base}/media/"):
            parts = urlsplit(url)
            query = parse_qs(parts.query)
            name = unquote(parts.path[len(urlsplit(base).path) + len("/media/") :])
            check(name, query.get("expires", [""])[0], query.get("signature", [""])[0])
            return name
    return None
