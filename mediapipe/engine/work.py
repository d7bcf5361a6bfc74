"""One task's work: source, probe, plan, run, verify, publish. Nothing half-made is ever visible.

It works in a folder of its own, which is gone afterwards however it ends.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import math
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings

from mediapipe import files
from mediapipe.engine import plan as planning
from mediapipe.engine import run, stills
from mediapipe.engine.arguments import HEAD, Plan
from mediapipe.engine.fetch import fetch
from mediapipe.engine.media import Media, Unusable, Video
from mediapipe.engine.options import Value

Tell = Callable[[float | None, float | None, float | None], None]  # percent, speed, seconds left


@dataclass
class Made:
    """What a task made: the API's output with the file's name, and what a person should know."""

    output: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


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
    wait_for_room: Callable[[int], Awaitable[None]],
) -> Made:
    """Does it. Raises Unusable; the caller clears the folder."""
    clear(task_id)
    folder(task_id).mkdir(parents=True)
    source = await _source(source_url, folder(task_id) / "input", tell)
    media = await run.probe(source)
    plan = planning.make(kind, options, media, str(source))
    await wait_for_room(_estimate(plan, media))
    target = folder(task_id) / "out" / f"{'index' if plan.muxer == 'hls' else 'output'}.{plan.extension}"
    target.parent.mkdir()
    result = await _run(plan, media, source, target, tell)
    warnings = [*plan.warnings]
    if result.corrupt:
        warnings.append("The source is damaged; the result may have errors where it is.")
    if "waveform" in options:
        target = await asyncio.to_thread(_waveform, target, int(options.get("waveform_points", 800)))
        return Made(
            await _publish(task_id, target, Media(duration=media.duration), "audio", "json"), warnings
        )
    made = await _verified(plan, media, target, result, warnings)
    output = await _publish(task_id, target, made, kind, "hls" if plan.muxer == "hls" else plan.extension)
    if "interval" in options:
        output |= await asyncio.to_thread(_storyboard, task_id, options, media, made, output["name"])
    return Made(output, warnings)


async def _source(url: str, target: Path, tell: Tell) -> Path:
    """The source as a file: our own is read in place, another is downloaded."""
    try:
        name = files.name_of(url)
    except files.Forbidden as error:
        raise Unusable("source_refused", f"The source's link cannot be used: {error}.") from None
    if name is None or settings.S3_BUCKET:
        await fetch(url, target, lambda percent: tell(None, None, None))
        return target
    path = files.path(name)
    if not path.is_file():
        raise Unusable("source_not_found", "The source is no longer here. Upload it again.")
    if path.stat().st_size == 0:
        raise Unusable("invalid_input", "The source is empty (0 bytes).")
    return path


def _estimate(plan: Plan, media: Media) -> int:
    """Bytes that the output may need: a copy as many as the source, an encode rarely more."""
    return int(media.size * 1.1) if plan.copied or plan.frames else 64 << 20


async def _run(plan: Plan, media: Media, source: Path, target: Path, tell: Tell) -> run.Result:
    """The first of the plan's tries that yields something. Raises the last one's Unusable."""
    for at, arguments in enumerate(plan.tries):
        last = at == len(plan.tries) - 1
        for each in target.parent.iterdir():
            each.unlink()
        try:
            muxer = [] if plan.muxer == "hls" else ["-f", plan.muxer]
            if plan.muxer == "hls":
                muxer = ["-hls_segment_filename", f"{target.parent}/segment%04d.m4s"]
            result = await run.ffmpeg(
                arguments, target, muxer, source=source, seconds=plan.seconds, frames=plan.frames, tell=tell
            )
            run.check(result)
            empty = not target.exists() or not target.stat().st_size
            if empty or (plan.wants_video and not result.frames):
                raise Unusable(
                    "damaged", "The source holds nothing of this kind that can be read.", result.said
                )
            if at == 0 and plan.copied:  # a copy is taken only where it really plays
                copy = await run.probe(target, pictures=True)
                if copy.video is None or copy.video.pictures < 2:
                    raise Unusable("damaged", "The source's picture cannot be decoded.", result.said)
            return result
        except Unusable as error:
            if last or error.kind in ("no_space", "stalled"):
                raise
    raise AssertionError("a plan has at least one try")


async def _verified(plan: Plan, media: Media, target: Path, result: run.Result, warnings: list[str]) -> Media:
    """What was made, probed. Raises Unusable where it isn't what was asked for."""
    if plan.muxer == "hls":
        return media
    if plan.muxer == "webp" and plan.seconds:
        made = await _animated(plan, target)
    else:
        made = await run.probe(target)
    if plan.wants_video and made.video is None:
        raise Unusable("damaged", "The source's picture cannot be decoded.", result.said)
    if plan.wants_audio and not plan.wants_video and made.audio is None:
        raise Unusable("damaged", "The source's sound cannot be decoded.", result.said)
    if plan.wants_audio and plan.wants_video and made.audio is None:
        warnings.append("The sound could not be decoded and is missing.")
    short = plan.seconds - made.duration
    if plan.seconds and made.duration and short > max(0.5, 0.02 * plan.seconds):
        at = f"{int(made.duration // 60)}:{made.duration % 60:04.1f}"
        warnings.append(f"The source is cut off or damaged at {at}; what could be read was processed.")
    return made


async def _animated(plan: Plan, target: Path) -> Media:
    """An animated WebP as FFmpeg itself decodes it; the prober knows only its first picture."""
    check = [*HEAD, "-protocol_whitelist", "file", "-f", "webp_anim", "-i", f"file:{target}"]
    null = target.with_name("null")
    result = await run.ffmpeg(
        check, null, ["-f", "null"], source=target, seconds=0, frames=0, tell=lambda *_: None
    )
    run.check(result)
    canvas = target.read_bytes()[24:30]  # of the VP8X chunk: each side less one, in three bytes
    width, height = (int.from_bytes(side, "little") + 1 for side in (canvas[:3], canvas[3:]))
    return Media(duration=plan.seconds, video=Video(0, "webp", width, height) if result.frames else None)


async def _publish(task_id: str, target: Path, made: Media, kind: str, form: str) -> dict[str, Any]:
    """Moves the result to its place among the outputs, whole and synced; the API's output."""
    several = form == "hls"
    name = f"outputs/{task_id}/{target.name}" if several else f"outputs/{task_id}{target.suffix}"
    made_files = sorted(target.parent.iterdir()) if several else [target]
    size = sum(each.stat().st_size for each in made_files)
    # the playlist last: whoever sees it finds all that it names
    for each in sorted(made_files, key=lambda each: each == target):
        own = f"outputs/{task_id}/{each.name}" if several else name
        await asyncio.to_thread(files.publish, each, own)
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


def _waveform(samples: Path, points: int) -> Path:
    """The samples' peaks, 0 to 1, as JSON beside them."""
    values = array.array("h")
    with open(samples, "rb") as file:
        values.frombytes(file.read(min(samples.stat().st_size, 1 << 30) // 2 * 2))
    step = max(1, math.ceil(len(values) / points))
    peaks = [
        round(max(abs(min(part)), abs(max(part))) / 32768, 3)
        for part in (values[at : at + step] for at in range(0, len(values), step))
    ]
    target = samples.with_suffix(".json")
    target.write_text(json.dumps({"peaks": peaks, "duration": round(len(values) / 8000, 3)}))
    return target


def _storyboard(
    task_id: str, options: dict[str, Value], media: Media, made: Media, sprite: str
) -> dict[str, Any]:
    """The WebVTT that tells which part of the sprite belongs to which second."""
    interval, rows = stills.storyboard(options, media)
    assert made.video is not None
    width, height = made.video.width // 10, made.video.height // rows
    lines = ["WEBVTT", ""]
    for at in range(min(rows * 10, max(1, math.ceil(media.duration / interval)))):
        start, stop = at * interval, min((at + 1) * interval, media.duration)
        place = f"{(at % 10) * width},{at // 10 * height},{width},{height}"
        lines += [f"{_clock(start)} --> {_clock(stop)}", f"{Path(sprite).name}#xywh={place}", ""]
    name = f"outputs/{task_id}.vtt"
    part = folder(task_id) / "storyboard.vtt"
    part.write_text("\n".join(lines))
    files.publish(part, name)
    return {"vtt_name": name}


def _clock(seconds: float) -> str:
    return f"{int(seconds // 3600):02}:{int(seconds // 60 % 60):02}:{seconds % 60:06.3f}"


def sweep(active: set[str]) -> int:
    """Removes the folders of tasks that nobody works on any more; how many."""
    root = Path(settings.WORK_ROOT)
    stale = [path.name for path in root.iterdir() if path.name not in active] if root.is_dir() else []
    for name in stale:
        clear(name)
    return len(stale)
