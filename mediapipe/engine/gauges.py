"""What Prometheus learns of the engine's queue, asked of the database each time. It knows no job."""

from __future__ import annotations

from collections.abc import Iterator

from django.db import DatabaseError
from django.db.models import Count, Min
from django.utils import timezone
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mediapipe.engine.models import EngineTask


class Gauges(Collector):
    """Tasks that are not over, and how long the oldest has waited."""

    def collect(self) -> Iterator[Metric]:
        """By kind; nothing where the database doesn't answer, which the application says."""
        tasks = GaugeMetricFamily("mediapipe_tasks", "Tasks that are not over", labels=["kind", "status"])
        ages = GaugeMetricFamily(
            "mediapipe_task_oldest_wait_seconds", "Age of the oldest task in the queue", labels=["kind"]
        )
        active = EngineTask.objects.filter(status__in=EngineTask.ACTIVE).order_by()
        try:
            found = list(active.values_list("kind", "status").annotate(Count("pk"), Min("created_at")))
        except DatabaseError:
            return
        for kind, status, count, since in found:
            tasks.add_metric([kind, status], count)
            if status == EngineTask.Status.QUEUED:
                ages.add_metric([kind], (timezone.now() - since).total_seconds())
        yield tasks
        yield ages
