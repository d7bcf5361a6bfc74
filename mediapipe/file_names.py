"""Names of files as people may see them: no path, and nothing in them that can't be seen. Pure.

It knows letters, and neither uploads nor servers.
"""

from __future__ import annotations

import unicodedata

JOINERS = "\u200c\u200d"  # zero width: without them emoji fall apart, and Persian words run together
TAGS = range(0xE0020, 0xE0080)  # of which the flags of England, Scotland and Wales are made
HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, marks of direction, halves of characters, breaks


def _is_shown(sign: str) -> bool:
    return unicodedata.category(sign) not in HIDDEN or sign in JOINERS or ord(sign) in TAGS


def shown(text: str) -> str:
    """The last part of a path, without controls; "" where nothing is left. Every kind of space stays."""
    last = text.replace("\\", "/").rsplit("/", 1)[-1]
    name = "".join(filter(_is_shown, last)).strip().strip(f" {JOINERS}")
    return name if any(sign not in JOINERS for sign in name) else ""
