"""Reads what a media file holds, and checks an output: for a sandboxed child process (prober.py).

It prints one JSON object, and runs alone because a hostile file may crash the decoder: it imports PyAV
and the standard library, and of ours what does the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from mediapipe.engine import clock, intact, looks, survey, tracks
from mediapipe.engine.broadcasts import programmes, renumbered
from mediapipe.engine.containers import (
    animated_webp,
    canvas,
    has_parts,
    is_complete,
    is_iso,
    is_media,
    is_protected,
    known_length,
    reading,
    tags_within,
)
from mediapipe.engine.described import cropping, dolby_alone
from mediapipe.engine.first_pictures import first_pictures, look_for_fields
from mediapipe.engine.picture_times import picture_times
from mediapipe.engine.survey import value

DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,mp3,wav,aiff,flac,aac,ac3,eac3,"
    "amr,amrnb,amrwb,caf,gif,webp_pipe,png_pipe,jpeg_pipe,mxf,w64,ivf,dv,avif,h263,m4v,mpegvideo,"
    "au,wv,tta,ape,dsf,voc,dts,rm,gxf,h264,hevc,obu,apng,bmp_pipe,tiff_pipe,jpegxl_pipe,webp_anim"
)
OPTIONS = {"protocol_whitelist": "file", "format_whitelist": DEMUXERS, "max_streams": "64"}
# Named by these first bytes, because the extension would choose image2, which reads other files too.
NAMED = {
    b"\xff\xd8\xff": "jpeg_pipe",
    b"BM": "bmp_pipe",
    b"II*\0": "tiff_pipe",
    b"MM\0*": "tiff_pipe",
    b"\xff\x0a": "jpegxl_pipe",
}
INTRA = {"mjpeg", "prores", "dnxhd", "dvvideo", "rawvideo", "ffv1", "huffyuv", "png", "jpeg2000", "gif"}
ALPHA_LAYER = b"\x4e\x01\xa5"  # what HEVC says of one, as a NAL unit (alpha_channel_info) begins
IMPLAUSIBLE = 500  # bytes a second: a file with fewer may have a clock that jumps
MAX_CHANNELS = 64  # of a sound: no filter of FFmpeg takes more
MAX_PIXELS = 40_000_000  # of a picture: 40 megapixels


def frame_rate(stream: Any) -> float:
    """Frames a second; raw DV and cover art claim thousands, where FFmpeg's guess knows better."""
    average = value(lambda: float(stream.average_rate), 0.0) or value(lambda: float(stream.base_rate), 0.0)
    guess = value(lambda: float(stream.guessed_rate), 0.0)
    return guess if average > 1000 and guess else average


def is_uneven(stream: Any) -> bool:
    """Whether pictures follow each other otherwise than at the rate by which FFmpeg would place them.

    It guesses too low a rate where few pictures of a programme stream have a time, and would drop the rest.
    """
    faster = float(stream.base_rate / stream.average_rate)
    return faster > 1.05 or float(stream.guessed_rate / stream.average_rate) < 0.95


def has_alpha(stream: Any) -> bool:
    """Whether its pictures have a layer of transparency beside them, which their own pixels don't tell."""
    layered = stream.codec_context.name == "hevc" and ALPHA_LAYER in (stream.codec_context.extradata or b"")
    return layered or stream.metadata.get("alpha_mode") == "1"


def stream_facts(stream: Any) -> dict[str, Any]:
    """One stream; `codec` is empty where nothing here decodes it."""
    context = stream.codec_context
    facts: dict[str, Any] = {
        "index": stream.index,
        "id": value(lambda: int(stream.id), 0),
        "type": stream.type,
        "disposition": value(lambda: int(stream.disposition), 0),
        "duration": value(lambda: float(stream.duration * stream.time_base), 0.0),
        "codec": value(lambda: context.codec.canonical_name, ""),
        "profile": value(lambda: str(stream.profile), ""),
        "bit_rate": value(lambda: int(context.bit_rate), 0),
        "language": value(lambda: str(stream.language or ""), "").replace("und", ""),
        "title": value(lambda: stream.metadata.get("title") or stream.metadata.get("handler_name"), ""),
        "entries": value(lambda: len(stream.index_entries), 0),
        "discarded": value(lambda: survey.discarded(stream), 0),
    }
    if stream.type == "video":
        facts |= {
            "width": value(lambda: int(context.width), 0),
            "height": value(lambda: int(context.height), 0),
            "sar": value(lambda: float(stream.sample_aspect_ratio), 1.0) or 1.0,
            "pix_fmt": value(lambda: str(context.pix_fmt or ""), ""),
            "fps": frame_rate(stream),
            "uneven": value(lambda: is_uneven(stream), False),
            "frames": value(lambda: 0 if facts["discarded"] else int(stream.frames), 0),  # shown ones
            "transfer": value(lambda: int(context.color_trc), 0),
            "tiled": bool(value(lambda: int(stream.disposition), 0) & tracks.DEPENDENT),
            "reorders": value(lambda: bool(context.has_b_frames), False),
            "level": value(lambda: int(context.level), 0),
            "alpha": value(lambda: has_alpha(stream), False),
        }
    if stream.type == "audio":
        facts |= {
            "channels": value(lambda: int(context.layout.nb_channels), 0),
            "places": value(lambda: [each.name for each in context.layout.channels], list[str]()),
            "rate": value(lambda: int(context.sample_rate), 0),
        }
        facts["codec"] = facts["codec"] if facts["channels"] <= MAX_CHANNELS else ""
    return facts


def picture_facts(path: str, container: Any, found: dict[str, Any], extra: list[str]) -> None:
    """What only the frames and packets of the film show: of the likeliest track that decodes."""
    candidates = tracks.pictures(found["streams"])
    for facts in candidates:
        if facts["width"] * facts["height"] > MAX_PIXELS:  # refused anyway: not to be decoded
            return
        stream = container.streams[facts["index"]]
        value(lambda stream=stream, facts=facts: first_pictures(container, stream, facts), None)  # type: ignore[misc]
        if facts.get("decodes"):
            break
        facts["undecodable"] = True
        value(lambda: container.seek(0), None)
    facts = tracks.picture(found["streams"]) or {}
    if not facts:
        return
    stream = container.streams[facts["index"]]
    if facts["tiled"]:
        facts |= value(lambda: canvas(path), dict[str, int]())
    if facts["codec"] in INTRA:
        facts["gap"] = 0.0
    elif "--gap" in extra:
        facts["gap"] = value(lambda: clock.longest_gap(container, stream, facts), 86400.0)
    if "--gap" in extra:
        value(lambda: survey.held_picture(container, stream, facts), None)
    length = facts["duration"] or found["duration"]
    if "--gap" in extra:
        value(lambda: look_for_fields(container, stream, facts, length), None)
    if "--whole" in extra:
        facts["whole"] = intact.is_whole(container, stream, length)


def whole_sound(container: Any, found: dict[str, Any]) -> None:
    """Notes whether what is tried of the sound all over the file decodes."""
    film = tracks.picture(found["streams"])
    sound = tracks.sound(found["streams"], film)
    if sound:
        length = (film or sound)["duration"] or found["duration"]
        sound["whole"] = intact.can_be_heard(container, container.streams[sound["index"]], length)


def steady(reopen: Callable[[], Any], found: dict[str, Any]) -> None:
    """Where a clock jumps: the length is what is left without the jumps, and no place can be looked up."""
    film = tracks.picture(found["streams"])
    sound = tracks.sound(found["streams"], film)
    played = [facts for facts in (film, sound) if facts and not facts["disposition"] & tracks.NO_FILM]
    if not played:
        return
    claimed = 0.0 if found["complete"] else found["duration"]
    with reopen() as container:
        length = clock.jumps(container, played, claimed)
        reach = max(facts["end"] for facts in played)
    if found["complete"] and reach and abs(reach - found["duration"]) > survey.MIN_HELD:
        found["duration"] = reach
    if length:
        found |= {"duration": length, "guessed": True, "jumps": True}
        for facts in found["streams"]:
            facts |= {"duration": length, "end": 0.0, "held": 0.0, "lost": 0.0}


def described(path: str, found: dict[str, Any]) -> None:
    """Makes each picture as large as what its container lets be seen of it, and says which are Dolby's."""
    if not found["format"].startswith(("mov", "matroska")):
        return
    for number in value(lambda: dolby_alone(path, found["format"]), set[int]()):
        found["streams"][number]["dolby"] = True
    for number, (left, top, right, bottom) in cropping(path, found["format"]).items():
        facts = found["streams"][number]
        width = facts.get("width", 0) - left - right
        height = facts.get("height", 0) - top - bottom
        if min(left, top, right, bottom) >= 0 and min(width, height) > 0:
            facts |= {"crop": [left, top, right, bottom], "width": width, "height": height}


def own_times(container: Any, found: dict[str, Any]) -> None:
    """When each track begins and ends, as the file and its index say it."""
    for facts, stream in zip(found["streams"], container.streams, strict=True):
        facts["end"] = value(lambda stream=stream: survey.end_of(stream, found["start"]), 0.0)  # type: ignore[misc]
        facts["indexed"] = value(lambda stream=stream: survey.indexed(stream), 0.0)  # type: ignore[misc]
        facts["begins"] = value(lambda stream=stream: survey.begin_of(stream, found["start"]), 0.0)  # type: ignore[misc]


def read_bytes(path: str, found: dict[str, Any]) -> None:
    """What the file's own bytes say of the whole."""
    others = {"mpegts": lambda: renumbered(path)[1], "ogg": lambda: has_parts(path)}
    found["parts"] = found["format"] in others and value(others[found["format"]], False)
    found["goes_on"] = "ignore_length" in found["reading"]
    found["tags"] = value(lambda: tags_within(path), 0) if found["format"] == "mp3" else 0
    found["complete"] = value(lambda: is_complete(path, found["format"]), False)


def track_facts(path: str, reopen: Callable[[], Any], found: dict[str, Any]) -> None:
    """What only packets say of tracks between which to choose: programmes, and what is empty or silent."""
    streams = found["streams"]
    if found["format"] == "mpegts":
        numbers = value(lambda: programmes(path), dict[int, int]())
        for facts in streams:
            facts["programme"] = numbers.get(facts["id"])
    audio = [s for s in streams if s["type"] == "audio"]
    films = [s for s in streams if s["type"] == "video" and not s["disposition"] & tracks.NO_FILM]
    if (not audio and len(films) < 2) or any(s["tiled"] for s in films):
        return
    if len(films) < 2 and len(audio) < 2 and all(s["entries"] > 1 for s in [*films, *audio]):
        return
    with reopen() as container:
        value(lambda: survey.survey(container, streams), None)
        value(lambda: survey.listen(container, streams, found["duration"]), None)


def sound_facts(reopen: Callable[[], Any], found: dict[str, Any]) -> None:
    """Whether the sound of a film that can't be decoded can: only then is it worked on alone."""
    film = tracks.picture(found["streams"])
    sound = tracks.sound(found["streams"], film)
    if film and sound and film.get("undecodable") and "peak" not in sound:
        sound["undecodable"] = True
        with reopen() as container:
            sound["undecodable"] = not survey.can_be_heard(container, container.streams[sound["index"]])


def probe(path: str, extra: list[str]) -> dict[str, Any]:
    """What a plan needs to know of a file; *extra*: `--gap`, `--whole` and `--heard` take longer."""
    if (animation := value(lambda: animated_webp(path), None)) is not None:
        return animation
    import av

    av.logging.set_level(av.logging.PANIC)
    with open(path, "rb") as file:
        head = file.read(4)
    form = next((name for magic, name in NAMED.items() if head.startswith(magic)), None)

    wanted = reading(path)

    def opened() -> Any:
        return av.open(path, format=form, metadata_errors="replace", options=OPTIONS | wanted)

    with opened() as container:
        found: dict[str, Any] = {
            "format": container.format.name,
            "reading": list(wanted),
            "duration": value(lambda: (container.duration or 0) / 1e6, 0.0),
            "start": value(lambda: container.start_time / 1e6, 0.0),
            "bit_rate": value(lambda: int(container.bit_rate), 0),
            "size": value(lambda: int(container.size), 0),
            "protected": value(lambda: is_protected(path), False),
            "streams": [stream_facts(stream) for stream in container.streams],
        }
        own_times(container, found)
        read_bytes(path, found)
        value(lambda: survey.own_length(path, opened, found), None)
        value(lambda: described(path, found), None)
        value(lambda: track_facts(path, opened, found), None)
        found["guessed"] = not value(lambda: known_length(path, found["format"]), True)
        picture_facts(path, container, found, extra)
        if "--heard" in extra:
            whole_sound(container, found)
        if "--gap" in extra or found["duration"] * IMPLAUSIBLE > found["size"]:
            value(lambda: steady(opened, found), None)
    value(lambda: sound_facts(opened, found), None)
    return found


def print_facts(path: str, extra: list[str]) -> None:
    """Prints one JSON object: what is in the file, or shown at `--looks`, or when (`--times`); or `error`."""
    try:
        if extra[:1] == ["--looks"]:
            asked = json.loads(extra[1])
            looked = looks.in_order if asked.get("in_order") else looks.looks
            found = looked(path, OPTIONS | reading(path), asked)
        elif extra[:1] == ["--times"]:
            found = picture_times(path, OPTIONS | reading(path), json.loads(extra[1]))
        else:
            found = probe(path, extra)
    except Exception as problem:
        said = f"{type(problem).__name__}: {problem}".replace(path, "source")[:300]
        found = {"error": said, "protected": value(lambda: is_protected(path), False)}
        found["is_iso"] = value(lambda: is_iso(path), False)
        found["is_media"] = value(lambda: is_media(path), False)
    print(json.dumps(found), flush=True)
