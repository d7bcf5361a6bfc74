"""Sessions that know whose they are, where and when they were last used, and that end when they are idle.

What a page polls by itself is no use: a tab that was left open keeps nobody signed in. It knows requests and
rows, and no pages.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends import db
from django.db import OperationalError
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from mediapipe.accounts.limits import network
from mediapipe.accounts.models import Session
from mediapipe.recent import Recent

ABOUT = "about"  # in the session's data: since when it is, in which browser, from which network
USE_NOTED_EVERY = 60.0  # seconds: a write for each request would be most of what it costs
# The first that a browser's own line has: several call themselves Chrome or Safari, too.
BROWSERS = {"Edg": "Edge", "OPR": "Opera", "Firefox": "Firefox", "FxiOS": "Firefox", "Chrome": "Chrome"}
BROWSERS |= {"CriOS": "Chrome", "Safari": "Safari", "curl": "curl", "python": "Python program"}
SYSTEMS = {"iPhone": "iPhone", "iPad": "iPad", "Android": "Android", "Windows": "Windows", "CrOS": "ChromeOS"}
SYSTEMS |= {"Mac OS X": "macOS", "Linux": "Linux"}

_noted: Recent[str, float] = Recent(10_000)  # when the use of a session was last written


def browser_name(line: str) -> str:
    """A browser as people call it, from its User-Agent; "" where it is none of the usual ones."""
    browser = next((name for mark, name in BROWSERS.items() if mark in line), "")
    system = next((name for mark, name in SYSTEMS.items() if mark in line), "")
    return f"{browser} on {system}" if browser and system else browser or system


def _end(since: datetime) -> datetime:
    """When a session that is used at this moment ends."""
    return min(since + timedelta(seconds=settings.SESSION_COOKIE_AGE), timezone.now() + settings.SESSION_IDLE)


def _since(about: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(about["since"], UTC) if "since" in about else timezone.now()


class SessionStore(db.SessionStore):
    """Django's sessions in the database, with what their owner wants to know beside the data."""

    @classmethod
    def get_model_class(cls) -> type[Session]:
        """Our table."""
        return Session

    def create_model_instance(self, data: dict[str, Any]) -> Session:
        """The row for the session's data."""
        row = cast(Session, super().create_model_instance(data))
        about = data.get(ABOUT, {})
        row.person_id = int(data[SESSION_KEY]) if SESSION_KEY in data else None
        row.browser = about.get("browser", "")
        row.network = about.get("network", "")
        row.since = _since(about)
        row.expire_date = _end(row.since)
        return row

    async def acreate_model_instance(self, data: dict[str, Any]) -> Session:
        """The same for code that awaits."""
        return self.create_model_instance(data)


def begin(request: HttpRequest, **kwargs: Any) -> None:
    """Somebody has signed in: notes where, and forgets all sessions that have ended."""
    about = {"browser": browser_name(request.headers.get("User-Agent", "")), "network": network(request)}
    request.session[ABOUT] = {"since": time.time(), **about}
    Session.objects.filter(expire_date__lte=timezone.now()).delete()


def use(request: HttpRequest) -> None:
    """Notes that a session is used, at most once a minute; what a page polls doesn't count."""
    key = request.session.session_key
    if key is None or (request.method == "GET" and "HX-Request" in request.headers):
        return
    if time.monotonic() - _noted.get(key, -USE_NOTED_EVERY) < USE_NOTED_EVERY:
        return
    fields = {"last_seen": timezone.now(), "network": network(request)}
    end = _end(_since(request.session.get(ABOUT, {})))
    _noted[key] = time.monotonic()
    with suppress(OperationalError):  # a database that is busy: it is noted a minute later
        Session.objects.filter(session_key=key, person__isnull=False).update(expire_date=end, **fields)


def of(person: User) -> list[Session]:
    """The sessions in which *person* is signed in, the last used first."""
    rows = Session.objects.filter(person=person, expire_date__gt=timezone.now()).order_by("-last_seen")
    # A new password has ended those that began before it; a new secret key hasn't.
    valid = [person.get_session_auth_hash(), *person.get_session_auth_fallback_hash()]
    hashes = ((row, SessionStore().decode(row.session_data).get(HASH_SESSION_KEY, "")) for row in rows)
    return [row for row, known in hashes if any(constant_time_compare(known, each) for each in valid)]


def end(rows: Iterable[Session]) -> int:
    """Ends sessions at once; how many there still were."""
    found = Session.objects.filter(pk__in=[row.pk for row in rows])
    return found.delete()[0]
