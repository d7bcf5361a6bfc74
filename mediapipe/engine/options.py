"""Checks requests: a body's JSON in, a checked Request out, an unknown option is an error.

Pure; which options there are, and their ranges, mediapipe.task_options says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from mediapipe.engine.errors import InvalidRequest
from mediapipe.engine.kinds import KINDS, Kind
from mediapipe.task_options import check_options
from mediapipe.validators import Options

MAX_METADATA = 64 << 10  # bytes of JSON
FIELDS = ("kind", "input", "options", "metadata", "webhook_url")


@dataclass(frozen=True)
class Request:
    """A checked request for a task."""

    kind: Kind
    input: str
    options: Options = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    webhook_url: str = ""
    input_is_object: bool = False  # as the documented `POST /tasks` has it, and is answered


def _url(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidRequest("invalid_input", f"{name} must be an http or https URL.")
    try:
        parts = urlsplit(value)
        good = parts.scheme.lower() in ("http", "https") and bool(parts.hostname) and len(value) <= 8000
        good = good and (parts.port is None or parts.port > 0) and bool(value.encode())
    except ValueError:  # no port of this kind, no such address, half a character
        good = False
    if not good or any(ord(sign) <= 32 or ord(sign) == 127 for sign in value):
        raise InvalidRequest("invalid_input", f"{name} must be an http or https URL.")
    return value


def _metadata(given: object) -> dict[str, Any]:
    """Metadata that every database stores and every JSON reader reads."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise InvalidRequest("request_invalid", "metadata must be an object.")
    try:
        text = json.dumps(given, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        raise InvalidRequest("request_invalid", "metadata holds what is neither text nor a number.") from None
    if len(text) > MAX_METADATA or b"\\u0000" in text:
        raise InvalidRequest(
            "request_invalid", f"metadata must be at most {MAX_METADATA >> 10} kB, without NUL."
        )
    return dict(given)


def _check_fields(kind: Kind, body: Mapping[str, Any]) -> None:
    """Raises InvalidRequest for a field that would be ignored, and says where it belongs."""
    unknown = sorted(body.keys() - {*FIELDS, "output"})
    if "url" in unknown and "input" not in body:
        raise InvalidRequest(
            "request_invalid", 'The field url is called input here: send "input": "https://…".'
        )
    for name in unknown:
        if name in kind.options:
            raise InvalidRequest(
                "request_invalid", f'{name} belongs in options: send "options": {{"{name}": …}}.'
            )
    if unknown:
        known = ", ".join(FIELDS)
        raise InvalidRequest("request_invalid", f"There is no field {unknown[0]!r:.60}. Known: {known}.")


def _input(given: object, resource: str) -> str:
    """The URL of an input: of a job a string, of a task also an object, such as another task's output."""
    if not isinstance(given, Mapping):
        return _url("input", given)
    if resource != "tasks":
        raise InvalidRequest("invalid_input", "input must be an http or https URL; an object is for /tasks.")
    return _url("input.url", given.get("url"))


def check_request(body: object, resource: str = "tasks") -> Request:
    """The request in a body of JSON to `tasks` or `jobs`. Raises InvalidRequest."""
    if not isinstance(body, Mapping):
        raise InvalidRequest("request_invalid", "The body must be a JSON object.")
    kind = body.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise InvalidRequest("request_invalid", f"kind must be one of: {', '.join(KINDS)}.")
    _check_fields(KINDS[kind], body)
    source = _input(body.get("input"), resource)
    if body.get("output") is not None:
        raise InvalidRequest(
            "request_invalid", "This engine doesn’t support output. Results are stored here."
        )
    metadata = _metadata(body.get("metadata"))
    hook = body.get("webhook_url")
    options = check_options(kind, body.get("options") if body.get("options") is not None else {})
    return Request(
        KINDS[kind],
        source,
        options,
        metadata,
        webhook_url=_url("webhook_url", hook) if hook else "",
        input_is_object=isinstance(body["input"], Mapping),
    )


def check_probe(body: object) -> str:
    """The URL in the body of a probe. Raises InvalidRequest."""
    if not isinstance(body, Mapping):
        raise InvalidRequest("request_invalid", "The body must be a JSON object.")
    if unknown := set(body) - {"input"}:
        raise InvalidRequest(
            "request_invalid", f"A probe takes input alone, not {min(map(str, unknown))!r:.60}."
        )
    return _url("input", body.get("input"))
