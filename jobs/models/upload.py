"""Upload: a file on its way in by tus, who writes it, and the job it became. It knows no bytes."""

from __future__ import annotations

import uuid
from datetime import timedelta

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

LEASE = timedelta(seconds=8)  # after which a writer counts as killed that doesn't say that it is there
WANTED = timedelta(seconds=5)  # for which it counts that somebody else asked to write


class Upload(models.Model):
    """A file on its way in by tus: how long it will be, whose it is, and the job it became.

    How much has arrived is asked of where the bytes are: the size of its part file, or with *multipart* (the
    bucket's id for it) the parts that the bucket has. *arrived* is only what a list of uploads shows of it.
    The database's clock counts: those of several web servers may differ.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="uploads")
    length = models.BigIntegerField()
    filename = models.CharField(max_length=300, blank=True)
    metadata = models.TextField(blank=True)
    pipeline = models.CharField(max_length=40, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    sha256 = models.CharField(max_length=64, blank=True)
    multipart = models.TextField(blank=True, default="", db_default="")
    arrived = models.BigIntegerField(default=0, db_default=0)
    writer = models.CharField(max_length=32, blank=True, default="", db_default="")
    writer_seen_at = models.DateTimeField(null=True, blank=True)
    wanted_at = models.DateTimeField(null=True, blank=True)  # by whom another writer kept from it
    job = models.OneToOneField(
        "jobs.Job", null=True, blank=True, on_delete=models.SET_NULL, related_name="upload"
    )

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["-created_at"], name="uploads_newest")]

    def __str__(self) -> str:
        return self.filename or str(self.pk)

    def begin_writing(self) -> str:
        """Makes the caller its one writer, on whichever web server: a name for it, "" while another is."""
        writer = uuid.uuid4().hex
        free = Q(writer="") | Q(writer_seen_at__lt=Now() - LEASE)
        mine = Upload.objects.filter(free, pk=self.pk)
        return writer if mine.update(writer=writer, writer_seen_at=Now()) else ""

    def is_being_written(self) -> bool:
        """Whether somebody has begun to write it, and is there."""
        there = Upload.objects.filter(pk=self.pk, writer_seen_at__gte=Now() - LEASE)
        return there.exclude(writer="").exists()

    def keep_writing(self, writer: str, arrived: int) -> bool:
        """Says that *writer* is still there, and how far it is; whether it is still the one writer."""
        mine = Upload.objects.filter(pk=self.pk, writer=writer)
        return bool(mine.update(writer_seen_at=Now(), arrived=arrived))

    def end_writing(self, writer: str, arrived: int) -> None:
        """Lets others write it."""
        Upload.objects.filter(pk=self.pk, writer=writer).update(writer="", arrived=arrived)

    def ask_to_write(self) -> None:
        """Says that somebody wants to write it; a writer whose line is silent then lets go."""
        Upload.objects.filter(pk=self.pk).update(wanted_at=Now())

    def is_wanted(self) -> bool:
        """Whether somebody else has just asked to write it."""
        return Upload.objects.filter(pk=self.pk, wanted_at__gt=Now() - WANTED).exists()
