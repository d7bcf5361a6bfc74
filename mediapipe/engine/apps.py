"""The engine's name for Django."""

from __future__ import annotations

from django.apps import AppConfig


class EngineConfig(AppConfig):
    """The embedded engine's application."""

    name = "mediapipe.engine"
    label = "engine"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Shows the queue to Prometheus."""
        from mediapipe import metrics
        from mediapipe.engine.gauges import Gauges

        metrics.SHARED.register(Gauges())
