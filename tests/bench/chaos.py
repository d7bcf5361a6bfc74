"""Chaos: many jobs, and a random process killed every few seconds. Prints what came of it.

`.venv/bin/python -m tests.bench.chaos [JOBS] [SECONDS]` starts the product with its embedded engine and kills
worker, web, Temporal or an encoder with SIGKILL; then it waits for every job and counts.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx

from tests.support.product import Product, make_clip, token, until

VICTIMS = ("worker", "web", "temporal", "encoder")


def main(jobs: int, seconds: float) -> int:
    random.seed(7)
    with tempfile.TemporaryDirectory() as folder:
        product = Product(Path(folder) / "home").start()
        clip = make_clip(Path(folder) / "clip.mkv", 8, "1280x720", "-c:v", "mpeg4", "-q:v", "4").read_bytes()
        people = [product.editor(name) for name in ("ada", "grace", "maria")]
        kills: Counter[str] = Counter()
        submitted = [submit(people[number % 3], clip, number) for number in range(jobs)]
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and unfinished(product):
            time.sleep(random.uniform(3, 7))
            kills[kill(product)] += 1
        longest = recovered(product)
        until(lambda: not unfinished(product), 1200, 1)
        figures = count(product, submitted, kills) | {"longest recovery": f"{longest:.1f} s"}
        product.stop()
        time.sleep(1)
        orphans = subprocess.run(["pgrep", "-f", str(product.home)], capture_output=True, text=True).stdout
        figures["orphan processes"] = len(orphans.split())
    print("| what | figure |\n| --- | --- |")
    for what, figure in figures.items():
        print(f"| {what} | {figure} |")
    bad = ("lost", "stages run twice after success", "tasks paid twice", "orphan processes", "leftover files")
    return int(any(figures[each] for each in bad))


def submit(browser: httpx.Client, clip: bytes, number: int) -> str:
    secret = token(browser.get("/jobs/new/"))
    form = {"csrfmiddlewaretoken": secret, "title": f"clip {number}"}
    answer = browser.post("/jobs/new/", data=form, files={"file": ("clip.mkv", clip)})
    return str(answer.url).rstrip("/").rsplit("/", 1)[1]


def kill(product: Product) -> str:
    name = random.choice(VICTIMS)
    if name == "encoder":
        found = subprocess.run(
            ["pgrep", "-f", f"ffmpeg.*{product.home}/work"], capture_output=True, text=True
        ).stdout.split()
        pid = int(random.choice(found)) if found else 0
    else:
        pid = product.children().get(name, 0)
    if not pid:
        return "nobody"
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return "nobody"
    return name


def rows(product: Product, query: str) -> list[tuple]:
    connection = sqlite3.connect(f"file:{product.home}/mediapipe.sqlite3?mode=ro", uri=True, timeout=20)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def unfinished(product: Product) -> int:
    query = "select count(*) from jobs_job where state in ('queued', 'running')"
    return rows(product, query)[0][0]


def recovered(product: Product) -> float:
    """Seconds from a last kill of the worker until something moves again."""
    until(lambda: set(product.children()) >= {"worker", "web", "temporal"}, 60)
    if not unfinished(product):
        return 0.0
    query = "select max(updated_at) from engine_enginetask"
    product.kill("worker")
    began, before = time.monotonic(), rows(product, query)
    time.sleep(1)
    before = rows(product, query)
    until(lambda: rows(product, query) != before or not unfinished(product), 120)
    return time.monotonic() - began


def count(product: Product, submitted: list[str], kills: Counter[str]) -> dict[str, object]:
    states = Counter(state for (state,) in rows(product, "select state from jobs_job"))
    tasks = Counter(
        (meta["job"], meta["stage"], key)
        for key, meta in (
            (key, json.loads(meta))
            for key, meta in rows(product, "select key, metadata from engine_enginetask")
        )
    )
    succeeded = Counter(
        (json.loads(meta)["job"], json.loads(meta)["stage"])
        for (meta,) in rows(product, "select metadata from engine_enginetask where status = 'succeeded'")
    )
    del kills["nobody"]
    by_victim = ", ".join(f"{name} {number}" for name, number in sorted(kills.items()))
    left = [*(product.home / "work").glob("*"), *(product.home / "media").rglob("*.part")]
    return {
        "jobs submitted": len(submitted),
        "processes killed": f"{sum(kills.values())} ({by_victim})",
        "succeeded": states["succeeded"],
        "held for a person": states["attention"],
        "lost": len(submitted) - states["succeeded"] - states["attention"],
        "stages run twice after success": sum(number > 1 for number in succeeded.values()),
        "tasks paid twice": sum(number > 1 for number in tasks.values()),
        "leftover files": len(left),
    }


if __name__ == "__main__":
    numbers = [float(text) for text in sys.argv[1:]] + [30, 150][len(sys.argv) - 1 :]
    sys.exit(main(int(numbers[0]), numbers[1]))
