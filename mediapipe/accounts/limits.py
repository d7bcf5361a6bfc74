"""How often somebody may try a password, so that nobody is locked out by somebody else.

A try counts for the name at its network, and for the network in all. A browser in which this person has
signed in before holds a cookie that says so, and has a count of its own: whatever strangers do, elsewhere or
at the same address, it may try. A try is counted before its password is hashed, so that many at once are no
way around, and few are hashed at the same time. It knows requests and cookies, and no forms.
"""

from __future__ import annotations

import ipaddress
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import BoundedSemaphore
from typing import Any

from django.conf import settings
from django.core import signing
from django.db import transaction
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.crypto import get_random_string, salted_hmac

from mediapipe.accounts.models import Tries

WINDOW = timedelta(minutes=15)
MOST_FOR_A_NAME = 10  # tries at one network, or in one known browser, per window
MOST_FOR_A_NETWORK = 100
WAITING = 6  # requests that wait for a hash: more would take the threads that answer pages
COOKIE = "known"
SALT = "accounts.known"
COOKIE_LIFETIME = 365 * 24 * 3600  # seconds
# One hash at a time for strangers and one for known browsers: a flood leaves the second free.
_hashers = {known: (BoundedSemaphore(WAITING), BoundedSemaphore(1)) for known in (True, False)}


class TooMany(Exception):
    """No try is taken now; *minutes* until one is, 0 where it is only a rush."""

    def __init__(self, minutes: int) -> None:
        super().__init__(minutes)
        self.minutes = minutes


class Try:
    """A try that is being made."""

    succeeded = False


def network(request: HttpRequest) -> str:
    """The network a request comes from."""
    return network_of(str(request.META.get("REMOTE_ADDR", "")))


def network_of(address: str) -> str:
    """The network of an address: an IPv4 address itself, or the /64 that one IPv6 customer has."""
    with suppress(ValueError):
        parsed = ipaddress.ip_address(address.partition("%")[0])
        if isinstance(parsed, ipaddress.IPv6Address):
            mapped = parsed.ipv4_mapped
            return str(mapped or ipaddress.ip_network((parsed, 64), strict=False))
    return address


def _same(name: str) -> str:
    """The name as it counts: another case or another width of its letters is no other name."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def _known_browser(request: HttpRequest, name: str) -> str:
    """The browser's own mark, where *name* has signed in with it; else empty."""
    with suppress(signing.BadSignature, ValueError, TypeError):
        owner, mark = signing.loads(request.COOKIES.get(COOKIE, ""), salt=SALT, max_age=COOKIE_LIFETIME)
        if owner == _same(name):
            return str(mark)
    return ""


def remember_browser(request: HttpRequest, response: HttpResponse, name: str) -> None:
    """Marks the browser as one in which *name* has signed in."""
    mark = _known_browser(request, name) or get_random_string(16)
    response.set_cookie(
        COOKIE,
        signing.dumps([_same(name), mark], salt=SALT),
        max_age=COOKIE_LIFETIME,
        httponly=True,
        secure=settings.SESSION_COOKIE_SECURE,
        samesite="Lax",
    )


def _key(*parts: str) -> str:
    return salted_hmac("accounts.tries", repr(parts), algorithm="sha256").hexdigest()


@contextmanager
def attempt(request: HttpRequest, name: str) -> Iterator[Try]:
    """One try of a password, which the block checks; it sets `succeeded`. Raises TooMany."""
    mark = _known_browser(request, name)
    where = network(request)
    if mark:
        own = _key("browser", _same(name), mark)
        counted = {}
    else:
        own = _key("name", _same(name), where)
        counted = {_key("network", where): MOST_FOR_A_NETWORK}
    counted[own] = MOST_FOR_A_NAME
    tried = Try()
    with _hashing(known=bool(mark)):
        _take(counted)
        yield tried
    if tried.succeeded:
        Tries.objects.filter(key=own).delete()
        Tries.objects.filter(key__in=counted, count__gt=0).update(count=F("count") - 1)


@contextmanager
def _hashing(known: bool) -> Iterator[None]:
    """A turn to hash. Raises TooMany where too many wait for theirs."""
    room, turn = _hashers[known]
    if not room.acquire(blocking=False):
        raise TooMany(0)
    try:
        with turn:
            yield
    finally:
        room.release()


@transaction.atomic
def _take(limits: dict[str, int]) -> None:
    """Counts one try for every key, or for none. Raises TooMany."""
    now = timezone.now()
    for key, limit in limits.items():
        fresh: dict[str, Any] = {"count": 0, "since": now}
        row, created = Tries.objects.select_for_update().get_or_create(key=key, defaults=fresh)
        if created:
            Tries.objects.filter(since__lt=now - WINDOW).exclude(key__in=limits).delete()
        if row.since <= now - WINDOW:
            row.count = 0
            row.since = now
        if row.count >= limit:
            raise TooMany(max(1, -(-int((row.since + WINDOW - now).total_seconds()) // 60)))
        row.count += 1
        row.save()
