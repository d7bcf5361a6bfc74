"""A finding of `doctor`: what was found of one thing, and whether it stops or endangers work. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


class Wrong(Exception):
    """What stops or endangers work, and what to do, in sentences."""


class Advice(Exception):
    """What could be better, in sentences."""


@dataclass(frozen=True)
class Finding:
    """What was found of one thing."""

    name: str
    state: Literal["ok", "advice", "wrong"]
    text: str
