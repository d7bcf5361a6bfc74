"""What a year of rows costs: CPU of each page and poll with very many jobs in the database.

`.venv/bin/python -m tests.bench.many [sqlite|postgres] [JOBS]` (100,000 in SQLite, 1,000,000 in Postgres).
Prints a table: CPU of this process and of Postgres' own per request, the lowest of some, and its queries. The
rows take some minutes to make, and a million about 15 GB below TMPDIR, which are given back. With
BENCH_KEPT=1 they are made in the database of DATABASE_URL, or of MEDIAPIPE_HOME, and asked again the next
time; BENCH_ONLY="polls lists" asks some parts alone, and BENCH_SQL=1 shows what is dear.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.bench.measured import PAGE, POLL, Table, database, rss, size_of_database, watch

DELETE = 5  # ms of CPU
DELETED = 200
JOBS = {"sqlite": 100_000, "postgres": 1_000_000}
PARTS = "polls lists history pages batches api records audit csv reconciler deletes"


def main(vendor: str, jobs: int) -> None:
    folder = Path(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(dir=folder) as home, database(vendor, folder):
        kept = bool(os.environ.get("BENCH_KEPT"))
        os.environ |= {"MEDIAPIPE_HOME": os.environ["MEDIAPIPE_HOME"] if kept else home}
        os.environ |= {"TEMPORAL_ADDRESS": "127.0.0.1:1", "DJANGO_SETTINGS_MODULE": "mediapipe.settings"}
        import django

        django.setup()
        from django.core.management import call_command
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
        table.head()
        for part in os.environ.get("BENCH_ONLY", PARTS).split():
            getattr(table, part)()


class Asked(Table):
    """Each page, list, filter, order and poll, and what is done to many."""

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

    def history(self) -> None:
        """The history with each filter."""
        from django.utils import timezone

        day = timezone.localdate() - timedelta(days=40)
        queries = [
            "",
            "tab=attention",
            "tab=done",
            "owner=ada",
            "owner=person7",
            "pipeline=previews",
            f"from={day}",
        ]
        queries += ["q=harbour", "q=0017", "q=nothing-like-it", "why=damaged", "why=damaged&tab=attention"]
        queries += ["why=task_failed", "why=damaged&owner=ada", "q=harbour&owner=ada&sort=title", "page=150"]
        for query in queries:
            self.get(f"history ?{query}", PAGE, f"/history/?{query}")

    def pages(self) -> None:
        """The others."""
        from jobs.models import Job

        job = Job.objects.filter(state="succeeded").order_by("-created_at").first()
        self.get("job page", PAGE, f"/jobs/{job.pk}/")
        self.get("job poll", POLL, f"/jobs/{job.pk}/status/")
        for path in ("/metrics", "/people/", "/fleet/", "/trash/", "/trash/?page=150"):
            self.get(path, PAGE, path)
        self.get("fleet poll", POLL, "/fleet/status/")
        self.get("trash of ada", PAGE, "/trash/", "ada")
        for action, query in (("delete", "tab=done"), ("retry", "why=damaged&tab=attention"), ("cancel", "")):
            self.get(
                f"bulk {action} asked of all ?{query}",
                PAGE,
                f"/jobs/bulk/?action={action}&matching={quote(query) or '%26'}",
            )

    def batches(self) -> None:
        """Batches: their list, one of them, its jobs."""
        from jobs.models import Batch

        batch = Batch.objects.first()
        for who in ("chief", "ada"):
            self.get(f"batches, {who}", PAGE, "/batches/", who)
        self.get("batches ?page=300", PAGE, "/batches/?page=300")
        self.get("a batch", PAGE, f"/batches/{batch.pk}/")
        self.get("its poll", POLL, f"/batches/{batch.pk}/status/")
        for query in ("", "&tab=done", "&sort=title", "&q=z"):
            self.get(f"list ?batch=…{query}", PAGE, f"/?batch={batch.pk}{query}")

    def audit(self) -> None:
        """The audit log by each filter."""
        from django.utils import timezone

        from mediapipe.accounts.models import AuditEntry

        day = timezone.localdate() - timedelta(days=300)
        some = f"from={day}&to={day + timedelta(days=1)}"
        middle = AuditEntry.objects.order_by("-pk").values_list("pk", flat=True)[1000]
        key = AuditEntry.objects.filter(act="job.retry").values_list("key", flat=True)[0]
        queries = ["", "actor=ada", "actor=nobody", "act=line.pause", "act=job.submit", f"to={day}", some]
        queries += [
            f"actor=chief&{some}",
            f"act=line.pause&{some}",
            "actor=ada&act=line.pause",
            f"about={key}",
        ]
        queries += ["about=harbour", "about=0017", "about=nothing-like-it", "about=nothing-like-it&actor=ada"]
        queries += [f"about=harbour&{some}", f"before={middle // 2}", f"before={middle // 2}&act=job.cancel"]
        for query in queries:
            self.get(f"audit ?{query}", PAGE, f"/audit/?{query}")

    def api(self) -> None:
        """The API's list: its first page, one of the middle, and one of each order."""
        from django.contrib.auth import get_user_model
        from django.utils import timezone

        from jobs.models import ApiToken

        owner = get_user_model().objects.get(username="chief")
        _, token = ApiToken.issue(owner, "bench", ["read"])
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
        for query in (
            "limit=100",
            "q=harbour",
            "q=nothing-like-it",
            "why=damaged",
            "why=damaged&sort=oldest",
        ):
            self.get(f"API list ?{query}", PAGE, f"/api/v1/jobs?{query}", **bearer)
        self.get("API batches", PAGE, "/api/v1/batches?page=100", **bearer)

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
