"""Whether jobs take turns: when those of many people finish, and how long a preview waits behind an encode.

`.venv/bin/python -m tests.bench.fair [JOBS]` (40). Prints figures: ratios in one run, so that a busy machine
changes them little.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.support.product import Product, make_clip, until

PEOPLE = 10
FINISHES = (
    "from jobs.models import Job; import json; "
    "print(json.dumps([[j.state, j.created_at.timestamp(), j.finished_at and j.finished_at.timestamp()] "
    "for j in Job.objects.filter(title={title!r})]))"
)
SUBMIT = (
    "from jobs.models import Job; from jobs.state import Source; from jobs import control; "
    "from asgiref.sync import async_to_sync as a; from django.contrib.auth import get_user_model as g; "
    "each = [g().objects.get_or_create(username=f'person{{n}}')[0] for n in range({people})]; "
    "made = [Job.submit(each[n % {people}], title={title!r}, pipeline='standard', "
    "source=Source(name={source!r}, size=1)) for n in range({jobs})]; "
    "[a(control.start)(job) for job in made]"
)


def main(jobs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        as_installed = {
            "MEDIAPIPE_HEARTBEAT_SECONDS": "30"
        }  # those that wait are asked for more often in tests
        product = Product(Path(folder) / "home", **as_installed).start()
        try:
            print("| what | figure |\n| --- | --- |", flush=True)
            for people in (PEOPLE, 1):
                line(product, jobs, people)
            previews(product)
        finally:
            product.stop()


def put(product: Product, name: str, *clip) -> str:
    """A clip among the product's uploads; its name."""
    path = product.home / "media" / "sources" / "bench" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    make_clip(path, *clip)
    return f"sources/bench/{name}"


def line(product: Product, jobs: int, people: int) -> None:
    """All at once, each job with two short encodes of its own: when the middle one is done, and the last."""
    source = put(product, "short.mkv", 1, "320x180", "-c:v", "mpeg4")
    title = f"{jobs} of {people}"
    product.shell(SUBMIT.format(people=people, title=title, source=source, jobs=jobs))

    def finished() -> list:
        found = json.loads(product.shell(FINISHES.format(title=title)))
        return found if all(end for _, _, end in found) else []

    found = until(finished, 1800, every=2)
    assert {state for state, _, _ in found} == {"succeeded"}, found
    began = min(at for _, at, _ in found)
    ends = sorted(end - began for _, _, end in found)
    middle = statistics.median(ends)
    print(
        f"| {jobs} jobs of {people} people: first, median, last finish | {ends[0]:.1f} s, {middle:.1f} s, "
        f"{ends[-1]:.1f} s; median ÷ last {middle / ends[-1]:.2f} |",
        flush=True,
    )


def thumbnail(product: Product, source: str, size: int) -> float:
    """Seconds from a job's submission to its thumbnail."""
    title = f"preview {time.time()}"
    product.shell(
        SUBMIT.format(people=1, title=title, source=source, jobs=1).replace("size=1", f"size={size}")
    )
    find = (
        f"from jobs.models import Stage; s = Stage.objects.get(job__title={title!r}, name='thumbnails'); "
        "print(s.finished_at and (s.finished_at - s.job.created_at).total_seconds() or '')"
    )
    return float(until(lambda: product.shell(find), 1800))


def previews(product: Product) -> None:
    """A clip's thumbnail, alone and while a transcode of somebody else is at work."""
    short, long = put(product, "clip.mp4", 3, "640x360"), put(product, "long.mp4", 120, "1920x1080")
    alone = min(thumbnail(product, short, 1) for _ in range(2))
    product.shell(SUBMIT.format(people=2, title="long", source=long, jobs=2))
    busy = (
        "from mediapipe.engine.models import EngineTask; print(EngineTask.objects.filter(kind='video', "
        "status='processing', metadata__stage='transcode', progress__gt=1).count() or '')"
    )
    until(lambda: product.shell(busy), 600)
    beside = thumbnail(product, short, 1)
    still = product.shell(busy)
    print(
        "| a clip's thumbnail, alone and while 120 s of 1080p are transcoded "
        f"| {alone:.1f} s, {beside:.1f} s; {'before' if still else 'after'} the transcode ended |",
        flush=True,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
