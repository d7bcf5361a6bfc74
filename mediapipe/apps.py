"""The installation's name for Django, and what it does once when it is set up."""

from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import m2m_changed, post_migrate


class InstallationConfig(AppConfig):
    """The installation's commands, and the roles of the people who use it."""

    name = "mediapipe"

    def ready(self) -> None:
        """Keeps the groups up to date."""
        from django.contrib.auth.models import User

        from mediapipe.accounts import roles

        post_migrate.connect(roles.make_groups)  # after each app: their permissions are made one by one
        m2m_changed.connect(roles.follow_groups, sender=User.groups.through)
