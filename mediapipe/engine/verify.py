"""Whether what FFmpeg made is what was asked for: its exit status alone lies (docs/engine.md)."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from mediapipe.engine import run
from mediapipe.engine.arguments import HEAD, Plan
from mediapipe.engine.media import Media, Unusable

APART = 0.05  # seconds between the same cut of two renditions, where time is counted in other units


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
    """A stream's first rendition. Raises Unusable unless all of them play and are cut at the same places."""
    several = sorted(playlist.parent.glob("rendition*.m3u8"))
    if several and [each.name for each in several] != _names(playlist):
        raise Unusable("internal_error", "The master playlist does not name every rendition.")
    made = [await _rendition(each) for each in several or [playlist]]
    first, cuts = made[0]
    for other, others in made[1:]:
        whole = (first.video is None, first.audio is None) == (other.video is None, other.audio is None)
        plays = other.video is not None and other.video.decodes
        alike = len(cuts) == len(others) and all(
            abs(one - two) < APART for one, two in zip(cuts, others, strict=True)
        )
        if not (whole and plays and alike):
            raise Unusable("internal_error", "The renditions do not fit together.")
    return replace(first, duration=cuts[-1])


async def _rendition(playlist: Path) -> tuple[Media, list[float]]:
    """A playlist's first segment as the prober sees it, and the seconds at which its segments end."""
    lines = playlist.read_text().splitlines()
    start = [line.split('"')[1] for line in lines if line.startswith("#EXT-X-MAP:")][:1]
    parts = [*start, *_names(playlist)[:1]]
    if len(parts) < 2:
        raise Unusable("damaged", "The source holds nothing of this kind that can be read.")
    whole = playlist.with_suffix(".mp4")
    whole.write_bytes(b"".join(playlist.with_name(name).read_bytes() for name in parts))
    try:
        made = await run.probe(whole)
    finally:
        whole.unlink()
    lengths = [float(line[8:].split(",")[0]) for line in lines if line.startswith("#EXTINF:")]
    return made, list(accumulate(lengths))


def _names(playlist: Path) -> list[str]:
    """What a playlist names: segments, or other playlists."""
    return [line for line in playlist.read_text().splitlines() if line and not line.startswith("#")]
