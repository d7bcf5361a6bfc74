"""Where a long film can be encoded in pieces. Pure.

A piece begins where an uncut encode would have a keyframe, and is told from the next by the source's own
times: each picture is in exactly one. Only what is known to come out the same is taken (docs/engine.md).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mediapipe.engine.arguments import Plan, RenditionPlan, has_alpha, output_size
from mediapipe.engine.clock import FASTEST
from mediapipe.engine.media import Media, Video
from mediapipe.engine.plan import encoder
from mediapipe.validators import Options

GRID = 2  # seconds between an encode's keyframes, and so between the places where it can be cut
WORK = 20.0  # seconds of one core that a piece takes, by the figures below
READING = 0.008  # seconds of one core for a megapixel that is decoded
# … and for one that is encoded
WRITING = {"libx264": 0.010, "libx265": 0.050, "libvpx-vp9": 0.055, "libsvtav1": 0.010}
MIN_START = 1e-6  # seconds that the clock of a film that is copied may begin at
MIN_PIECES = 4  # pieces, below which a film is encoded in one
MAX_PIECES = 400  # pieces of one film: Temporal keeps each in the history
TAIL = 4  # times as short as the others the last pieces are, where several machines take them
LONGEST_STEP = 5.0  # seconds that one picture stands
CONTAINERS = ("mov", "matroska", "mxf")  # demuxers with an index, and with a time for each picture
CODECS = {  # of which each packet is one picture
    *("h264", "hevc", "vp8", "vp9", "av1", "mpeg1video", "mpeg2video", "mpeg4"),
    *("prores", "dnxhd", "mjpeg", "jpeg2000", "dvvideo", "cfhd"),
    *("ffv1", "huffyuv", "utvideo", "v210", "rawvideo"),
}
OPTIONS = {"format", "codec", "quality", "width", "height", "fit", "position", "background"}
SOUND = "sound"
MISSING = "missing"  # of a join: a piece isn't there
IN_ONE = "This film was encoded in one piece: joined from several it would not have been exact."


@dataclass(frozen=True)
class Piece:
    """A part of a film's picture, from *start* to *end* in seconds of its source (0: to the end).

    *frames*: how many pictures the source has there; *late*: by how much its first one comes after the place
    on the grid at which it begins.
    """

    number: int
    start: float
    end: float
    seconds: float
    frames: int
    late: float = 0.0
    suffix: str = "mp4"

    @property
    def name(self) -> str:
        """Of its file: that of the same part of the film in another division, too."""
        return f"{self.number:04}-{self.start * 1e6:.0f}-{self.end * 1e6:.0f}.{self.suffix}"


@dataclass(frozen=True)
class Division:
    """A film in pieces: *key* names the folder in which they are kept, by what they are made of.

    *at_once*: how many stand in line or are at work together, so that they are taken in their order; 0: all.
    """

    key: str
    pieces: list[Piece] = field(default_factory=list)
    sound: bool = False
    at_once: int = 0

    @property
    def seconds(self) -> float:
        """Of the picture."""
        return sum(piece.seconds for piece in self.pieces)

    @property
    def names(self) -> list[str]:
        """Of the files of all pieces, and of the sound."""
        return [*(piece.name for piece in self.pieces), *([self.sound_name] if self.sound else [])]

    @property
    def sound_name(self) -> str:
        """Of the file of the sound."""
        return f"{SOUND}.{self.pieces[0].suffix}"


@dataclass(frozen=True)
class PieceWork:
    """What one activity encodes: a piece of a film of so many *seconds*, or its sound (no piece)."""

    task_id: str
    key: str
    seconds: float
    piece: Piece | None = None


def can_divide(options: Options, media: Media, plan: Plan, cores: int) -> bool:
    """Whether it is long, and an encode of pieces known to be that of the whole."""
    video = media.video
    return (
        video is not None
        and bool(plan.encodes)
        and set(options) <= OPTIONS
        and media.format.startswith(CONTAINERS)
        and not (media.guessed or media.jumps or media.is_still or media.undecodable)
        and not (
            video.held or video.lost or video.shifts or video.far or (media.audio and media.audio.shifts)
        )
        and video.codec in CODECS
        and not (video.tiled or video.discarded or video.crop or video.late or has_alpha(video))
        and 1 <= video.fps <= FASTEST
        and abs(media.start) < (MIN_START if plan.copied else 1)
        and media.duration >= MIN_PIECES * piece_seconds(plan, video, cores)
    )


def piece_seconds(plan: Plan, video: Video, cores: int) -> float:
    """How long a piece is, on the grid: so that it is some ten seconds of work for this machine."""
    pixels = video.width * video.height * READING + sum(_writing(video, each) for each in plan.encodes)
    work = pixels * video.fps / 1e6  # of one core for a second of film
    return max(1, round(WORK * max(1, min(cores, 4)) / 2 / work / GRID)) * GRID


def _writing(video: Video, rendition: RenditionPlan) -> float:
    settings = encoder_of(video, rendition)
    width, height, _ = output_size(video, rendition.options)
    return width * height * WRITING[settings[settings.index("-c:v") + 1]]


def encoder_of(video: Video, rendition: RenditionPlan) -> list[str]:
    """The arguments that encode one rendition, as pairs."""
    return encoder(rendition.options, video, str(rendition.options["format"]), rendition.keys)


def divide(
    plan: Plan, media: Media, times: dict[str, Any], key: str, cores: int, takers: int = 1
) -> Division | None:
    """The film's pieces, by when its pictures are shown (picture_times.py); None where it stays in one.

    *takers*: how many are encoded side by side, on all machines.
    """
    video = media.video
    assert video is not None
    if times["problem"] or (plan.layout == "folder" and not times["even"]):  # what segments count by
        return None
    count = min(MAX_PIECES, int(times["last"] / piece_seconds(plan, video, cores)))
    if count < MIN_PIECES:
        return None
    longest = max(1, round(times["last"] / count / GRID)) * GRID
    chosen = _chosen(times["cuts"], times["last"], longest, takers)
    chosen = chosen if takers > 1 else chosen[: count - 1]
    edges = [{"at": 0.0, "first": times["first"], "before": 0, "late": 0.0}, *chosen]
    ends = [*chosen, {"at": 0.0, "first": times["last"], "before": times["count"], "late": 0.0}]
    pieces = [
        Piece(
            number,
            round(edge["at"], 6),
            round(end["at"], 6),
            end["first"] - edge["first"],
            end["before"] - edge["before"],
            round(edge["late"], 6),
            container(plan),
        )
        for number, (edge, end) in enumerate(zip(edges, ends, strict=True))
    ]
    if len(pieces) < MIN_PIECES or not all(piece.frames for piece in pieces):
        return None
    return Division(key, pieces, media.audio is not None, at_once=2 * takers)


def container(plan: Plan) -> str:
    """What pieces are kept in: MP4 has exact times, WebM what WebM says of its tracks."""
    return "webm" if plan.muxer == "webm" else "mp4"


def _chosen(
    cuts: Sequence[dict[str, Any]], seconds: float, longest: int, takers: int
) -> list[dict[str, Any]]:
    """The places at which a film is cut: evenly for one taker.

    For several, pieces are ever shorter towards the end, so that none waits for another that has just begun.
    """
    shortest = max(GRID, round(longest / TAIL / GRID) * GRID) if takers > 1 else longest
    chosen: list[dict[str, Any]] = []
    begins = 0.0
    for cut in cuts:
        left = seconds - begins
        if left < 1.5 * shortest:
            break
        wanted = min(longest, max(shortest, left / takers)) if takers > 1 else longest
        if cut["at"] - begins > wanted - GRID / 2:
            chosen.append(cut)
            begins = cut["at"]
    return chosen


def cores() -> int:
    """How many this process may use: `taskset` may leave it fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
