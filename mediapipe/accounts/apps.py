"""The accounts' name for Django."""

from __future__ import annotations

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Who comes in, and how often somebody may try to."""

    name = "mediapipe.accounts"

    def ready(self) -> None:
        """Notes in each session where it began, and in the audit log who comes in and who can't."""
        from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
        from django.db.models.signals import post_migrate

        from mediapipe.accounts import audit, sessions

        user_logged_in.connect(sessions.begin)
        user_logged_in.connect(audit.signed_in)
        user_logged_out.connect(audit.signed_out)
        user_login_failed.connect(audit.failed_to_sign_in)
        post_migrate.connect(audit.hold, sender=self)
