"""Runs FFmpeg in its sandbox: progress, stalls, limits, and an end that leaves no process behind.

It knows argument lists and processes, and nothing of tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import imageio_ffmpeg

from mediapipe.engine.errors import TaskError, from_ffmpeg, is_of_damage
from mediapipe.engine.media import MAX_DURATION
from mediapipe.engine.timecode import hours

ROOT = Path(__file__).resolve().parents[2]
ENTER = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from mediapipe.engine.sandbox import main; main()"
STALL_TIMEOUT = 60.0  # seconds without a sign of progress
JUDGED_AFTER = 300.0  # seconds, from which on the pace so far says how long a run will take
DEADLINE_FACTOR = 2.0  # times as long as is allowed: the rest of a film may be easier than its beginning
GIB = 1 << 30
MAX_LINES = 40

Hear = Callable[[str], None]
ReportProgress = Callable[[float | None, float | None, float | None], None]  # percent, speed, seconds left


@cache
def ffmpeg_path() -> str:
    """The FFmpeg that is installed with us; finding it starts it once."""
    return str(imageio_ffmpeg.get_ffmpeg_exe())


@dataclass
class FfmpegExit:
    """How a run of FFmpeg ended, and what it said on its way."""

    returncode: int
    ended: bool  # FFmpeg said progress=end
    frames: int = 0
    dropped: int = 0  # pictures that it left out, because others have their time
    corrupt: int = 0  # frames that the decoder had to guess
    undecodable: int = 0  # packets that it refused
    torn: int = 0  # those behind which others are missing
    seconds: float = 0.0  # of media that were written
    lines: list[str] = field(default_factory=list)

    @property
    def last_lines(self) -> str:
        """FFmpeg's last lines, without paths."""
        return "\n".join(self.lines)[-4000:]


def sandboxed(
    program: list[str], *, read: list[str], write: list[str], cpu: int, memory: int = 4 * GIB
) -> list[str]:
    """The command that runs *program* in its sandbox (sandbox.py).

    *read* and *write*: the paths it may use; *cpu* in seconds, *memory* in bytes.
    """
    limits = {"parent": os.getpid(), "cpu": cpu, "memory": memory, "file_size": 200 * GIB}
    given = [f"{name}={value}" for name, value in limits.items()]
    given += [f"read={path}" for path in read] + [f"write={path}" for path in write]
    return [sys.executable, "-I", "-S", "-c", ENTER, *given, "--", *program]


async def _start(command: list[str], folder: Path | None = None) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        cwd=folder,
        limit=1 << 20,
    )


async def _kill(process: asyncio.subprocess.Process) -> None:
    """Kills the whole process group; what it had written is removed anyway."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


class Progress:
    """Percent, speed and time left, from FFmpeg's -progress blocks. The percentage never goes back.

    *seconds* and *frames*: how much there will be; 0 where that is not known.
    """

    def __init__(self, seconds: float, frames: float, report: ReportProgress) -> None:
        self.seconds = seconds
        self.frames = frames
        self.report = report
        self.percent: float | None = None
        self.speed: float | None = None
        self.done_frames = 0
        self.dropped_frames = 0
        self.done_seconds = 0.0
        self.mark: tuple[str, ...] = ()
        self.moved = time.monotonic()
        self.ended = False
        self.block: dict[str, str] = {}

    def line(self, text: str) -> None:
        """One `key=value` line; `progress=` closes a block."""
        key, _, value = text.partition("=")
        self.block[key] = value.strip()
        if key == "progress":
            self.ended = value.strip() == "end"
            self._close()
            self.block = {}

    def _number(self, name: str) -> float | None:
        try:
            number = float(self.block.get(name, "").removesuffix("x"))
        except ValueError:
            return None  # N/A
        return number if math.isfinite(number) else None

    def _close(self) -> None:
        mark = tuple(self.block.get(name, "") for name in ("frame", "out_time_us", "total_size"))
        if mark != self.mark:
            self.mark = mark
            self.moved = time.monotonic()
        frame = self._number("frame")
        at = (self._number("out_time_us") or 0) / 1e6
        self.done_frames = int(frame or 0)
        self.dropped_frames = int(self._number("drop_frames") or 0)
        self.done_seconds = max(self.done_seconds, at)
        share = None
        if self.frames and frame is not None:
            share = frame / self.frames  # out_time runs ahead of the picture
        elif self.seconds:
            share = at / self.seconds
        if share is not None:
            self.percent = max(self.percent or 0.0, min(99.0, max(0.0, share * 100)))
        speed = self._number("speed")
        if speed:
            self.speed = speed if self.speed is None else 0.7 * self.speed + 0.3 * speed
        left = None
        if share and self.speed and self.seconds:
            left = max(0.0, (1 - min(share, 1)) * self.seconds / self.speed)
        self.report(self.percent, self.speed, left)

    def tell(self, result: FfmpegExit) -> None:
        """Notes how far it has come."""
        result.ended = self.ended
        result.frames = self.done_frames
        result.dropped = self.dropped_frames
        result.seconds = self.done_seconds


@dataclass
class TimeLimit:
    """How long a task may encode, all its runs together: *hours* at most, twenty times its media at most."""

    hours: float = 24
    worked: float = 0.0  # seconds so far
    whole: float = 0.0  # seconds of the film of which each run makes a part

    def of(self, seconds: float) -> float:
        """Seconds in all for so many *seconds* of media, 0 where that isn't known."""
        seconds = self.whole or seconds
        return min(max(120.0, 20 * seconds) if seconds else 6 * 3600.0, self.hours * 3600.0)


async def ffmpeg(
    arguments: list[str],
    output: Path,
    muxer: list[str],
    *,
    source: Path,
    progress: Progress,
    time_limit: TimeLimit | None = None,
    beside: Sequence[Path] = (),
    further: Sequence[str] = (),
    hear: Hear = lambda line: None,
) -> FfmpegExit:
    """Runs FFmpeg into *output*. Raises TaskError when it stalls, takes too long, or would at its pace.

    *beside*: what it may read besides the *source*; *further*: the arguments of other outputs, with their
    names in the same folder; *hear* gets each line that it writes to its log.
    """
    time_limit = time_limit or TimeLimit()
    wall = time_limit.of(progress.seconds)
    began = time.monotonic()
    program = [ffmpeg_path(), *arguments, *muxer, "-y", f"file:{output}", *further]
    read = [ffmpeg_path(), str(source), *map(str, beside)]
    cpu = int(2 * wall * (os.cpu_count() or 1))
    command = sandboxed(program, read=read, write=[str(output.parent)], cpu=cpu)
    process = await _start(command, output.parent)
    result = FfmpegExit(-1, ended=False)
    hidden = {str(output.parent): "", str(source): "source"}
    reading = (_read_progress(process, progress), _read_errors(process, result, hidden, hear))
    readers = [asyncio.create_task(each) for each in reading]
    try:
        await _watch(process, progress, wall, time_limit.worked)
        await asyncio.gather(*readers)
    finally:
        await _kill(process)
        time_limit.worked += time.monotonic() - began
        for reader in readers:
            reader.cancel()
    result.returncode = process.returncode if process.returncode is not None else -1
    progress.tell(result)
    return result


async def _read_progress(process: asyncio.subprocess.Process, progress: Progress) -> None:
    assert process.stdout is not None
    async for raw in process.stdout:
        progress.line(raw.decode(errors="replace").strip())


async def _read_errors(
    process: asyncio.subprocess.Process, result: FfmpegExit, hidden: dict[str, str], hear: Hear
) -> None:
    """Counts what was damaged, and keeps the last lines without paths."""
    assert process.stderr is not None
    while True:
        try:
            raw = await process.stderr.readline()
        except ValueError:  # a line of more than a megabyte
            continue
        if not raw:
            return
        text = raw.decode(errors="replace").replace("\0", "").strip()  # no database stores a NUL
        hear(text)
        result.corrupt += "corrupt decoded frame" in text
        result.undecodable += is_of_damage(text)
        result.torn += "Packet corrupt (stream" in text
        for path, name in hidden.items():
            text = text.replace(path, name)
        result.lines = [*result.lines[1 - MAX_LINES :], text[:500]]


async def _watch(process: asyncio.subprocess.Process, progress: Progress, wall: float, worked: float) -> None:
    """Waits for the end. Raises TaskError when nothing moves for a minute, or it takes too long."""
    ending = asyncio.ensure_future(process.wait())
    began = time.monotonic()
    try:
        _check_pace(0, progress, wall, worked)
        while not ending.done():
            await asyncio.wait({ending}, timeout=1)
            now = time.monotonic()
            if now - progress.moved > STALL_TIMEOUT and not ending.done():
                raise TaskError(
                    "stalled",
                    f"The encoder made no progress for {STALL_TIMEOUT:.0f} seconds and was stopped.",
                )
            if not ending.done():
                _check_pace(now - began, progress, wall, worked)
    finally:
        ending.cancel()


def _check_pace(passed: float, progress: Progress, wall: float, worked: float) -> None:
    """Raises TaskError where a run has taken longer than it may, or will by far at its pace so far."""
    if worked + passed > wall:
        raise TaskError("too_long", f"Encoding took longer than {hours(wall)}, so it was stopped.")
    if progress.done_seconds > max(MAX_DURATION, 1.1 * progress.seconds):
        sentence = f"The file goes on for more than {hours(progress.done_seconds)}, so it was stopped."
        raise TaskError("too_long", sentence)
    if passed > JUDGED_AFTER and progress.percent:
        whole = worked + passed / progress.percent * 100
        if whole > DEADLINE_FACTOR * wall:
            raise TaskError(
                "too_long",
                f"At its pace so far the encode would take {hours(whole)}, and {hours(wall)} are allowed, "
                "so it was stopped.",
            )


def check_exit(result: FfmpegExit) -> None:
    """Raises TaskError unless FFmpeg says that all went well; its exit status alone lies."""
    if result.returncode != 0:
        raise from_ffmpeg(result.last_lines, result.returncode)
    if not result.ended:
        raise TaskError("internal_error", "The encoder stopped before its end.", result.last_lines)
    if result.frames and result.corrupt > 0.2 * result.frames:
        raise TaskError("damaged", "Most frames in this file are damaged.", result.last_lines)
