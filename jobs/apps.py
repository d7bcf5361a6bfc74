"""The application's name for Django."""

from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class JobsConfig(AppConfig):
    """Pipelines, jobs and the dashboard."""

    name = "jobs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Shows jobs to Prometheus, and keeps the database's pipelines in step with the code's."""
        from jobs.gauges import Gauges
        from jobs.models import pipeline
        from mediapipe import metrics

        metrics.SHARED.register(Gauges())
        post_migrate.connect(pipeline.keep_in_step, sender=self)
