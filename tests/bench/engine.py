"""The engine against plain FFmpeg: each stage and the whole job, interleaved in one run. Prints ratios.

`.venv/bin/python -m tests.bench.engine [SECONDS]`: a clip of 1080p and one of 2160p, made by FFmpeg.
The plain commands are the best ones for the same result (a copy for ingest), one after the other.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.product import FFMPEG, Product, make_clip

ROUNDS = 3
QUIET = [FFMPEG, "-nostdin", "-v", "error", "-y"]


def plain(clip: Path, folder: Path) -> dict[str, list[str]]:
    """The best bare command of each stage."""
    ingest = folder / "ingest.mp4"
    x264 = [
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-crf",
        "23",
        "-profile:v",
        "high",
        "-pix_fmt",
        "yuv420p",
    ]
    return {
        "ingest": ["-i", str(clip), "-c", "copy", "-movflags", "+faststart", str(ingest)],
        "thumbnails": [
            "-ss",
            "2",
            "-i",
            str(ingest),
            "-frames:v",
            "1",
            "-vf",
            "scale=640:-2",
            str(folder / "t.webp"),
        ],
        "audio": ["-i", str(ingest), "-vn", "-q:a", "2", str(folder / "a.mp3")],
        "transcode": [
            *["-i", str(ingest), "-vf", "scale=1280:-2:flags=bicubic", *x264, "-c:a", "copy"],
            *["-movflags", "+faststart", str(folder / "x.mp4")],
        ],
    }


def run_plain(clip: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        seconds = {}
        for stage, arguments in plain(clip, Path(folder)).items():
            began = time.perf_counter()
            subprocess.run([*QUIET, *arguments], check=True)
            seconds[stage] = time.perf_counter() - began
        return seconds


def run_job(product: Product, clip: Path) -> dict[str, float]:
    """Seconds of each stage's task at the engine, and of the whole job from submit to done."""
    done = product.command("submit", str(clip), "--wait", "--json", patience=900)
    assert done.returncode == 0, done.stderr
    status = product.status(json.loads(done.stdout)["id"])

    def at(text: str) -> float:
        from datetime import datetime

        return datetime.fromisoformat(text).timestamp()

    seconds = {s["name"]: at(s["finished_at"]) - at(s["started_at"]) for s in status["stages"]}
    return seconds | {"whole job": at(status["finished_at"]) - at(status["started_at"])}


def peak(product: Product) -> float:
    """The largest memory of the worker so far, in MB (its encoders are processes of their own)."""
    text = Path(f"/proc/{product.children()['worker']}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmHWM")).split()[1]) / 1000


def main(seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        product = Product(Path(folder) / "home").start()
        try:
            for size in ("1920x1080", "3840x2160"):
                length = seconds if size.startswith("19") else seconds / 3
                clip = make_clip(Path(folder) / f"{size}.mp4", length, size)
                measure(product, clip, f"{length:.0f} s of {size}")
        finally:
            product.stop()


def measure(product: Product, clip: Path, title: str) -> None:
    ours: list[dict[str, float]] = []
    bare: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        bare.append(run_plain(clip))
        ours.append(run_job(product, clip))
    best = {stage: min(each[stage] for each in bare) for stage in bare[0]}
    best["whole job"] = min(sum(each.values()) for each in bare)
    mine = {stage: min(each[stage] for each in ours) for stage in ours[0]}
    print(f"\n{title}, best of {ROUNDS}, interleaved\n")
    print("| stage | plain s | here s | ratio |\n| --- | --- | --- | --- |")
    for stage, number in mine.items():
        print(f"| {stage} | {best[stage]:.2f} | {number:.2f} | {number / best[stage]:.2f} |")
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
    memory = f"worker {peak(product):.0f} MB, plain encoder {largest:.0f} MB"
    print(f"\npeak memory: {memory}; {os.cpu_count()} cores")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60)
