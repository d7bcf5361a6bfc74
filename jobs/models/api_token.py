"""ApiToken and IdempotencyKey: who may use the API, and which of its requests have been answered."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import models, transaction
from django.utils import timezone

from mediapipe.accounts import audit
from mediapipe.accounts.audit import Act

PREFIX = "mediapipe_"  # by which scanners for leaked secrets find a token
SCOPES = {
    "submit": "Submit jobs and upload files",
    "read": "See jobs and their outputs",
    "act": "Retry, cancel and delete jobs",
}
USE_NOTED_EVERY = timedelta(minutes=1)  # a write for each request would be most of what a poll costs


def digest(token: str) -> str:
    """What is kept of a token: 32 random bytes can't be guessed, so a slow hash would only slow requests."""
    return hashlib.sha256(token.encode()).hexdigest()


class ApiToken(models.Model):
    """Lets a program act as its owner, within its scopes, until it expires or is revoked."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=60)
    digest = models.CharField(max_length=64, unique=True)
    scopes = models.CharField(max_length=60)  # names with a space between them
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.name

    @classmethod
    @transaction.atomic
    def issue(
        cls, owner: AbstractBaseUser, name: str, scopes: list[str], days: int | None = None
    ) -> tuple[ApiToken, str]:
        """A new token and its text, which is known only now."""
        text = PREFIX + secrets.token_urlsafe(32)
        row = cls.objects.create(
            owner_id=owner.pk,
            name=name,
            digest=digest(text),
            scopes=" ".join(scope for scope in SCOPES if scope in scopes),
            expires_at=timezone.now() + timedelta(days=days) if days else None,
        )
        audit.record(Act.MAKE_TOKEN, owner.get_username(), key=row.pk, name=name, text=row.scopes)
        return row, text

    @transaction.atomic
    def revoke(self) -> None:
        """Its owner ends it at once."""
        audit.record(Act.REVOKE_TOKEN, self.owner.get_username(), key=self.pk, name=self.name)
        self.delete()

    @classmethod
    def find(cls, text: str) -> ApiToken | None:
        """The token of this text, where it is valid now and its owner may sign in; notes the use."""
        now = timezone.now()
        row = cls.objects.select_related("owner").filter(digest=digest(text), owner__is_active=True).first()
        if row is None or row.expired:
            return None
        if row.last_used_at is None or row.last_used_at < now - USE_NOTED_EVERY:
            cls.objects.filter(pk=row.pk).update(last_used_at=now)
        return row

    @property
    def expired(self) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and self.expires_at <= timezone.now()

    @property
    def scope_labels(self) -> list[str]:
        """What it allows, in words."""
        return [SCOPES[scope] for scope in self.scopes.split() if scope in SCOPES]

    def allows(self, scope: str) -> bool:
        """Whether *scope* is among its scopes."""
        return scope in self.scopes.split()


class IdempotencyKey(models.Model):
    """A key that a program sent with a new job: the same request is one job, however often it comes."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=200)
    body = models.CharField(max_length=64)  # sha256 of what was asked for
    job = models.ForeignKey("jobs.Job", on_delete=models.CASCADE, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["owner", "key"], name="a_key_is_one_job")]

    def __str__(self) -> str:
        return self.key
