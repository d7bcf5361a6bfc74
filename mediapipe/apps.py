"""The installation's name for Django, and what it connects at start."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig, apps
from django.db.backends.signals import connection_created
from django.db.models.signals import m2m_changed, post_migrate


def read_moments_quickly(connection: Any, **_: Any) -> None:
    """Has a connection to Postgres read its moments by our own loader."""
    if connection.vendor == "postgresql":
        from mediapipe.timestamps import read_quickly

        read_quickly(connection)


class InstallationConfig(AppConfig):
    """The installation's commands, and the roles of the people who use it."""

    name = "mediapipe"

    def ready(self) -> None:
        """Connects the groups to the signals that change them, and how Postgres is read."""
        from django.contrib.auth.models import User

        from mediapipe.accounts import roles

        # Each app creates its own permissions first; one without models sends no signal.
        last = [app for app in apps.get_app_configs() if app.models_module][-1]
        post_migrate.connect(roles.create_groups, sender=last)
        connection_created.connect(read_moments_quickly)
        m2m_changed.connect(roles.update_staff, sender=User.groups.through)
