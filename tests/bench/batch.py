"""A batch of a thousand while its workers are killed, and the single jobs of somebody else meanwhile.

`.venv/bin/python -m tests.bench.batch [SOURCES]` (1000). Prints a table. The API answers at once, so it is
the product's own work that is measured; of each hundred sources two are no links, and one is damaged.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from statistics import median

import httpx

from tests.support.faulty_api import FaultyApi
from tests.support.product import Product, token, until

ALONE = 8  # single jobs before the batch
KILLS = (25, 50, 75)  # percent of the batch at which the workers are killed


class Instant(FaultyApi):
    """Every task is done when it is asked for, but for those of damaged files."""

    async def create(self, send, body, key):
        """A new task, by its source."""
        damaged = "damaged" in str(body["input"])
        self.life = ["failed" if damaged else "succeeded"]
        self.error = {"kind": "damaged", "message": "The file is damaged."}
        await super().create(send, body, key)


def sources(many: int) -> list[str]:
    """So many lines, three of each hundred bad."""
    lines = [f"http://127.0.0.1:9/take-{number}.mp4" for number in range(many)]
    for at in range(0, many, 100):
        lines[at + 10] = f"ftp://127.0.0.1/take-{at}.mp4"
        lines[at + 40] = f"http://127.0.0.1:9/take-{at}.mp4?damaged"
        lines[at + 70] = f"no link {at}"
    return lines


def single(browser: httpx.Client) -> float:
    """Seconds from the form to the end of one job."""
    page = browser.get("/jobs/new/")
    form = {"url": f"http://127.0.0.1:9/single-{time.time_ns()}.mp4", "csrfmiddlewaretoken": token(page)}
    began = time.monotonic()
    path = browser.post("/jobs/new/", data=form).url.path
    until(lambda: browser.get(f"{path}json/").json()["status"] == "succeeded", 300, 0.1)
    return time.monotonic() - began


class Somebody(threading.Thread):
    """Submits single jobs, one after the other; *took*: when each began, and its seconds."""

    def __init__(self, browser: httpx.Client) -> None:
        super().__init__()
        self.browser = browser
        self.took: list[tuple[float, float]] = []
        self.over = threading.Event()

    def run(self) -> None:
        """Until told to stop."""
        while not self.over.wait(3):
            began = time.monotonic()
            self.took.append((began, single(self.browser)))


def kill_at(product: Product, browser: httpx.Client, key: str, percent: int) -> float:
    """Kills the workers once so much of the batch is settled; when that was."""

    def settled() -> bool:
        told = browser.get(f"/api/v1/batches/{key}").json()
        return (
            sum(told["counts"][name] for name in ("done", "attention", "rejected")) * 100
            >= percent * told["total"]
        )

    until(settled, 3600, 1)
    product.kill("worker")
    return time.monotonic()


def main(many: int) -> None:
    with tempfile.TemporaryDirectory() as folder, Instant() as api:
        product = Product(Path(folder) / "home", ITTYBIT_API_KEY="k", ITTYBIT_API_URL=api.url)
        product.environment["MEDIAPIPE_PUBLIC_URL"] = product.url
        product.start()
        try:
            measure(product, api, many)
        finally:
            product.stop()


def measure(product: Product, api: Instant, many: int) -> None:
    ada, grace = product.editor("ada"), product.editor("grace")
    issue = (
        "from django.contrib.auth.models import User; from jobs.models import ApiToken;"
        "print(ApiToken.issue(User.objects.get(username='ada'), 'bench', ['read'])[1])"
    )
    ada.headers["Authorization"] = f"Bearer {product.shell(issue)}"
    single(grace)
    alone = [single(grace) for _ in range(ALONE)]
    lines = "\n".join(sources(many))
    page = ada.get("/batches/new/")
    began = time.monotonic()
    shown = ada.post("/batches/new/", data={"links": lines, "csrfmiddlewaretoken": token(page)})
    submitted = time.monotonic() - began
    key = shown.url.path.strip("/").rpartition("/")[2]
    somebody = Somebody(grace)
    somebody.start()
    killed = [kill_at(product, ada, key, percent) for percent in KILLS]
    until(lambda: ada.get(f"/api/v1/batches/{key}").json()["status"] == "finished", 3600, 1)
    seconds = time.monotonic() - began
    somebody.over.set()
    somebody.join()
    told = ada.get(f"/batches/{key}/manifest.json").json()
    report(told, api, alone, somebody.took, killed, submitted, seconds)


def report(told, api, alone, took, killed, submitted, seconds) -> None:
    """The table."""
    items, counts = told["items"], told["counts"]
    jobs = {item["job"] for item in items} - {None}
    ended = [item for item in items if item["state"] == "done" or item["reason"]]
    asked = Counter(key for key in api.tasks if key.split("/")[0].removeprefix("media-") in jobs)
    stages = Counter(key.rsplit("/", 1)[0] for key in asked)
    twice = len(jobs) != sum(item["job"] is not None for item in items) or [
        s for s in stages.values() if s > 1
    ]
    hit = [each for at, each in took if any(at - 1 < moment < at + each for moment in killed)]
    between = [each for at, each in took if not any(at - 1 < moment < at + each for moment in killed)]
    print("| what | figure |\n| --- | --- |")
    print(f"| sources | {len(items):,}, taken in {submitted:.1f} s |")
    print(f"| workers killed (kill -9) | {len(killed)} times |")
    print(f"| done | {counts['done']} |")
    print(f"| not done, each with its sentence | {counts['attention'] + counts['rejected']} |")
    print(f"| lost | {len(items) - len(ended)} |")
    print(f"| twice: jobs of an item, tasks of a stage | {twice or 0} |")
    print(f"| from the form to the end | {seconds:.0f} s, {len(jobs) / seconds:.1f} jobs per second |")
    print(f"| somebody else’s single job, alone: median of {len(alone)} | {median(alone):.1f} s |")
    print(f"| the same beside the batch: median of {len(between)} | {median(between or [0]):.1f} s |")
    print(f"| the same, hit by a kill | {', '.join(f'{each:.0f} s' for each in hit) or 'none was'} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
