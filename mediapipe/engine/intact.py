"""Whether a film that was copied can be decoded: its packets as a whole, its pictures and sound in places.

For a sandboxed child (probe.py): PyAV and the standard library.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from mediapipe.engine.survey import MAX_ENTRIES

FEW = 8  # pictures that are decoded behind each keyframe at first
ALL = 10_000  # … and then
HEARD = 20  # packets of sound that are decoded at each place,
LASTING = 0.4  # which last about so many seconds
SLICES = (1, 5)  # NAL units that hold pictures
HOLE = b"\0\0\0"  # which no picture of H.264 contains: its encoder puts a 3 in between
LENGTH = 4  # bytes that say how long a NAL unit is, as FFmpeg writes MP4
BEGINNING = 0.08  # seconds of the processor for pictures, and as much for packets,
SHARE = 0.004  # and the share of what an encode of it takes,
ENCODED = 150e6  # which is a second for so many pixels,
SOUND = 0.02  # seconds of it for sound,
SOUND_SHARE = 0.0001  # and of each second that it lasts,
MAX_SECONDS = 0.5  # and no more than that


def is_whole(container: Any, stream: Any, length: float) -> bool:
    """Whether all of a copied picture that can be looked at for its budget is as its encoder made it."""
    pixels = stream.width * stream.height * max(stream.frames, length * float(stream.average_rate or 25))
    budget = min(MAX_SECONDS, BEGINNING + SHARE * pixels / ENCODED)
    try:
        holes = stream.codec_context.name == "h264" and _has_holes(container, stream, budget)
        return not holes and _pictures_decode(container, stream, budget)
    except Exception:  # what a decoder says of damage
        return False


def can_be_heard(container: Any, stream: Any, length: float) -> bool:
    """Whether the packets of sound that are tried all over the film are what a decoder knows."""
    try:
        _try_sound(container, stream, length, min(MAX_SECONDS, SOUND + SOUND_SHARE * length))
    except Exception:
        return False
    return True


def _has_holes(container: Any, stream: Any, budget: float) -> bool:
    """Whether a packet of H.264 isn't full of whole NAL units, or what none may contain is in a picture."""
    ends = time.process_time() + budget
    container.seek(0)
    for packet in container.demux(stream):
        data = bytes(packet)
        at = 0
        while at < len(data):
            end = at + LENGTH + int.from_bytes(data[at : at + LENGTH], "big")
            unit = data[at + LENGTH : end]
            if end > len(data) or not unit:
                return True
            if unit[0] & 31 in SLICES and HOLE in unit.rstrip(b"\0"):
                return True
            at = end
        if time.process_time() > ends:
            break
    return False


def _pictures_decode(container: Any, stream: Any, budget: float) -> bool:
    """Whether pictures all over the film are there, and nothing of them had to be guessed.

    A few behind each keyframe first, then all, as far as the budget goes; at three keyframes in any case.
    """
    entries = stream.index_entries
    keys = [entries[at].timestamp for at in range(min(len(entries), MAX_ENTRIES)) if entries[at].is_keyframe]
    ends = time.process_time() + budget
    shown = 0
    for most in (FEW, ALL):
        for turn, number in enumerate(_spread(len(keys))):
            container.seek(keys[number], stream=stream)
            for frame in _from_keyframe(container, stream, most):
                if frame.is_corrupt:
                    return False
                shown += 1
                if time.process_time() > ends:
                    break
            if turn > 1 and time.process_time() > ends:
                return shown > 0
    return shown > 0


def _from_keyframe(container: Any, stream: Any, most: int) -> Iterator[Any]:
    """The pictures from the keyframe at which the file stands up to the next one, so many at most."""
    for count, packet in enumerate(container.demux(stream)):
        yield from packet.decode()
        if count >= most or (count and packet.is_keyframe):
            return


def _try_sound(container: Any, stream: Any, length: float, budget: float) -> None:
    """Decodes a few packets here and there; raises what the decoder does."""
    ends = time.process_time() + budget
    for number in _spread(max(1, round(length / LASTING))):
        container.seek(int(number * LASTING / stream.time_base), stream=stream)
        for count, packet in enumerate(container.demux(stream)):
            packet.decode()
            if count >= HEARD:
                break
        if time.process_time() > ends:
            return


def _spread(count: int) -> Iterator[int]:
    """Each of so many numbers once: the first, the last, and then each between those that were."""
    seen = set[int]()
    parts = 1
    while len(seen) < count:
        for part in range(parts + 1):
            number = part * (count - 1) // parts
            if number not in seen:
                seen.add(number)
                yield number
        parts *= 2
