"""A long film in pieces: each is encoded on its own and kept, then all are joined and verified as any output.

What doesn't come out exactly raises Inexact, and the film is encoded in one. It knows files and FFmpeg, and
neither rows nor the queue.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from django.conf import settings

from mediapipe.engine import encode, folders, piece_files, prober, segments
from mediapipe.engine.arguments import Plan
from mediapipe.engine.encode import FfmpegExit, Progress, TimeLimit
from mediapipe.engine.errors import Inexact, OtherWay, TaskError
from mediapipe.engine.hooks import Hooks
from mediapipe.engine.kinds import Kind
from mediapipe.engine.media import Media
from mediapipe.engine.piece_arguments import (
    Joints,
    join_arguments,
    picture_arguments,
    playlist,
    sound_of,
    watched_picture,
)
from mediapipe.engine.pieces import (
    GRID,
    Division,
    Piece,
    PieceWork,
    asked_times,
    can_divide,
    container,
    cores,
    divide,
    name_of,
)
from mediapipe.engine.seams import Asked
from mediapipe.engine.serialize import file_facts
from mediapipe.engine.sources import source_file
from mediapipe.engine.task import FINAL_ERRORS, Encode, TaskOutput
from mediapipe.validators import Options


class InPieces(OtherWay):
    """A film is to be encoded in pieces."""

    def __init__(self, division: Division) -> None:
        super().__init__(f"{len(division.pieces)} pieces")
        self.division = division


class Missing(OtherWay):
    """A piece of a film is gone: it must be encoded again."""


@dataclass
class Film:
    """What a task works on, probed and planned."""

    task_id: str
    kind: Kind
    options: Options
    kept: str  # its source's name, or address, as its row has it
    source: Path
    media: Media
    plan: Plan
    hooks: Hooks
    freed: int = 0  # bytes of what was half made when it was cancelled

    @classmethod
    async def of(
        cls, task_id: str, kind: Kind, options: Options, kept: str, hooks: Hooks, number: int | None = None
    ) -> Film:
        """*number*: of which piece, where several are encoded side by side. Raises TaskError, OSError."""
        source, _ = await source_file(kept, folders.source(task_id, number), hooks)
        media = await prober.probe(source, *(["--gap"] if kind.needs_packets(options) else []))
        assert kind.plan is not None
        return cls(task_id, kind, options, kept, source, media, kind.plan(options, media, str(source)), hooks)

    @property
    def is_long(self) -> bool:
        """Whether it may be encoded in pieces."""
        return can_divide(self.options, self.media, self.plan, cores())

    async def division(self, takers: int = 1) -> Division | None:
        """Its pieces, for so many that are encoded side by side; None where it is encoded in one."""
        video = self.media.video
        if video is None or not self.is_long:
            return None
        asked = asked_times(self.options, self.media, self.plan)
        times = await prober.picture_times(self.source, asked)
        return divide(self.plan, self.media, times, self._key(), cores(), takers) if times else None

    def _key(self) -> str:
        """Of all that its pieces are made of, however it is cut: the source, FFmpeg, and its arguments."""
        stat = self.source.stat()
        piece = Piece(0, 0, 0, 0, 0)
        command = [*picture_arguments(self.plan, self.options, self.media, "", piece)]
        command += sound_of(self.options, self.media, "") if self.media.audio else []
        part = [self.options.get(each) for each in ("start", "end")]
        changed = 0 if settings.S3_BUCKET else stat.st_mtime_ns  # each machine has a copy of its own
        made_of = [self.kept, stat.st_size, changed, encode.ffmpeg_path(), self.plan.muxer, command, part]
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:32]

    def facts(self) -> dict[str, Any]:
        """The source as the API's File."""
        return file_facts(self.media, self.source)


async def encode_piece(film: Film, work: PieceWork, worked: float) -> float:
    """Encodes a piece, or the sound, unless it is there already; how many seconds that took.

    Nothing of a half one stays. *worked*: seconds that the others have taken. Raises Inexact, TaskError,
    OSError.
    """
    name = name_of(work.piece, container(film.plan))
    if not await piece_files.missing(work.key, [name], film.hooks):
        return 0.0
    kept = piece_files.folder(work.key)
    kept.mkdir(parents=True, exist_ok=True)
    room = Path(tempfile.mkdtemp(prefix="half-", dir=kept))
    try:
        return await _encoded(film, work, room / name, worked)
    except asyncio.CancelledError:
        film.freed = sum(each.stat().st_size for each in room.iterdir())
        raise
    finally:
        shutil.rmtree(room, ignore_errors=True)


async def _encoded(film: Film, work: PieceWork, made: Path, worked: float) -> float:
    piece = work.piece
    path = str(film.source)
    seconds, frames = (piece.seconds, piece.frames) if piece else (film.plan.seconds, 0)
    arguments = (
        picture_arguments(film.plan, film.options, film.media, path, piece)
        if piece
        else sound_of(film.options, film.media, path)
    )
    joints = Joints(piece) if piece else None
    began = time.monotonic()
    ended = await encode.ffmpeg(
        arguments,
        made,
        ["-f", container(film.plan)],
        source=film.source,
        progress=Progress(seconds, frames, film.hooks.report),
        time_limit=TimeLimit(settings.MAX_ENCODE_HOURS, worked, film.plan.seconds),
        further=[] if piece else watched_picture(film.options, film.media),
        hear=joints.hear if joints else lambda line: None,
    )
    encode.check_exit(ended)
    media = await prober.probe(made)
    tracks = [await _track(made, number) for number in range(len(film.plan.encodes) if piece else 0)]
    if piece:
        _check_exact(piece, ended, [each["count"] for each in tracks])
    elif media.audio is None or ended.undecodable:
        raise Inexact("The sound can’t be encoded alone.")
    took = time.monotonic() - began
    about = {
        "start": round(media.start * 1e6),
        "took": took,
        "decoded_by": [each["decoded_by"] for each in tracks],
        "frames": ended.frames,
        "joints": [joints.first, joints.next] if joints else [],
    }
    await piece_files.keep(made, work.key, about, film.hooks)
    return took


async def _track(made: Path, number: int) -> dict[str, Any]:
    """How many pictures a track of a film has, each at a time of its own, and how they are decoded."""
    found = await prober.picture_times(made, Asked(number, GRID))
    return found if found and not found["problem"] else {"count": 0, "decoded_by": ""}


def _check_exact(piece: Piece, ended: FfmpegExit, counts: list[int]) -> None:
    """Raises Inexact unless each of the source's pictures is in each track, once."""
    if set(counts) != {ended.frames} or abs(ended.frames - piece.frames) > piece.slack:
        raise Inexact(f"Piece {piece.number} has {counts} pictures, the source {piece.frames} there.")
    if ended.corrupt or ended.undecodable:
        raise Inexact(f"The source is damaged in piece {piece.number}.")


def _check_joints(about: Sequence[dict[str, Any]]) -> None:
    """Raises Inexact unless the decoders of each two pieces made the same of the picture where these meet."""
    for number, (one, other) in enumerate(pairwise(about), start=1):
        if one["decoded_by"] != other["decoded_by"]:
            raise Inexact("The pieces aren’t decoded alike.")
        # those of a version that was updated meanwhile say none
        (_, behind), (first, _) = (each.get("joints", ("", "")) for each in (one, other))
        if not behind or behind != first:
            raise Inexact(f"Pieces {number - 1} and {number} don’t meet.")


async def join(film: Film, division: Division, percent: float) -> TaskOutput:
    """Joins the pieces, and publishes the film. Raises Inexact, TaskError, OSError."""
    kept = piece_files.folder(division.key)
    await piece_files.bring(division.key, division.names, film.hooks)
    about = [piece_files.about(division.key, piece.name) for piece in division.pieces]
    _check_joints(about)
    listed = kept / "list.ffconcat"
    starts = [each["start"] for each in about]
    listed.write_text(playlist(division.pieces, starts))
    sound = str(kept / division.sound_name) if division.sound else None
    joined = join_arguments(film.plan, film.media, str(film.source), str(listed), sound, starts[0])
    plan = replace(film.plan, tries=[joined], plain=None)
    target = folders.folder(film.task_id) / "out" / plan.file_name
    shutil.rmtree(target.parent, ignore_errors=True)
    target.parent.mkdir(parents=True)
    worked = sum(each["took"] for each in about)
    work = Encode(
        *(film.task_id, film.kind, film.options, plan, film.media, film.source, target, film.hooks),
        beside=[kept],
        worked=worked,
        percent=percent,
    )
    await film.hooks.wait_for_disk_space(work.estimate())
    try:
        outcome = await work.attempt(joined, copied=plan.copied)
    except TaskError as error:
        if error.kind in FINAL_ERRORS:
            raise
        raise Inexact(str(error)) from None
    wanted = sum(each["frames"] for each in about)
    if outcome.warnings or outcome.differences or await _joined(target, plan) != {wanted}:
        reasons = [*outcome.warnings, *(each.sentence for each in outcome.differences)]
        raise Inexact(" ".join(reasons) or f"There are not {wanted} pictures in it.")
    film.hooks.step("export")
    output = await work.publish(outcome)
    return TaskOutput(output, [*film.media.notes, *plan.warnings])


async def _joined(target: Path, plan: Plan) -> set[int]:
    """How many pictures an output has, in each of its renditions."""
    if plan.layout == "folder":
        return set(await asyncio.to_thread(segments.pictures, target))
    return {(await _track(target, 0))["count"]}
