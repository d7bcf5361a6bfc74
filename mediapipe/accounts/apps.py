"""The accounts' name for Django."""

from __future__ import annotations

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Who comes in, and how often somebody may try to."""

    name = "mediapipe.accounts"
