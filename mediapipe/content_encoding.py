"""Unpacks a body that a server has packed although it was asked not to (RFC 9110 8.4). Pure.

It knows bytes, and neither replies nor files.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

PIECE = 1 << 20  # bytes that are unpacked at once, however small they were packed
HARMLESS = 64 << 20  # bytes that anything may unpack to
MOST_TIMES = 200  # as much as was sent
GZIP = b"\x1f\x8b"
DECODERS = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}
OTHERS = {"br", "zstd", "compress", "x-compress", "exi", "pack200-gzip", "dcb", "dcz"}  # IANA's registry
MOST_LAYERS = 3  # that a body may be packed in


class Unpackable(Exception):
    """What came isn't what the server said it is, or far too much; the text says which."""


def layers(header: str) -> list[str]:
    """The codings of a Content-Encoding header, the first one first.

    Words that are none ("none", "utf-8", "binary") say nothing, as in browsers.
    """
    names = (name.strip().lower() for name in header.split(","))
    return [name for name in names if name in DECODERS or name in OTHERS]


class Unpacker:
    """Unpacks one body, layer by layer, as its *header* says. Raises Unpackable where it can't."""

    def __init__(self, header: str) -> None:
        names = layers(header)
        if len(names) > MOST_LAYERS or not DECODERS.keys() >= set(names):
            raise Unpackable(f"the server sends it compressed ({', '.join(names):.40})")
        self.layers = [Layer(name) for name in reversed(names)]
        self.unpacked = 0  # bytes

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What *data* unpacks to, a megabyte at a time at most. Raises Unpackable."""
        for piece in self._through(self.layers, data):
            self.unpacked += len(piece)
            yield piece

    def _through(self, rest: list[Layer], data: bytes) -> Iterator[bytes]:
        if not rest:
            yield data
            return
        for piece in rest[0].feed(data):
            yield from self._through(rest[1:], piece)

    def finish(self) -> bool:
        """Whether the body is whole: its last block has come."""
        return all(layer.finish() for layer in self.layers)

    def is_all(self, promised: int | None) -> bool:
        """Whether it is whole though fewer bytes came than *promised*: servers tell what it unpacks to."""
        return promised == self.unpacked and self.finish()


class Layer:
    """One coding of a body; *encoding*: one of DECODERS. What isn't packed after all passes as it is."""

    def __init__(self, encoding: str) -> None:
        self.encoding = DECODERS[encoding]
        self.first = b""
        self.plain = False
        self.stream: zlib._Decompress | None = None
        self.sent = self.unpacked = 0  # bytes

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What *data* unpacks to, a megabyte at a time. Raises Unpackable."""
        if self.stream is None and not self.plain:
            data = self.first + data
            self.first = b"" if len(data) >= 2 else data
            if self.first:
                return
            self._begin(data)
        if self.plain:
            yield data
            return
        self.sent += len(data)
        for piece in self._unpack(data):
            self.unpacked += len(piece)
            if self.unpacked > max(HARMLESS, MOST_TIMES * self.sent):
                raise Unpackable("it unpacks to far more than was sent")
            yield piece

    def finish(self) -> bool:
        """Whether the body is whole: its last block has come."""
        return self.plain or (self.stream is not None and self.stream.eof)

    def _begin(self, data: bytes) -> None:
        if self.encoding == "gzip":
            self.plain = not data.startswith(GZIP)
            self.stream = None if self.plain else zlib.decompressobj(31)
            return
        is_zlib = data[0] & 15 == 8 and int.from_bytes(data[:2]) % 31 == 0
        self.stream = zlib.decompressobj(15 if is_zlib else -15)  # browsers take both for "deflate"

    def _unpack(self, data: bytes) -> Iterator[bytes]:
        while data and self.stream is not None:
            if self.stream.eof:
                if self.encoding != "gzip" or not data.startswith(GZIP):
                    return  # padding
                self.stream = zlib.decompressobj(31)
            try:
                piece = self.stream.decompress(data, PIECE)
            except zlib.error:
                raise Unpackable("the server sends it compressed, and it can’t be unpacked") from None
            data = self.stream.unused_data if self.stream.eof else self.stream.unconsumed_tail
            if piece:
                yield piece
