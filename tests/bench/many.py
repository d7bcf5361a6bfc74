"""What a year of rows costs: CPU of each page and poll with very many jobs in the database.

`.venv/bin/python -m tests.bench.many [sqlite|postgres] [JOBS]` (100,000 in SQLite, 1,000,000 in Postgres).
Prints a table: CPU of this process and of Postgres' own per request, the lowest of some, and its queries. The
rows take some minutes to make, and a million about 15 GB below TMPDIR, which are given back. With
BENCH_KEPT=1 they are made in the database of DATABASE_URL, or of MEDIAPIPE_HOME, and asked again the next
time; BENCH_ONLY="polls lists" asks some parts alone, and BENCH_SQL=1 shows what is dear.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import tempfile
import time
from io import StringIO
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.test import AsyncClient, override_settings

from tests.bench.many_pages import Pages
from tests.bench.measured import PAGE, database, rss, size_of_database, watch

DELETE = 5  # ms of CPU
DELETED = 200
JOBS = {"sqlite": 100_000, "postgres": 1_000_000}
PARTS = "polls lists history pages batches api records audit csv prune reconciler deletes"


def main(vendor: str, jobs: int) -> None:
    folder = Path(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(dir=folder) as home, database(vendor, folder):
        kept = bool(os.environ.get("BENCH_KEPT"))
        os.environ |= {"MEDIAPIPE_HOME": os.environ["MEDIAPIPE_HOME"] if kept else home}
        os.environ |= {"TEMPORAL_ADDRESS": "127.0.0.1:1", "DJANGO_SETTINGS_MODULE": "mediapipe.settings"}
        import django

        django.setup()
        from django.db.backends.signals import connection_created

        from jobs.models import Job
        from mediapipe.management.commands.web import collect_static
        from tests.bench import rows

        connection_created.connect(watch)
        call_command("migrate", verbosity=0)
        collect_static()
        began = time.monotonic()
        if not Job.objects.exists():
            rows.make(jobs)
        size = size_of_database()
        print(f"{jobs:,} jobs in {vendor}, {size / 1e9:.1f} GB, in {time.monotonic() - began:.0f} s\n")
        table = Asked()
        gc.collect()
        gc.freeze()  # as the web server does
        table.head()
        for part in os.environ.get("BENCH_ONLY", PARTS).split():
            getattr(table, part)()


class Asked(Pages):
    """And what is done to many."""

    def csv(self) -> None:
        """The export as a browser takes it: until its first job, then for each, and how much more memory."""
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = rss("VmRSS")
        with override_settings(ALLOWED_HOSTS=["testserver"]):
            first, rest, lines = asyncio.run(self._download("/history/jobs.csv"))
        print(f"| CSV of {lines:,} jobs, until its first | {first * 1000:.1f} | {PAGE} |")
        more = rss("VmHWM") - before
        print(f"| and then: {more:.0f} MB more memory; CPU µs a job | {rest / lines * 1e6:.0f} |", flush=True)

    async def _download(self, path: str) -> tuple[float, float, int]:
        """The CPU until its first job, and after that, and how many lines it has."""
        browser = AsyncClient()
        browser.cookies = self.browsers["chief"].cookies
        await browser.get("/healthz")  # by which it becomes ready itself
        began = self.cpu()
        answer = await browser.get(path)
        assert answer.status_code == 200 and answer.streaming
        first, lines = 0.0, 0
        async for part in answer.streaming_content:
            lines += part.count(b"\n")
            first = first or (self.cpu() if lines > 1 else 0.0)
        return first - began, self.cpu() - first, lines

    def prune(self) -> None:
        """What `prune --dry-run` costs, by nothing but what goes by itself, and with all that can be set."""
        days = {
            "sources": 30,
            "failed_sources": 60,
            "outputs": 180,
            "timelines": 90,
            "tasks": 90,
            "audit": 200,
        }
        for name, keep in (("as set by default", settings.KEEP_DAYS), ("of all kinds", days)):
            Path("/proc/self/clear_refs").write_text("5")
            before, began = rss("VmRSS"), self.cpu()
            shown = StringIO()
            with override_settings(KEEP_DAYS=keep):
                call_command("prune", "--dry-run", stdout=shown)
            more = rss("VmHWM") - before
            print(
                f"| prune --dry-run {name}, {more:.0f} MB more memory | {(self.cpu() - began) * 1000:.0f} |"
            )
            print(shown.getvalue(), flush=True)

    def reconciler(self) -> None:
        """A round with some active jobs, all of which Temporal runs."""
        from jobs import reconcile
        from jobs.models import Job

        started = Job.objects.active().exclude(workflow_started_at=None)
        stand_in: Any = Running(list(started.values_list("pk", "run", "workflow_started_at")))
        act = lambda: asyncio.run(reconcile.Round(stand_in, None).run())  # noqa: E731
        self.line(f"a round with {started.count()} active jobs", PAGE, act)

    def deletes(self) -> None:
        """Many at once."""
        from jobs.dashboard import bulk
        from jobs.models import Job

        logging.disable(logging.INFO)  # a line for each
        jobs = bulk.select_jobs("delete", Job.objects.filter(state="succeeded"))
        before = self.cpu()
        result = bulk.apply("delete", jobs[:DELETED], "chief")
        each = (self.cpu() - before) / DELETED * 1000
        over = "" if each <= DELETE else "  over"
        print(f"| a job of a bulk delete ({result}) | {each:.1f} | {DELETE} |{over}", flush=True)


class Running:
    """Stands for a Temporal that runs these jobs: it only lists them."""

    def __init__(self, jobs: list[tuple[Any, int, Any]]) -> None:
        self.jobs = jobs

    async def list_workflows(self, query: str, **_: Any) -> Any:
        """Each of them, as a running workflow."""
        for pk, run, since in self.jobs:
            yield Found(f"media-{pk}", run, since)


class Found:
    """A workflow in that list."""

    def __init__(self, workflow: str, run: int, start_time: Any) -> None:
        self.id = workflow
        self.run = run
        self.start_time = start_time

    async def memo_value(self, name: str, default: Any) -> Any:
        """The number of its run."""
        return self.run


if __name__ == "__main__":
    wanted = sys.argv[1] if len(sys.argv) > 1 else "sqlite"
    main(wanted, int(sys.argv[2]) if len(sys.argv) > 2 else JOBS[wanted])
