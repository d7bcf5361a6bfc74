"""JobQuerySet: the questions about many jobs, and the one way to write their rows."""

from __future__ import annotations

import unicodedata
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import models
from django.db.models import F, Q, Value
from django.db.models.functions import StrIndex
from django.utils import timezone

from jobs.state import ACTIVE, JobState
from mediapipe.file_names import JOINERS

if TYPE_CHECKING:
    from jobs.models.job import Job  # noqa: F401 - named in the string below


NOT_IN_TRASH = Q(trashed_at__isnull=True)  # not in the trash
WITHOUT_JOINERS = dict.fromkeys(map(ord, JOINERS))  # some keyboards put them into names, others don't


def searchable(text: str) -> str:
    """*text* as it is searched: the same for each case of its letters, and for each Unicode form of them.

    Turkish has an i without a dot beside the one with it, and each is the other one's small letter elsewhere.
    """
    folded = unicodedata.normalize("NFKC", text.translate(WITHOUT_JOINERS)).casefold()
    return unicodedata.normalize("NFKC", folded).replace("i\u0307", "i").replace("ı", "i")


def _people(**which: str) -> list[int]:
    """Their keys: the database finds a way in by these, and none by a condition on another table's rows."""
    return list(get_user_model().objects.filter(**which).values_list("pk", flat=True))


class JobQuerySet(models.QuerySet["Job"]):
    """Jobs in the database."""

    def update(self, **fields: Any) -> int:
        """As Django's, and raises each job's version: with no fields it does that alone."""
        return super().update(**{"version": F("version") + 1, **fields})

    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> JobQuerySet:
        """Staff see all jobs, an editor sees their own."""
        if getattr(user, "is_staff", False):
            return self
        return self.filter(owner_id=user.pk)

    def of_person(self, name: str) -> JobQuerySet:
        """The jobs of the person of this user name."""
        return self.filter(owner__in=_people(username=name))

    def matching(self, text: str, *, by_rows: bool = False) -> JobQuerySet:
        """Jobs that have *text* in their title, their file's name or their owner's.

        *by_rows*: the rows that are left by other conditions are read, and no index of texts is.
        """
        found = Q(owner__in=_people(username__icontains=text))
        if by_rows:
            return self.alias(at=StrIndex("searched", Value(searchable(text)))).filter(found | Q(at__gt=0))
        return self.filter(Q(searched__contains=searchable(text)) | found)

    def active(self) -> JobQuerySet:
        """Jobs that have not ended: a workflow or a person may still change them."""
        return self.filter(state__in=ACTIVE)

    def unstarted(self, older_than: timedelta = timedelta(0)) -> JobQuerySet:
        """Queued jobs whose workflow is not known to have started."""
        return self.filter(
            state=JobState.QUEUED, workflow_started_at=None, created_at__lte=timezone.now() - older_than
        )


_Jobs = models.Manager.from_queryset(JobQuerySet)


class JobManager(_Jobs["Job"]):
    """All jobs but those in the trash, which nobody sees but on its page."""

    def get_queryset(self) -> JobQuerySet:
        """Without the trash."""
        return JobQuerySet(self.model, using=self._db).filter(NOT_IN_TRASH)
