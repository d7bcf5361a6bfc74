"""Values in somebody else's JSON, as we take them: of the type we want, or nothing. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def as_mapping(value: object) -> Mapping[str, Any]:
    """An object, or nothing."""
    return value if isinstance(value, dict) else {}


def as_text(value: object, limit: int = 1000) -> str:
    """A text as a database takes it; what travels through Temporal with every change stays short."""
    return value.replace("\0", "")[:limit] if isinstance(value, str) else ""


def as_number(value: object) -> float | None:
    """A number that means something: none of NaN, infinity and 1e300 seconds."""
    known = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
    return float(value) if known else None  # type: ignore[arg-type]


def as_list(value: object) -> list[Any]:
    """A list, or nothing."""
    return value if isinstance(value, list) else []


def as_integer(value: object) -> int | None:
    """A whole number."""
    found = as_number(value)
    return None if found is None else int(found)


def first_item(value: object) -> object:
    """The first of a list, or what isn't one."""
    return value[0] if isinstance(value, list) and value else value
