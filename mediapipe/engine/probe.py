"""Reads what a media file holds, and checks an output: for a sandboxed child process (prober.py).

It prints one JSON object, and runs alone because a hostile file may crash the decoder: it imports PyAV
and the standard library, and nothing of ours.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from typing import IO, Any, TypeVar

DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,mp3,wav,aiff,flac,aac,ac3,eac3,"
    "amr,amrnb,amrwb,caf,gif,webp_pipe,png_pipe,jpeg_pipe,mxf,w64,ivf,dv,avif,h263,m4v,mpegvideo,"
    "au,wv,tta,ape,dsf,voc,dts,rm,gxf,h264,hevc,obu,apng,bmp_pipe,tiff_pipe,jpegxl_pipe,webp_anim"
)
COVER_ART = 0x400  # AV_DISPOSITION_*
DEPENDENT = 0x80000
# Named by these first bytes, because the extension would choose image2, which reads other files too.
NAMED = {
    b"\xff\xd8\xff": "jpeg_pipe",
    b"BM": "bmp_pipe",
    b"II*\0": "tiff_pipe",
    b"MM\0*": "tiff_pipe",
    b"\xff\x0a": "jpegxl_pipe",
}
GUESSED = ("aac", "ac3", "eac3", "dts", "mpegvideo", "m4v", "h264", "hevc", "obu")  # lengths by bit rate
INTRA = {"mjpeg", "prores", "dnxhd", "dvvideo", "rawvideo", "ffv1", "huffyuv", "png", "jpeg2000", "gif"}
MAX_PIXELS = 40_000_000  # of a picture: 40 megapixels
MAX_READ = 64 << 20  # bytes, in search of keyframes
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


def frame_rate(stream: Any) -> float:
    """Frames a second; raw DV and cover art claim thousands, where FFmpeg's guess knows better."""
    average = value(lambda: float(stream.average_rate), 0.0) or value(lambda: float(stream.base_rate), 0.0)
    guess = value(lambda: float(stream.guessed_rate), 0.0)
    return guess if average > 1000 and guess else average


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
            "fps": frame_rate(stream),
            "frames": value(lambda: int(stream.frames), 0),
            "transfer": value(lambda: int(context.color_trc), 0),
            "tiled": bool(value(lambda: int(stream.disposition), 0) & DEPENDENT),
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
            facts["matrix"] = value(lambda frame=frame: int(frame.colorspace), 2)  # type: ignore[misc]
            facts["primaries"] = value(lambda frame=frame: int(frame.color_primaries), 2)  # type: ignore[misc]
            facts["width"] = facts["width"] or frame.width
            facts["height"] = facts["height"] or frame.height
            facts["decodes"] = True
            return
        if count > 2000:
            return


def longest_gap(container: Any, stream: Any) -> float:
    """Seconds between keyframes, the longest in the first minute; a day where the first is none."""
    container.seek(0)
    last = origin = None
    longest = 0.0
    read = 0
    for packet in container.demux(stream):
        if packet.pts is None:
            continue
        at = float(packet.pts * packet.time_base)
        origin = at if origin is None else origin
        if packet.is_keyframe:
            longest = max(longest, at - last if last is not None else 0.0)
            last = at
        elif last is None:
            return 86400.0
        if last is not None:
            longest = max(longest, at - last)
        if longest > 30:
            break
        read += packet.size
        if at - origin > 60 or (longest and read > MAX_READ):
            break
    return longest


def pictures_at(container: Any, stream: Any, places: list[float]) -> int:
    """How many of *places* (seconds) show a frame that nothing had to be guessed for."""
    shown = 0
    for place in places:
        container.seek(int(place / stream.time_base), stream=stream)
        shown += value(lambda: not next(container.decode(stream)).is_corrupt, False)
    return shown


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
        file.seek(tag)
        head = file.read(4096)
    return any(mark in head for mark in (b"Xing", b"Info", b"VBRI"))


def picture_facts(path: str, container: Any, found: dict[str, Any], extra: list[str]) -> None:
    """What only the frames and packets of the largest picture show."""
    videos = [f for f in found["streams"] if f["type"] == "video" and f["codec"]]
    shown = [f for f in videos if not f["disposition"] & COVER_ART] or videos
    if not shown:
        return
    facts = max(shown, key=lambda f: (f["width"] * f["height"], f["frames"]))
    stream = container.streams[facts["index"]]
    if facts["width"] * facts["height"] > MAX_PIXELS:  # refused anyway: not to be decoded
        return
    value(lambda: first_frame(container, stream, facts), None)
    if facts["tiled"]:
        facts |= value(lambda: canvas(path), dict[str, int]())
    if facts["codec"] in INTRA:
        facts["gap"] = 0.0
    elif "--gap" in extra:
        facts["gap"] = value(lambda: longest_gap(container, stream), 86400.0)
    if "--pictures" in extra:
        length = facts["duration"] or found["duration"]
        places = [0.0, length / 2, max(0.0, length - 0.5)]
        facts["pictures"] = value(lambda: pictures_at(container, stream, places), 0)


def probe(path: str, extra: list[str]) -> dict[str, Any]:
    """What a plan needs to know of a file; *extra*: `--gap` and `--pictures` take longer."""
    if (animation := value(lambda: animated_webp(path), None)) is not None:
        return animation
    import av

    av.logging.set_level(av.logging.PANIC)
    options = {"protocol_whitelist": "file", "format_whitelist": DEMUXERS, "max_streams": "64"}
    with open(path, "rb") as file:
        head = file.read(4)
    form = next((name for magic, name in NAMED.items() if head.startswith(magic)), None)
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
        found["guessed"] = not value(lambda: known_length(path, found["format"]), True)
        picture_facts(path, container, found, extra)
    return found


def print_facts(path: str, extra: list[str]) -> None:
    """Prints one JSON object: what is in the file, or `error` where it cannot be read."""
    try:
        found = probe(path, extra)
    except Exception as problem:
        said = f"{type(problem).__name__}: {problem}".replace(path, "source")[:300]
        found = {"error": said, "protected": value(lambda: is_protected(path), False)}
        found["is_iso"] = value(lambda: is_iso(path), False)
    print(json.dumps(found), flush=True)
