"""A file's name by its server: Content-Disposition (RFC 6266), and how servers write it. Pure.

It knows a header's bytes, and neither replies nor files.
"""

from __future__ import annotations

import re
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from urllib.parse import unquote

from mediapipe import file_names

# name = "quoted \" text", 'quoted text', or any text up to the next semicolon; a last quote may be missing.
PARAMETER = re.compile(
    r"""([^\s=;"]++)\s*=\s*(?:"((?:[^"\\]|\\.)*)(?:"|$)|'([^';]*)'\s*(?=;|$)|([^;]*))""", re.DOTALL
)
CHARSET = re.compile(r"([\w.:-]+)'[^']*'(.*)", re.ASCII | re.DOTALL)
ESCAPED = re.compile(r"%[0-9a-fA-F]{2}")
LONGEST = 8192  # bytes of a header that are read
MOST_PARTS = 50  # of a name that comes in parts (RFC 2231)


def as_text(raw: bytes) -> str:
    """A header as servers write it: UTF-8, else what older ones take for Latin."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")


def filename(raw: bytes) -> str:
    """The name, as people may see it; "" where the header says nothing of that.

    The extended form (RFC 8187) goes before one in parts (RFC 2231), and both before the plain one.
    """
    found: dict[str, str] = {}
    for match in PARAMETER.finditer(as_text(raw[:LONGEST])):
        _, quoted, single, plain = match.groups()
        value = re.sub(r'\\(["\\])', r"\1", quoted) if quoted is not None else (single or plain or "").strip()
        found.setdefault(match[1].lower(), value)
    names = (_extended(found.get("filename*", "")), _in_parts(found), _plain(found.get("filename", "")))
    return next((name for each in names if (name := file_names.shown(each)).strip(".")), "")


def _extended(value: str) -> str:
    """`UTF-8''Caf%C3%A9`, or what a server takes for it; "" where it isn't in its charset."""
    match = CHARSET.fullmatch(value)
    try:
        return unquote(match[2], match[1], "strict") if match else unquote(value, errors="strict")
    except (LookupError, UnicodeError):
        return ""


def _in_parts(found: dict[str, str]) -> str:
    """`filename*0*=UTF-8''Caf%C3%A9; filename*1=" au lait"`."""
    parts = []
    charset = "utf-8"
    for number in range(MOST_PARTS):
        if (plain := found.get(f"filename*{number}")) is not None:
            parts.append(plain)
        elif (coded := found.get(f"filename*{number}*")) is not None:
            if number == 0 and (match := CHARSET.fullmatch(coded)):
                charset, coded = match.groups()
            try:
                parts.append(unquote(coded, charset, "replace"))
            except LookupError:
                return ""
        else:
            break
    return "".join(parts)


def _plain(value: str) -> str:
    """A name that may be written as mail has it (RFC 2047) or as a URL: browsers take both."""
    if "=?" in value:
        try:
            return str(make_header(decode_header(value)))
        except (HeaderParseError, LookupError, UnicodeError, ValueError):
            return value
    if value.isascii() and ESCAPED.search(value):
        try:
            return unquote(value, errors="strict")
        except UnicodeError:
            return value
    return value
