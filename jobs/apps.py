"""The application's name for Django."""

from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class JobsConfig(AppConfig):
    """Pipelines, jobs and the dashboard."""

    name = "jobs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connects jobs to Prometheus, the trash to the storage, and the code's pipelines to the database."""
        from jobs.gauges import Gauges
        from jobs.models import TrashedFile, pipeline
        from mediapipe import metrics
        from mediapipe.storage import views

        metrics.SHARED.register(Gauges())
        views.withhold(TrashedFile.hides)
        post_migrate.connect(pipeline.keep_in_step, sender=self)
