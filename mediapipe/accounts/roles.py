"""Who may do what: the groups Editors and Admins, kept in step with Django's staff flag.

An editor works with own jobs; an admin sees everybody's, the history and the back office.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group, Permission, User

EDITORS = "Editors"
ADMINS = "Admins"
PERMISSIONS = ("view_job", "view_stage", "view_event", "view_upload")  # people have a page of their own


def create_groups(**kwargs: Any) -> None:
    """After each migrate: creates both groups; admins may view the back office, and change nothing in it."""
    Group.objects.get_or_create(name=EDITORS)
    admins, _ = Group.objects.get_or_create(name=ADMINS)
    admins.permissions.set(Permission.objects.filter(codename__in=PERMISSIONS))


def update_staff(instance: Any, action: str, reverse: bool, **kwargs: Any) -> None:
    """Gives staff status to those who join Admins, and takes it from those who leave."""
    if reverse or not isinstance(instance, User) or action not in ("post_add", "post_remove", "post_clear"):
        return
    staff = instance.is_superuser or instance.groups.filter(name=ADMINS).exists()
    User.objects.filter(pk=instance.pk).update(is_staff=staff)
