"""What a container says of its picture tracks that PyAV doesn't: what is cut off, and Dolby Vision.

For a sandboxed child (probe.py). The standard library alone; a file that lies raises, and is asked by
probe.py in a way that survives it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

from mediapipe.engine.containers import SEGMENT, boxes, elements

PIXEL_CROP = (0x54CC, 0x54BB, 0x54DD, 0x54AA)  # left, top, right, bottom
DOLBY_VISION = (b"dvcC", b"dvvC", b"dvwC")  # its configuration
WITHOUT_BASE = (5, 10)  # its profiles whose pictures may have colours that no other decoder knows


def cropping(path: str, form: str) -> dict[int, tuple[int, int, int, int]]:
    """What the container cuts off each picture track: left, top, right, bottom, by the track's number.

    FFmpeg applies it: MP4's `clap` and Matroska's PixelCrop.
    """
    crop = _pixel_crop if form.startswith("matroska") else _clap
    with open(path, "rb") as file:
        crops = [crop(file, *place) for place in _places(file, form)]
        return {number: crop for number, crop in enumerate(crops) if any(crop)}


def dolby_alone(path: str, form: str) -> set[int]:
    """The numbers of the tracks whose pictures are Dolby Vision's alone, and no HDR10, HLG or SDR besides."""
    configuration = _matroska_dolby if form.startswith("matroska") else _mp4_dolby
    with open(path, "rb") as file:
        said = [configuration(file, *place) for place in _places(file, form)]
    return {number for number, data in enumerate(said) if _is_alone(data)}


def _is_alone(data: bytes) -> bool:
    return len(data) >= 5 and data[2] >> 1 in WITHOUT_BASE and data[4] >> 4 == 0


def _places(file: IO[bytes], form: str) -> Iterator[tuple[int, int]]:
    """Where each track is described: the boxes of MP4's first sample entry, Matroska's TrackEntry."""
    end = file.seek(0, 2)
    return _entries(file, end) if form.startswith("matroska") else _sample_entries(file, end)


def _sample_entries(file: IO[bytes], end: int) -> Iterator[tuple[int, int]]:
    for kind, *moov in boxes(file, 0, end):
        for inner, *trak in boxes(file, *moov) if kind == b"moov" else ():
            if inner == b"trak":
                yield _sample_entry(file, *trak)


def _sample_entry(file: IO[bytes], start: int, end: int) -> tuple[int, int]:
    for kind, first, last in boxes(file, start, end):
        if kind in (b"mdia", b"minf", b"stbl") and any(found := _sample_entry(file, first, last)):
            return found
        for _, entry, stop in boxes(file, first + 8, last) if kind == b"stsd" else ():
            return entry + 78, stop
    return 0, 0


def _clap(file: IO[bytes], start: int, end: int) -> tuple[int, int, int, int]:
    """The clean aperture, around the middle of the picture, whose sides stand before these boxes."""
    for inner, at, _ in boxes(file, start, end):
        if inner == b"clap":
            file.seek(start - 54)
            width, height = struct.unpack(">HH", file.read(4))
            file.seek(at)
            parts = struct.unpack(">IIIIiIiI", file.read(32))
            w, h, x, y = (round(a / b) for a, b in zip(parts[::2], parts[1::2], strict=True))
            left = x + (width - w) // 2
            top = y + (height - h) // 2
            return left, top, width - w - left, height - h - top
    return 0, 0, 0, 0


def _mp4_dolby(file: IO[bytes], start: int, end: int) -> bytes:
    for kind, first, _ in boxes(file, start, end):
        if kind in DOLBY_VISION:
            file.seek(first)
            return file.read(5)
    return b""


def _entries(file: IO[bytes], end: int) -> Iterator[tuple[int, int]]:
    for segment, *inside in elements(file, 0, end):
        for tracks, *entries in elements(file, *inside) if segment == SEGMENT else ():
            if tracks != 0x1654AE6B:
                continue
            for entry, first, last in elements(file, *entries):
                if entry == 0xAE:
                    yield first, last
            return


def _pixel_crop(file: IO[bytes], start: int, end: int) -> tuple[int, int, int, int]:
    found = dict.fromkeys(PIXEL_CROP, 0)
    for video, *inside in elements(file, start, end):
        for kind, first, last in elements(file, *inside) if video == 0xE0 else ():
            if kind in found:
                file.seek(first)
                found[kind] = int.from_bytes(file.read(min(last - first, 8)), "big")
    left, top, right, bottom = found.values()
    return left, top, right, bottom


def _matroska_dolby(file: IO[bytes], start: int, end: int) -> bytes:
    for mapping, *inside in elements(file, start, end):
        if mapping == 0x41E4:
            said = {}
            for kind, first, last in elements(file, *inside):
                file.seek(first)
                said[kind] = file.read(min(last - first, 8))
            if said.get(0x41E7, b"")[-4:] in DOLBY_VISION:
                return said.get(0x41ED, b"")
    return b""
