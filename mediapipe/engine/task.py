"""One task's work: source, probe, plan, run, verify, publish. Nothing half-made is ever visible.

It works in a folder of its own, which is gone afterwards however it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings

from mediapipe import storage
from mediapipe.engine import plan as planning
from mediapipe.engine import previews, run, verify
from mediapipe.engine.arguments import Plan, makes_several
from mediapipe.engine.fetch import fetch
from mediapipe.engine.media import Media, Unusable
from mediapipe.engine.options import Value
from mediapipe.engine.serialize import file_facts

Tell = Callable[[float | None, float | None, float | None], None]  # percent, speed, seconds left
Room = Callable[[int], Awaitable[None]]  # waits until so many bytes are free
FULL_LIMIT = 5  # times that a run may meet a full disk


@dataclass
class Made:
    """What a task made: the API's output with the file's name, and what a person should know."""

    output: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


@dataclass
class Done:
    """A run of FFmpeg that yielded what was asked for."""

    result: run.Result
    made: Media
    warnings: list[str]


def folder(task_id: str) -> Path:
    """Where a task works."""
    return Path(settings.WORK_ROOT) / task_id


def clear(task_id: str) -> int:
    """Removes a task's folder; the bytes that were in it."""
    path = folder(task_id)
    size = 0
    for each in path.rglob("*"):
        with contextlib.suppress(OSError):
            size += each.stat().st_size if each.is_file() else 0
    shutil.rmtree(path, ignore_errors=True)
    return size


async def work(
    task_id: str,
    kind: str,
    options: dict[str, Value],
    source_url: str,
    tell: Tell,
    wait_for_room: Room,
    step: Callable[..., None] = lambda name, **about: None,
) -> Made:
    """Does it, and tells *step* what it is at. Raises Unusable; the caller clears the folder."""
    clear(task_id)
    folder(task_id).mkdir(parents=True)
    step("import")
    source = await _source(source_url, folder(task_id) / "input", tell, wait_for_room)
    step("probe")
    wants_gap = kind in ("video", "adaptive_video") or "interval" in options
    media = await run.probe(source, *(["--gap"] if wants_gap else []))
    plan = planning.make(kind, options, media, str(source))
    await wait_for_room(_estimate(plan, media))
    step("encode", file=file_facts(media, source))
    target = folder(task_id) / "out" / f"{'index' if plan.muxer == 'hls' else 'output'}.{plan.extension}"
    target.parent.mkdir()
    done = await _run(kind, plan, media, source, target, tell, wait_for_room)
    step("export")
    form = {"hls": "hls", "null": "json"}.get(plan.muxer, plan.extension)
    if "waveform" in options:
        points = int(options.get("waveform_points", 800))
        target = await asyncio.to_thread(previews.waveform, target, points, done.made.duration)
    output = await _publish(task_id, target, done.made, kind, form)
    if "interval" in options:
        output |= await asyncio.to_thread(_storyboard, task_id, options, media, done.made, output["name"])
    return Made(output, [*plan.warnings, *done.warnings])


async def _source(url: str, target: Path, tell: Tell, wait_for_room: Room) -> Path:
    """The source as a file: our own is read in place, another is downloaded."""
    try:
        name = storage.name_of(url)
    except storage.Forbidden as error:
        raise Unusable("source_refused", f"The source's link cannot be used: {error}.") from None
    if name is None or settings.S3_BUCKET:
        await fetch(url, target, lambda percent: tell(None, None, None), wait_for_room)
        return target
    path = storage.path(name)
    if not path.is_file():
        raise Unusable("source_not_found", "The source is no longer here. Upload it again.")
    if path.stat().st_size == 0:
        raise Unusable("invalid_input", "The source is empty (0 bytes).")
    return path


def _estimate(plan: Plan, media: Media) -> int:
    """Bytes that the output may need: a copy as many as the source, an encode rarely more; each rendition."""
    if plan.muxer in ("wav", "flac"):
        return int(plan.seconds * 48000 * 2 * 2) + (1 << 20)
    renditions = 1 + makes_several(plan.tries[0])
    return int(media.size * 1.1) * renditions if plan.copied or plan.frames else 64 << 20


async def _run(
    kind: str, plan: Plan, media: Media, source: Path, target: Path, tell: Tell, wait_for_room: Room
) -> Done:
    """The first of the plan's tries that yields something. Raises the last one's Unusable."""
    tries, full, most = list(plan.tries), 0, 0.0

    def steadily(percent: float | None, speed: float | None, left: float | None) -> None:
        """Another try begins again; what is told never goes back."""
        nonlocal most
        most = max(most, percent or 0.0)
        tell(most if percent is not None else None, speed, left)

    while True:
        copying = plan.copied and len(tries) == len(plan.tries)
        try:
            return await _try(kind, plan, tries[0], copying, media, source, target, steadily)
        except Unusable as error:
            written = sum(each.stat().st_size for each in target.parent.iterdir())
            for each in target.parent.iterdir():
                each.unlink()
            if error.kind == "no_space" and full < FULL_LIMIT:  # it goes on when there is more room
                full += 1
                await wait_for_room(max(2 * written, _estimate(plan, media)))
                continue
            tries.pop(0)
            if not tries or error.kind in ("no_space", "stalled", "killed"):  # no other way would help
                raise


async def _try(
    kind: str,
    plan: Plan,
    arguments: list[str],
    copying: bool,
    media: Media,
    source: Path,
    target: Path,
    tell: Tell,
) -> Done:
    """One run of FFmpeg, and whether it yielded what was asked for. Raises Unusable."""
    muxer, output, several = ["-f", plan.muxer], target, makes_several(arguments)
    if plan.muxer == "hls":
        output = target.with_name("rendition%v.m3u8") if several else target
        segments = "segment%v_%04d.m4s" if several else "segment%04d.m4s"
        muxer = ["-hls_segment_filename", f"{target.parent}/{segments}"]
    # a copy alone takes a moment and may be followed by an encode: its percentages would go back
    telling: Tell = (lambda *_: tell(None, None, None)) if copying and not several else tell
    result = await run.ffmpeg(
        arguments, output, muxer, source=source, seconds=plan.seconds, frames=plan.frames, tell=telling
    )
    run.check(result)
    made, warnings = await verify.checked(kind, plan, media, target, result, copying=copying)
    if result.corrupt or result.undecodable:
        warnings.insert(0, "The source is damaged; the result may have errors where it is.")
    return Done(result, made, warnings)


async def _publish(task_id: str, target: Path, made: Media, kind: str, form: str) -> dict[str, Any]:
    """Moves the result to its place among the outputs, whole and synced; the API's output."""
    several = form == "hls"
    name = f"outputs/{task_id}/{target.name}" if several else f"outputs/{task_id}{target.suffix}"
    made_files = sorted(target.parent.iterdir()) if several else [target]
    size = sum(each.stat().st_size for each in made_files)
    # the playlists after their segments, and what names them last: whoever sees it finds all that it names
    for each in sorted(made_files, key=lambda each: (each == target, each.suffix == ".m3u8")):
        own = f"outputs/{task_id}/{each.name}" if several else name
        await asyncio.to_thread(storage.publish, each, own)
    video = made.video
    width, height = (round(side) for side in video.shown) if video else (None, None)
    return {
        "object": "file",
        "name": name,
        "kind": "image" if kind == "animation" else "video" if kind == "adaptive_video" else kind,
        "format": form,
        "width": width,
        "height": height,
        "duration": None if kind == "image" or not made.duration else round(made.duration, 3),
        "filesize": size,
        "fps": round(video.fps, 3) if video and kind == "video" and video.fps else None,
        "codecs": {
            "video": video.codec if video else None,
            "audio": made.audio.codec if made.audio else None,
        },
    }


def _storyboard(
    task_id: str, options: dict[str, Value], media: Media, made: Media, sprite: str
) -> dict[str, Any]:
    """The sprite's WebVTT, published beside it."""
    name, part = f"outputs/{task_id}.vtt", folder(task_id) / "storyboard.vtt"
    previews.storyboard(options, media, made, Path(sprite).name, part)
    storage.publish(part, name)
    return {"vtt_name": name}


def sweep(active: Callable[[list[str]], set[str]]) -> int:
    """Removes the folders of tasks that nobody works on any more; how many.

    The folders are listed before *active* tells which of them are at work: several machines may
    share the disk, and a task that begins meanwhile keeps its own.
    """
    root = Path(settings.WORK_ROOT)
    found = [path.name for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    stale = set(found) - active(found) if found else set()
    for name in stale:
        clear(name)
    return len(stale)
