"""What polling costs: CPU per poll, and queries to Temporal with one and with many watchers.

`.venv/bin/python -m tests.bench.poll [WATCHERS]` (200). Prints figures.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import httpx

from tests.support.faulty_api import FaultyApi
from tests.support.product import Product, until

TICKS = os.sysconf("SC_CLK_TCK")


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def main(watchers: int) -> None:
    # an API whose tasks never end, so that no encoder takes the cores
    with tempfile.TemporaryDirectory() as folder, FaultyApi() as api:
        api.life = ["processing"]
        product = Product(Path(folder) / "home", ITTYBIT_API_KEY="k", ITTYBIT_API_URL=api.url).start()
        try:
            print("| what | figure |\n| --- | --- |")
            measure(product, watchers)
        finally:
            product.stop()


def measure(product: Product, watchers: int) -> None:
    browser, web = product.editor("ada", staff=True), product.children()["web"]
    jobs = [
        json.loads(product.command("submit", "http://127.0.0.1:9/a.mp4", "--json").stdout)["id"]
        for _ in range(3)
    ]
    code = (
        "from jobs.models import Job; from jobs.state import Source; "
        "from django.contrib.auth import get_user_model as g; o = g().objects.get(username='ada'); "
        "made = [Job.submit(o, title=f'job {n}', pipeline='standard', source=Source(url='http://x/'))"
        " for n in range(22)]; [job.cancel_unstarted('a') for job in made]"
    )
    product.command("shell", "-v", "0", "-c", code)
    until(lambda: browser.get(f"/jobs/{jobs[2]}/json/").json()["status"] == "running", 30)
    for title, path, kept in (
        ("the page of a running job, unchanged", f"/jobs/{jobs[2]}/status/", True),
        ("the page of a running job, changed", f"/jobs/{jobs[2]}/status/", False),
        ("the list of 25, unchanged", "/jobs/rows/", True),
        ("the list of 25, a tag of something else", "/jobs/rows/", False),
    ):
        tag = browser.get(path).headers.get("HX-PTag", "")
        before, rounds = cpu(web), 200
        statuses = set()
        for _ in range(rounds):
            answer = browser.get(path, headers={"HX-PTag": tag} if kept else {})
            tag = answer.headers.get("HX-PTag", tag)
            statuses.add(answer.status_code)
        print(f"| CPU per poll: {title} {sorted(statuses)} | {(cpu(web) - before) / rounds * 1000:.1f} ms |")
    for count in (1, watchers):
        asyncio.run(watch(product, browser.cookies, jobs[0], count))
    for job in jobs:
        product.command("cancel", job)


async def watch(product: Product, cookies: httpx.Cookies, job: str, count: int, seconds: float = 20) -> None:
    """*count* people watch one job, each asking every two seconds."""
    web, times = product.children()["web"], list[float]()
    limits = httpx.Limits(max_connections=count, max_keepalive_connections=count)
    async with httpx.AsyncClient(
        base_url=product.url, cookies=cookies, trust_env=False, limits=limits, timeout=30
    ) as http:

        async def person(number: int) -> None:
            await asyncio.sleep(2 * number / count)
            tag, until_ = "", time.monotonic() + seconds
            while time.monotonic() < until_:
                began = time.perf_counter()
                answer = await http.get(f"/jobs/{job}/status/", headers={"HX-PTag": tag})
                tag = answer.headers.get("HX-PTag", tag)
                times.append(time.perf_counter() - began)
                await asyncio.sleep(max(0, 2 - (time.perf_counter() - began)))

        before = cpu(web), await queries(http)
        await asyncio.gather(*(person(number) for number in range(count)))
        used, asked = cpu(web) - before[0], await queries(http) - before[1]
    p95 = sorted(times)[int(len(times) * 0.95)] * 1000
    print(
        f"| {count} watching one job, every 2 s | {asked / seconds:.1f} queries to Temporal per second, "
        f"{len(times)} answers, p95 {p95:.0f} ms, CPU {used / seconds * 100:.0f} % of a core |"
    )


async def queries(http: httpx.AsyncClient) -> int:
    """How many status queries the web process has sent, as its metrics tell."""
    text = (await http.get("/metrics")).text
    return int(
        next(line for line in text.splitlines() if line.startswith("mediapipe_status_queries ")).split()[1]
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
