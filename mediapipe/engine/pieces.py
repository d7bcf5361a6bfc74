"""Where a long film can be encoded in pieces. Pure.

A piece begins where an uncut encode would have a keyframe, and is divided from the next by the source's own
times: each picture is in exactly one. Only what is known to come out the same is taken (docs/engine.md).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from mediapipe.engine.arguments import Plan, RenditionPlan, has_alpha, kept_rate, output_size, trim
from mediapipe.engine.clock import FASTEST
from mediapipe.engine.media import Media, Video
from mediapipe.engine.plan import SOURCE_KEYS, encoder
from mediapipe.engine.seams import Asked
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
LEAD_IN = 1.0  # seconds before a piece from which its source is read: pictures are stored in another order
INDEXED = ("mov", "matroska", "mxf", "avi")  # demuxers that find any place
# … and those without an index, whose clock begins with the tracks that are taken
STREAMS = ("mpegts", "mpeg")
A_CLOCK = 90_000  # ticks a second
A_PACKET = 1024  # samples of AAC
CODECS = {  # of which each packet is one picture
    *("h264", "hevc", "vp8", "vp9", "av1", "mpeg1video", "mpeg2video", "mpeg4"),
    *("prores", "dnxhd", "mjpeg", "jpeg2000", "dvvideo", "cfhd"),
    *("ffv1", "huffyuv", "utvideo", "v210", "rawvideo"),
}
OPTIONS = {
    *("format", "codec", "quality", "width", "height", "fit", "position", "background"),
    *("start", "end", "fps"),
}
MISSING = "missing"  # of a join: a piece isn't there
IN_ONE = "This film was encoded in one piece: joined from several it would not have been exact."


@dataclass(frozen=True)
class Piece:
    """A part of a film's picture, from *start* to *end* in seconds of the output (0: to the end).

    *frames*: how many pictures it has; *late*: by how much its first one comes after the place on the grid at
    which it begins; *read*: from where on the source is read (None: the beginning); *joint*: when the first
    picture of the source is shown, *next_joint*: the next piece's (0: there is none).
    """

    number: int
    start: float
    end: float
    seconds: float
    frames: int
    late: float = 0.0
    suffix: str = "mp4"
    read: float | None = None
    joint: float = 0.0
    next_joint: float = 0.0
    origin: int = 0  # microseconds of the source's clock at which the output's begins
    slack: int = 0  # pictures more or fewer, where nobody knows how long the film's last one stands

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
        return name_of(None, self.pieces[0].suffix)


def name_of(piece: Piece | None, suffix: str) -> str:
    """Of the file of a piece, or of the sound (no piece)."""
    return piece.name if piece else f"sound.{suffix}"


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
        and not (media.guessed or media.jumps or media.is_still or media.undecodable)
        and not (
            video.held or video.lost or video.shifts or video.far or (media.audio and media.audio.shifts)
        )
        and video.codec in CODECS
        and not (video.tiled or video.discarded or video.crop or has_alpha(video))
        and 1 <= (_rate(plan) or video.fps) <= FASTEST
        and _is_readable(options, media, plan)
        and plan.seconds >= MIN_PIECES * piece_seconds(plan, video, cores)
    )


def _is_readable(options: Options, media: Media, plan: Plan) -> bool:
    """Whether its container lets it be read from any place on as it is from the beginning."""
    if media.format in STREAMS:
        # a copy of its sound has times of its clock in segments, and of the sound's rate in a piece
        fits = plan.layout == "file" or media.audio is None or not A_CLOCK * A_PACKET % media.audio.rate
        return fits and not plan.copied and "start" not in options
    return media.format.split(",")[0] in INDEXED and abs(media.start) < (MIN_START if plan.copied else 1)


def _rate(plan: Plan) -> float:
    """Pictures a second that are made of the source's; 0 where these are encoded as they come."""
    first = plan.encodes[0]
    return kept_rate(first.video, first.options)


def piece_seconds(plan: Plan, video: Video, cores: int) -> float:
    """How long a piece is, on the grid: so that it is some ten seconds of work for this machine."""
    read = video.width * video.height * video.fps * READING
    written = sum(map(_writing, plan.encodes)) * (_rate(plan) or video.fps)
    work = (read + written) / 1e6  # of one core for a second of film
    return max(1, round(WORK * max(1, min(cores, 4)) / 2 / work / GRID)) * GRID


def _writing(rendition: RenditionPlan) -> float:
    settings = encoder_of(rendition)
    width, height, _ = output_size(rendition.video, rendition.options)
    return width * height * WRITING[settings[settings.index("-c:v") + 1]]


def encoder_of(rendition: RenditionPlan) -> list[str]:
    """The arguments that encode one rendition, as pairs."""
    return encoder(rendition.options, rendition.video, str(rendition.options["format"]), rendition.keys)


def asked_times(options: Options, media: Media, plan: Plan) -> Asked:
    """What must be known of the source's times to divide it."""
    first = plan.encodes[0]
    video = first.video
    rate = _rate(plan)
    by_keys = any(each.keys == SOURCE_KEYS for each in plan.encodes)
    # AVI says nothing else, whatever a reader makes of it
    is_stored = video.late > 0 or media.format == "avi"
    seek, limit, _ = trim(media.duration, options)
    return Asked(
        video.index,
        0 if by_keys else GRID,
        longest=math.inf if rate else LONGEST_STEP,
        begins=round(seek or 0.0, 3),
        lasts=float(limit[1]) if limit else 0.0,
        shown=0.0 if is_stored else video.begins,
        tracks=[each.index for each in (video, media.audio) if each] if media.format in STREAMS else [],
        rate=rate,
        waits=video.waits,
        held=video.outlasted,
        rounds=not (rate or by_keys or video.uneven),
        is_stored=is_stored,
        lead_in=LEAD_IN,
        by_keys=media.format in STREAMS,
    )


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
    pieces = list(_pieces(times, chosen, container(plan)))
    if len(pieces) < MIN_PIECES or not all(piece.frames for piece in pieces):
        return None
    return Division(key, pieces, media.audio is not None, at_once=2 * takers)


def _pieces(times: dict[str, Any], cuts: Sequence[dict[str, Any]], suffix: str) -> Iterator[Piece]:
    """Between the film's beginning, where it is cut, and its end."""
    begins = {**times, "at": 0.0, "before": 0, "late": 0.0, "joint": 0.0}
    ends = {"at": times["end"], "first": times["last"], "before": times["count"], "joint": 0.0}
    for number, (edge, end) in enumerate(pairwise([begins, *cuts, ends])):
        yield Piece(
            number,
            round(edge["at"], 6),
            round(end["at"], 6),
            end["first"] - edge["first"],
            end["before"] - edge["before"],
            round(edge["late"], 6),
            suffix,
            edge["read"],
            edge["joint"],
            end["joint"],
            times["origin"],
            times["slack"] if end is ends else 0,
        )


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
