"""Delivery: one message to one person, from the moment it is due until it has arrived or is given up.

It knows no Temporal and no channel: its workflow asks the row what there is to do, and tells it the outcome.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import models, transaction
from django.db.models import F, Q
from django.utils import timezone

from jobs.models.batch import Batch
from jobs.models.destination import Destination
from jobs.models.notice import Notice

if TYPE_CHECKING:
    from jobs.models.job import Job

WAITING = "waiting"
SENT = "sent"
FAILED = "failed"
DROPPED = "dropped"
EVENTS = "events"  # what a message is about
BATCH = "batch"
TEST = "test"
CONFIRMATION = "confirmation"
ASKED_FOR_PER_HOUR = 6  # tests and confirmations of one person
LOST_AFTER = timedelta(hours=2)  # after which Temporal is asked again: longer than between two tries


class Delivery(models.Model):
    """A message: *sealed* once its first try has begun, since nothing may join it after that."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="deliveries")
    destination = models.ForeignKey(
        Destination, null=True, on_delete=models.SET_NULL, related_name="deliveries"
    )
    channel = models.CharField(max_length=20)
    about = models.CharField(max_length=20, default=EVENTS)
    notices = models.ManyToManyField(Notice, related_name="deliveries")
    batch = models.ForeignKey(Batch, null=True, on_delete=models.CASCADE, related_name="deliveries")
    state = models.CharField(max_length=10, default=WAITING)
    sealed = models.BooleanField(default=False)
    go = models.PositiveIntegerField(default=1)  # raised by "Send again": each has a workflow of its own
    tries = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True)  # of the last try, a sentence without addresses and secrets
    created_at = models.DateTimeField(default=timezone.now)
    asked_at = models.DateTimeField(null=True, blank=True)  # when Temporal was asked to deliver it
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["created_at"], name="deliveries_waiting", condition=Q(state=WAITING)),
            models.Index(fields=["owner", "-created_at"]),
        ]

    def __str__(self) -> str:
        return f"{self.channel} to {self.owner_id}, {self.state}"

    @property
    def workflow_id(self) -> str:
        """The id of its workflow: the same id is the same message."""
        return f"notify-{self.pk}-{self.go}"

    @property
    def may_go_again(self) -> bool:
        """Whether a person may send it again."""
        return self.state in (SENT, FAILED) and self.about != CONFIRMATION and self.destination_id is not None

    @property
    def moment(self) -> datetime:
        """When it has ended, else when it became due."""
        return self.ended_at or self.created_at

    @property
    def says(self) -> str:
        """Where it stands, in a sentence."""
        again = f"Tried {self.tries} time{'s' * (self.tries != 1)}, and tried again. {self.error}"
        return {
            WAITING: again if self.error else "On its way",
            SENT: "Delivered",
            FAILED: f"Not delivered. {self.error}",
            DROPPED: f"Not sent. {self.error}",
        }[self.state]

    @property
    def about_text(self) -> str:
        """What it is about: the titles of its jobs, or its batch's."""
        if self.batch:
            return f"The end of {self.batch.title[:80]}"
        if self.about != EVENTS:
            return {TEST: "A test", CONFIRMATION: "Confirming the address"}[self.about]
        titles = list(dict.fromkeys(notice.job.title for notice in self.notices.all()))
        more = f" and {len(titles) - 1} more" if len(titles) > 1 else ""
        return f"{titles[0][:80]}{more}" if titles else "A job that was deleted"

    @property
    def types(self) -> str:
        """The types of its events, as programs know them."""
        return ", ".join(dict.fromkeys(notice.type for notice in self.notices.all()))

    @classmethod
    def of_notice(cls, destination: Destination, notice: Notice, *, bundled: bool) -> None:
        """Tells *destination* of *notice*, in a message that hasn't gone yet where there is one."""
        Destination.objects.select_for_update().get(pk=destination.pk)  # two at once would open two
        waiting = cls.objects.select_for_update().filter(
            destination=destination, about=EVENTS, state=WAITING, sealed=False
        )
        delivery = (waiting.first() if bundled else None) or cls.to(destination)
        delivery.notices.add(notice)

    @classmethod
    def to(cls, destination: Destination, about: str = EVENTS, batch: Batch | None = None) -> Delivery:
        """A new message to *destination*."""
        return cls.objects.create(
            owner_id=destination.owner_id,
            destination=destination,
            channel=destination.channel,
            about=about,
            batch=batch,
        )

    @classmethod
    def of_job(cls, job: Job) -> list[Delivery]:
        """The messages about *job*, newest first."""
        found = (
            cls.objects.filter(Q(notices__job=job) | Q(batch__items__job=job))
            .select_related("owner")
            .distinct()
        )
        return list(found.prefetch_related("notices")[:50])

    @classmethod
    def may_ask(cls, person: AbstractBaseUser) -> bool:
        """Whether the person may have one more test or confirmation sent now."""
        then = timezone.now() - timedelta(hours=1)
        asked = cls.objects.filter(owner_id=person.pk, created_at__gt=then).exclude(about__in=(EVENTS, BATCH))
        return asked.count() < ASKED_FOR_PER_HOUR

    @classmethod
    def unasked(cls) -> models.QuerySet[Delivery]:
        """What Temporal has not been asked to deliver, or may have lost."""
        lost = timezone.now() - LOST_AFTER
        due = cls.objects.filter(Q(asked_at=None) | Q(asked_at__lt=lost), state=WAITING)
        return due.order_by("created_at")

    @classmethod
    @transaction.atomic
    def take(cls, pk: UUID) -> Delivery | None:
        """The message, sealed, for a try; None where there is nothing to do any more."""
        row = cls.objects.select_for_update().filter(pk=pk, state=WAITING).first()
        if row:
            cls.objects.filter(pk=pk).update(sealed=True, tries=F("tries") + 1)
        return cls.objects.select_related("owner", "destination__owner").get(pk=pk) if row else None

    def settle(self, state: str, error: str = "") -> None:
        """Records what came of a try: *state* WAITING where there will be another one."""
        ended = None if state == WAITING else timezone.now()
        Delivery.objects.filter(pk=self.pk, state=WAITING).update(state=state, error=error, ended_at=ended)

    def send_again(self) -> bool:
        """Makes it wait to be sent once more; False where it waits already, or can't be sent."""
        again = Delivery.objects.filter(pk=self.pk, state__in=(SENT, FAILED), destination__isnull=False)
        return bool(
            again.exclude(about=CONFIRMATION).update(
                state=WAITING, go=F("go") + 1, tries=0, error="", asked_at=None, ended_at=None
            )
        )
