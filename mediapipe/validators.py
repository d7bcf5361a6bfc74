"""What an option's value may be: each validator checks one and describes itself as JSON Schema. Pure.

Values reach FFmpeg's command line, so each is a number in a range or a word of a closed set.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Protocol, Union

Value = Union[str, int, float]  # noqa: UP007 - evaluated at run time, where Python 3.11 must read it
Options = dict[str, Value]
PERCENT = "([1-9][0-9]?|100)%"
LINK = r"https?://[!-~]+"
LINK_NAME = "[a-z0-9_]{1,40}"
MAX_LINK = 8000  # characters
COLOUR = "#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})"


class InvalidRequest(Exception):
    """A request that is wrong: the API's error kind and one sentence."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Validator(Protocol):
    """One option's rule."""

    def check(self, name: str, value: object) -> Value:
        """The value as plans take it. Raises InvalidRequest with a sentence that starts with *name*."""

    def schema(self) -> dict[str, Any]:
        """The same rule as JSON Schema."""


@dataclass(frozen=True)
class Choice:
    """A word of a closed set; *aliases* are accepted for one of them."""

    choices: tuple[str, ...]
    aliases: dict[str, str] = field(default_factory=dict)
    error: str = "request_invalid"

    def check(self, name: str, value: object) -> Value:
        """The word itself."""
        word = self.aliases.get(value, value) if isinstance(value, str) else None
        if word is None or word not in self.choices:
            raise InvalidRequest(self.error, f"{name} must be one of: {', '.join(self.choices)}.")
        return word

    def schema(self) -> dict[str, Any]:
        """An enum."""
        return {"enum": list(self.choices)}


@dataclass(frozen=True)
class Number:
    """A JSON number from *low* to *high*; neither a bool nor a string of digits is one."""

    low: float
    high: float
    whole: bool = False

    def check(self, name: str, value: object) -> Value:
        """An int where *whole*, else a float."""
        if isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high:
            if not self.whole:
                return float(value)
            if value == int(value):
                return int(value)
        what = "a whole number" if self.whole else "a number"
        raise InvalidRequest("request_invalid", f"{name} must be {what} from {self.low:g} to {self.high:g}.")

    def schema(self) -> dict[str, Any]:
        """A number with its limits."""
        return {"type": "integer" if self.whole else "number", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class Side:
    """A width or a height: pixels, or a share of the source such as "50%"."""

    pixels: Number

    def check(self, name: str, value: object) -> Value:
        """An int of pixels, or the share as it is written."""
        if not isinstance(value, str):
            return self.pixels.check(name, value)
        if re.fullmatch(PERCENT, value):
            return value
        limits = f"from {self.pixels.low:g} to {self.pixels.high:g}"
        raise InvalidRequest("request_invalid", f'{name} must be pixels {limits}, or a share such as "50%".')

    def schema(self) -> dict[str, Any]:
        """Either of the two."""
        return {"oneOf": [self.pixels.schema(), {"type": "string", "pattern": f"^{PERCENT}$"}]}


@dataclass(frozen=True)
class Colour:
    """A colour as in CSS, of three or six hexadecimal digits, with or without #."""

    def check(self, name: str, value: object) -> Value:
        """# and six lower-case digits."""
        if not isinstance(value, str) or not re.fullmatch(COLOUR, value):
            raise InvalidRequest("request_invalid", f"{name} must be a colour such as #1a2b3c.")
        digits = value.removeprefix("#").lower()
        return "#" + (digits if len(digits) == 6 else "".join(digit * 2 for digit in digits))

    def schema(self) -> dict[str, Any]:
        """A string of that pattern."""
        return {"type": "string", "pattern": f"^{COLOUR}$"}


@dataclass(frozen=True)
class Links:
    """An object of links, each by a name: `{"transcode": "https://…"}`."""

    most: int = 10

    def check(self, name: str, value: object) -> Value:
        """The names and links as one text, which links_of() reads."""
        sentence = f"{name} must be an object of 1 to {self.most} http or https URLs, each by a name."
        if not isinstance(value, dict) or not 1 <= len(value) <= self.most:
            raise InvalidRequest("request_invalid", sentence)
        for key, url in value.items():
            good = isinstance(key, str) and isinstance(url, str) and re.fullmatch(LINK_NAME, key)
            if not good or not re.fullmatch(LINK, url) or len(url) > MAX_LINK:
                raise InvalidRequest("request_invalid", sentence)
        return json.dumps(value)

    def schema(self) -> dict[str, Any]:
        """An object of URLs."""
        link = {"type": "string", "pattern": f"^{LINK}$", "maxLength": MAX_LINK}
        names = {"pattern": f"^{LINK_NAME}$"}
        return {
            "type": "object",
            "additionalProperties": link,
            "propertyNames": names,
            "minProperties": 1,
            "maxProperties": self.most,
        }


def links_of(value: Value) -> dict[str, str]:
    """The links of an option that Links has checked, by their names."""
    return dict(json.loads(str(value)))
