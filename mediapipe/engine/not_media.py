"""What a link has brought in place of a film, by its first bytes: a page, a playlist, a message. Pure.

It knows bytes and sentences, and nothing of downloads.
"""

from __future__ import annotations

import re

LOOKED_AT = 1024  # bytes
PAGE = (
    "The link leads to a web page, not to a media file. Open it in a browser, and copy the link of the "
    "download itself."
)
PLAYLIST = "The link leads to a playlist or a stream in parts, not to a single media file."
TEXT = (
    "The link leads to a text, not to a media file. It may have expired, or be only for people who are "
    "signed in there."
)
ARCHIVE = "The link leads to an archive, not to a media file. Unpack it, and upload the recording in it."
ARCHIVES = (b"PK\x03\x04", b"Rar!\x1a\x07", b"7z\xbc\xaf\x27\x1c", b"\x1f\x8b\x08")
PLAYLISTS = re.compile(
    r"#extm3u|ffconcat|\[playlist\]|(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)?<(?:mpd|smil|asx)\b", re.DOTALL
)
XML = re.compile(r"<\?xml[^>]*>(?!.*<(?:!doctype )?html)", re.DOTALL)
MARKS = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be", b"\xef\xbb\xbf": "utf-8"}


def instead(head: bytes) -> str:
    """A sentence on what begins with *head*; "" where it may be media."""
    if head.startswith(ARCHIVES):
        return ARCHIVE
    text = _text(head).lstrip().lower()
    if PLAYLISTS.match(text):
        return PLAYLIST
    if XML.match(text):
        return TEXT
    if text.startswith("<"):
        return PAGE
    return TEXT if text and all(sign.isprintable() or sign.isspace() for sign in text) else ""


def _text(head: bytes) -> str:
    """As text, where it may be one: its last letter may be cut."""
    for mark, encoding in MARKS.items():
        if head.startswith(mark):
            return head.removeprefix(mark).decode(encoding, "ignore")
    for cut in range(4):
        try:
            return head[: len(head) - cut].decode()
        except UnicodeDecodeError:
            continue
    return head.decode("latin-1")
