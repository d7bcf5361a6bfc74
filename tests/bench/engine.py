"""The engine against plain FFmpeg: each stage and the whole job, interleaved in one run. Prints ratios.

`.venv/bin/python -m tests.bench.engine [SECONDS] [ROUNDS]` (60, 3): a clip of 1080p and one of 2160p, made
by FFmpeg. The plain commands are the best ones for the same result (a copy for ingest), one after the other.
Below each table stands what it costs to compare an output with its source, and what it may.
On a busy machine the CPU seconds are the fair column: seconds on the clock measure the neighbours too.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable
from contextlib import closing, suppress
from pathlib import Path
from uuid import UUID

from mediapipe.engine import prober, verify
from mediapipe.engine.arguments import Plan
from mediapipe.engine.media import Media
from tests.support.product import FFMPEG, Product, make_clip

ENDED = 0.5  # seconds after which a child that has answered has ended, and counts
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


def spent() -> float:
    """CPU seconds of the commands so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_plain(clip: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        seconds, before = {}, spent()
        for stage, arguments in plain(clip, Path(folder)).items():
            began = time.perf_counter()
            subprocess.run([*QUIET, *arguments], check=True)
            seconds[stage] = time.perf_counter() - began
        return seconds | {"CPU": spent() - before}


def cpu(product: Product) -> float:
    """CPU seconds of the worker and all that it ran: its probers, its encoders."""
    return sum(used(pid) for pid in family(product.children()["worker"]))


def used(pid: int) -> float:
    """CPU seconds of a process, and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process and all that it has started, by whichever thread, as far as they live."""
    children: list[str] = []
    with suppress(OSError):  # it has just ended
        for thread in Path(f"/proc/{pid}/task").iterdir():
            children += (thread / "children").read_text().split()
    return [pid, *(each for child in children for each in family(int(child)))]


def is_done(product: Product, job: str) -> bool:
    """Whether a job has succeeded, by its row: to ask a command would take a tenth of a core."""
    with closing(sqlite3.connect(f"file:{product.home}/mediapipe.sqlite3?mode=ro", uri=True)) as rows:
        found = rows.execute("select state from jobs_job where id = ?", [UUID(job).hex]).fetchone()
    return found == ("succeeded",)


def run_job(product: Product, clip: Path) -> dict[str, float]:
    """Seconds of each stage's task at the engine, and of the whole job from submit to done."""
    before = cpu(product)
    done = product.script("submit", str(clip), "--wait", "--json", patience=3600)
    assert done.returncode == 0, done.stderr
    status = product.status(json.loads(done.stdout)["id"])

    def at(text: str) -> float:
        from datetime import datetime

        return datetime.fromisoformat(text).timestamp()

    seconds = {s["name"]: at(s["finished_at"]) - at(s["started_at"]) for s in status["stages"]}
    seconds["whole job"] = at(status["finished_at"]) - at(status["started_at"])
    return seconds | {"CPU": cpu(product) - before}


async def comparison(clip: Path, folder: Path) -> str:
    """What comparing a transcode, and a copy, with its source costs, and may cost.

    In CPU seconds of the reading child; for a copy with looking through it, beside the encode that it saves.
    """
    commands = plain(clip, folder)
    *arguments, target = commands["transcode"]
    arguments[1] = str(clip)
    before = spent()
    keys = ["-force_key_frames", "expr:gte(t,n_forced*2)"]
    subprocess.run([*QUIET, *arguments, *keys, target], check=True)
    encode = spent() - before
    media = await prober.probe(clip, "--gap")
    plan = Plan([[]], "mp4", "mp4", media.duration, wants_video=True)

    async def compare(target: Path, output: Media, *, copied: bool) -> None:
        took = 0.0 if copied else encode
        found = await verify.differences({}, plan, (clip, target), (media, output), took, copied=copied)
        assert found == [], found

    async def copied(target: Path) -> None:
        await compare(target, await verify.read_video(target, True), copied=True)

    made = await prober.probe(Path(target), "--gap")
    cost = await reading(compare(Path(target), made, copied=False))
    subprocess.run([*QUIET, *commands["ingest"]], check=True)
    copy = await reading(copied(Path(commands["ingest"][-1])))
    return (
        f"comparison: {cost:.2f} CPU s beside {encode:.1f} of the encode, {copy:.2f} of a copy; "
        f"allowed {0.3 + 0.02 * encode:.2f}"
    )


async def reading(work: Awaitable[None]) -> float:
    """CPU seconds of the children that read files for some *work*."""
    assert prober._prober.process is not None
    pid = prober._prober.process.pid
    await asyncio.sleep(ENDED)
    before = used(pid)
    await work
    await asyncio.sleep(ENDED)
    return used(pid) - before


class Memory(threading.Thread):
    """Watches for the largest memory of any encoder that process *root* has started, in MB."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self.root, self.largest, self.over = root, 0.0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.1):
            for pid in family(self.root):
                with suppress(OSError, StopIteration):
                    if os.readlink(f"/proc/{pid}/exe") == os.path.realpath(FFMPEG):
                        self.largest = max(self.largest, peak(pid))

    def stop(self) -> float:
        """What it has seen. Raises AssertionError where that is nothing."""
        self.over.set()
        self.join()
        assert self.largest, "no encoder was seen"
        return self.largest


def peak(pid: int) -> float:
    """The largest memory of a process so far, in MB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmHWM")).split()[1]) / 1000


def main(seconds: float, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        product = Product(Path(folder) / "home").start()
        try:
            for size in ("1920x1080", "3840x2160"):
                length = seconds if size.startswith("19") else seconds / 3
                clip = make_clip(Path(folder) / f"{size}.mp4", length, size)
                measure(product, clip, f"{length:.0f} s of {size}", rounds)
                print(asyncio.run(comparison(clip, Path(folder))), flush=True)
        finally:
            product.stop()


def measure(product: Product, clip: Path, title: str, rounds: int) -> None:
    ours: list[dict[str, float]] = []
    bare: list[dict[str, float]] = []
    largest = [0.0, 0.0]
    for _ in range(rounds):
        for at, runs in enumerate((bare, ours)):
            memory = Memory(product.children()["worker"] if at else os.getpid())
            memory.start()
            runs.append(run_job(product, clip) if at else run_plain(clip))
            largest[at] = max(largest[at], memory.stop())
    best = {stage: min(each[stage] for each in bare) for stage in bare[0]}
    best["whole job"] = min(sum(each.values()) - each["CPU"] for each in bare)
    mine = {stage: min(each[stage] for each in ours) for stage in ours[0]}
    print(f"\n{title}, best of {rounds}, interleaved\n")
    print("| stage | plain s | here s | ratio |\n| --- | --- | --- | --- |")
    for stage, number in mine.items():
        print(f"| {stage} | {best[stage]:.2f} | {number:.2f} | {number / best[stage]:.2f} |")
    worker = peak(product.children()["worker"])
    memory_line = f"plain encoder {largest[0]:.0f} MB, ours {largest[1]:.0f} MB, worker {worker:.0f} MB"
    print(f"\npeak memory: {memory_line}; {os.cpu_count()} cores", flush=True)


if __name__ == "__main__":
    given = [float(text) for text in sys.argv[1:]]
    main(given[0] if given else 60, int(given[1]) if len(given) > 1 else 3)
