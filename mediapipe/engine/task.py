"""One task from start to end: source, probe, plan, encode, verify, publish. Nothing partial is ever visible.

It works in a folder of its own, which its caller clears however it ends. It knows storage and FFmpeg, and
neither the database nor the queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings

from mediapipe import storage, tracing
from mediapipe.engine import beside, compare, encode, prober, verify
from mediapipe.engine.arguments import Plan, encodes_sound, makes_several
from mediapipe.engine.compare import Difference
from mediapipe.engine.encode import TimeLimit
from mediapipe.engine.errors import NeedsEncode, SoundDamaged, TaskError
from mediapipe.engine.folders import clear, folder
from mediapipe.engine.hooks import AT_THE_BEGINNING, Hooks, SoFar
from mediapipe.engine.kinds import Kind
from mediapipe.engine.media import Media
from mediapipe.engine.previews import Encoded
from mediapipe.engine.serialize import file_facts, output_facts
from mediapipe.engine.sound import MIN_HOLE
from mediapipe.engine.sources import keeping, source_file
from mediapipe.validators import Options

MAX_DISK_WAITS = 5  # times that one task may wait for a full disk
# Errors after which the plan's other tries would not help.
FINAL_ERRORS = ("no_space", "stalled", "too_long", "killed")
NOTHING: Mapping[str, Path] = {}


@dataclass
class TaskOutput:
    """A task's result: the API's File with the file's name, and warnings for a person."""

    output: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


@dataclass
class EncodeOutcome:
    """An output that holds what was wanted, not yet published."""

    media: Media
    warnings: list[str]
    differences: list[Difference] = field(default_factory=list)  # from its source


@dataclass
class Encode:
    """The encode of one task: its plan's tries, one after the other, into *target*."""

    task_id: str
    kind: Kind
    options: Options
    plan: Plan
    media: Media
    source: Path
    target: Path
    hooks: Hooks
    only_copy: bool = False
    beside: Sequence[Path] = ()  # what FFmpeg reads besides the source
    worked: float = 0.0  # seconds that what it joins has taken
    percent: float = 0.0
    time_limit: TimeLimit = field(default_factory=lambda: TimeLimit(settings.MAX_ENCODE_HOURS))
    begins_at: float = 0.0  # percent, where the present try began

    def estimate(self) -> int:
        """Bytes the output may need: a copy as many as the source, an encode rarely more; each rendition."""
        plan = self.plan
        if plan.muxer in ("wav", "flac"):
            return int(plan.seconds * 48000 * 2 * 2) + (1 << 20)
        renditions = 1 + makes_several(plan.tries[0])
        return int(self.media.size * 1.1) * renditions if plan.copied or plan.frames else 64 << 20

    async def run(self) -> EncodeOutcome:
        """The first of the plan's tries that holds what was wanted. Raises the last one's TaskError.

        Raises NeedsEncode where only a copy is wanted, and none will do.
        """
        tries = list(self.plan.tries)
        disk_waits = 0
        while True:
            copied = self.plan.copied and len(tries) == len(self.plan.tries)
            if self.only_copy and not copied:
                raise NeedsEncode
            try:
                outcome = await self.attempt(tries[0], copied=copied)
                instead = compare.instead(outcome.differences, tries, self.plan.plain, copied=copied)
                if not instead:
                    outcome.warnings += [each.sentence for each in outcome.differences]
                    return outcome
                tries = instead
                self._remove_files()
            except TaskError as error:
                written = self._remove_files()
                if error.kind == "no_space" and disk_waits < MAX_DISK_WAITS:
                    disk_waits += 1
                    await self.hooks.wait_for_disk_space(max(2 * written, self.estimate()))
                    continue
                again = tries[1:]
                tries = [each for each in again if not isinstance(error, SoundDamaged) or encodes_sound(each)]
                if not tries or error.kind in FINAL_ERRORS:
                    raise

    async def attempt(self, arguments: list[str], *, copied: bool) -> EncodeOutcome:
        """One run of FFmpeg, verified. Raises TaskError."""
        files = (self.source, self.target)
        # all pictures of a copy are the source's, or none; those of what is joined have been counted
        by_keys = copied or self.worked > 0
        looks = verify.Looks(self.options, self.plan, files, self.media, by_keys=by_keys)
        if self.kind.compared and (copied or 0 < self.plan.seconds <= verify.SHORT_SECONDS):
            looks.begin()
        try:
            return await self._attempt(arguments, looks, copied=copied)
        finally:
            looks.cancel()

    async def _attempt(self, arguments: list[str], looks: verify.Looks, *, copied: bool) -> EncodeOutcome:
        plan = self.plan
        self.begins_at = self.percent
        muxer, output = self._muxer(arguments)
        tried = copied and looks.decode(self.kind.verify)
        # a copy alone takes a moment and may be followed by an encode: its percentages would go back
        silent = copied and not makes_several(arguments)
        report = self._report_alive if silent else self._report
        progress = encode.Progress(plan.seconds, plan.frames, report)
        before = _processor_seconds()
        run = partial(encode.ffmpeg, source=self.source, beside=self.beside, time_limit=self.time_limit)
        with tracing.span("FFmpeg", copied=copied):
            ended = await run(arguments, output, muxer, progress=progress)
        took = _processor_seconds() - before + self.worked
        encode.check_exit(ended)
        if copied and ended.undecodable:  # an encode conceals it, and says so
            raise TaskError("damaged", "The file is damaged and can’t be copied.", ended.last_lines)
        if self.kind.compared:
            looks.follow(took, copied=copied)
        media, warnings = await verify.verified(
            self.kind.verify, plan, self.media, self.target, ended, copied=copied and not tried
        )
        await looks.decoded()
        differences = await self._differences(media, took, looks, copied=copied)
        differences += compare.dropped(ended.dropped, ended.frames, known=self.media.video)
        sound = self.media.audio
        lacks = ended.torn and sound and sound.missing > MIN_HOLE  # a join of two recordings lacks nothing
        if ended.corrupt or ended.undecodable > self.media.tags or lacks:
            warnings.insert(0, "The source is damaged; the result may have errors where it is.")
        if warnings:  # of what is damaged two decoders may make different things
            differences = compare.as_warnings(differences)
        return EncodeOutcome(media, warnings, differences)

    async def _differences(
        self, output: Media, took: float, looks: verify.Looks, *, copied: bool
    ) -> list[Difference]:
        if not self.kind.compared:
            return []
        files = (self.source, self.target)
        medias = (self.media, output)
        compared = partial(verify.differences, self.options, self.plan, files, medias, took)
        with tracing.span("compare"):
            return await compared(copied=copied, begun=looks)

    def _muxer(self, arguments: list[str]) -> tuple[list[str], Path]:
        """The muxer's arguments, and the file FFmpeg is given; a master playlist names several such."""
        if self.plan.layout == "file":
            return ["-f", self.plan.muxer], self.target
        several = makes_several(arguments)
        segments = "segment%v_%04d.m4s" if several else "segment%04d.m4s"
        output = self.target.with_name("rendition%v.m3u8") if several else self.target
        return ["-hls_segment_filename", f"{self.target.parent}/{segments}"], output

    def _report(self, percent: float | None, speed: float | None, left: float | None) -> None:
        """Another try goes on from the percentage at which the last one ended: it never goes back."""
        rest = 1 - self.begins_at / 100
        self.percent = max(self.percent, self.begins_at + rest * (percent or 0.0))
        self.hooks.report(self.percent if percent is not None else None, speed, left)

    def _report_alive(self, percent: float | None, speed: float | None, left: float | None) -> None:
        self._report(None, None, None)

    def _remove_files(self) -> int:
        """Removes what a try has written; how many bytes."""
        files = list(self.target.parent.iterdir())
        size = sum(each.stat().st_size for each in files)
        for each in files:
            each.unlink()
        return size

    async def publish(self, outcome: EncodeOutcome, frames: Mapping[str, Path] = NOTHING) -> dict[str, Any]:
        """Finishes the output and moves it to its place, whole and synced; the API's File of it.

        *frames*: the storyboard of it, by what the API's File calls its files.
        """
        encoded = Encoded(
            self.options, self.media, outcome.media, self.target, self.task_id + self.target.suffix
        )
        finished = await asyncio.to_thread(self.kind.finish, encoded)
        main = finished.file
        folder = self.plan.layout == "folder"
        files = sorted(main.parent.iterdir()) if folder else [main]
        size = sum(each.stat().st_size for each in files)
        # playlists after their segments, and the one that names them last: who sees it finds all it names
        for each in sorted(files, key=lambda each: (each == main, each.suffix == ".m3u8")):
            name = self._published_name(each)
            next_source = each == main and self.kind.compared and not folder
            with keeping(each, name) if next_source else contextlib.nullcontext():
                await store(each, name, self.hooks)
        names = {"name": self._published_name(main)}
        for what, each in {**finished.beside, **frames}.items():
            names[f"{what}_name"] = self._published_name(each)
            await store(each, names[f"{what}_name"], self.hooks)
        form = self.plan.format or self.plan.extension
        return names | output_facts(self.kind, outcome.media, form, size)

    def _published_name(self, file: Path) -> str:
        """`outputs/<task>.mp4`, or in a folder of the task's."""
        own = f"/{file.name}" if self.plan.layout == "folder" else file.name.removeprefix(self.target.stem)
        return f"outputs/{self.task_id}{own}"


def _processor_seconds() -> float:
    """Of all programs that this process has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def store(file: Path, name: str, hooks: Hooks) -> None:
    """Moves a finished file to its place, whole and synced, however long the storage is waited for."""
    hooks.published(name)
    await storage.publish_patiently(file, name, hooks.storage_failed)
    await hooks.storage_answered()


async def unpublish(names: list[str]) -> None:
    """Removes these files of an output as far as the storage lets us: what stays, nobody refers to."""
    with contextlib.suppress(OSError):
        for name in names:
            await asyncio.to_thread(storage.remove, name)


async def drop_source(task_id: str) -> None:
    """Removes what was downloaded for a task that is over: here, and in the store as far as it lets us."""
    clear(task_id)
    await unpublish([storage.fetched(task_id)])


async def process(
    task_id: str,
    kind: Kind,
    options: Options,
    kept: str,
    hooks: Hooks,
    *,
    only_copy: bool = False,
    so_far: SoFar = AT_THE_BEGINNING,
) -> TaskOutput:
    """Does a task by its checked options, on the source *kept* in its row; the caller clears the folder.

    Raises TaskError, OSError, NeedsEncode where *only_copy* won’t do, and what *hooks.divide* raises.
    """
    clear(task_id)
    folder(task_id).mkdir(parents=True)
    hooks.step("import")
    with tracing.span("import"):
        source, filename = await source_file(kept, folder(task_id) / "input", hooks)
    hooks.step("probe", **({"filename": filename} if filename else {}))
    media = await prober.probe(source, *(["--gap"] if kind.needs_packets(options) else []))
    assert kind.plan is not None  # else check.py does it
    plan = kind.plan(options, media, str(source))
    if hooks.divide:
        await hooks.divide(source, media, plan)
    target = folder(task_id) / "out" / plan.file_name
    work = Encode(task_id, kind, options, plan, media, source, target, hooks, only_copy)
    work.percent = so_far.percent
    work.time_limit.worked = so_far.worked
    if only_copy and not plan.copied:
        raise NeedsEncode
    await hooks.wait_for_disk_space(work.estimate())
    hooks.step("encode", file=file_facts(media, source))
    target.parent.mkdir()
    async with beside.storyboard(options, media, source, target, task_id) as frames:
        outcome = await work.run()
        hooks.step("export")
        with tracing.span("publish"):
            output = await work.publish(outcome, await frames)
    return TaskOutput(output, [*media.notes, *plan.warnings, *outcome.warnings])
