"""How far the clocks of those that this machine works with are from its own. It knows addresses alone."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from email.utils import parsedate_to_datetime

import httpx
from django.conf import settings
from django.db import DatabaseError, connection

SECONDS = 3.0  # for an answer
HARMLESS = 5.0  # seconds apart that harm nobody: an answer takes some, and HTTP tells whole ones


def apart() -> dict[str, float]:
    """By whose it is: how many seconds a clock is ahead of ours. Whoever doesn't answer isn't in it."""
    asked: dict[str, Callable[[], float]] = {}
    if connection.vendor == "postgresql":
        asked["the database’s server"] = _of_postgres
    asked["the web server"] = lambda: _of_http(f"{settings.LOCAL_URL}/healthz")
    if settings.S3_BUCKET and (server := settings.S3_ENDPOINT_URL):
        asked["the bucket’s server"] = lambda: _of_http(server)
    found = {}
    for who, ask in asked.items():
        with suppress(DatabaseError, httpx.HTTPError, httpx.InvalidURL, LookupError, ValueError):
            before = time.time()
            theirs = ask()
            found[who] = theirs - (before + time.time()) / 2
    return found


def _of_postgres() -> float:
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())")
        return float(cursor.fetchone()[0])


def _of_http(url: str) -> float:
    trusted = ssl.create_default_context(cafile=settings.CA_FILE or None)
    answer = httpx.get(url, timeout=SECONDS, trust_env=False, verify=trusted)
    return parsedate_to_datetime(answer.headers["Date"]).timestamp() + 0.5
