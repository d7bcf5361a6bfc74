"""News of somebody's own jobs, as toasts: what has ended, in one toast for many, and what needs them.

What somebody has cancelled themselves is no news to them, and what needs them is shown until they dismiss it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import CharField, Max, OuterRef, QuerySet, Subquery
from django.urls import reverse
from django.utils import timezone

from jobs.models import Event, Job
from jobs.state import JobState

MAX_JOBS = 500  # jobs of a kind of which one answer tells
TROUBLE = (JobState.FAILED, JobState.ATTENTION)
WORDS = {  # before a job's title, and after how many they are
    JobState.SUCCEEDED: ("Done", "jobs are done"),
    JobState.CANCELLED: ("Cancelled", "jobs were cancelled"),
    JobState.FAILED: ("Failed", "jobs need you"),
    JobState.ATTENTION: ("Needs you", "jobs need you"),
}
TABS = {JobState.SUCCEEDED: "done", JobState.CANCELLED: "cancelled"}  # the others': "attention"


class Asked(NamedTuple):
    """Up to which moment a page knows, None for a new one, and since which nobody has dismissed trouble."""

    since: datetime | None
    held: datetime | None


class JobNews(NamedTuple):
    """A job that there is news of, and since when."""

    pk: UUID
    title: str
    state: JobState
    at: datetime
    by: str = ""  # who asked for its end


@dataclass(frozen=True)
class Toast:
    """Of one job or of many; where it says something of what needs the reader, it stays (*held*)."""

    state: str
    words: str
    link: str
    href: str
    held: datetime | None = None

    @classmethod
    def of(cls, jobs: list[JobNews], held: datetime | None = None) -> Toast:
        """The one toast of *jobs*, which are in the same state or all need the reader."""
        state = jobs[0].state
        before, after = WORDS[state]
        if len(jobs) == 1:
            return cls(state, f"{before}:", jobs[0].title, reverse("jobs:detail", args=[jobs[0].pk]), held)
        tab = TABS.get(state, "attention")
        return cls(state, "", f"{len(jobs)} {after}", f"{reverse('jobs:list')}?tab={tab}", held)


@dataclass(frozen=True)
class News:
    """The toasts, and up to which moment a page knows by them."""

    toasts: list[Toast]
    since: datetime

    @classmethod
    def of(cls, jobs: QuerySet[Job], asked: Asked, *, reader: str, listed: bool) -> News:
        """What is new of *jobs*, those of *reader*; *listed*: on their list, which shows itself what is done.

        What nobody has dismissed is shown together with what needs them now, so that it is one toast; by
        itself it is shown on a new page alone.
        """
        since = asked.since or timezone.now()
        found = _found(jobs, jobs, since)
        known = max([since, *(job.at for job in found)])  # a report may come later than what it tells of
        trouble = [job for job in found if job.state in TROUBLE]
        if asked.held and (trouble or not asked.since):
            trouble = _found(jobs.filter(state=JobState.FAILED), jobs, asked.held)
        toasts = [Toast.of(trouble, asked.held or since)] if trouble else []
        if not listed:
            for state in (JobState.SUCCEEDED, JobState.CANCELLED):
                ended = [job for job in found if job.state == state and job.by != reader]
                toasts += [Toast.of(ended)] if ended else []
        return cls(toasts, known)


def _found(ending: QuerySet[Job], waiting: QuerySet[Job], since: datetime) -> list[JobNews]:
    asked = Event.objects.filter(job=OuterRef("pk"), kind__in=("cancelling", "cancelled")).exclude(actor="")
    by = Subquery(asked.order_by("-at").values("actor")[:1], output_field=CharField())
    ended = ending.filter(finished_at__gt=since).order_by("finished_at").annotate(by=by)
    held = waiting.filter(state=JobState.ATTENTION, stages__finished_at__gt=since)
    held = held.annotate(moment=Max("stages__finished_at")).order_by("moment")
    rows: list[tuple[Any, ...]] = [
        *ended.exclude(state=JobState.ATTENTION).values_list("pk", "title", "state", "finished_at", "by")[
            :MAX_JOBS
        ],
        *held.values_list("pk", "title", "state", "moment")[:MAX_JOBS],
    ]
    return [JobNews(*row) for row in rows]
