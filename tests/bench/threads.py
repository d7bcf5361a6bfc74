"""Whether two encoders of one thread each use two cores better than one of as many threads as it likes.

`.venv/bin/python -m tests.bench.threads [SECONDS] [ROUNDS]` (20, 3), of 1080p and of a third of it in 2160p.
Prints seconds, those of the processor and bytes, by turns: what pieces encoded side by side would gain.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.engine import QUIET, spent
from tests.support.product import make_clip

X264 = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-profile:v", "high", "-pix_fmt", "yuv420p"]
KEYS = ["-force_key_frames", "expr:gte(t,n_forced*2)", "-sc_threshold", "0"]
WAYS = {
    "one encoder": (1, [], []),
    "two, of one thread each": (2, ["-threads", "1"], ["-threads", "1", "-filter_threads", "1"]),
    "two": (2, [], []),
}


def commands(clip: Path, seconds: float, way: str) -> list[list[str]]:
    """What encodes the picture of a clip that way, in as many parts."""
    parts, reading, writing = WAYS[way]
    part = seconds / parts
    scale = ["-an", "-vf", "scale=1280:-2:flags=bicubic", *X264, *KEYS]
    return [
        [
            *[*QUIET, *reading, "-ss", str(number * part), "-i", str(clip), "-t", str(part)],
            *[*scale, *writing, str(clip.with_name(f"{number}.mp4"))],
        ]
        for number in range(parts)
    ]


def run(encoders: list[list[str]]) -> tuple[float, float, int]:
    """Seconds, those of the processor, and bytes that were made."""
    before = spent()
    began = time.perf_counter()
    for each in [subprocess.Popen(command) for command in encoders]:
        assert each.wait() == 0
    took = time.perf_counter() - began
    return took, spent() - before, sum(Path(command[-1]).stat().st_size for command in encoders)


def main(seconds: float, rounds: int) -> None:
    print("| film | way | s | CPU s | bytes |\n| --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for size, length in (("1920x1080", seconds), ("3840x2160", seconds / 3)):
            clip = make_clip(Path(folder) / f"{size}.mp4", length, size)
            found: dict[str, list[tuple[float, float, int]]] = {way: [] for way in WAYS}
            for _ in range(rounds):
                for way, runs in found.items():
                    runs.append(run(commands(clip, length, way)))
            for way, runs in found.items():
                took, cpu, size_of = (min(column) for column in zip(*runs, strict=True))
                print(
                    f"| {length:.0f} s of {size} | {way} | {took:.2f} | {cpu:.2f} | {size_of} |", flush=True
                )


if __name__ == "__main__":
    given = [float(text) for text in sys.argv[1:]]
    main(given[0] if given else 20, int(given[1]) if len(given) > 1 else 3)
