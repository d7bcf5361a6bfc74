"""Reads JSON that others wrote: each value is of the type we want, or empty. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HALVES = re.compile("[\ud800-\udfff]")


def as_mapping(value: object) -> Mapping[str, Any]:
    """The object, or an empty one."""
    return value if isinstance(value, dict) else {}


def as_text(value: object, limit: int = 1000) -> str:
    """At most *limit* characters that can be stored and sent, or "": they travel with every change.

    No database takes a NUL, and UTF-8 has no half of an emoji (a lone surrogate, where a text was cut).
    """
    return HALVES.sub("\ufffd", value.replace("\0", ""))[:limit] if isinstance(value, str) else ""


def as_number(value: object) -> float | None:
    """A finite number below 1e15 (a duration of 1e300 s means nothing), or None."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
    return float(value) if usable else None  # type: ignore[arg-type]


def as_list(value: object) -> list[Any]:
    """The list, or an empty one."""
    return value if isinstance(value, list) else []


def as_integer(value: object) -> int | None:
    """The number without its fraction, or None."""
    number = as_number(value)
    return None if number is None else int(number)


def first_item(value: object) -> object:
    """The first item of a list; what is no list, as it is."""
    return value[0] if isinstance(value, list) and value else value
