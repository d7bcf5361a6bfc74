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


def whole(text: str, least: int, most: int) -> int:
    """*text* as a whole number from *least* to *most*. Raises ValueError that says what to write."""
    if not text.isdecimal() or len(text) > 18 or not least <= int(text) <= most:
        raise ValueError(f"{text[:20]!r}: write a whole number from {least} to {most}")
    return int(text)


def number(name: str, default: int, least: int, most: int) -> int:
    """The variable as a whole number from *least* to *most*."""
    value = os.environ.get(name, "").strip()
    try:
        return whole(value, least, most) if value else default
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} is {error}.") from None


def port(name: str, default: int) -> int:
    """The variable as a port."""
    return number(name, default, 1, 65535)


def days(name: str, default: int) -> int:
    """The variable as days, up to a hundred years: no calendar goes on for ever."""
    return number(name, default, 0, 36500)


def log_level(name: str, default: str) -> str:
    """The variable as a level of the log."""
    value = os.environ.get(name) or default
    if value.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
        raise ImproperlyConfigured(f"{name} is {value!r}: write DEBUG, INFO, WARNING or ERROR.")
    return value.upper()


def comma_list(name: str, default: str) -> list[str]:
    """The variable as a comma separated list."""
    return [item.strip() for item in os.environ.get(name, default).split(",") if item.strip()]


def hosts(name: str, default: str) -> list[str]:
    """The variable as a list of host names that are answered: a port or a scheme would match none."""
    found = comma_list(name, default)
    for host in found:
        if not re.fullmatch(r"\*|\.?[\w.-]+|\[[\da-fA-F:.]+\]", host):
            raise ImproperlyConfigured(
                f"{name} names {host!r}: write names or addresses alone, such as media.example.org,"
                " 10.0.0.5 or [fd00::5], without http:// and without a port."
            )
    return found


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
    return exact_url(name, default).rstrip("/")


def host_of(url: str) -> str:
    """The host of an address as ALLOWED_HOSTS has it, an IPv6 one in brackets; "" where there is none."""
    host = urlsplit(url).hostname or ""
    return f"[{host}]" if ":" in host else host


def location(name: str) -> str:
    """The variable as the path of a location, between two slashes."""
    value = os.environ.get(name, "").strip()
    if value and not re.fullmatch(r"/(?:[\w.-]+/)+", value):
        raise ImproperlyConfigured(
            f"{name} is {value!r}: write the path of nginx’s location, such as /sent-by-nginx/."
        )
    return value


def exact_url(name: str, default: str = "") -> str:
    """The same to the last slash."""
    value = os.environ.get(name) or default
    with suppress(ValueError):
        if not value or (urlsplit(value).scheme in ("http", "https") and urlsplit(value).hostname):
            return value
    raise ImproperlyConfigured(f"{name} is {value!r}: write https://host or http://host:port.")


def database(default: str) -> dict[str, Any]:
    """DATABASE_URL as Django has it: Postgres or SQLite. An error repeats none of it: it has a password."""
    value = os.environ.get("DATABASE_URL") or default
    try:
        if value.partition(":")[0] in ("postgres", "postgresql", "sqlite"):
            read = dict(dj_database_url.parse(value, conn_max_age=600, conn_health_checks=True))
            if read["NAME"] not in ("", ":memory:"):
                return read
    except ValueError:
        pass  # it is said below
    raise ImproperlyConfigured(
        "DATABASE_URL can’t be read: write postgres://user:password@host:5432/name, with %23 for a # in the"
        " password, as URLs have it."
    )


def check_temporal() -> None:
    """Raises ImproperlyConfigured for what the SDK would read in its own way, or end with."""
    check_address("TEMPORAL_ADDRESS", "127.0.0.1:7233")
    if (name := "TEMPORAL_TLS") in os.environ:
        if os.environ[name].strip():
            os.environ[name] = "1" if flag(name) else "0"  # it takes everything but 0 and false for yes
        else:
            del os.environ[name]


def address(name: str) -> tuple[str, int] | None:
    """The variable as a host and a port to listen at; None where it isn't set."""
    if not (value := os.environ.get(name, "").strip()):
        return None
    check_address(name, "127.0.0.1:9464")
    host, _, port = value.rpartition(":")
    return host.strip("[]"), int(port)


def check_address(name: str, example: str) -> None:
    """Raises ImproperlyConfigured where the variable is set and no host:port; *example* is one."""
    value = os.environ.get(name, "").strip()
    match = re.fullmatch(r"(?:[\w.-]+|\[[\da-fA-F:.]+\]):(\d{1,5})", value)
    if value and not (match and 1 <= int(match[1]) <= 65535):
        raise ImproperlyConfigured(f"{name} is {value!r}: write host:port, such as {example}.")
