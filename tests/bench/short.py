"""Where the time of a short job goes: each stage from its start to its end, beside bare FFmpeg.

`.venv/bin/python -m tests.bench.short [ROUNDS] [SECONDS]` (5, 3 of 720p). Prints the best of the rounds, and
what depends less on the neighbours: CPU seconds of each process, Temporal's events. Then jobs whose tasks are
done at once: one after the other, and thirty together.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median

from temporalio.client import Client

from tests.bench.batch import Instant
from tests.bench.engine import family, is_done, run_plain, used
from tests.support.product import Product, make_clip, until

AT_ONCE = 30
TASKS = (
    "import json; from mediapipe.engine.models import EngineTask as T; "
    "print(json.dumps({{t.metadata['stage']: [t.pk, t.created_at.timestamp(), t.started_at.timestamp(), "
    "{{k: v for k, v in t.steps.items() if isinstance(v, int)}}, t.finished_at.timestamp()] "
    "for t in T.objects.filter(metadata__job={job!r})}}))"
)
ENDS = (
    "import json; from jobs.models import Job; "
    "print(json.dumps([j.finished_at and (j.finished_at - j.created_at).total_seconds() "
    "for j in Job.objects.filter({which})]))"
)
SUBMIT = (
    "from jobs.models import Job; from jobs.state import Source; from jobs import control; "
    "from asgiref.sync import async_to_sync as a; from django.contrib.auth import get_user_model as g; "
    "made = [Job.submit(g().objects.first(), title={title!r}, pipeline='standard', "
    "source=Source(url='http://127.0.0.1:9/a.mp4')) for n in range({jobs})]; "
    "[a(control.start)(job) for job in made]"
)


def main(rounds: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        clip = make_clip(Path(folder) / "clip.mp4", seconds, "1280x720")
        product = Product(Path(folder) / "home").start()
        try:
            short(product, clip, rounds)
        finally:
            product.stop()
        with Instant() as api:
            own = {"ITTYBIT_API_KEY": "k", "ITTYBIT_API_URL": api.url}
            product = Product(Path(folder) / "instant", **own).start()
            try:
                instant(product, rounds)
            finally:
                product.stop()


def cpu(product: Product) -> dict[str, float]:
    """CPU seconds so far of each of its processes, with what they have started."""
    return {name: sum(map(used, family(pid))) for name, pid in product.children().items()}


def address(product: Product) -> str:
    line = next(each for each in product.log.read_text().splitlines() if each.startswith("Temporal: "))
    return line.removeprefix("Temporal: ")


async def events(product: Product, ids: list[str]) -> Counter[str]:
    """How many events these workflows have, by type."""
    client = await Client.connect(address(product))
    found: Counter[str] = Counter()
    for each in ids:
        async for event in client.get_workflow_handle(each).fetch_history_events():
            found[type_name(event.event_type)] += 1
    return found


def type_name(number: int) -> str:
    from temporalio.api.enums.v1 import EventType

    return EventType.Name(number).removeprefix("EVENT_TYPE_").lower()


def moments(product: Product, job: str) -> dict[str, dict[str, float]]:
    """Of each stage: seconds of its steps, in their order."""
    status = product.status(job)
    tasks = json.loads(product.shell(TASKS.format(job=job)))
    found = {}
    for stage in status["stages"]:
        _, created, started, steps, finished = tasks[stage["name"]]
        began, ended = (
            datetime.fromisoformat(stage[key]).timestamp() for key in ("started_at", "finished_at")
        )
        names = ("import", "probe", "encode", "export")
        at = [
            began,
            created,
            started,
            *(steps[name] / 1000 for name in names if name in steps),
            finished,
            ended,
        ]
        between = ["create", "queue", "begin", *(name for name in names if name in steps), "seen"]
        found[stage["name"]] = dict(zip(between, (b - a for a, b in pairwise(at)), strict=True))
    return found


def short(product: Product, clip: Path, rounds: int) -> None:
    took: list[float] = []
    bare: list[float] = []
    stages: list[dict[str, dict[str, float]]] = []
    spent: list[dict[str, float]] = []
    ids: list[str] = []
    for _ in range(rounds + 1):
        plain = run_plain(clip)
        before = cpu(product)
        done = product.command("submit", str(clip), "--json")
        job = json.loads(done.stdout)["id"]
        until(lambda job=job: is_done(product, job), 300, every=0.1)
        time.sleep(1)  # what follows a job's end belongs to it
        spent.append({name: now - before[name] for name, now in cpu(product).items()})
        took.append(json.loads(product.shell(ENDS.format(which=f"pk={job!r}")))[0])
        bare.append(sum(plain.values()) - plain["CPU"])
        stages.append(moments(product, job))
        ids = [
            f"media-{job}",
            *(each[0] for each in json.loads(product.shell(TASKS.format(job=job))).values()),
        ]
    for each in (took, bare, stages, spent):
        del each[0]  # the first one warms up
    best = min(range(rounds), key=took.__getitem__)
    print("| what | figure |\n| --- | --- |")
    beyond = min(took) - min(bare)
    print(f"| submitted to done; bare; beyond | {min(took):.2f} s; {min(bare):.2f} s; {beyond:.2f} s |")
    for name, steps in stages[best].items():
        parts = ", ".join(f"{step} {seconds * 1000:.0f}" for step, seconds in steps.items())
        print(f"| {name}: ms until each step's end | {parts} |")
    least = {name: min(each[name] for each in spent) for name in spent[0]}
    print(f"| CPU s | {', '.join(f'{name} {seconds:.2f}' for name, seconds in least.items())} |")
    found = asyncio.run(events(product, ids))
    most = ", ".join(f"{count} {name}" for name, count in found.most_common(5))
    print(f"| events of {len(ids)} workflows | {found.total()}: {most} … |", flush=True)


def instant(product: Product, rounds: int) -> None:
    product.shell(SUBMIT.format(title="warm", jobs=1))
    until(lambda: finished(product, "warm"), 60)
    for number in range(rounds * 2):
        product.shell(SUBMIT.format(title="one", jobs=1))
        until(lambda number=number: len(finished(product, "one")) == number + 1, 60)
    print(f"| instant tasks, alone: median | {median(finished(product, 'one')):.2f} s |", flush=True)
    before = cpu(product)
    product.shell(SUBMIT.format(title="many", jobs=AT_ONCE))
    until(lambda: len(finished(product, "many")) == AT_ONCE, 300)
    ends = finished(product, "many")
    print(f"| instant tasks, {AT_ONCE} together: median, last | {median(ends):.2f} s, {max(ends):.2f} s |")
    each = ((name, (now - before[name]) / AT_ONCE) for name, now in cpu(product).items())
    print(f"| CPU ms of one of them | {', '.join(f'{name} {of * 1000:.0f}' for name, of in each)} |")


def finished(product: Product, title: str) -> list[float]:
    """Seconds from the submission to the end of each job that has ended."""
    return sorted(filter(None, json.loads(product.shell(ENDS.format(which=f"title={title!r}")))))


if __name__ == "__main__":
    given = sys.argv[1:]
    main(int(given[0]) if given else 5, float(given[1]) if len(given) > 1 else 3)
