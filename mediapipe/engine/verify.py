"""Whether what FFmpeg made is what was asked for: its exit status alone lies (docs/engine.md)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mediapipe.engine import run
from mediapipe.engine.arguments import HEAD, Plan
from mediapipe.engine.media import Media, Unusable


async def checked(
    kind: str, plan: Plan, media: Media, target: Path, result: run.Result, *, copying: bool
) -> tuple[Media, list[str]]:
    """What was made, and what a person should know of it. Raises Unusable where it is not what was asked."""
    empty = not target.exists() or not target.stat().st_size
    if empty or (plan.wants_video and not result.frames):
        raise Unusable("damaged", "The source holds nothing of this kind that can be read.", result.said)
    if plan.muxer == "null":
        return Media(duration=result.seconds or plan.seconds), []
    made = await _probed(kind, plan, target, copying)
    _hold_the_kinds(plan, made, result, copying)
    warnings = []
    if plan.wants_audio and plan.wants_video and made.audio is None:
        warnings.append("The sound could not be decoded and is missing.")
    short = plan.seconds - made.duration
    if plan.seconds and made.duration and short > max(0.5, 0.02 * plan.seconds) and not media.guessed:
        warnings.append(
            f"This file is cut off or damaged at {moment(made.duration)}; the camera or the upload probably "
            "didn't finish it. We processed what is there."
        )
    return made, warnings


def moment(seconds: float) -> str:
    """A place in a film as a person says it: 3:12, 1:02:03."""
    whole = int(seconds)
    hours = f"{whole // 3600}:{whole // 60 % 60:02}" if whole >= 3600 else f"{whole // 60}"
    return f"{hours}:{whole % 60:02}"


async def _probed(kind: str, plan: Plan, target: Path, copying: bool) -> Media:
    if plan.muxer == "hls":
        return await _streamed(target)
    if plan.muxer == "webp" and kind == "animation":
        return await _animated(target)
    # a video's keyframes are asked for by whatever is made of it next
    wanted = [*(["--gap"] if kind == "video" else []), *(["--pictures"] if copying else [])]
    return await run.probe(target, *wanted)


def _hold_the_kinds(plan: Plan, made: Media, result: run.Result, copying: bool) -> None:
    """Raises Unusable unless picture and sound are there and decode; a copy decodes in several places."""
    picture = made.video
    plays = picture is not None and picture.decodes
    if copying and plan.muxer != "hls":
        plays = plays and picture is not None and picture.pictures >= 2
    if plan.wants_video and not plays:
        raise Unusable("damaged", "The source's picture cannot be decoded.", result.said)
    if plan.wants_audio and not plan.wants_video and made.audio is None:
        raise Unusable("damaged", "The source's sound cannot be decoded.", result.said)


async def _animated(target: Path) -> Media:
    """An animated WebP as FFmpeg itself decodes it; the prober reads only its chunks."""
    made = await run.probe(target)
    if made.format != "webp_anim":  # of one picture only
        return made
    check = [*HEAD, "-protocol_whitelist", "file", "-f", "webp_anim", "-i", f"file:{target}"]
    null = target.with_name("null")
    result = await run.ffmpeg(
        check, null, ["-f", "null"], source=target, seconds=0, frames=0, tell=lambda *_: None
    )
    run.check(result)
    return made if result.frames else replace(made, video=None)


async def _streamed(playlist: Path) -> Media:
    """An HLS rendition: its first segment as the prober sees it, and the length that its playlist tells."""
    lines = playlist.read_text().splitlines()
    segments = [line for line in lines if line and not line.startswith("#")]
    whole = playlist.with_name("first.mp4")
    parts = [playlist.with_name(name).read_bytes() for name in ("init.mp4", *segments[:1])]
    whole.write_bytes(b"".join(parts))
    try:
        made = await run.probe(whole)
    finally:
        whole.unlink()
    seconds = sum(float(line[8:].split(",")[0]) for line in lines if line.startswith("#EXTINF:"))
    return replace(made, duration=seconds)
