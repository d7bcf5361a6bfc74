"""A long film in pieces: each is encoded on its own and kept, then all are joined and verified as any output.

What doesn't come out exactly raises Inexact, and the film is encoded in one. It knows files and FFmpeg, and
neither rows nor the queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from django.conf import settings

from mediapipe.engine import encode, folders, prober
from mediapipe.engine.arguments import Plan
from mediapipe.engine.encode import FfmpegExit, Progress, TimeLimit
from mediapipe.engine.errors import Inexact, OtherWay, TaskError
from mediapipe.engine.hooks import Hooks
from mediapipe.engine.kinds import Kind
from mediapipe.engine.media import Media
from mediapipe.engine.pieces import (
    GRID,
    LONGEST_STEP,
    SOUND,
    Division,
    Piece,
    PieceWork,
    can_divide,
    cores,
    divide,
    join_arguments,
    picture_arguments,
    playlist,
    sound_of,
)
from mediapipe.engine.serialize import file_facts
from mediapipe.engine.sources import source_file
from mediapipe.engine.task import FINAL_ERRORS, Encode, TaskOutput
from mediapipe.validators import Options

FRESH = 5.0  # seconds in which a piece that is at work says how far it is
CONFIGURATION = b"avcC"  # the box of an MP4 that says how its H.264 is to be decoded
INDEX = 8 << 20  # bytes at a piece's end, in which its index lies


class InPieces(OtherWay):
    """A film is to be encoded in pieces."""

    def __init__(self, division: Division) -> None:
        super().__init__(f"{len(division.pieces)} pieces")
        self.division = division


@dataclass
class Film:
    """What a task works on, probed and planned."""

    task_id: str
    kind: Kind
    options: Options
    source: Path
    media: Media
    plan: Plan
    hooks: Hooks
    freed: int = 0  # bytes of what was half made when it was cancelled

    @classmethod
    async def of(cls, task_id: str, kind: Kind, options: Options, kept: str, hooks: Hooks) -> Film:
        """Raises TaskError, OSError."""
        source, _ = await source_file(kept, folders.folder(task_id) / "input", hooks)
        media = await prober.probe(source, *(["--gap"] if kind.needs_keyframes(options) else []))
        assert kind.plan is not None
        return cls(task_id, kind, options, source, media, kind.plan(options, media, str(source)), hooks)

    async def division(self) -> Division | None:
        """Its pieces; None where it is encoded in one."""
        video = self.media.video
        if video is None or not can_divide(self.options, self.media, self.plan, cores()):
            return None
        times = await prober.picture_times(self.source, video=video.index, grid=GRID, longest=LONGEST_STEP)
        found = divide(self.options, self.media, times, "", cores()) if times else None
        return replace(found, key=self._key(found)) if found else None

    def _key(self, division: Division) -> str:
        """Of all that its pieces are made of: the source, FFmpeg, and what it is told."""
        stat = self.source.stat()
        commands = [picture_arguments(self.options, self.media, "", each) for each in division.pieces]
        made_of = [str(self.source), stat.st_size, stat.st_mtime_ns, encode.ffmpeg_path(), commands]
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:32]

    def facts(self) -> dict[str, Any]:
        """The source as the API's File."""
        return file_facts(self.media, self.source)


@dataclass
class Course:
    """How far all pieces of a film are together: those that are done, and those at work on any machine."""

    folder: Path
    seconds: float
    done: dict[str, float] = field(default_factory=dict)

    def _finished(self) -> float:
        for each in self.folder.glob("*.json"):
            if each.name not in self.done:
                self.done[each.name] = float(_read(each).get("seconds", 0))
        return sum(self.done.values())

    def at_work(self) -> list[tuple[float, float]]:
        """Seconds and speed of each piece that has lately said how far it is."""
        found = []
        for each in self.folder.glob("*.at"):
            with contextlib.suppress(OSError):
                if time.time() - each.stat().st_mtime < FRESH:
                    said = _read(each)
                    found.append((float(said.get("seconds", 0)), float(said.get("speed", 0))))
        return found

    def so_far(self) -> tuple[float, float | None, float | None]:
        """Percent, speed and seconds left of the whole film."""
        working = self.at_work()
        done = min(self.seconds, self._finished() + sum(seconds for seconds, _ in working))
        speed = sum(speed for _, speed in working)
        left = (self.seconds - done) / speed if speed else None
        return min(99.0, done / self.seconds * 100), speed or None, left


def worked(key: str, task_id: str) -> float:
    """Seconds that a task has encoded its pieces, those that are done."""
    known = [_read(each) for each in folders.pieces(key).glob("*.json")]
    return sum(float(each["took"]) for each in known if each.get("task") == task_id)


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found


def say_at_work(work: PieceWork, percent: float | None = None, speed: float | None = None) -> None:
    """Says how far a piece, or the sound, is: others that work on the film count it in."""
    seconds = work.piece.seconds * (percent or 0) / 100 if work.piece else 0
    at = _place(work).with_suffix(".at")
    at.parent.mkdir(parents=True, exist_ok=True)
    at.write_text(json.dumps({"seconds": seconds, "speed": speed or 0 if work.piece else 0}))


def _place(work: PieceWork) -> Path:
    return folders.pieces(work.key) / (work.piece.name if work.piece else f"{SOUND}.mp4")


async def encode_piece(film: Film, work: PieceWork) -> None:
    """Encodes a piece, or the sound, unless it is there already; nothing of a half one stays.

    Raises Inexact, TaskError, OSError.
    """
    say_at_work(work)
    place = _place(work)
    room = Path(tempfile.mkdtemp(prefix="half-", dir=place.parent))
    try:
        if not place.exists():
            await _encoded(film, work, room / place.name)
    except asyncio.CancelledError:
        film.freed = sum(each.stat().st_size for each in room.iterdir())
        raise
    finally:
        shutil.rmtree(room, ignore_errors=True)
        place.with_suffix(".at").unlink(missing_ok=True)


async def _encoded(film: Film, work: PieceWork, made: Path) -> None:
    piece = work.piece
    kept = _place(work).parent
    course = Course(kept, work.seconds)

    def report(percent: float | None, speed: float | None, left: float | None) -> None:
        say_at_work(work, percent, speed)
        film.hooks.report(*course.so_far())

    path = str(film.source)
    seconds, frames = (piece.seconds, piece.frames) if piece else (film.plan.seconds, 0)
    arguments = (
        picture_arguments(film.options, film.media, path, piece)
        if piece
        else sound_of(film.options, film.media, path)
    )
    began = time.monotonic()
    before = await asyncio.to_thread(worked, work.key, film.task_id)
    ended = await encode.ffmpeg(
        arguments,
        made,
        ["-f", "mp4"],
        source=film.source,
        progress=Progress(seconds, frames, report),
        time_limit=TimeLimit(settings.MAX_ENCODE_HOURS, before, film.plan.seconds),
    )
    encode.check_exit(ended)
    media = await prober.probe(made)
    if piece:
        _check_exact(piece, ended, media)
    elif media.audio is None or ended.undecodable:
        raise Inexact("The sound can’t be encoded alone.")
    about = {
        "start": round(media.start * 1e6),
        "seconds": piece.seconds if piece else 0,
        "task": film.task_id,
        "took": time.monotonic() - began,
        "decoded_by": await asyncio.to_thread(_configuration, made) if piece else "",
    }
    await asyncio.to_thread(_keep, made, kept, about)


def _check_exact(piece: Piece, ended: FfmpegExit, media: Media) -> None:
    """Raises Inexact unless each of the source's pictures is in it, once."""
    frames = media.video.frames if media.video else 0
    if (ended.frames, frames) != (piece.frames, piece.frames):
        raise Inexact(f"Piece {piece.number} has {frames} pictures, the source {piece.frames} there.")
    if ended.corrupt or ended.undecodable:
        raise Inexact(f"The source is damaged in piece {piece.number}.")


def _configuration(made: Path) -> str:
    """How a piece is to be decoded: that of the first one is said of the joined file."""
    with open(made, "rb") as file:
        file.seek(max(0, made.stat().st_size - INDEX))
        data = file.read()
    at = data.find(CONFIGURATION)
    size = int.from_bytes(data[at - 4 : at], "big") if at > 4 else 0
    return data[at : at + size - 4].hex()


def _keep(made: Path, kept: Path, about: dict[str, Any]) -> None:
    """Moves a finished piece to its place, whole and synced, after what is known of it."""
    beside = made.with_suffix(".json")
    beside.write_text(json.dumps(about))
    for each in (beside, made):
        with open(each, "rb") as file:
            os.fsync(file.fileno())
        each.rename(kept / each.name)


def are_missing(division: Division) -> bool:
    """Whether there is anything that must be encoded (again) before the pieces can be joined."""
    kept = folders.pieces(division.key)
    names = [*(piece.name for piece in division.pieces), *([f"{SOUND}.mp4"] if division.sound else [])]
    return not all((kept / name).exists() and _read((kept / name).with_suffix(".json")) for name in names)


async def join(film: Film, division: Division, percent: float) -> TaskOutput:
    """Joins the pieces, and publishes the film. Raises Inexact, TaskError, OSError."""
    kept = folders.pieces(division.key)
    about = [_read((kept / piece.name).with_suffix(".json")) for piece in division.pieces]
    if len({each["decoded_by"] for each in about}) != 1:
        raise Inexact("The pieces aren’t decoded alike.")
    listed = kept / "list.ffconcat"
    listed.write_text(playlist(division.pieces, [each["start"] for each in about]))
    sound = str(kept / f"{SOUND}.mp4") if division.sound else None
    plan = replace(film.plan, tries=[join_arguments(str(listed), sound)], plain=None)
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
        outcome = await work.attempt(plan.tries[0], copied=False)
    except TaskError as error:
        if error.kind in FINAL_ERRORS:
            raise
        raise Inexact(str(error)) from None
    made = outcome.media.video
    wanted = sum(piece.frames for piece in division.pieces)
    if outcome.warnings or outcome.differences or made is None or made.frames != wanted:
        reasons = [*outcome.warnings, *(each.sentence for each in outcome.differences)]
        raise Inexact(" ".join(reasons) or f"There are not {wanted} pictures in it.")
    film.hooks.step("export")
    output = await work.publish(outcome)
    await asyncio.to_thread(folders.clear_pieces, division.key)
    return TaskOutput(output, [*film.media.notes, *plan.warnings])
