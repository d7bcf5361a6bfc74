"""What a file shows and lets hear at a few moments: small grey pictures and peaks, to compare two files by.

For a sandboxed child (probe.py): PyAV and the standard library. It judges nothing (compare.py).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from mediapipe.engine import turns
from mediapipe.engine.containers import boxes
from mediapipe.engine.survey import frames_from, value

SIDE = 24  # dots of a picture's side
BIN = 0.05  # seconds of sound that one peak is of
RATE = 8000  # samples a second to which sound is brought first
PIECE = 100  # samples that are looked at together
MAX_FRAMES = 600  # of a track that are decoded in search of one moment
MAX_SEEK_ERROR = 0.5  # seconds by which a seek may lead past its moment
PREDICTED = (2, 3)  # P and B: pictures that can't be decoded alone
FOLDED = 8  # channels to which a bass channel is left out of stereo
MIN_PICTURES = 12  # pictures that are decoded in search of one, whatever the budget
DECODER_DELAY = 0.3  # seconds of pictures that a decoder may hold back
Picture = tuple[float, str]  # when it is shown, and its dots


def looks(path: str, options: dict[str, str], asked: dict[str, Any]) -> dict[str, Any]:
    """The `pictures` and `sound` at the moments that *asked* names, and whether its index comes `first`.

    `misled`: seeks in it don't lead where they should.

    *asked*: `video` and `audio` (a track's number or null), `moments` (seconds on the file's own clock),
    `start` (nothing earlier counts), `around` (0: one picture for each moment, else all so many seconds about
    it), `keys` (the moments are those of keyframes, or the keyframes before them will do), `places` (seconds,
    and how many of sound from there), `budget` (seconds of processor for pictures; None is what it isn't
    enough for),
    `crop` (what of a picture isn't to be seen: left, top, right, bottom), `turn` (counter-clockwise),
    `late` (seconds that each is shown late where only the order of storing is known, else 0).
    """
    import av

    found: dict[str, Any] = {"pictures": [], "sound": [], "bass": 0.0}
    found |= {"rise": True, "flipped": False, "misled": False, "resized": False}
    found["first"] = value(lambda: index_comes_first(path), None)
    with av.open(path, metadata_errors="replace", options=options) as container:
        asked = asked | {"stored": is_stored(container, asked["late"])}
        tracks = [container.streams[asked[kind]] for kind in ("video", "audio") if asked[kind] is not None]
        begin = [value(lambda s=each: float(s.start_time * s.time_base), None) for each in tracks]  # type: ignore[misc]
        found["begins"] = min((at for at in begin if at is not None), default=None)
        if asked["audio"] is not None:
            found["sound"] = list(_sounds(container, asked, found))
        if asked["video"] is not None:
            stream = container.streams[asked["video"]]
            found["size"] = (stream.width, stream.height)  # the decoder will change it with the pictures
            stream.codec_context.thread_count = 1
            stream.codec_context.options = {"skip_loop_filter": "all"}  # a small picture needs none
            ends = time.process_time() + asked["budget"]
            for moment in asked["moments"]:
                # where none could be reached, the one near the beginning still can
                last_hope = moment == min(asked["moments"]) and not any(found["pictures"])
                wanted = not found["pictures"] or last_hope or time.process_time() < ends
                seen = _try_pictures(container, stream, moment, asked, found, ends) if wanted else None
                found["pictures"].append(seen)
    return found


def in_order(path: str, options: dict[str, str], asked: dict[str, Any]) -> dict[str, Any]:
    """The `pictures` at the `moments` of *asked*, decoded from the beginning: slow, but sure.

    As many as its `budget` of processor seconds is enough for.
    """
    import av

    ends = time.process_time() + asked["budget"]
    moments = [float(moment) for moment in asked["moments"]]
    todo = sorted(set(moments))
    shown = dict[float, Picture]()
    with av.open(path, metadata_errors="replace", options=options) as container:
        stream = container.streams[asked["video"]]
        asked = asked | {"stored": is_stored(container, asked["late"])}
        size = (stream.width, stream.height)
        for frame in container.decode(stream):
            at = _time(frame, asked)
            while todo and at is not None and at >= todo[0] - 0.001:
                moment = todo.pop(0)
                if _has_shape(frame, size):
                    shown[moment] = (at, _dots(frame, asked).hex())
            if not todo or time.process_time() > ends:
                break
    return {"pictures": [[shown[moment]] if moment in shown else [] for moment in moments]}


def _try_pictures(*given: Any) -> list[Picture] | None:
    try:
        return _pictures(*given)
    except Exception:  # what a damaged file may raise
        return []


def _pictures(
    container: Any, stream: Any, moment: float, asked: dict[str, Any], found: dict[str, Any], ends: float
) -> list[Picture] | None:
    """The picture at *moment*, or as near before it as its share of the budget takes us from a keyframe.

    With `around` all pictures that begin about the moment; the one that is held, where none begins; None
    where the budget *ends* before it is reached.
    """
    around = asked["around"]
    share = time.process_time() + asked["budget"] / len(asked["moments"])
    first = value(lambda: float(stream.start_time * stream.time_base), 0.0)
    near = asked["keys"] or moment - around - DECODER_DELAY <= first  # no way there, to be quick on
    stream.codec_context.skip_frame = "DEFAULT" if near else "NONREF"
    _seek(container, stream, moment)
    held = last = None
    shown: list[Any] = []
    for count, frame in enumerate(container.decode(stream)):
        at = _time(frame, asked)
        if at is None or count > MAX_FRAMES:
            break
        if last is None:  # what a file calls a keyframe need not be one
            late = at > max(moment, asked["start"], first) + MAX_SEEK_ERROR
            found["misled"] |= late or int(frame.pict_type) in PREDICTED
        found["rise"] &= not around or last is None or at > last
        last = at
        if at < asked["start"] - 0.001 or frame.is_corrupt:
            continue
        if around and at > moment + around:
            break
        if around and at >= moment - around:
            shown.append(frame)
        else:
            held = frame
        if around and at >= moment - around - DECODER_DELAY:
            stream.codec_context.skip_frame = "DEFAULT"
        if not around and (asked["keys"] or at >= moment - 0.001 or time.process_time() > share):
            break
        if around and at < moment - around and count > MIN_PICTURES and time.process_time() > ends:
            return None
    return _small(shown or ([held] if held else []), asked, found)


def _seek(container: Any, stream: Any, at: float) -> None:
    """Goes to the keyframe before a moment; not before the beginning of the file, which may be below 0."""
    begins = value(lambda: container.start_time / 1e6, 0.0)
    container.seek(round(max(min(0.0, begins), at) / stream.time_base), stream=stream)


def _small(shown: list[Any], asked: dict[str, Any], found: dict[str, Any]) -> list[Picture]:
    """The dots of these pictures, as far as they have the track's shape."""
    found["flipped"] |= any(turns.is_mirrored(each) for each in shown)
    found["resized"] |= any((each.width, each.height) != found["size"] for each in shown)
    alike = [each for each in shown if _has_shape(each, found["size"])]
    return [(_time(each, asked) or 0.0, _dots(each, asked).hex()) for each in alike]


def is_stored(container: Any, late: float) -> bool:
    """Whether the times of a film's pictures are those of storing; what AVI says besides is made up."""
    return bool(late) or container.format.name == "avi"


def _time(frame: Any, asked: dict[str, Any]) -> float | None:
    """When a picture is shown."""
    if not asked["stored"] or frame.dts is None:
        return value(lambda: float(frame.time), None)
    return value(lambda: float(frame.dts * frame.time_base) - float(asked["late"]), None)


def _has_shape(frame: Any, size: tuple[int, int]) -> bool:
    """Whether a picture is as wide for its height as the track says: it may change in the middle."""
    wider: float = frame.width * size[1] / (frame.height * size[0])
    return 0.98 < wider < 1.02


def _dots(frame: Any, asked: dict[str, Any]) -> bytes:
    """The upright picture, small and grey, of what is to be seen of it."""
    left, top, right, bottom = asked["crop"] or (0, 0, 0, 0)
    across = SIDE / (frame.width - left - right)
    down = SIDE / (frame.height - top - bottom)
    width = round(frame.width * across)
    height = round(frame.height * down)
    small = frame.reformat(width=width, height=height, format="gray", interpolation="AREA")
    plane = small.planes[0]
    data = bytes(plane)
    first = round(left * across)
    rows = range(round(top * down), round(top * down) + SIDE)
    dots = b"".join(data[row * plane.line_size + first :][:SIDE] for row in rows)
    for _ in range(asked["turn"] // 90):
        dots = bytes(dots[x * SIDE + SIDE - 1 - y] for y in range(SIDE) for x in range(SIDE))
    return dots


def _sounds(container: Any, asked: dict[str, Any], found: dict[str, Any]) -> Iterator[list[float] | None]:
    """The peaks at each of the places; None where it can't be decoded."""
    stream = container.streams[asked["audio"]]
    for number, (place, seconds) in enumerate(asked["places"]):
        # what a file has before its index begins, no seek finds
        if number or place > (found["begins"] or 0.0) + 0.01:
            value(lambda p=place: _seek(container, stream, p - 0.1), None)  # type: ignore[misc]
        yield value(lambda p=place, s=seconds: _peaks(container, stream, p, s, found), None)  # type: ignore[misc]


def _peaks(container: Any, stream: Any, place: float, seconds: float, found: dict[str, Any]) -> list[float]:
    """The loudest sample of each bin from *place* on, which is ahead; nothing where there is no sound at all.

    The bass channel doesn't count: nothing else than `bass` tells whether it is heard.
    """
    peaks = [0.0] * round(seconds / BIN)
    places = [each.name for each in stream.codec_context.layout.channels]
    bass = places.index("LFE") if "LFE" in places and 1 < len(places) <= FOLDED else None
    seen = False
    for at, channels in _samples(container, stream, place - 0.1):
        if at > place + seconds:
            break
        for number, samples in enumerate(channels):
            for first in range(0, len(samples), PIECE):
                where = int((at + first / RATE - place) // BIN)
                if not 0 <= where < len(peaks):
                    continue
                few = samples[first : first + PIECE]
                peak = max(max(few), -min(few))
                seen = True
                if number == bass:
                    found["bass"] = max(found["bass"], peak)
                else:
                    peaks[where] = max(peaks[where], peak)
    return [round(peak, 5) for peak in peaks] if seen else []


def _samples(container: Any, stream: Any, place: float) -> Iterator[tuple[float, list[Any]]]:
    """The time of each piece of sound from a place on, and the samples of each channel."""
    import av

    resampler = av.AudioResampler(format="fltp", layout=stream.codec_context.layout.name, rate=RATE)
    for frame in frames_from(container, stream, place):
        at = frame.time
        for piece in resampler.resample(frame):
            yield at, [memoryview(plane).cast("B").cast("f")[: piece.samples] for plane in piece.planes]
            at += piece.samples / RATE


def index_comes_first(path: str) -> bool | None:
    """Whether an MP4 begins to play before it is there whole; None for another file."""
    with open(path, "rb") as file:
        kinds = [kind for kind, _, _ in boxes(file, 0, file.seek(0, 2))]
    if b"moov" not in kinds or b"mdat" not in kinds:
        return None
    return kinds.index(b"moov") < kinds.index(b"mdat")
