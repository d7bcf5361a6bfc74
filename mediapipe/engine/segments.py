"""A stream of segments read back: whether its renditions fit together, and what one of them shows.

A segment plays behind its rendition's head alone, so a few of them are put together where something is to be
seen. It knows playlists as our own FFmpeg writes them, and judges no picture (compare.py).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

from mediapipe.engine import prober
from mediapipe.engine.containers import boxes
from mediapipe.engine.errors import NOTHING_READABLE, TaskError
from mediapipe.engine.media import Media

PLAYLIST = ".m3u8"  # the suffix of what stands for a stream
CUT_TOLERANCE = 0.05  # seconds between the same cut of two renditions, which count time in other units
MARGIN = 0.3  # seconds about a cut, beyond which a picture or a sound is surely on its own side


@dataclass(frozen=True)
class Rendition:
    """One playlist of segments."""

    playlist: Path

    @cached_property
    def lines(self) -> list[str]:
        """Of its text."""
        return self.playlist.read_text().splitlines()

    @cached_property
    def cuts(self) -> list[float]:
        """The seconds at which its segments end."""
        lengths = (line[8:].split(",")[0] for line in self.lines if line.startswith("#EXTINF:"))
        return list(accumulate(map(float, lengths)))

    @contextmanager
    def part(self, begin: float, end: float) -> Iterator[Path]:
        """A file of the segments that hold these seconds. Raises TaskError."""
        head = [line.split('"')[1] for line in self.lines if line.startswith("#EXT-X-MAP:")]
        names = _names(self.lines)
        if not head or not names:
            raise TaskError("damaged", NOTHING_READABLE)
        first = min(sum(cut < begin - MARGIN for cut in self.cuts), len(names) - 1)
        last = min(sum(cut < end + MARGIN for cut in self.cuts), len(names) - 1)
        descriptor, name = tempfile.mkstemp(".mp4", dir=self.playlist.parent)
        try:
            with os.fdopen(descriptor, "wb") as whole:
                for each in (head[0], *names[first : last + 1]):
                    whole.write(self.playlist.with_name(each).read_bytes())
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)  # a try that has failed clears its folder


def _names(lines: list[str]) -> list[str]:
    """What a playlist names: segments, or other playlists."""
    return [line for line in lines if line and not line.startswith("#")]


def _renditions(playlist: Path) -> list[Rendition]:
    several = sorted(playlist.parent.glob("rendition*.m3u8"))
    return [Rendition(each) for each in several or [playlist]]


async def read_stream(playlist: Path, copied: bool) -> Media:
    """A stream's first rendition. Raises TaskError unless all of them play and are cut at the same places."""
    renditions = _renditions(playlist)
    named = _names(playlist.read_text().splitlines())
    if renditions[0].playlist != playlist and [each.playlist.name for each in renditions] != named:
        raise TaskError("internal_error", "The master playlist doesn’t name every rendition.")
    first, *others = [await _first_segment(each) for each in renditions]
    cuts = renditions[0].cuts
    for other, rendition in zip(others, renditions[1:], strict=True):
        if not (_is_alike(first, other) and _are_cut_alike(cuts, rendition.cuts)):
            raise TaskError("internal_error", "The renditions don’t fit together.")
    video = first.video and replace(first.video, frames=0)  # they are those of the first segment
    return replace(first, video=video, start=0.0, duration=cuts[-1])  # as look() counts


def _is_alike(first: Media, other: Media) -> bool:
    """Whether another rendition plays, has the same tracks, and is as wide for its height."""
    if first.video is None or other.video is None or not other.video.decodes:
        return False
    shapes = [each.video.shown[0] / each.video.shown[1] for each in (first, other) if each.video]
    near = abs(shapes[0] / shapes[1] - 1) < 2.5 / min(other.video.shown)
    return near and (first.audio is None) == (other.audio is None)


def _are_cut_alike(cuts: list[float], others: list[float]) -> bool:
    if len(cuts) != len(others):
        return False
    return all(abs(one - other) < CUT_TOLERANCE for one, other in zip(cuts, others, strict=True))


async def _first_segment(rendition: Rendition) -> Media:
    with rendition.part(0.0, 0.0) as file:
        return await prober.probe(file)


def pictures(playlist: Path) -> list[int]:
    """How many each rendition has in all its segments, by their own account. Raises OSError."""
    return [
        sum(_in_segment(each.playlist.with_name(name)) for name in _names(each.lines))
        for each in _renditions(playlist)
    ]


def _in_segment(path: Path) -> int:
    """Of the film: a segment's first track."""
    with open(path, "rb") as file:
        moofs = [each for kind, *each in boxes(file, 0, path.stat().st_size) if kind == b"moof"]
        films = [next(each for kind, *each in boxes(file, *moof) if kind == b"traf") for moof in moofs]
        runs = [each for film in films for kind, *each in boxes(file, *film) if kind == b"trun"]
        return sum(_count(file, start) for start, _ in runs)


def _count(file: IO[bytes], run: int) -> int:
    file.seek(run + 4)  # behind its version and its flags
    return int.from_bytes(file.read(4), "big")


async def look(playlist: Path, *, budget: float, **asked: Any) -> dict[str, Any] | None:
    """What its first rendition shows and lets hear, asked as one file is (looks.py)."""
    rendition = _renditions(playlist)[0]
    # its clock begins where its first picture does: late where others are stored before it, or where what an
    # encoder puts before a sound lasts long
    first = await _first_segment(rendition)
    begins = first.start + (first.video.begins if first.video else 0.0)
    moments = asked["moments"] if asked["video"] is not None else []
    places = asked["places"] if asked["audio"] is not None else []
    near = asked["around"]
    wanted = [(at - near, at + near, {"moments": [begins + at], "places": []}) for at in moments]
    wanted += [(at, at + long, {"moments": [], "places": [(begins + at, long)]}) for at, long in places]
    found: dict[str, Any] | None = None
    for start, end, of_these in wanted or [(0.0, 0.0, {"moments": [], "places": []})]:  # it is to be read
        with rendition.part(start, end) as file:
            about = asked | of_these | {"start": begins}
            seen = await prober.looks(file, **about, budget=budget / max(1, len(moments)))
        if seen is None:
            return None
        found = seen if found is None else _both(found, seen)
    return found


def _both(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return one | {
        "pictures": one["pictures"] + other["pictures"],
        "sound": one["sound"] + other["sound"],
        "bass": max(one["bass"], other["bass"]),
        "rise": one["rise"] and other["rise"],
        **{name: one[name] or other[name] for name in ("flipped", "misled", "resized")},
    }
