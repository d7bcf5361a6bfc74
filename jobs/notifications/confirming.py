"""The link by which a person confirms that an address is theirs. It knows no channel and no page."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth.models import AbstractBaseUser
from django.core import signing
from django.urls import reverse
from django.utils import timezone

from jobs.models.destination import Destination

SALT = "jobs.notifications.confirm"
LIFETIME = timedelta(days=4)  # longer than a mail may be under way


def path(destination: Destination) -> str:
    """The page on which *destination* is confirmed; its token is of this very address."""
    token = signing.dumps([destination.pk, destination.address], salt=SALT)
    return reverse("jobs:confirm_destination", args=[token])


def find(token: str, person: AbstractBaseUser) -> Destination | None:
    """The destination of the person that *token* names; None where it is none of theirs, or too old."""
    try:
        pk, address = signing.loads(token, salt=SALT, max_age=LIFETIME)
    except (signing.BadSignature, ValueError, TypeError):
        return None
    return Destination.objects.filter(pk=pk, address=address, owner_id=person.pk).first()


def confirm(destination: Destination) -> None:
    """From now on messages go there."""
    Destination.objects.filter(pk=destination.pk, confirmed_at=None).update(confirmed_at=timezone.now())
