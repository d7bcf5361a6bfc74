"""Tries of passwords; who is signed in where; whom the provider means; who did what. It knows no requests."""

from __future__ import annotations

from typing import Any, NoReturn

from django.conf import settings
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models
from django.utils import timezone
from django.utils.crypto import salted_hmac

from mediapipe.search_index import NameIndex


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


class AppendOnly(Exception):
    """The audit log is added to, and never changed."""


class AuditEntries(models.QuerySet["AuditEntry"]):
    """Entries of the audit log: to add and to read."""

    def update(self, **fields: Any) -> NoReturn:
        """Raises AppendOnly."""
        raise AppendOnly

    def delete(self) -> NoReturn:
        """Raises AppendOnly."""
        raise AppendOnly


class AuditEntry(models.Model):
    """Who did what to what, from where. It refers to nothing by a key, so that it outlives what it is about.

    *act*: as mediapipe.accounts.audit has them. *key*, *name*: of what it was done to, as they were then.
    """

    at = models.DateTimeField(default=timezone.now)
    act = models.CharField(max_length=40)
    actor = models.CharField(max_length=200)
    token = models.CharField(max_length=60, blank=True)  # the API token by which they acted
    key = models.CharField(max_length=300, blank=True)
    name = models.CharField(max_length=300, blank=True)
    text = models.TextField(blank=True)
    network = models.CharField(max_length=60, blank=True)  # an IPv4 address, or an IPv6 /64
    request = models.CharField(max_length=64, blank=True)  # its id, as the log has it

    objects = AuditEntries.as_manager()

    class Meta:
        ordering = ["-pk"]
        indexes = [
            models.Index(fields=["at"], name="audit_by_time"),
            models.Index(fields=["actor", "-id"], name="audit_by_actor"),
            models.Index(fields=["act", "-id"], name="audit_by_act"),
            models.Index(fields=["key", "-id"], name="audit_by_key"),
            NameIndex(fields=["name"], name="audit_by_name"),
        ]

    def __str__(self) -> str:
        return f"{self.actor} {self.act} {self.name or self.key}".rstrip()

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Adds it. Raises AppendOnly for one that was added before."""
        if not self._state.adding:
            raise AppendOnly
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises AppendOnly."""
        raise AppendOnly
