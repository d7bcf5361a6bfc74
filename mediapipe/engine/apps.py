"""The engine's name for Django."""

from __future__ import annotations

from django.apps import AppConfig


class EngineConfig(AppConfig):
    """The embedded engine's application."""

    name = "mediapipe.engine"
    label = "engine"
    default_auto_field = "django.db.models.BigAutoField"
