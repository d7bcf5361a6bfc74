"""What a file's own bytes say that PyAV doesn't: boxes, tiles, protection, lengths.

For a sandboxed child (probe.py). The standard library alone; a file that lies raises, and is asked by
probe.py in a way that survives it.
"""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Callable, Iterator
from typing import IO, Any

from mediapipe.engine.broadcasts import goes_on_renumbered

GUESSED = ("aac", "ac3", "eac3", "dts", "mpegvideo", "m4v", "h264", "hevc", "obu")  # lengths by bit rate
SEGMENT = 0x18538067  # of Matroska: all that follows the head
UNTIL_THE_END = 0xFFFFFFFF  # the size of what had none when it was written
HEAD = 4096  # bytes, among which FLV's metadata are, and what WMV says of the whole:
FILE_PROPERTIES = bytes.fromhex("A1DCAB8C47A9CF118EE400C00C205365")
# of Matroska, Ogg, FLAC, FLV, WMV, MP3 with a tag, MPEG programme streams; WAV and AVI begin with RIFF
BEGINNINGS = (b"\x1aE\xdf\xa3", b"OggS", b"fLaC", b"FLV\x01", b"0&\xb2u", b"ID3", b"\0\0\x01\xba", b"RIFF")
# Options for a broadcast whose tracks get other numbers, for sound behind a WAV's size, for endless edits
READING = {"merge_pmt_versions": "1", "ignore_length": "1", "advanced_editlist": "0"}
MIN_MORE = 0.1  # seconds of sound behind a WAV's end that are worth a word
TAGS = (b"ID3", b"TAG", b"APETAGEX")  # what other programs put there
ID3 = re.compile(rb"ID3[\2-\4]\0[\0-\xff][\0-\x7f]{4}")


def boxes(file: IO[bytes], start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The boxes of an ISO file between two offsets: type, first and last byte of the content."""
    at = start
    while at + 8 <= end:
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return
        size, kind = struct.unpack(">I4s", head[:8])
        content = at + 8
        if size == 1 and len(head) == 16:
            size = struct.unpack(">Q", head[8:])[0]
            content = at + 16
        size = size or end - at
        if size < content - at:
            return
        yield kind, content, min(at + size, end)
        at += size


def is_iso(path: str) -> bool:
    """Whether it begins as MP4 and MOV files do; FFmpeg takes their extension for it."""
    with open(path, "rb") as file:
        return file.read(8)[4:] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp")


def is_media(path: str) -> bool:
    """Whether it begins as another kind of video or sound file does."""
    with open(path, "rb") as file:
        return file.read(16).startswith(BEGINNINGS)


def is_protected(path: str) -> bool:
    """Whether an ISO file is encrypted: PyAV doesn’t say so, its boxes do."""
    with open(path, "rb") as file:
        end = file.seek(0, 2)
        todo = [(0, end)]
        seen = 0
        while todo and seen < 3000:
            for kind, start, stop in boxes(file, *todo.pop()):
                seen += 1
                if kind in (b"encv", b"enca", b"pssh", b"drmi", b"drms"):
                    return True
                if kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"):
                    todo.append((start, stop))
                elif kind == b"stsd":
                    todo.append((start + 8, stop))
    return False


def canvas(path: str) -> dict[str, int]:
    """Size and rotation of a HEIF picture of tiles, from its `ispe` and `irot`; PyAV knows the tiles only."""
    with open(path, "rb") as file:

        def inside(kinds: list[bytes], start: int, end: int) -> tuple[int, int]:
            for kind, first, last in boxes(file, start, end):
                if kind == kinds[0]:
                    first += 4 if kind == b"meta" else 0
                    return (first, last) if len(kinds) == 1 else inside(kinds[1:], first, last)
            raise ValueError(kinds)

        found: dict[str, int] = {"width": 0, "height": 0, "rotation": 0}
        for kind, first, last in boxes(file, *inside([b"meta", b"iprp", b"ipco"], 0, file.seek(0, 2))):
            file.seek(first)
            data = file.read(min(last - first, 12))
            if kind == b"ispe":
                width, height = struct.unpack(">II", data[4:12])
                if width * height > found["width"] * found["height"]:
                    found |= {"width": width, "height": height}
            elif kind == b"irot":
                found["rotation"] = (data[0] & 3) * 90
    return found


def animated_webp(path: str) -> dict[str, Any] | None:
    """An animated WebP's facts, from its chunks: PyAV shows none of its pictures. None for another file."""
    with open(path, "rb") as file:
        head = file.read(30)
        if head[:4] + head[8:16] != b"RIFFWEBPVP8X" or not head[20] & 0x02:
            return None
        width, height = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27))
        frames = milliseconds = 0
        while len(chunk := file.read(8)) == 8:
            size = int.from_bytes(chunk[4:], "little")
            if chunk[:4] == b"ANMF":
                frames += 1
                milliseconds += int.from_bytes(file.read(16)[12:15], "little")
                size -= 16
            file.seek(max(0, size) + size % 2, 1)
        length = milliseconds / 1000
        video = {"index": 0, "type": "video", "disposition": 1, "codec": "webp", "pix_fmt": "yuva420p"}
        video |= {"width": width, "height": height, "frames": frames, "duration": length, "sar": 1.0}
        video |= {"fps": frames / length if length else 0.0, "decodes": frames > 0, "gap": 0.0}
        return {"format": "webp_anim", "duration": length, "size": file.seek(0, 2), "streams": [video]}


def known_length(path: str, form: str) -> bool:
    """Whether the length is written down somewhere, and not FFmpeg's guess by the first bit rates."""
    if form != "mp3":
        return form not in GUESSED
    with open(path, "rb") as file:
        head = file.read(10)
        tag = 0
        if head[:3] == b"ID3":
            for byte in head[6:10]:
                tag = tag << 7 | byte & 0x7F
        size = file.seek(0, 2) - tag
        file.seek(tag)
        head = file.read(4096)
    said = next((head.partition(mark)[2] for mark in (b"Xing", b"Info") if mark in head), b"")
    if len(said) > 12 and said[3] & 3 == 3:  # frames and bytes; of many more FFmpeg believes neither
        bytes_said = int.from_bytes(said[8:12], "big")
        return size - bytes_said <= bytes_said >> 4
    return any(mark in head for mark in (b"Xing", b"Info", b"VBRI"))


def has_parts(path: str) -> bool:
    """Whether an Ogg file is recordings in a row, of which FFmpeg reads the first.

    So it does where they are of several tracks, or where the sound becomes another.
    """
    firsts = others = 0  # pages that begin a track, and those behind them
    kind = b""  # of the sound of the first
    with open(path, "rb") as file:
        while len(head := file.read(27)) == 27 and head.startswith(b"OggS"):
            begins = bool(head[5] & 2)
            size = sum(file.read(head[26]))
            place = file.tell()
            own = sound_kind(file.read(min(size, HEAD))) if begins else b""
            if begins and others and (firsts > 1 or own != kind):
                return True
            kind = kind or own
            firsts += begins
            others += not begins
            file.seek(place + size)
    return False


def sound_kind(data: bytes) -> bytes:
    """Codec, channels and samples a second by an Ogg track's first packet, as far as they matter."""
    lasting = {b"\x01vorbis": slice(11, 16), b"OpusHead": slice(9, 10)}
    codec = next((name for name in lasting if data.startswith(name)), data[:7])
    return codec + data[lasting.get(codec, slice(0))]


def tags_within(path: str) -> int:
    """How many tags lie in an MP3 behind its beginning: it was joined of several, they are no damage."""
    found = 0
    with open(path, "rb") as file:
        end = file.read(10)
        while block := file.read(1 << 20):
            data = end + block
            found += len(ID3.findall(data))
            end = data[-9:]
    return found


def elements(file: IO[bytes], start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The EBML elements between two offsets: id, first and last byte of the content."""
    at = start
    while at + 2 <= end:
        kind, first, size = _element(file, at)
        last = end if size is None else min(end, first + size)
        yield kind, first, last
        at = last


def _element(file: IO[bytes], at: int) -> tuple[int, int, int | None]:
    """The EBML element there: id, first byte of the content, its length; None where that isn’t said."""
    file.seek(at)
    head = file.read(12)
    size = 9 - head[0].bit_length()  # of the id
    length = 9 - head[size].bit_length()
    unknown = (1 << 7 * length) - 1
    value = int.from_bytes(head[size : size + length], "big") & unknown
    kind = int.from_bytes(head[:size], "big")
    return kind, at + size + length, None if value == unknown else value


def is_complete(path: str, form: str) -> bool:
    """Whether the file is as large as it says itself: nothing was cut off, whatever length it claims."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        at = 0
        while form.startswith("matroska") and at < size:
            kind, first, length = _element(file, at)
            if length is None or kind == SEGMENT:
                return length is not None and first + length <= size
            at = first + length
        while form == "avi" and at + 8 <= size:
            file.seek(at + 4)
            at += 8 + int.from_bytes(file.read(4), "little")
        file.seek(0)
        said = file.read(HEAD).partition(b"filesize\0")[2][:8] if form == "flv" else b""
        # Ogg says no length: FFmpeg's is that of what is there
        return form == "ogg" or at == size or (len(said) == 8 and struct.unpack(">d", said)[0] == size)


def goes_on(path: str) -> bool:
    """Whether a WAV's sound goes on behind the size that it says: who recorded it never wrote the last one.

    What else may lie there are chunks, which have a size of their own, tags, and nothing but zeros.
    """
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        if (head := file.read(12))[:4] != b"RIFF" or head[8:] != b"WAVE":
            return False
        at = 12
        per_second = 0
        sound = False
        while at + 8 <= size:
            file.seek(at)
            kind, length, rest = struct.unpack("<4sI12s", file.read(20).ljust(20, b"\0"))
            if kind == b"fmt ":
                per_second = int.from_bytes(rest[8:12], "little")
            if sound and not kind.replace(b" ", b"").isalnum():
                break
            if at + 8 + length > size:
                return False
            sound = sound or (kind == b"data" and length not in (0, UNTIL_THE_END))
            at += 8 + length + length % 2
        file.seek(at)
        more = file.read(HEAD)
        return sound and size - at > MIN_MORE * per_second and any(more) and not more.startswith(TAGS)


def has_endless_edit(path: str) -> bool:
    """Whether an edit of an ISO file has no length, and so lasts to the end: FFmpeg shows nothing of it.

    Of files in fragments, which are written before their length is known, it knows that.
    """
    with open(path, "rb") as file:
        todo = [(0, file.seek(0, 2))] if is_iso(path) else []
        endless = False
        while todo:
            for kind, start, stop in boxes(file, *todo.pop()):
                if kind == b"mvex":
                    return False
                if kind in (b"moov", b"trak", b"edts"):
                    todo.append((start, stop))
                elif kind == b"elst":
                    file.seek(start)
                    edit, count = struct.unpack(">B3xI", file.read(8))
                    edit = ">Qq" if edit else ">Ii"
                    file.seek(start + 8 + (count - 1) * (struct.calcsize(edit) + 4))
                    length, begins = struct.unpack(edit, file.read(struct.calcsize(edit)))
                    endless |= length == 0 and begins >= 0
        return endless


def reading(path: str) -> dict[str, str]:
    """The options by which FFmpeg reads all of a file of which it would leave something out (READING)."""
    found: dict[str, str] = {}
    questions: tuple[Callable[[str], bool], ...] = (goes_on_renumbered, goes_on, has_endless_edit)
    for (name, value), is_so in zip(READING.items(), questions, strict=True):
        with contextlib.suppress(Exception):
            found |= {name: value} if is_so(path) else {}
    return found


def lost_length(path: str) -> float:
    """The seconds that a WMV should have of which the end is missing, which FFmpeg doesn't say; else 0."""
    with open(path, "rb") as file:
        said = file.read(HEAD).partition(FILE_PROPERTIES)[2]
        size, lasts, early = struct.unpack_from(
            "<Q16xQ8xQ", said, 24
        )  # in 100 ns, and milliseconds before it
        return lasts / 1e7 - early / 1e3 if size > file.seek(0, 2) else 0.0
