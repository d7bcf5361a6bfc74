"""The application's name for Django, and what it does once when it is set up."""

from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import m2m_changed, post_migrate


class JobsConfig(AppConfig):
    """Jobs, and the roles of the people who run them."""

    name = "jobs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Keeps the groups in step."""
        from django.contrib.auth.models import User

        from jobs import roles

        post_migrate.connect(roles.make_groups)  # after each app: their permissions are made one by one
        m2m_changed.connect(roles.follow_groups, sender=User.groups.through)
