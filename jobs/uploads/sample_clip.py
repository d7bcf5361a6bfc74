"""A sample clip for first-time users, made by FFmpeg's own generators: a test picture and a tune."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import imageio_ffmpeg
from django.conf import settings

from jobs.state import Source
from mediapipe import storage

NAME = "sources/sample/source.mp4"
SECONDS = 20


def source() -> Source:
    """The clip as a job's source; the first call makes it, which takes a second or two."""
    if not storage.exists(NAME):
        _make()
    return Source(name=NAME, filename="Sample clip.mp4")


def _make() -> None:
    tune = "aevalsrc=0.2*sin(2*PI*t*(220+55*floor(mod(t*2\\,8)))):s=48000"
    picture = f"testsrc2=size=1920x1080:rate=30:duration={SECONDS}"
    codec = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "60", "-c:a", "aac"]
    with tempfile.TemporaryDirectory(dir=settings.HOME) as folder:
        part = Path(folder) / "sample.mp4"
        subprocess.run(
            [
                *(imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y"),
                *("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", tune, "-t", str(SECONDS)),
                *(*codec, "-movflags", "+faststart", "-f", "mp4", str(part)),
            ],
            check=True,
            timeout=120,
        )
        storage.publish(part, NAME)
