"""What a year of rows costs: CPU of each page and poll with very many jobs in the database.

`.venv/bin/python -m tests.bench.many [sqlite|postgres] [JOBS]` (100,000 in SQLite, 1,000,000 in Postgres).
Prints a table: CPU of this process and of Postgres' own per request, the lowest of some, and its queries. The
rows take some minutes to make, and a million about 15 GB below TMPDIR, which are given back.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")
POLL, PAGE, DELETE = 10, 100, 5  # ms of CPU
ROUNDS = {POLL: 40, PAGE: 10}  # a poll is over before others on the machine notice it, one time in some
DELETED = 200
JOBS = {"sqlite": 100_000, "postgres": 1_000_000}
SEEN: deque[tuple[float, str]] = deque(maxlen=100)  # the last queries: seconds and text
# Planned for: what a server with memory to spare is set to.
TUNED = {
    "shared_buffers": "1GB",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "8GB",
    "autovacuum": "off",
    "jit": os.environ.get("BENCH_JIT", "on"),
}


def main(vendor: str, jobs: int) -> None:
    folder = Path(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(dir=folder) as home, database(vendor, folder) as pid:
        os.environ |= {"MEDIAPIPE_HOME": home, "TEMPORAL_ADDRESS": "127.0.0.1:1"}
        os.environ |= {"DJANGO_SETTINGS_MODULE": "mediapipe.settings"}
        import django

        django.setup()
        from django.db.backends.signals import connection_created

        connection_created.connect(_watch)
        from django.core.management import call_command

        from mediapipe.management.commands.web import collect_static
        from tests.bench import rows

        call_command("migrate", verbosity=0)
        collect_static()
        began = time.monotonic()
        rows.make(jobs)
        size = size_of_database()
        print(f"{jobs:,} jobs in {vendor}, {size / 1e9:.1f} GB, in {time.monotonic() - began:.0f} s\n")
        Table(pid).print()


@contextmanager
def database(vendor: str, folder: Path) -> Iterator[int | None]:
    """Sets DATABASE_URL; the first process of its server, where there is one."""
    os.environ.pop("DATABASE_URL", None)
    if vendor == "sqlite":
        yield None
        return
    from tests.support.postgres import postgres

    with postgres(folder, **TUNED) as server:
        os.environ["DATABASE_URL"] = server.url
        yield server.pid


def _see(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    began = time.perf_counter()
    try:
        return execute(sql, params, many, context)
    finally:
        SEEN.append((time.perf_counter() - began, f"{sql} {params}"))


def _watch(connection: Any, **_: Any) -> None:
    """Notes the queries of a thread's connection."""
    if _see not in connection.execute_wrappers:
        connection.execute_wrappers.append(_see)


def size_of_database() -> int:
    from django.db import connection

    if connection.vendor == "sqlite":
        return Path(connection.settings_dict["NAME"]).stat().st_size
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        return int(cursor.fetchone()[0])


def cpu_of_children(pid: int) -> float:
    """Seconds of CPU of a process' children, of those that have ended, too."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    total = (int(fields[13]) + int(fields[14])) / TICKS
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        total += int(Path(f"/proc/{child}/schedstat").read_text().split()[0]) / 1e9
    return total


class Table:
    """Lines of what is asked; *pid*: of the database's server."""

    def __init__(self, pid: int | None) -> None:
        from django.contrib.auth import get_user_model
        from django.test import Client

        self.pid = pid
        self.browsers = {}
        for name in ("chief", "ada"):
            self.browsers[name] = Client(HTTP_HOST="localhost")
            self.browsers[name].force_login(get_user_model().objects.get(username=name))

    def cpu(self) -> float:
        """Seconds that this process and the database's have used."""
        return time.process_time() + (cpu_of_children(self.pid) if self.pid else 0)

    def line(self, name: str, limit: int, act: Callable[[], Any]) -> None:
        """One line: ms of CPU, the lowest of some rounds, and the queries of one."""
        act()
        SEEN.clear()
        act()
        queries = sorted(SEEN)
        least = min(self._once(act) for _ in range(ROUNDS[limit])) * 1000
        over = "" if least <= limit else "  over"
        print(f"| {name:46} | {least:8.1f} | {limit:5} | {len(queries):3} |{over}", flush=True)
        if os.environ.get("BENCH_SQL") and over:
            for took, sql in queries[-2:]:
                print(f"    {took * 1000:.1f} ms: {sql[:2500]}")

    def _once(self, act: Callable[[], Any]) -> float:
        before = self.cpu()
        act()
        return self.cpu() - before

    def get(self, name: str, limit: int, path: str, who: str = "chief", **headers: str) -> None:
        """A line for a page."""

        def act() -> None:
            answer = self.browsers[who].get(path, **headers)
            assert answer.status_code == 200, (path, answer.status_code)

        self.line(name, limit, act)

    def print(self) -> None:
        """The whole table."""
        only = os.environ.get("BENCH_ONLY", "polls lists pages records csv reconciler deletes").split()
        print(f"| {'':46} | {'CPU ms':>8} | limit | SQL |\n| --- | --: | --: | --: |")
        for part in only:
            getattr(self, part)()

    def polls(self) -> None:
        """What pages ask by themselves."""
        from django.utils import timezone

        since = (timezone.now() - timedelta(seconds=6)).isoformat().replace("+", "%2B")
        for who in ("chief", "ada"):
            self.get(f"list poll, {who}", POLL, "/jobs/rows/", who)
            self.get(f"news poll, {who}", POLL, f"/jobs/news/?since={since}", who)
        self.get("list poll of a search, chief", POLL, "/jobs/rows/?q=harbour", "chief")

    def lists(self) -> None:
        """The list with each filter, order and kind of search."""
        from django.utils import timezone

        day = timezone.localdate() - timedelta(days=40)
        some = f"from={day - timedelta(days=7)}&to={day}"
        queries = [
            "",
            "tab=running",
            "tab=attention",
            "tab=done",
            "tab=cancelled",
            "sort=oldest",
            "sort=title",
        ]
        queries += ["state=failed", "pipeline=previews", "owner=ada", "owner=person7", some, f"from={day}"]
        queries += ["why=damaged", "why=task_failed", "q=harbour", "q=zurich", "q=0017", "q=nothing-like-it"]
        queries += ["q=person7", "q=z", "q=harbour&sort=title", "q=nothing-like-it&sort=title"]
        queries += ["owner=person7&sort=title", f"owner=ada&tab=done&{some}", "pipeline=streaming&sort=title"]
        queries += ["page=400", "page=999999"]
        for query in queries:
            self.get(f"list ?{query}", PAGE, f"/?{query}")
        for query in (
            "",
            "sort=title",
            "tab=done",
            "q=harbour",
            "q=nothing-like-it",
            "q=0017",
            f"from={day}",
        ):
            self.get(f"list of ada ?{query}", PAGE, f"/?{query}", "ada")

    def pages(self) -> None:
        """History, a job's page, the API, metrics."""
        from django.utils import timezone

        from jobs.models import ApiToken, Job

        day = timezone.localdate() - timedelta(days=40)
        for query in ("", "tab=attention", "owner=ada", "q=harbour", "q=0017", f"from={day}", "why=damaged"):
            self.get(f"history ?{query}", PAGE, f"/history/?{query}")
        job = Job.objects.filter(state="succeeded").order_by("-created_at").first()
        self.get("job page", PAGE, f"/jobs/{job.pk}/")
        self.get("job poll", POLL, f"/jobs/{job.pk}/status/")
        self.get("metrics", PAGE, "/metrics")
        self.get("batches", PAGE, "/batches/")
        _, token = ApiToken.issue(job.owner, "bench", ["read"])
        self.api(token, job.owner)

    def api(self, token: str, owner: Any) -> None:
        """The API's list: its first page, one of the middle, and one of each order."""
        import base64
        import json

        from django.utils import timezone

        owner.is_staff = True
        owner.save()
        bearer = {"HTTP_AUTHORIZATION": f"Bearer {token}"}
        middle = (timezone.now() - timedelta(days=180)).isoformat()
        cursors = {
            "": [middle, "0" * 32],
            "oldest": [middle, "0" * 32],
            "title": ["harbour", middle, "0" * 32],
        }
        for sort, values in cursors.items():
            cursor = base64.urlsafe_b64encode(json.dumps(values).encode()).decode()
            self.get(f"API list, sort={sort}", PAGE, f"/api/v1/jobs?sort={sort}", **bearer)
            path = f"/api/v1/jobs?sort={sort}&cursor={cursor}"
            self.get(f"API list, sort={sort}, from the middle", PAGE, path, **bearer)
        owner.is_staff = False
        owner.save()

    def records(self) -> None:
        """Django's admin."""
        for path in ("job/", "job/?q=harbour", "job/?q=nothing-like-it", "job/?state=failed", "job/?p=20"):
            self.get(f"admin {path}", PAGE, f"/admin/jobs/{path}")
        for table in ("stage", "event", "upload"):
            for query in ("", "?q=harbour", "?q=nothing-like-it"):
                self.get(f"admin {table}/{query}", PAGE, f"/admin/jobs/{table}/{query}")
        self.get("admin stage/?state=failed", PAGE, "/admin/jobs/stage/?state=failed")

    def csv(self) -> None:
        """The export: CPU of each job, and how much more memory it takes at most."""
        from jobs.dashboard import history
        from jobs.models import Job

        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before, cpu = rss("VmRSS"), self.cpu()
        lines = sum(1 for job in history.in_blocks(Job.objects.all()) if history.cells(job))
        used = (self.cpu() - cpu) / lines * 1e6
        more = rss("VmHWM") - before
        print(f"| CSV of {lines:,} jobs: {more:.0f} MB more memory; CPU µs a job | {used:.0f} |", flush=True)

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

        logging.getLogger("jobs").setLevel(logging.WARNING)  # a line for each
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


def rss(which: str) -> float:
    """Megabytes, by /proc."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{which}:"))


if __name__ == "__main__":
    wanted = sys.argv[1] if len(sys.argv) > 1 else "sqlite"
    main(wanted, int(sys.argv[2]) if len(sys.argv) > 2 else JOBS[wanted])
