"""What pieces are for: what a worker killed late in a film costs, how long a short clip waits, two machines.

`.venv/bin/python -m tests.bench.pieces [SECONDS]` (90, of 2160p), or `wide [SECONDS]` (120, of 1080p) for the
machines alone. Prints figures, as ratios in one run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from tests.bench.engine import family, is_done, used
from tests.support.bucket import Bucket
from tests.support.machines import of_bucket, second_machine
from tests.support.product import Product, make_clip, until
from tests.support.timeline import timeline


def main(seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        clip = make_clip(Path(folder) / "clip.mp4", 5, "1280x720")
        film = make_clip(Path(folder) / "film.mp4", seconds, "3840x2160")
        product = Product(Path(folder) / "home").start()
        try:
            print("| what | figure |\n| --- | --- |", flush=True)
            waits(product, clip, film)
            survives(product, film)
        finally:
            product.stop()


def submitted(product: Product, clip: Path) -> str:
    done = product.script("submit", str(clip), "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["id"]


def stage(product: Product, job: str, name: str) -> dict:
    return next(each for each in product.status(job)["stages"] if each["name"] == name)


def percent(product: Product, job: str) -> float:
    """How far a film's transcode is."""
    return stage(product, job, "transcode")["progress"] or 0.0


def whole(product: Product, clip: Path) -> float:
    """Seconds of a job from submission to its end."""
    began = time.perf_counter()
    job = submitted(product, clip)
    until(lambda: product.status(job)["status"] == "succeeded", 1800, every=0.2)
    return time.perf_counter() - began


def waits(product: Product, clip: Path, film: Path) -> None:
    """A short clip alone, and sent while a film is encoded."""
    alone = min(whole(product, clip) for _ in range(2))
    job = submitted(product, film)
    until(lambda: percent(product, job) > 5, 1800, every=0.2)
    beside = whole(product, clip)
    at = percent(product, job)
    until(lambda: product.status(job)["status"] == "succeeded", 3600, every=1)
    print(
        f"| a 5 s clip, alone and sent while a film is encoded | {alone:.1f} s, {beside:.1f} s: "
        f"{beside / alone:.1f}; the film was at {at:.0f} % when it was done |",
        flush=True,
    )


def pieces(product: Product) -> dict[str, int]:
    """The pieces that are kept, and when each was made."""
    kept = (product.home / "media" / "pieces").glob("*/0*.mp4")
    return {each.name: each.stat().st_mtime_ns for each in kept}


def survives(product: Product, film: Path) -> None:
    """The worker is killed late in a film: which pieces are encoded again."""
    job = submitted(product, film)
    until(lambda: percent(product, job) > 90, 3600, every=0.2)
    kept = pieces(product)
    running = len(family(product.children()["worker"]))
    product.kill("worker")
    seen = dict(kept)

    def over() -> bool:
        for name, made in pieces(product).items():
            seen[name] = max(made, seen.get(name, 0))
        return product.status(job)["status"] == "succeeded"

    until(over, 3600, every=0.2)
    again = [name for name, made in kept.items() if seen[name] != made]
    assert running > 1, "no encoder was at work"
    print(
        f"| worker killed late in a film of {len(seen)} pieces | {len(kept)} were done, {len(again)} of them "
        "were encoded again, and the one at work |",
        flush=True,
    )


def wide(seconds: float) -> None:
    """A transcode by one worker that has one core, and by two that share nothing but the bucket."""
    with tempfile.TemporaryDirectory() as folder:
        bucket = Bucket(Path(folder) / "s3").start()
        product = Product(Path(folder) / "home", **of_bucket(bucket)).start()
        others: list[subprocess.Popen[bytes]] = []
        try:
            for pid in family(product.children()["worker"]):
                subprocess.run(
                    ["taskset", "-a", "-p", "-c", "0", str(pid)], check=True, stdout=subprocess.DEVNULL
                )
            film = make_clip(Path(folder) / "film.mp4", seconds, "1920x1080")
            one = transcoded(product, film, {"bucket": bucket.server.pid})
            others.append(second_machine(product, Path(folder) / "second"))
            two = transcoded(product, film, {"bucket": bucket.server.pid, "second": others[0].pid})
            print(
                f"| {seconds:g} s of 1080p, a worker of one core and two of them | {one:.1f} s, {two:.1f} s: "
                f"{one / two:.2f} |",
                flush=True,
            )
        finally:
            for each in others:
                each.terminate()
                each.wait()
            product.stop()
            bucket.kill()


def transcoded(product: Product, film: Path, others: dict[str, int]) -> float:
    """Seconds of a film's transcode; prints what did which piece when, and took how much of the processor."""
    processes = {**product.children(), **others}

    def spent() -> dict[str, float]:
        found = dict.fromkeys(processes, 0.0)
        for name, pid in processes.items():
            for each in family(pid):
                with suppress(OSError):  # it has just ended, and counts as its parent's
                    found[name] += used(each)
        return found

    job = submitted(product, film)
    until(lambda: stage(product, job, "transcode")["started_at"], 600, every=0.2)
    before = spent()
    until(lambda: is_done(product, job), 3600, every=0.5)
    print("CPU:", *(f"{name} {now - before[name]:.1f} s;" for name, now in spent().items()))
    found = stage(product, job, "transcode")
    began, ended = (datetime.fromisoformat(found[each]) for each in ("started_at", "finished_at"))
    print(f"{timeline(product, found['task_id'])}\n", flush=True)
    return (ended - began).total_seconds()


if __name__ == "__main__":
    given = sys.argv[1:]
    if given[:1] == ["wide"]:
        wide(float(given[1]) if len(given) > 1 else 120)
    else:
        main(float(given[0]) if given else 90)
