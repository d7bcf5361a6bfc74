"""Reads what a media file holds, and checks what was made: a script for a jailed child process.

`python -I probe.py PATH` prints one JSON object. It runs alone because a hostile file may crash
the decoder: it imports PyAV and the standard library, and nothing of ours.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable, Iterator
from typing import IO, Any, TypeVar

DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,mp3,wav,aiff,flac,aac,ac3,eac3,"
    "amr,amrnb,amrwb,caf,gif,webp_pipe,png_pipe,jpeg_pipe,mxf,w64,ivf,dv,avif,h263,m4v,mpegvideo"
)
COVER_ART = 0x400
JPEG_DEMUXER = "jpeg_pipe"  # named, because the extension would choose image2, which reads other files too
T = TypeVar("T")


def value(get: Callable[[], T], default: T) -> T:
    """What *get* returns; every property of PyAV may raise on a strange file."""
    try:
        found = get()
    except Exception:
        return default
    return default if found is None else found


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
            size, content = struct.unpack(">Q", head[8:])[0], at + 16
        size = size or end - at
        if size < content - at:
            return
        yield kind, content, min(at + size, end)
        at += size


def is_iso(path: str) -> bool:
    """Whether it begins as MP4 and MOV files do; FFmpeg takes their extension for it."""
    with open(path, "rb") as file:
        return file.read(8)[4:] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp")


def is_protected(path: str) -> bool:
    """Whether an ISO file is encrypted: PyAV does not tell, its boxes do."""
    with open(path, "rb") as file:
        end = file.seek(0, 2)
        todo, seen = [(0, end)], 0
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


def stream_facts(stream: Any) -> dict[str, Any]:
    """One stream; `codec` is empty where nothing here decodes it."""
    context = stream.codec_context
    facts: dict[str, Any] = {
        "index": stream.index,
        "type": stream.type,
        "disposition": value(lambda: int(stream.disposition), 0),
        "duration": value(lambda: float(stream.duration * stream.time_base), 0.0),
        "codec": value(lambda: context.codec.canonical_name, ""),
        "profile": value(lambda: str(stream.profile), ""),
        "bit_rate": value(lambda: int(context.bit_rate), 0),
    }
    if stream.type == "video":
        facts |= {
            "width": value(lambda: int(context.width), 0),
            "height": value(lambda: int(context.height), 0),
            "sar": value(lambda: float(stream.sample_aspect_ratio), 1.0) or 1.0,
            "pix_fmt": value(lambda: str(context.pix_fmt or ""), ""),
            "fps": value(lambda: float(stream.average_rate), 0.0)
            or value(lambda: float(stream.base_rate), 0.0),
            "frames": value(lambda: int(stream.frames), 0),
            "transfer": value(lambda: int(context.color_trc), 0),
            "alpha": value(lambda: stream.metadata.get("alpha_mode") == "1", False),
        }
    if stream.type == "audio":
        facts |= {
            "channels": value(lambda: int(context.layout.nb_channels), 0),
            "rate": value(lambda: int(context.sample_rate), 0),
        }
    return facts


def first_frame(container: Any, stream: Any, facts: dict[str, Any]) -> None:
    """Rotation, interlacing and true colour are known of a decoded frame only."""
    stream.codec_context.thread_count = 1
    for count, packet in enumerate(container.demux(stream)):
        for frame in packet.decode():
            facts["rotation"] = int(frame.rotation) % 360
            facts["interlaced"] = bool(frame.interlaced_frame)
            facts["transfer"] = value(lambda frame=frame: int(frame.color_trc), 0) or facts["transfer"]  # type: ignore[misc]
            facts["width"] = facts["width"] or frame.width
            facts["height"] = facts["height"] or frame.height
            facts["decodes"] = True
            return
        if count > 2000:
            return


def longest_gap(container: Any, stream: Any) -> float:
    """Seconds between keyframes, the longest in the first minute; a day where the first is none."""
    container.seek(0)
    last, longest = None, 0.0
    for packet in container.demux(stream):
        if packet.pts is None:
            continue
        at = float(packet.pts * packet.time_base)
        if packet.is_keyframe:
            longest = max(longest, at - last if last is not None else 0.0)
            last = at
        elif last is None:
            return 86400.0
        if last is not None and at - last > 30:
            return at - last
        if at > 60:
            break
    return longest


def pictures_at(container: Any, stream: Any, places: list[float]) -> int:
    """How many of *places* (seconds) show a frame that nothing had to be guessed for."""
    shown = 0
    for place in places:
        container.seek(int(place / stream.time_base), stream=stream)
        shown += value(lambda: not next(container.decode(stream)).is_corrupt, False)
    return shown


def probe(path: str) -> dict[str, Any]:
    """Everything that a plan asks of a file."""
    import av

    av.logging.set_level(av.logging.PANIC)
    options = {"protocol_whitelist": "file", "format_whitelist": DEMUXERS, "max_streams": "64"}
    with open(path, "rb") as file:
        form = JPEG_DEMUXER if file.read(3) == b"\xff\xd8\xff" else None
    with av.open(path, format=form, metadata_errors="replace", options=options) as container:
        found: dict[str, Any] = {
            "format": container.format.name,
            "duration": value(lambda: (container.duration or 0) / 1e6, 0.0),
            "start": value(lambda: container.start_time / 1e6, 0.0),
            "bit_rate": value(lambda: int(container.bit_rate), 0),
            "size": value(lambda: int(container.size), 0),
            "protected": value(lambda: is_protected(path), False),
            "streams": [stream_facts(stream) for stream in container.streams],
        }
        videos = [f for f in found["streams"] if f["type"] == "video" and f["codec"]]
        shown = [f for f in videos if not f["disposition"] & COVER_ART] or videos
        if shown:
            facts = max(shown, key=lambda f: f["width"] * f["height"])
            stream = container.streams[facts["index"]]
            value(lambda: first_frame(container, stream, facts), None)
            if facts["codec"] == "h264":
                facts["gap"] = value(lambda: longest_gap(container, stream), 86400.0)
            length = facts["duration"] or found["duration"]
            if "--pictures" in sys.argv:
                places = [0.0, length / 2, max(0.0, length - 0.5)]
                facts["pictures"] = value(lambda: pictures_at(container, stream, places), 0)
    return found


if __name__ == "__main__":
    try:
        print(json.dumps(probe(sys.argv[1])))
    except Exception as problem:
        said = f"{type(problem).__name__}: {problem}".replace(sys.argv[1], "source")[:300]
        found = {"error": said, "protected": value(lambda: is_protected(sys.argv[1]), False)}
        print(json.dumps({**found, "is_iso": value(lambda: is_iso(sys.argv[1]), False)}))
