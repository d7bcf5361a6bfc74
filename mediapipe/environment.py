"""Environment variables as the settings want them: a yes or no, a number, a list, keys, a time zone, proxies.

A value that is none of these is an error that says what to write. It knows nothing of what they are for.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from ipaddress import ip_network
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.core.exceptions import ImproperlyConfigured

from mediapipe import home


def flag(name: str, default: bool = False) -> bool:
    """The variable as yes or no; a value that is neither is an error, not a guess."""
    value = os.environ.get(name, "").strip().lower()
    if value in ("", "0", "false", "no", "off", "1", "true", "yes", "on"):
        return value in ("1", "true", "yes", "on") if value else default
    raise ImproperlyConfigured(f"{name} is {value!r}: write 1 or 0.")


def number(name: str, default: int) -> int:
    """The variable as a whole number."""
    value = os.environ.get(name, "").strip()
    if value and not value.isdecimal():
        raise ImproperlyConfigured(f"{name} is {value!r}: write a whole number.")
    return int(value) if value else default


def comma_list(name: str, default: str) -> list[str]:
    """The variable as a comma separated list."""
    return [item.strip() for item in os.environ.get(name, default).split(",") if item.strip()]


def other_keys(name: str) -> list[str]:
    """The keys that count beside the one in use. A short one is an error: it may be a part of a key."""
    keys = comma_list(name, "")
    for key in keys:
        if (length := len(key)) < home.SHORTEST_SECRET:
            raise ImproperlyConfigured(
                f"{name}: a key needs at least {home.SHORTEST_SECRET} characters, and this one has {length}."
                " A comma separates keys and is part of none. Make one with: openssl rand -hex 32"
            )
    return keys


def time_zone() -> str:
    """The time zone's IANA name: by the variable, else TZ where that is one (POSIX allows more), else UTC."""
    chosen = os.environ.get("MEDIAPIPE_TIME_ZONE", "")
    for name in filter(None, (chosen, os.environ.get("TZ"))):
        with suppress(ValueError, OSError, ZoneInfoNotFoundError):
            return ZoneInfo(name).key
        if name == chosen:
            raise ImproperlyConfigured(
                f"MEDIAPIPE_TIME_ZONE is {chosen!r}: write an IANA name, such as Europe/Berlin."
            )
    return "UTC"


def proxies() -> list[str]:
    """The addresses of the proxies in front: as the variable lists them, and this machine for 1."""
    value = os.environ.get("MEDIAPIPE_BEHIND_PROXY", "").strip()
    if value.lower() in ("", "0", "false", "no", "off", "1", "true", "yes", "on"):
        return ["127.0.0.1", "::1"] if flag("MEDIAPIPE_BEHIND_PROXY") else []
    addresses = comma_list("MEDIAPIPE_BEHIND_PROXY", "")
    for address in addresses:
        try:
            ip_network(address)
        except ValueError:
            raise ImproperlyConfigured(
                f"MEDIAPIPE_BEHIND_PROXY names {address!r}: write 1 for a proxy on this machine, or the"
                " proxies’ addresses, such as 10.0.0.2 or 10.0.0.0/24."
            ) from None
    return addresses


def file(name: str) -> str:
    """The variable as the path of a file that can be read; "" where it isn't set."""
    path = os.environ.get(name, "")
    if path and not os.access(path, os.R_OK):
        raise ImproperlyConfigured(f"{name} is {path!r}: there is no such file, or it can’t be read.")
    return path


def address(name: str) -> tuple[str, int] | None:
    """The variable as a host and a port to listen at; None where it isn't set."""
    value = os.environ.get(name, "").strip()
    if value and not re.fullmatch(r"[^:\s]+:\d{1,5}", value):
        raise ImproperlyConfigured(f"{name} is {value!r}: write host:port, such as 127.0.0.1:9464.")
    host, _, port = value.partition(":")
    return (host, int(port)) if value else None
