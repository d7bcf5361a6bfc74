"""A small storyboard beside a picture of a film, for who shows where in the film something is.

It is made while the picture is. It costs a moment or isn't made: keyframes alone where the film is large, a
minute at most, and what goes wrong here leaves the picture as it is. It knows FFmpeg and files, and nothing
of tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from mediapipe.engine import encode, previews, stills, verify
from mediapipe.engine.encode import Progress, TimeLimit
from mediapipe.engine.errors import TaskError
from mediapipe.engine.media import Media
from mediapipe.engine.previews import Encoded
from mediapipe.validators import Options

MAX_PIXELS = 3e8  # pixels that are decoded in a moment: twelve seconds of 720p
A_MINUTE = 1 / 60  # of an hour


def _wanted(options: Options, media: Media) -> bool:
    """Whether one is asked for, and the source is a film."""
    film = media.video is not None and not (media.is_still or media.video.cover or media.video.tiled)
    return "storyboard" in options and "interval" not in options and film and media.duration > 0


@contextlib.asynccontextmanager
async def storyboard(
    options: Options, media: Media, source: Path, picture: Path, task_id: str
) -> AsyncIterator[asyncio.Task[dict[str, Path]]]:
    """It is made meanwhile: its sprite and WebVTT, by what the API's File calls them; none where it fails.

    In a folder of its own, since a try of the *picture* that fails takes with it what it has written.
    """
    making = asyncio.create_task(_made(options, media, source, picture, task_id))
    try:
        yield making
    finally:
        making.cancel()
        await asyncio.gather(making, return_exceptions=True)


async def _made(options: Options, media: Media, source: Path, picture: Path, task_id: str) -> dict[str, Path]:
    if not _wanted(options, media):
        return {}
    frames = int(options["storyboard"])
    # A little longer than an equal part, so that no frame of rounding is added to the last.
    interval = media.duration / frames * 1.001
    shape: Options = {"interval": interval, "format": "webp", "quality": "low", "width": _width(media)}
    sprite = picture.parent.with_name("beside") / f"{picture.stem}-storyboard.webp"
    sprite.parent.mkdir()
    plan = stills.storyboard_plan(shape, media, str(source))
    arguments = next(each for each in plan.tries if ("-skip_frame" in each) != _is_small(media))
    try:
        ended = await encode.ffmpeg(
            arguments,
            sprite,
            ["-f", plan.muxer],
            source=source,
            progress=Progress(0, 0, lambda percent, speed, left: None),
            time_limit=TimeLimit(A_MINUTE),
        )
        encode.check_exit(ended)
        output, _ = await verify.verified(verify.read_file, plan, media, sprite, ended, copied=False)
    except TaskError:
        sprite.unlink(missing_ok=True)
        return {}
    name = f"{task_id}-storyboard.webp"
    finished = await asyncio.to_thread(previews.storyboard, Encoded(shape, media, output, sprite, name))
    return {"storyboard": finished.file, **finished.beside}


def _width(media: Media) -> int:
    """Of a frame: as much of an upright film as of a wide one."""
    video = media.video
    assert video is not None
    return 90 if (video.width < video.height) != (video.rotation % 180 == 90) else 160


def _is_small(media: Media) -> bool:
    """Whether all of its frames are decoded in a moment."""
    video = media.video
    assert video is not None
    return video.width * video.height * (video.fps or 25) * media.duration <= MAX_PIXELS
