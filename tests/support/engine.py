"""What the engine's tests share: clips by FFmpeg, a task's work without its queue, probes of results."""

from __future__ import annotations

import re
import subprocess
from fractions import Fraction
from pathlib import Path

import av

from mediapipe import storage
from mediapipe.engine import check, queue
from mediapipe.engine.folders import clear
from mediapipe.engine.hooks import Hooks
from mediapipe.engine.kinds import KINDS
from mediapipe.engine.models import EngineTask
from mediapipe.engine.task import TaskOutput, process
from mediapipe.task_options import check_options
from tests.support.product import FFMPEG, until_async

STAGES = {
    "ingest": ("video", {"format": "mp4", "quality": "high"}),
    "thumbnails": ("image", {"width": 640, "format": "webp", "start": 2}),
    "audio": ("audio", {"format": "mp3", "quality": "high"}),
    "transcode": ("video", {"width": 1280, "format": "mp4", "codec": "h264", "quality": "medium"}),
}
PICTURE = ["-f", "lavfi", "-i", "testsrc2=s=640x360:r=30:d=4"]
TONE = ["-f", "lavfi", "-i", "sine=440:d=4"]
X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]


def ffmpeg(*arguments) -> None:
    subprocess.run([FFMPEG, "-v", "error", "-nostdin", "-y", *map(str, arguments)], check=True)


async def enqueued(task: EngineTask) -> None:
    """Puts a task into its queue, tried again while Temporal is too busy for it."""
    await until_async(lambda: queue.enqueue(task))


async def ask(source: Path | str, kind: str, asked: dict, task: str = "t") -> TaskOutput:
    """What the engine makes of a file that was uploaded."""
    if isinstance(source, Path):
        name = f"sources/{task}/source{source.suffix if source.suffix.isascii() else '.bin'}"
        target = storage.path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            target.write_bytes(source.read_bytes())
        source = storage.signed_url(name)

    options = check_options(kind, asked)
    work = check.process if KINDS[kind].plan is None else process
    try:
        return await work(task, KINDS[kind], options, source, Hooks(endless_space))
    finally:
        clear(task)


async def endless_space(wanted: int) -> None:
    """A disk that always has room."""


def probe(output: dict):
    return av.open(str(storage.path(output["name"])))


def facts(output: dict) -> dict:
    with probe(output) as container:
        video = next(iter(container.streams.video), None)
        audio = next(iter(container.streams.audio), None)
        frame = next(container.decode(video)) if video else None
        return {
            "size": (frame.width, frame.height) if frame else None,
            "turned": frame.rotation % 180 if frame else 0,
            "pixels": video and video.codec_context.pix_fmt,
            "video": video and video.codec_context.name,
            "sar": float(video.sample_aspect_ratio or 1) if video else 1,
            "audio": audio and audio.codec_context.name,
            "channels": audio and audio.codec_context.layout.nb_channels,
            "duration": (container.duration or 0) / 1e6,
            "metadata": {**container.metadata, **(video.metadata if video else {})},
            "corrupt": bool(frame and frame.is_corrupt),
        }


def light(path: Path) -> tuple[float, float]:
    """Mean and spread of a picture's brightness, 0 to 255."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0)).reformat(format="gray", width=64, height=36)
        values = list(bytes(frame.planes[0]))
    mean = sum(values) / len(values)
    return mean, (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5


def loudness(path: Path) -> float:
    """Integrated loudness in LUFS (EBU R 128)."""
    done = subprocess.run(
        [
            FFMPEG,
            "-nostdin",
            "-hide_banner",
            "-i",
            path,
            "-map",
            "0:a:0",
            "-af",
            "ebur128=framelog=quiet",
            "-f",
            "null",
            "-",
        ],
        capture_output=True,
        text=True,
    )
    line = next(line for line in done.stderr.splitlines() if line.strip().startswith("I:"))
    return float(line.split()[1])


def packets(path: Path, kind: str) -> list[tuple[Fraction, bool]]:
    """Time and keyframe of each packet of a track, in the order of times."""
    with av.open(str(path)) as container:
        stream = next(iter(getattr(container.streams, kind)), None)
        found = container.demux(stream) if stream else []
        return sorted((each.pts * each.time_base, each.is_keyframe) for each in found if each.pts is not None)


def course(path: Path, kind: str) -> list[tuple[Fraction, bool]]:
    """The same since the first one: the clock of a stream may begin a millisecond elsewhere."""
    found = packets(path, kind)
    return [(at - found[0][0], key) for at, key in found]


def likeness(path: Path, source: Path) -> float:
    """How like its source it looks (SSIM)."""
    # by the first picture of each: where a sound’s encoder puts something before it, its file begins earlier
    alike = "setpts=PTS-STARTPTS,scale=160:90,format=yuv420p"
    graph = f"[0:v]{alike}[a];[1:v]{alike}[b];[a][b]ssim"
    inputs = ["-i", str(path), "-i", str(source)]
    done = subprocess.run(
        [FFMPEG, "-hide_banner", *inputs, "-lavfi", graph, "-f", "null", "-"], capture_output=True, text=True
    )
    return float(re.search(r"All:([\d.]+)", done.stderr)[1])


def least_alike(one: Path, other: Path) -> float:
    """How alike their pictures are (SSIM), of those that are the least."""
    inputs = ["-i", str(one), "-i", str(other)]
    compared = ["-lavfi", "[0:v][1:v]ssim=stats_file=-", "-f", "null", "-"]
    done = subprocess.run([FFMPEG, "-v", "error", *inputs, *compared], capture_output=True, text=True)
    return min(map(float, re.findall(r"All:([\d.]+)", done.stdout)))
