"""Which track of a file is the film and which its sound, and what to say of those left out. Pure.

It reads the facts that probe.py gathers, in its child and again in the worker, and knows neither files nor
plans.
"""

from __future__ import annotations

import re
from typing import Any

Facts = dict[str, Any]  # of one track

DEFAULT = 0x1  # AV_DISPOSITION_*
COVER_ART = 0x400
DEPENDENT = 0x80000
# Comments, karaoke, for the deaf or the blind, without voices, descriptions: beside the film's own.
NOT_MAIN = 0x8 | 0x20 | 0x80 | 0x100 | 0x200 | 0x20000
BY_TITLE = re.compile(r"comm?ent|kommentar|descripti|deskription|beschreibung", re.IGNORECASE)
NO_FILM = COVER_ART | 0x800
SILENT_LEVEL = 0.0005  # of full scale: below it there is no room, no noise, nothing
MIN_SAMPLE_RATE = 1000  # samples a second: less is no sound, and a huge file when resampled
ICON_FACTOR = 4  # times as small as the largest: a default track of that size is no film


def pictures(streams: list[Facts]) -> list[Facts]:
    """The video tracks that can be the film, the likeliest first; covers only where there is no other."""
    able = [s for s in streams if s["type"] == "video" and s["codec"] and not s.get("empty")]
    films = [s for s in able if not s["disposition"] & NO_FILM]
    moving = [s for s in films if s.get("packets", 3) > 2]
    candidates = moving or films or able
    largest = max((_area(s) for s in candidates), default=0)
    sounding = {s.get("programme") for s in sounds(streams)}

    def rank(track: Facts) -> tuple[Any, ...]:
        marked = bool(track["disposition"] & DEFAULT) and _area(track) * ICON_FACTOR >= largest
        whole = track.get("programme") in sounding
        return whole, not track.get("undecodable"), marked, _area(track), track["frames"]

    return sorted(candidates, key=rank, reverse=True)


def picture(streams: list[Facts]) -> Facts | None:
    """The film's picture, or what stands for it."""
    return next(iter(pictures(streams)), None)


def _area(track: Facts) -> int:
    return int(track["width"] * track["height"])


def sounds(streams: list[Facts]) -> list[Facts]:
    """The sound tracks in which there is something."""
    tracks = [s for s in streams if s["type"] == "audio" and s["codec"] and s.get("channels")]
    return [s for s in tracks if s["rate"] >= MIN_SAMPLE_RATE and not s.get("empty")]


def sound(streams: list[Facts], film: Facts | None) -> Facts | None:
    """The film's own sound: of its programme, heard, no commentary, the file's default, the first."""

    def rank(track: Facts) -> tuple[bool, ...]:
        return (
            film is None or track.get("programme") == film.get("programme"),
            not track.get("undecodable"),
            track.get("peak", 1.0) > SILENT_LEVEL,
            not (track["disposition"] & NOT_MAIN or BY_TITLE.search(track.get("title", ""))),
            bool(track["disposition"] & DEFAULT),
        )

    return max(sounds(streams), key=rank, default=None)


def left_out(streams: list[Facts], film: Facts | None, chosen: Facts | None) -> list[str]:
    """What of the file isn’t in its outputs, and why, for an editor."""
    return [*_pictures_left_out(streams, film), *_sounds_left_out(streams, chosen)]


def _pictures_left_out(streams: list[Facts], film: Facts | None) -> list[str]:
    others = [
        s
        for s in streams
        if s["type"] == "video" and s is not film and not s["disposition"] & (NO_FILM | DEPENDENT)
    ]
    if film is None and any(s.get("empty") for s in others):
        return ["The file has a picture track, but there is nothing in it. Only the sound was processed."]
    if film is None or not others or film["disposition"] & DEPENDENT:
        return []
    if all(_is_first_of(film, each) for each in others):
        return []
    if all(0 < s.get("packets", 0) <= 2 for s in others):
        return ["The file holds a still picture beside the film as a track of its own. It was left out."]
    if len({s.get("programme") for s in [film, *others]}) > 1:
        return [
            "The recording holds several programmes. "
            f"The one whose picture has {film['width']} × {film['height']} pixels was taken."
        ]
    return [
        f"The file has {len(others) + 1} video tracks. "
        f"The one of {film['width']} × {film['height']} pixels was taken."
    ]


def _is_first_of(film: Facts, still: Facts) -> bool:
    """Whether it is the picture by which an animated photo (AVIF, HEIF) is shown where none move."""
    alike = all(still.get(each) == film.get(each) for each in ("codec", "width", "height"))
    return alike and still["index"] < film["index"] and still.get("packets") == 1


def _sounds_left_out(streams: list[Facts], chosen: Facts | None) -> list[str]:
    tracks = [s for s in streams if s["type"] == "audio"]
    if chosen is None:
        nothing = [s for s in tracks if s.get("empty")]
        return (
            ["The file has a sound track, but there is nothing in it. The result is silent."]
            if nothing
            else []
        )
    mates = [s for s in tracks if s.get("programme") == chosen.get("programme")]
    if len(mates) < 2:
        return []
    number = 1 + mates.index(chosen)
    language = f" ({chosen['language']})" if chosen.get("language") else ""
    silent = [s for s in mates if s.get("empty") or s.get("peak", 1.0) <= SILENT_LEVEL]
    why = ", because another is silent" if silent and chosen not in silent else ""
    return [f"The file has {len(mates)} sound tracks. Number {number}{language} was taken{why}."]
