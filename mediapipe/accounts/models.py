"""Tries: how often somebody has failed to sign in. It knows keys, and not what they stand for."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class Tries(models.Model):
    """Failed and running tries of one key since a moment; the key is a digest, no name and no address."""

    key = models.CharField(max_length=64, primary_key=True)
    count = models.PositiveIntegerField(default=0)
    since = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return f"{self.count} tries"
