"""Environment variables as the settings want them: numbers, lists, keys, files, addresses, a database.

A value that is none of these is an error that says what to write. It knows nothing of what they are for.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import dj_database_url
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


def port(name: str, default: int) -> int:
    """The variable as a port."""
    if (value := number(name, default)) > 65535:
        raise ImproperlyConfigured(f"{name} is {value}: a port is at most 65535.")
    return value


def log_level(name: str, default: str) -> str:
    """The variable as a level of the log."""
    value = os.environ.get(name) or default
    if value.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
        raise ImproperlyConfigured(f"{name} is {value!r}: write DEBUG, INFO, WARNING or ERROR.")
    return value.upper()


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


def pem_file(name: str) -> str:
    """The variable as the path of certificates or a key that can be read; "" where it isn't set."""
    if not (path := os.environ.get(name, "")):
        return ""
    try:
        with open(path, "rb") as file:
            is_pem = b"-----BEGIN " in file.read()
    except OSError:
        raise ImproperlyConfigured(
            f"{name} is {path!r}: there is no such file, or it can’t be read."
        ) from None
    if not is_pem:
        raise ImproperlyConfigured(f"{name} is {path!r}: that file isn’t PEM. openssl x509 converts it.")
    return path


def url(name: str, default: str = "") -> str:
    """The variable as the address of a server by http or https, without a last slash."""
    value = (os.environ.get(name) or default).rstrip("/")
    with suppress(ValueError):
        if not value or (urlsplit(value).scheme in ("http", "https") and urlsplit(value).hostname):
            return value
    raise ImproperlyConfigured(f"{name} is {value!r}: write https://host or http://host:port.")


def database(default: str) -> dict[str, Any]:
    """DATABASE_URL as Django has it: Postgres or SQLite. An error repeats none of it: it has a password."""
    value = os.environ.get("DATABASE_URL") or default
    try:
        if value.partition(":")[0] in ("postgres", "postgresql", "sqlite"):
            return dict(dj_database_url.parse(value, conn_max_age=600, conn_health_checks=True))
    except ValueError:
        pass  # it is said below
    raise ImproperlyConfigured(
        "DATABASE_URL can’t be read: write postgres://user:password@host:5432/name, with %23 for a # in the"
        " password, as URLs have it."
    )


def address(name: str) -> tuple[str, int] | None:
    """The variable as a host and a port to listen at; None where it isn't set."""
    value = os.environ.get(name, "").strip()
    if value and not re.fullmatch(r"[^:\s]+:\d{1,5}", value):
        raise ImproperlyConfigured(f"{name} is {value!r}: write host:port, such as 127.0.0.1:9464.")
    host, _, port = value.partition(":")
    return (host, int(port)) if value else None
