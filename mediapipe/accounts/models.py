"""Tries of passwords; who is signed in where; whom the company's provider means. They know no requests."""

from __future__ import annotations

from django.conf import settings
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models
from django.utils import timezone
from django.utils.crypto import salted_hmac


class Tries(models.Model):
    """Failed and running tries of one key since a moment; the key is a digest, no name and no address."""

    key = models.CharField(max_length=64, primary_key=True)
    count = models.PositiveIntegerField(default=0)
    since = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return f"{self.count} tries"


class Identity(models.Model):
    """Whom the company's OpenID provider means by its lasting number of a person."""

    issuer = models.CharField(max_length=255)
    subject = models.CharField(max_length=255)  # ASCII, at most 255 of them (OpenID Connect Core 1.0, 2)
    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="identities")
    since = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["issuer", "subject"], name="one_identity"),)

    def __str__(self) -> str:
        return f"{self.subject} at {self.issuer}"


class Session(AbstractBaseSession):
    """A browser's session; *person* is who is signed in, nobody where it only carries a message."""

    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="sessions"
    )
    browser = models.CharField(max_length=60, blank=True)
    network = models.CharField(max_length=60, blank=True)  # an IPv4 address, or an IPv6 /64
    since = models.DateTimeField(default=timezone.now)
    last_seen = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.browser

    @property
    def mark(self) -> str:
        """What names it on a page: its key would let somebody in."""
        return salted_hmac("accounts.session", self.session_key, algorithm="sha256").hexdigest()[:24]
