"""What of a file's tracks only their packets show: which are empty, still or silent, and how long they last.

For a sandboxed child (probe.py): PyAV and the standard library. It says what is so, and chooses nothing
(tracks.py does).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from mediapipe.engine.containers import lost_length
from mediapipe.engine.tracks import DEPENDENT, NO_FILM, Facts, sounds

MAX_READ = 32 << 20  # bytes of packets
MAX_TIME = 30.0  # seconds of the film
MAX_ENTRIES = 500_000  # of a track's index: more are not looked at
LATE_START = 0.4  # seconds at which a file's clock begins before anybody takes notice
MEASURED = ("mov", "mpeg")  # containers of which FFmpeg knows the length itself
MIN_HELD = 0.3  # seconds that a last picture stays beyond its turn before anybody takes notice
MAX_LAST = 64 << 20  # bytes, in search of a last picture
LAST_SECONDS = 2.0  # in which the last packets are
LEAD_IN = 0.1  # seconds before a place from which on it is decoded
SOUND_PLACES = 10  # where it is listened to each of several sound tracks
T = TypeVar("T")
LENGTH = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")


def value(get: Callable[[], T], default: T) -> T:
    """What *get* returns; every property of PyAV may raise on a strange file."""
    try:
        found = get()
    except Exception:
        return default
    return default if found is None else found


def end_of(stream: Any, start: float) -> float:
    """Where a track ends, in seconds from the file's start; 0 where the file doesn't say it."""
    tag = LENGTH.fullmatch(value(lambda: stream.metadata.get("DURATION"), "") or "")
    if tag:
        return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
    length = value(lambda: float(stream.duration * stream.time_base), 0.0)
    return max(0.0, length + begin_of(stream, start)) if length > 0 else 0.0


def begin_of(stream: Any, start: float) -> float:
    """Where a track begins, in seconds from the file's start; 0 where the file doesn't say it."""
    return value(lambda: float(stream.start_time * stream.time_base), start) - start


def indexed(stream: Any) -> float:
    """Until when a track lasts by its index, in seconds; 0 where it has none."""
    entries = stream.index_entries
    return float((entries[-1].timestamp + 1) * stream.time_base) if len(entries) else 0.0


def own_length(path: str, reopen: Callable[[], Any], found: dict[str, Any]) -> None:
    """Makes lengths of those that were counted from elsewhere than the beginning, or by what is there."""
    if not found["format"].startswith(MEASURED):
        as_a_whole(found)
    if found["goes_on"]:
        by_size(found)
    if found["format"] == "asf":
        found["duration"] = max(found["duration"], lost_length(path))
    if found["format"] == "avi":
        by_index(found)
    if found["start"] > LATE_START and not found["format"].startswith(MEASURED):
        with reopen() as container:
            take_out_start(container, found)


def by_size(found: dict[str, Any]) -> None:
    """Takes a WAV's length from how large it is, where its sound goes on behind the size that it says."""
    for facts in found["streams"]:
        if facts["bit_rate"]:
            found["duration"] = facts["duration"] = facts["end"] = 8 * found["size"] / facts["bit_rate"]


def by_index(found: dict[str, Any]) -> None:
    """Takes an AVI's length, and how many pictures it has, from its index where that is there, else its head.

    FFmpeg counts what is there of a file that is cut off, and empty pictures, too.
    """
    for facts in found["streams"]:
        if facts["type"] != "video" or not facts["fps"]:
            continue
        if found["complete"] and facts["indexed"]:
            found["duration"] = min(found["duration"], max(each["indexed"] for each in found["streams"]))
            facts["frames"] = min(facts["frames"], facts["entries"])
        elif not found["complete"]:
            found["duration"] = max(found["duration"], facts["frames"] / facts["fps"])
    found["complete"] = False  # what its index names may be missing in the middle


def as_a_whole(found: dict[str, Any]) -> None:
    """Takes what all tracks say alike for the length of the file: it says no more (ASF).

    FFmpeg takes it for that of each, from where it begins.
    """
    lengths = {facts["duration"] for facts in found["streams"] if facts["type"] in ("video", "audio")}
    if len(lengths) == 1 and max(facts["begins"] for facts in found["streams"]) > MIN_HELD:
        length = lengths.pop()
        found["duration"] = min(found["duration"], length or found["duration"])
        for facts in found["streams"]:
            facts["end"] = min(facts["end"], found["duration"])


def take_out_start(container: Any, found: dict[str, Any]) -> None:
    """Makes lengths of what was counted from zero in a file whose clock begins later.

    Some muxers write how long a file is, others when it ends: the last packets tell which. *container*:
    freshly opened.
    """
    start = found["start"]
    length = found["duration"]
    container.seek(int((length - LAST_SECONDS) * 1e6))
    end = 0.0
    read = 0
    for packet in container.demux():
        read += packet.size
        if packet.pts is not None:
            end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if read > MAX_READ:
            return
    if end > length + start / 2:
        return
    found["duration"] = max(0.0, length - start)
    for facts in found["streams"]:
        facts |= {name: max(0.0, facts[name] - start) for name in ("duration", "end")}


def held_picture(container: Any, stream: Any, facts: dict[str, Any]) -> None:
    """Notes how long a last picture is `held` beyond its turn, and the rate of the film without it.

    `lost`: how much of that a decoder doesn’t know.
    """
    last, own, end = _held(container, stream, facts["end"])
    turn = 1 / value(lambda: float(stream.guessed_rate), 25.0)
    if end - last > turn + MIN_HELD:
        facts |= {"held": end - last - turn, "stays": end - last}
        facts["lost"] = end - own if end - own > MIN_HELD else 0.0
        if facts["frames"] > 1:
            facts["fps"] = (facts["frames"] - 1) / last


def _held(container: Any, stream: Any, end: float) -> tuple[float, float, float]:
    """When a film’s last picture begins, from the file’s start; until when its own packet, and its file, say.

    Nothing where its packets don’t reach *end*: then the file is cut off. With reordered pictures the
    duration stands at another packet than the last one that is shown, and decoders lose it.
    """
    start = value(lambda: container.start_time / 1e6, 0.0)
    container.seek(int((start + max(0.0, end - 0.1)) / stream.time_base), stream=stream)
    last = own = reach = 0.0
    read = 0
    for packet in container.demux(stream):
        if packet.pts is None:
            continue
        read += packet.size
        if read > MAX_LAST:
            return 0.0, 0.0, 0.0
        begins, stored = (
            float(at * packet.time_base) - start for at in (packet.pts, packet.dts or packet.pts)
        )
        lasts = float((packet.duration or 0) * packet.time_base)
        if begins > last:
            last = begins
            own = begins + lasts
        reach = max(reach, max(begins, stored) + lasts)
    return (last, own, end) if last and reach > end - 0.1 else (0.0, 0.0, 0.0)


def discarded(stream: Any) -> int:
    """How many of a track's packets an edit list cuts out: decoded for others, never shown."""
    entries = stream.index_entries
    return sum(entries[at].is_discard for at in range(min(len(entries), MAX_ENTRIES)))


def survey(container: Any, streams: list[Facts]) -> None:
    """Notes how many `packets` a short look shows of each film and sound track, and which are `empty`."""
    wanted = {s["index"]: 1 for s in streams if s["type"] == "audio"}
    films = [s for s in streams if s["type"] == "video" and not s["disposition"] & (NO_FILM | DEPENDENT)]
    wanted |= {s["index"]: 3 for s in films}
    counts = dict.fromkeys(wanted, 0)
    read = 0
    origin = None
    all_of_it = False
    for packet in container.demux([container.streams[index] for index in wanted]):
        # the end, and not a picture of Theora's that stays as it was: flushes follow
        if not packet.buffer_ptr:
            all_of_it = True
            break
        counts[packet.stream_index] += 1
        read += packet.size
        at = value(lambda packet=packet: float(packet.dts * packet.time_base), 0.0)  # type: ignore[misc]
        origin = at if origin is None else origin
        if all(counts[index] >= least for index, least in wanted.items()):
            break
        if read > MAX_READ or at - origin > MAX_TIME:
            break
    for facts in streams:
        if facts["index"] in counts:
            facts["packets"] = counts[facts["index"]]
            facts["empty"] = all_of_it and not facts["packets"]


def listen(container: Any, streams: list[Facts], length: float) -> None:
    """Notes the `peak` of each of several sound tracks at a few places, and which are `undecodable`."""
    tracks = sounds(streams)
    if len(tracks) < 2:
        return
    for facts in tracks[:16]:
        stream = container.streams[facts["index"]]
        peaks = [_peak(container, stream, at) for at in _places(length)]
        heard = [peak for peak in peaks if peak is not None]
        if heard:
            facts["peak"] = max(heard)
        else:
            facts["undecodable"] = True


def can_be_heard(container: Any, stream: Any) -> bool:
    """Whether the next half second of a sound track can be decoded without a fault."""
    samples = 0
    for frame in container.decode(stream):
        samples += frame.samples
        if samples * 2 >= frame.sample_rate:
            break
    return samples > 0


def _places(length: float) -> list[float]:
    return [length * (n + 0.5) / SOUND_PLACES for n in range(SOUND_PLACES)] if length > 1 else [0.0]


def _peak(container: Any, stream: Any, at: float) -> float | None:
    """The loudest sample of half a second; None where nothing can be decoded."""
    return value(lambda: _loudest(container, stream, at), None)


def _loudest(container: Any, stream: Any, at: float) -> float:
    import av

    wanted = (container.start_time or 0) / 1e6 + at
    container.seek(int(wanted * 1e6))
    resampler = av.AudioResampler(format="flt", layout=stream.codec_context.layout.name, rate=8000)
    loudest = 0.0
    seen = 0
    for frame in frames_from(container, stream, wanted):
        for piece in resampler.resample(frame):
            samples = (
                memoryview(piece.planes[0])
                .cast("B")
                .cast("f")[: piece.samples * stream.codec_context.channels]
            )
            loudest = max(loudest, max(samples, default=0.0), -min(samples, default=0.0))
            seen += piece.samples
        if seen >= 4000:
            break
    if not seen:
        raise ValueError("no sound")
    return loudest


def frames_from(container: Any, stream: Any, wanted: float) -> Iterator[Any]:
    """The sound from a moment on: a seek leads to a keyframe of the picture, which may lie long before it."""
    first: int | None = None
    for packet in container.demux(stream):
        place = packet.pos or 0
        first = place if first is None else first
        early = packet.pts is not None and float(packet.pts * packet.time_base) < wanted - LEAD_IN
        if not early or place - first > MAX_READ:
            yield from packet.decode()
