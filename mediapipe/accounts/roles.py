"""Who may do what: the groups Editors and Admins, kept in step with Django's staff flag.

An editor works with own jobs; an admin sees everybody's, the history and the back office.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group, Permission, User

EDITORS, ADMINS = "Editors", "Admins"
PERMISSIONS = (
    *("view_job", "view_stage", "view_event", "view_upload"),
    *("view_user", "add_user", "change_user", "view_group"),
)


def make_groups(**kwargs: Any) -> None:
    """After each migrate: both groups exist, and admins may look at everything and manage people."""
    Group.objects.get_or_create(name=EDITORS)
    admins, _ = Group.objects.get_or_create(name=ADMINS)
    admins.permissions.set(Permission.objects.filter(codename__in=PERMISSIONS))


def follow_groups(instance: Any, action: str, reverse: bool, **kwargs: Any) -> None:
    """Who joins or leaves Admins becomes staff, or is staff no more."""
    if reverse or not isinstance(instance, User) or action not in ("post_add", "post_remove", "post_clear"):
        return
    staff = instance.is_superuser or instance.groups.filter(name=ADMINS).exists()
    User.objects.filter(pk=instance.pk).update(is_staff=staff)
