"""What a command's options may be: a type for argparse says what to write where a value is none.

It knows values and no command.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable

from mediapipe import environment

LARGEST = 10**9


def whole(least: int, most: int = LARGEST) -> Callable[[str], int]:
    """A whole number from *least* to *most*."""

    def read(text: str) -> int:
        try:
            return environment.whole(text, least, most)
        except ValueError as error:
            raise ArgumentTypeError(str(error)) from None

    return read


port = whole(1, 65535)


def host(text: str) -> str:
    """An address to listen at. Whether this machine has it, only a try says."""
    if not text.strip():
        raise ArgumentTypeError(f"{text!r}: write an address of this machine, or 0.0.0.0 for all of them")
    return text.strip()
