"""The application's name for Django."""

from __future__ import annotations

from django.apps import AppConfig


class JobsConfig(AppConfig):
    """Pipelines, jobs and the dashboard."""

    name = "jobs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Shows jobs to Prometheus."""
        from jobs.gauges import Gauges
        from mediapipe import metrics

        metrics.SHARED.register(Gauges())
