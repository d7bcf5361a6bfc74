"""What Prometheus learns of jobs, asked of the database each time: how many there are, and who waits.

Finished stages are counted by the workers (mediapipe.metrics): here they would cost more with every year.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.models import Count
from django.utils import timezone
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from jobs.live import reader
from jobs.models import Job, Stage, Upload
from jobs.state import FINISHED, JobState
from mediapipe import disk

ENDED_SECONDS = 60.0
_known: list[tuple[float, list[tuple[str, int]]]] = []  # when (monotonic), and the counts


class Gauges(Collector):
    """The application's gauges."""

    def collect(self) -> Iterator[Metric]:
        """Says whether the database answers, and where it does what is in it."""
        yield gauge("disk_free_bytes", "Free on the disk of MEDIAPIPE_HOME", disk.free(settings.HOME))
        yield gauge("status_queries", "Status queries of this process since its start", reader.queries)
        try:
            found = list(_of_rows())
        except DatabaseError:
            found = []
        yield gauge("database_reachable", "Whether the database answers", bool(found))
        yield from found
        yield from _of_the_pool()


def gauge(name: str, about: str, value: float | None = None, *labels: str) -> GaugeMetricFamily:
    """A gauge of ours with its one value, or with *labels* and no values yet."""
    return GaugeMetricFamily(f"mediapipe_{name}", about, value, labels=labels or None)


def _of_rows() -> Iterator[Metric]:
    active = list(Job.objects.active().order_by().values_list("pk", "state", "created_at"))
    jobs = gauge("jobs", "Jobs by state", None, "state")
    for state, count in (*Counter(state for _, state, _ in active).items(), *_ended()):
        jobs.add_metric([state], count)
    yield jobs
    stages = gauge("stages", "Stages of jobs that have not ended", None, "stage", "state")
    of_active = Stage.objects.filter(job__in=[pk for pk, _, _ in active]).order_by()
    for name, state, count in of_active.values_list("name", "state").annotate(count=Count("id")):
        stages.add_metric([name, state], count)
    yield stages
    waits = gauge("oldest_wait_seconds", "Age of the oldest job in this state", None, "state")
    for state in (JobState.QUEUED, JobState.ATTENTION):
        since = min((created for _, each, created in active if each == state), default=None)
        waits.add_metric([state.value], (timezone.now() - since).total_seconds() if since else 0)
    yield waits
    yield gauge("uploads_unfinished", "Unfinished uploads", Upload.objects.filter(job=None).count())


def _ended() -> list[tuple[str, int]]:
    """How many jobs have ended, by state: counted every ENDED_SECONDS, for with the years they are many."""
    if not _known or time.monotonic() - _known[0][0] >= ENDED_SECONDS:
        with transaction.atomic(), connection.cursor() as cursor:
            if (
                connection.vendor == "postgresql"
            ):  # several processes are no sooner done, for half as much again
                cursor.execute("SET LOCAL max_parallel_workers_per_gather = 0")
            # each by itself: to tell them apart row by row costs as much again
            ended = [(str(state), Job.objects.filter(state=state).count()) for state in FINISHED]
        _known[:] = [(time.monotonic(), ended)]
    return _known[0][1]


def _of_the_pool() -> Iterator[Metric]:
    if (pool := getattr(connection, "pool", None)) is None:
        return
    connections = gauge("database_connections", "Connections of this process's pool", None, "state")
    stats = pool.get_stats()
    connections.add_metric(["open"], stats.get("pool_size", 0))
    connections.add_metric(["idle"], stats.get("pool_available", 0))
    connections.add_metric(["awaited"], stats.get("requests_waiting", 0))
    yield connections
