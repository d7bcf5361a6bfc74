"""The accounts' name for Django."""

from __future__ import annotations

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Who comes in, and how often somebody may try to."""

    name = "mediapipe.accounts"

    def ready(self) -> None:
        """Notes in each session where it began."""
        from django.contrib.auth.signals import user_logged_in

        from mediapipe.accounts import sessions

        user_logged_in.connect(sessions.begin)
