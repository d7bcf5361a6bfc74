"""Destination: where a person wants to be notified, and of what. It knows no events and no wording."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone

OLD_SECRET_COUNTS = timedelta(days=1)  # beside the one that has replaced it


class Destination(models.Model):
    """An address of one person by one channel; until it is confirmed, only the question is sent there."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="destinations")
    channel = models.CharField(max_length=20)  # by its name in jobs.notifications.channels
    address = models.CharField(max_length=1000)
    wants = models.CharField(max_length=100)  # names with a space between them
    created_at = models.DateTimeField(default=timezone.now)
    secrets = models.JSONField(default=list, blank=True)  # of a program: newest first, with their ends
    confirmed_at = models.DateTimeField(null=True, blank=True)
    ended = models.CharField(
        max_length=200, blank=True, default="", db_default=""
    )  # why nothing is sent there any more, a sentence

    class Meta:
        ordering = ["created_at", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "channel", "address"], name="a_destination_is_named_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.channel} of {self.owner_id}"

    def wants_any(self, *names: str) -> bool:
        """Whether one of *names* was chosen."""
        return not {*names}.isdisjoint(self.wants.split())

    def valid_secrets(self, now: datetime) -> list[str]:
        """Those by which what is sent now is signed: a replaced one counts for a day more."""
        return [
            each["secret"] for each in self.secrets if not each["until"] or each["until"] > now.timestamp()
        ]

    def end(self, sentence: str) -> None:
        """Nothing is sent there any more."""
        Destination.objects.filter(pk=self.pk).update(ended=sentence)

    def replace_secret(self, secret: str) -> None:
        """Makes *secret* the one that counts; the one before it counts for a day more, and no older one."""
        until = (timezone.now() + OLD_SECRET_COUNTS).timestamp()
        before: list[dict[str, Any]] = [{**each, "until": until} for each in self.secrets[:1]]
        self.secrets = [{"secret": secret, "until": None}, *before]
        self.save(update_fields=["secrets"])
