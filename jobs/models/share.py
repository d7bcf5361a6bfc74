"""Share: a link by which whoever has it sees what a job has made, until it ends.

It says who made it and how often it was opened; its text is known only when it is made. It knows no page.
"""

from __future__ import annotations

import secrets
from datetime import timedelta

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.db import models, transaction
from django.db.models import F
from django.utils import timezone
from django.utils.timezone import localtime

from jobs.models.api_token import digest
from jobs.models.job import Job
from mediapipe.accounts import audit
from mediapipe.accounts.audit import Act


class Share(models.Model):
    """A link to a job's outputs. It ends by its time, revoked, with its job, and with its maker's account."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="shares")
    digest = models.CharField(max_length=64, unique=True)
    password = models.CharField(max_length=128, blank=True)  # hashed; empty: none is asked for
    made_by = models.CharField(max_length=150)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    opened = models.PositiveIntegerField(default=0)
    last_opened_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"link to {self.job_id} by {self.made_by}"

    @classmethod
    @transaction.atomic
    def issue(cls, job: Job, actor: str, days: int, password: str = "") -> tuple[Share, str]:
        """A new link for so many *days*, and its token, which is known only now."""
        token = secrets.token_urlsafe(32)
        share = cls.objects.create(
            job=job,
            digest=digest(token),
            password=make_password(password) if password else "",
            made_by=actor,
            expires_at=timezone.now() + timedelta(days=days),
        )
        until = f"{localtime(share.expires_at):%-d %b %Y}"
        protected = ", with a password" if password else ""
        text = f"Shared by a link until {until}{protected}"
        job.add_event("shared", actor=actor, text=text)
        job.recorded(Act.SHARE, actor, text)
        return share, token

    @classmethod
    def find(cls, token: str) -> Share | None:
        """The share of this token, where it hasn't ended, nor its job."""
        found = cls.objects.select_related("job").filter(digest=digest(token)).first()
        return found if found and found.works and not found.job.being_deleted else None

    @property
    def expired(self) -> bool:
        """Whether its time is over."""
        return self.expires_at <= timezone.now()

    @property
    def maker_left(self) -> bool:
        """Whether who made it has been deactivated: the link doesn't work until they are back."""
        return User.objects.filter(username=self.made_by, is_active=False).exists()

    @property
    def works(self) -> bool:
        """Whether it opens anything, as long as its job is there."""
        return not self.expired and not self.maker_left

    @property
    def openings(self) -> str:
        """How often it was opened, in words."""
        return {0: "never opened", 1: "opened once"}.get(self.opened, f"opened {self.opened} times")

    def note_download(self, name: str) -> None:
        """Has the audit log say that somebody downloads the file *name* by it, once in an hour."""
        text = f"{name.rpartition('/')[2]}, by {self.made_by}’s link"
        audit.record_visit(Act.DOWNLOAD, key=self.job_id, name=self.job.title, text=text)

    @transaction.atomic
    def note_opening(self) -> None:
        """Counts one more opening; the timeline tells of the first, the audit log of each visit."""
        text = f"{self.made_by}’s link; before this it was {self.openings}"
        audit.record_visit(Act.OPEN_SHARE, key=self.job_id, name=self.job.title, text=text)
        rows = Share.objects.filter(pk=self.pk)
        now = timezone.now()
        if rows.filter(opened=0).update(opened=1, last_opened_at=now):
            self.job.add_event("share_opened", text=f"{self.made_by}’s link was opened for the first time")
        else:
            rows.update(opened=F("opened") + 1, last_opened_at=now)

    @transaction.atomic
    def revoke(self, actor: str) -> None:
        """Ends the link at once."""
        if self.delete()[0]:
            text = f"{self.made_by}’s link was revoked; it was {self.openings}"
            self.job.add_event("share_revoked", actor=actor, text=text)
            self.job.recorded(Act.REVOKE_SHARE, actor, text)
