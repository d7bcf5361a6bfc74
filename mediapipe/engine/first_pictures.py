"""What only a film's first pictures show: how they are turned, interlacing, true colours, and lateness.

For a sandboxed child (probe.py): PyAV and the standard library.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from mediapipe.engine import turns
from mediapipe.engine.survey import value

MAX_PACKETS = 2000  # that are decoded in search of a picture
MOST_REORDERED = 16  # pictures that a decoder holds back before it shows the first
TELEVISION = ("h264", "mpeg2video")
LINES = (480, 486, 576, 1080)  # that television has,
MAX_RATE = 30.1  # and pictures a second, at most, where they are of two fields
PLACES = (0.3, 0.6, 0.9)  # of a film, where television may go on otherwise than it began
FIELDS = {2: "tff", 3: "bff", 4: "tff", 5: "bff"}  # AV_FIELD_*, as FFmpeg's own decoders take them
SAY_THEMSELVES = ("h264", "hevc", "mpeg2video", "mpeg4", "vc1", "prores", "dnxhd", "dvvideo")


def first_pictures(container: Any, stream: Any, facts: dict[str, Any]) -> None:
    """Notes what is known of a decoded picture only; where that leaves a doubt, of those after it."""
    stream.codec_context.thread_count = 1
    began = first = second = None
    late = 0
    avi = container.format.name == "avi"
    alike = not avi  # whether each packet is to be shown when it is stored
    times: list[Any] = []
    for count, packet in enumerate(container.demux(stream)):
        began = packet.dts if began is None else began
        alike &= not packet.size or packet.pts == packet.dts
        for frame in value(packet.decode, list[Any]()):
            times.append(frame.pts)
            if first is None:
                first = frame
                if None not in (began, packet.dts) and count <= MOST_REORDERED:
                    late = packet.dts - began
                stored = packet.dts if avi else None
                at = frame.pts if stored is None else stored - late  # what AVI says besides is made up
                _note(container, stream, frame, facts, float((at or 0) * stream.time_base))
            elif second is None:
                second = frame
        doubtful = alike and late and not _fall_back(times) and len(times) <= MOST_REORDERED
        if (first and (second or not first.rotation) and not doubtful) or count > MAX_PACKETS:
            break
    if avi or _fall_back(times):
        facts["late"] = float(late * stream.time_base)
    if first and second and first.rotation:
        facts["says_turn"] = turns.is_said_by_pictures(first, second)
        facts |= turns.turn(second) if second.rotation else {}


def _fall_back(times: list[Any]) -> bool:
    """Whether pictures are shown before those that a decoder shows first: nobody has said when."""
    return any(None not in each and each[1] < each[0] for each in pairwise(times))


def _note(container: Any, stream: Any, frame: Any, facts: dict[str, Any], at: float) -> None:
    """What the first picture says, which is shown *at* a second of the file's clock."""
    facts |= turns.turn(frame)
    facts["interlaced"] = bool(frame.interlaced_frame)
    if not facts["interlaced"] and facts["codec"] not in SAY_THEMSELVES:
        facts["fields"] = FIELDS.get(value(lambda: int(stream.codec_context.field_order), 0), "")
        facts["interlaced"] = bool(facts["fields"])
    facts["transfer"] = value(lambda: int(frame.color_trc), 0) or facts["transfer"]
    facts["matrix"] = value(lambda: int(frame.colorspace), 2)
    facts["primaries"] = value(lambda: int(frame.color_primaries), 2)
    facts["width"] = facts["width"] or frame.width
    facts["height"] = facts["height"] or frame.height
    facts["decodes"] = True
    # what a decoder can't show before a first keyframe is no part of the film
    start = value(lambda: container.start_time / 1e6, 0.0)
    facts["begins"] = max(facts["begins"], at - start)
    if not facts["pix_fmt"]:  # FFmpeg has looked near the beginning alone, where there is no picture yet
        context = stream.codec_context
        facts |= {"pix_fmt": str(frame.format.name), "profile": str(stream.profile or "")}
        facts |= {"level": int(context.level), "reorders": bool(context.has_b_frames)}


def look_for_fields(container: Any, stream: Any, facts: dict[str, Any], length: float) -> None:
    """Notes television that is interlaced in places only: advertisements in a film."""
    usual = facts["height"] in LINES and facts["codec"] in TELEVISION and facts["fps"] <= MAX_RATE
    if facts["interlaced"] or not usual:
        return
    start = value(lambda: container.start_time / 1e6, 0.0)
    for share in PLACES:
        container.seek(round((start + share * length) / stream.time_base), stream=stream)
        frame = next(container.decode(stream), None)
        facts["interlaced"] |= bool(frame and frame.interlaced_frame)
