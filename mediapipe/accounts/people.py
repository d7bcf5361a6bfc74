"""The people of this installation, and what an admin may do with them. It knows no pages and no jobs.

A superuser is made, and a superuser's password is set, on the command line alone: an admin can't reach
upwards. Nobody manages themselves here, so that the last admin doesn't end up as an editor by a slip.
"""

from __future__ import annotations

import logging
from enum import StrEnum

from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.db import transaction

from mediapipe.accounts import audit, magic_link, roles
from mediapipe.accounts.audit import Act
from mediapipe.accounts.models import Session

log = logging.getLogger(__name__)


class Role(StrEnum):
    """What a person is here."""

    EDITOR = "editor"
    ADMIN = "admin"
    SUPERUSER = "superuser"


ASSIGNABLE_ROLES = (Role.EDITOR, Role.ADMIN)  # the roles that an admin gives
GROUPS = {Role.EDITOR: roles.EDITORS, Role.ADMIN: roles.ADMINS}


class NotAllowed(Exception):
    """What was asked for isn't possible, or not for this person; its text says why."""


def role_of(person: User) -> Role:
    """The role by Django's flags, which the groups keep."""
    if person.is_superuser:
        return Role.SUPERUSER
    return Role.ADMIN if person.is_staff else Role.EDITOR


def may_manage(actor: User, person: User) -> bool:
    """Whether *actor* may change *person*: an admin, somebody else, who is no superuser."""
    admin = actor.is_active and (actor.is_staff or actor.is_superuser)
    return admin and not person.is_superuser and actor.pk != person.pk


def record(actor: User, act: Act, person: User, text: str = "") -> None:
    """Who did what to whom: every act on this page passes here, and is in the log and in the audit log."""
    who = actor.get_username()
    log.info("%s %s %s%s", who, act.label, person.get_username(), text and f": {text}")
    audit.record(act, who, key=person.pk, name=person.get_username(), text=text)


def _to_change(actor: User, pk: int) -> User:
    """The person's row, locked until the transaction ends. Raises NotAllowed."""
    person = User.objects.select_for_update().filter(pk=pk).first()
    if person is None:
        raise NotAllowed("This person no longer exists.")
    if actor.pk == person.pk:
        raise NotAllowed("You can’t change your own account here. Ask another admin.")
    if not may_manage(actor, person):
        raise NotAllowed(f"{person.get_username()} can only be changed on the server.")
    return person


def set_groups(person: User, role: Role) -> None:
    """Makes *role* all that *person* has: no other group, no single permission."""
    person.user_permissions.clear()
    person.groups.set([Group.objects.get_or_create(name=GROUPS[role])[0]])
    person.is_staff = role is Role.ADMIN
    person.save(update_fields=["is_staff"])


def _given(role: str) -> Role:
    if role not in ASSIGNABLE_ROLES:
        raise NotAllowed("Choose a role: editor or admin.")
    return Role(role)


def is_taken(name: str) -> bool:
    """Whether somebody is called so, or what no person does is recorded under that name."""
    return name.casefold() in audit.NOBODYS or User.objects.filter(username__iexact=name).exists()


@transaction.atomic
def add(actor: User, name: str, role: str) -> tuple[User, str]:
    """A new person, and the path of the link that lets them in. Raises NotAllowed."""
    if not (actor.is_active and actor.is_staff):
        raise NotAllowed("Only an admin adds people.")
    chosen = _given(role)
    person = User(username=User.normalize_username(name.strip()))
    person.set_unusable_password()
    try:
        person.clean_fields(exclude=["password"])
    except ValidationError:
        raise NotAllowed(
            "A name has letters, digits and @ . + - _ only, no spaces, and at most 150 characters."
        ) from None
    if is_taken(person.username):
        raise NotAllowed(f"There’s already somebody called {person.username}. Choose another name.")
    person.save()
    set_groups(person, chosen)
    record(actor, Act.ADD_PERSON, person, chosen)
    return person, magic_link.invite(person)


@transaction.atomic
def set_role(actor: User, pk: int, role: str) -> User:
    """Makes a person an editor or an admin. Raises NotAllowed."""
    person = _to_change(actor, pk)
    chosen = _given(role)
    set_groups(person, chosen)
    record(actor, Act.SET_ROLE, person, chosen)
    return person


@transaction.atomic
def set_active(actor: User, pk: int, active: bool) -> User:
    """Lets a person in no more, and ends their sessions, or lets them in again. Raises NotAllowed."""
    person = _to_change(actor, pk)
    person.is_active = active
    if not active and not person.has_usable_password():
        person.set_unusable_password()  # a link that was never used is void from now on
    person.save(update_fields=["is_active", "password"])
    if not active:
        Session.objects.filter(person=person).delete()  # else they would live again with the person
    record(actor, Act.REACTIVATE if active else Act.DEACTIVATE, person)
    return person


@transaction.atomic
def renew(actor: User, pk: int) -> tuple[User, str]:
    """The path of a new link; the password and every earlier link are void. Raises NotAllowed."""
    person = _to_change(actor, pk)
    if not person.is_active:
        raise NotAllowed(f"{person.get_username()} is deactivated. Reactivate them first.")
    person.set_unusable_password()
    person.save(update_fields=["password"])
    record(actor, Act.NEW_LINK, person)
    return person, magic_link.invite(person)
