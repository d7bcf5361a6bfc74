"""A sample clip for first-time users, made by FFmpeg's own generators: a test picture and a tune."""

from __future__ import annotations

import os
import subprocess
import tempfile

import imageio_ffmpeg

from jobs.pipelines import Source
from mediapipe import files

NAME = "sources/sample/source.mp4"
SECONDS = 20


def source() -> Source:
    """The clip as a job's source; the first call makes it, which takes a second or two."""
    path = files.path(NAME)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _make(str(path))
    return Source(name=NAME, filename="Sample clip.mp4", size=path.stat().st_size)


def _make(path: str) -> None:
    tune = "aevalsrc=0.2*sin(2*PI*t*(220+55*floor(mod(t*2\\,8)))):s=48000"
    picture = f"testsrc2=size=1920x1080:rate=30:duration={SECONDS}"
    codec = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "60", "-c:a", "aac"]
    handle, part = tempfile.mkstemp(suffix=".part", dir=os.path.dirname(path))
    os.close(handle)
    try:
        subprocess.run(
            [
                *(imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y"),
                *("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", tune, "-t", str(SECONDS)),
                *(*codec, "-movflags", "+faststart", "-f", "mp4", part),
            ],
            check=True,
            timeout=120,
        )
        os.replace(part, path)
    finally:
        if os.path.exists(part):
            os.unlink(part)
