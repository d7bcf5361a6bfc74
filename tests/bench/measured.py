"""CPU of what is asked of this process and of its database, as lines of a table. It knows no page.

A page is asked as by its first visitor: what pages keep for their next ones is forgotten before. A poll is
asked as by the second one.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")
POLL, PAGE = 10, 100  # ms of CPU
ROUNDS = {POLL: 40, PAGE: 10}  # a poll is over before others on the machine notice it, one time in some
SEEN: deque[tuple[float, str]] = deque(maxlen=100)  # the last queries: seconds and text
# Planned for: what a server with memory to spare is set to.
TUNED = {
    "shared_buffers": "1GB",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "8GB",
    "autovacuum": "off",
    "jit": os.environ.get("BENCH_JIT", "on"),
}


@contextmanager
def database(vendor: str, folder: Path) -> Iterator[None]:
    """Sets DATABASE_URL to one of its own, empty; leaves it as it is where BENCH_KEPT is set."""
    if os.environ.get("BENCH_KEPT"):
        yield
        return
    os.environ.pop("DATABASE_URL", None)
    if vendor == "sqlite":
        yield
        return
    from tests.support.postgres import postgres

    with postgres(folder, **TUNED) as server:
        os.environ["DATABASE_URL"] = server.url
        yield


def _see(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    began = time.perf_counter()
    try:
        return execute(sql, params, many, context)
    finally:
        SEEN.append((time.perf_counter() - began, f"{sql} {params}"))


def watch(connection: Any, **_: Any) -> None:
    """Notes the queries of a thread's connection."""
    if _see not in connection.execute_wrappers:
        connection.execute_wrappers.append(_see)


def size_of_database() -> int:
    """Its bytes."""
    from django.db import connection

    if connection.vendor == "sqlite":
        return Path(connection.settings_dict["NAME"]).stat().st_size
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        return int(cursor.fetchone()[0])


def first_process() -> int | None:
    """Of the database's server; None where it has none."""
    from django.db import connection

    if connection.vendor == "sqlite":
        return None
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        stat = Path(f"/proc/{cursor.fetchone()[0]}/stat").read_text()
    return int(stat.rsplit(")", 1)[1].split()[1])


def cpu_of_children(pid: int) -> float:
    """Seconds of CPU of a process' children, of those that have ended, too."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    total = (int(fields[13]) + int(fields[14])) / TICKS
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        total += int(Path(f"/proc/{child}/schedstat").read_text().split()[0]) / 1e9
    return total


def rss(which: str) -> float:
    """Megabytes of this process, by /proc."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{which}:"))


def forget() -> None:
    """What pages keep for their next visitors."""
    from jobs import gauges
    from jobs.dashboard import counting, polling, saved_views

    gauges._known.clear()
    polling._made.clear()
    counting._full.clear()
    counting._newest.clear()
    saved_views._known.clear()


class Table:
    """Lines of what is asked."""

    def __init__(self) -> None:
        from django.contrib.auth import get_user_model
        from django.test import Client

        self.pid = first_process()
        self.browsers = {}
        for name in ("chief", "ada"):
            self.browsers[name] = Client(HTTP_HOST="localhost")
            self.browsers[name].force_login(get_user_model().objects.get(username=name))

    def cpu(self) -> float:
        """Seconds that this process and the database's have used."""
        return time.process_time() + (cpu_of_children(self.pid) if self.pid else 0)

    def head(self) -> None:
        """The first lines."""
        print(f"| {'':58} | {'CPU ms':>8} | limit | SQL |\n| --- | --: | --: | --: |")

    def line(self, name: str, limit: int, act: Callable[[], Any]) -> None:
        """One line: ms of CPU, the lowest of some rounds, and the queries of one."""
        act()
        forget()
        SEEN.clear()
        act()
        queries = sorted(SEEN)
        least = min(self._once(act, is_first=limit == PAGE) for _ in range(ROUNDS[limit])) * 1000
        over = "" if least <= limit else "  over"
        print(f"| {name:58} | {least:8.1f} | {limit:5} | {len(queries):3} |{over}", flush=True)
        if os.environ.get("BENCH_SQL") and over:
            for took, sql in queries[-2:]:
                print(f"    {took * 1000:.1f} ms: {sql[:2500]}")

    def _once(self, act: Callable[[], Any], *, is_first: bool) -> float:
        if is_first:
            forget()
        before = self.cpu()
        act()
        return self.cpu() - before

    def get(
        self, name: str, limit: int, path: str, who: str = "chief", status: int = 200, **headers: str
    ) -> None:
        """A line for a page, or for what else is answered with that *status*."""

        def act() -> None:
            answer = self.browsers[who].get(path, **headers)
            assert answer.status_code == status, (path, answer.status_code)
            b"".join(answer) if answer.streaming else answer.content

        self.line(name, limit, act)
