"""Who of this installation somebody is whom the company's provider vouches for. It knows no requests.

A person is found by the provider's own, lasting number for them, never by a name: names change hands. Who
exists already is connected by a link that an admin made for them, or made themselves while signed in.
"""

from __future__ import annotations

import re

from django.conf import settings
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from mediapipe.accounts import people
from mediapipe.accounts.audit import Act
from mediapipe.accounts.models import Identity
from mediapipe.accounts.people import NotAllowed, Role
from mediapipe.accounts.provider import Who


def person_for(who: Who, invited: User | None = None) -> User:
    """The person that *who* is here: *invited* where a link says so, else a new one. Raises NotAllowed."""
    try:
        return _person_for(who, invited)
    except IntegrityError:  # two first sign-ins at the same moment: the other one has made the person
        return _person_for(who, invited)


@transaction.atomic
def _person_for(who: Who, invited: User | None) -> User:
    known = Identity.objects.filter(issuer=who.issuer, subject=who.subject).select_related("person").first()
    if known and invited and known.person_id != invited.pk:
        name = known.person.get_username()
        raise NotAllowed(f"You’re {name} here already. Sign in with {settings.OIDC_NAME} without the link.")
    person = known.person if known else invited
    if person and not person.is_active:
        raise NotAllowed(f"{person.get_username()} is deactivated here. Ask an admin.")
    role = _role(who, person)
    if person is None:
        person = _new(who.name)
        people.set_groups(person, role or Role.EDITOR)
        people.record(person, Act.ADD_PERSON, person, "by single sign-on")
    elif role and not person.is_superuser and people.role_of(person) is not role:
        people.set_groups(person, role)
        people.record(person, Act.SET_ROLE, person, f"{role}, by groups of {settings.OIDC_NAME}")
    if not known:
        Identity.objects.create(issuer=who.issuer, subject=who.subject, person=person)
        people.record(person, Act.CONNECT, person, settings.OIDC_NAME)
    return person


def _role(who: Who, person: User | None) -> Role | None:
    """The role that the provider's groups give; None where none are set. Raises NotAllowed."""
    admins = set(settings.OIDC_ADMIN_GROUPS)
    editors = set(settings.OIDC_EDITOR_GROUPS)
    if not admins and not editors:
        return None
    if who.groups & admins:
        return Role.ADMIN
    if not editors or who.groups & editors:
        return Role.EDITOR
    raise NotAllowed(
        f"None of your groups at {settings.OIDC_NAME} may sign in here. Ask who manages your account there."
    )


def _new(name: str) -> User:
    """A person without a password, called *name* as far as names here may be. Raises NotAllowed."""
    username = User.normalize_username(re.sub(r"[^\w.@+-]+", "-", name).strip("-")[:150]) or "person"
    if people.is_taken(username):
        raise NotAllowed(
            f"There’s already somebody called {username} here. If that’s you, ask an admin for a sign-in link"
            f" and choose {settings.OIDC_NAME} on its page."
        )
    person = User(username=username)
    person.set_unusable_password()
    person.save()
    return person
