"""One action on many jobs, and the sentence about what was done, what was not, and why.

It knows no request: the views and the admin choose the jobs and show the result.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar
from uuid import UUID

from asgiref.sync import async_to_sync
from django.conf import settings
from django.db.models import Q, QuerySet

from jobs import control, finished
from jobs.models import Job, JobQuerySet
from jobs.removal import deleting
from jobs.state import ACTIVE, FINISHED, JobState
from mediapipe.database import OUTAGES

DATABASE_AWAY = "The database can’t be reached. Look again in a moment, and repeat what wasn’t done."
MAX_JOBS = 1000  # per request
CONCURRENCY = 16  # calls to Temporal at the same time
MAX_UNANSWERED = 20  # jobs without an answer from Temporal, after which the rest is left alone
Each = TypeVar("Each")


@dataclass(frozen=True)
class Action:
    """What can be done to jobs: to those in which *states*, and the sentences of its result."""

    icon: str
    states: tuple[JobState, ...]
    done: str
    nothing_done: str
    skipped_one: str
    skipped_many: str
    at_once: tuple[JobState, ...] = ()  # those of *states* in which nothing has to be stopped before

    @property
    def applicable(self) -> Q:
        """The jobs to which it can be done."""
        return Q(state__in=self.states)

    @property
    def first(self) -> tuple[JobState, ...]:
        """The states of those that come first where not all can be taken."""
        return self.at_once or self.states


ACTIONS = {  # in the order in which they are offered
    "cancel": Action(
        "ban",
        ACTIVE,
        "Cancelling",
        "Nothing was cancelled.",
        "had already ended.",
        "had already ended.",
    ),
    "retry": Action(
        "rotate-ccw",
        (JobState.ATTENTION, JobState.FAILED, JobState.CANCELLED),
        "Retrying",
        "Nothing was retried.",
        "had nothing to retry.",
        "had nothing to retry.",
    ),
    "add": Action(
        "film",
        FINISHED,
        "Adding to",
        "Nothing was added.",
        "is still running, or has all of it.",
        "are still running, or have all of it.",
    ),
    "delete": Action(
        "trash-2",
        (*FINISHED, *ACTIVE),
        "Deleted",
        "Nothing was deleted.",
        "is still running; cancel it first.",
        "are still running; cancel them first.",
        FINISHED,
    ),
}


Verb = Callable[[Job, str], Awaitable[str]]
VERBS: dict[str, Verb] = {
    "retry": lambda job, actor: control.retry(job, None, actor),
    "cancel": control.cancel,
    "delete": deleting.delete,
}


@dataclass
class BulkResult:
    """How many jobs were changed, and how many were not, and why; str() is the sentence."""

    action: str
    done: int = 0
    skipped: int = 0
    cancelling: int = 0  # which are deleted when they have ended
    refused: Counter[str] = field(default_factory=Counter)  # by the sentence why
    unanswered: Counter[str] = field(default_factory=Counter)  # by the sentence about Temporal
    untried: int = 0

    @property
    def database_away(self) -> bool:
        """Whether the database went away: no other job is tried then."""
        return DATABASE_AWAY in self.unanswered

    def __str__(self) -> str:
        action = ACTIONS[self.action]
        jobs = "job" if self.done == 1 else "jobs"
        sentences = [f"{action.done} {self.done:,} {jobs}."] if self.done else []
        if self.cancelling:
            are, they_have = ("is", "it has") if self.cancelling == 1 else ("are", "they have")
            sentences.append(f"{self.cancelling:,} {are} cancelled, and deleted when {they_have} ended.")
        sentences = sentences or [action.nothing_done]
        if self.skipped:
            skipped = action.skipped_one if self.skipped == 1 else action.skipped_many
            sentences.append(f"{self.skipped:,} {skipped}")
        sentences += [f"{count:,} can’t be changed. {text}" for text, count in self.refused.items()]
        sentences += [f"{count:,} got no answer. {text}" for text, count in self.unanswered.items()]
        if self.untried:
            sentences.append(f"{self.untried:,} {'was' if self.untried == 1 else 'were'} left alone.")
        return " ".join(sentences)


class Asked(NamedTuple):
    """What a question says of a job: whole ones would be read for nothing, a thousand of them."""

    pk: UUID
    title: str
    state: str

    @property
    def active(self) -> bool:
        """Whether it may still change."""
        return self.state in ACTIVE


def select_jobs(action: str, jobs: QuerySet[Job, Each]) -> list[Each]:
    """At most MAX_JOBS of *jobs*; those that the action applies to come first."""
    newest = jobs.order_by("-created_at", "pk")
    chosen = Q(state__in=ACTIONS[action].first)
    first = list(newest.filter(chosen)[:MAX_JOBS])
    return first + list(newest.exclude(chosen)[: MAX_JOBS - len(first)])


def ask_of(action: str, jobs: JobQuerySet) -> list[Asked]:
    """The same jobs, as its question has them."""
    return [Asked(*row) for row in select_jobs(action, jobs.values_list(*Asked._fields))]


def question(action: str, jobs: list[Asked]) -> dict[str, object]:
    """What the page that asks once more says of it; *running*: those that a delete has to cancel before."""
    running = sum(job.active for job in jobs) if action == "delete" else 0
    verb = "Cancel and delete" if running == len(jobs) else "Add to" if action == "add" else action.title()
    return {"action": action, "verb": verb, "jobs": jobs, "running": running, "days": settings.TRASH_DAYS}


def apply(
    action: str, jobs: list[Job], actor: str, pipeline: str = "", *, with_cancel: bool = False
) -> BulkResult:
    """Performs *action* (a key of ACTIONS) on each job in the name of *actor*, a user name.

    *pipeline*: the one of which "add" adds what a job lacks. *with_cancel*: a delete cancels before.
    """
    result = BulkResult(action)
    rest = deleting.delete_together(jobs, actor) if action == "delete" else jobs
    result.done = len(jobs) - len(rest)
    verb = deleting.cancel_and_delete if action == "delete" and with_cancel else VERBS.get(action)
    verb = verb or (lambda job, actor: finished.add_pipeline(job, pipeline, actor))
    async_to_sync(_apply)(result, verb, rest, actor)
    return result


async def _apply(result: BulkResult, verb: Verb, jobs: list[Job], actor: str) -> None:
    slots = asyncio.Semaphore(CONCURRENCY)

    async def apply_to(job: Job) -> None:
        async with slots:
            if result.database_away or result.unanswered.total() >= MAX_UNANSWERED:
                result.untried += 1
                return
            try:
                sentence = await verb(job, actor)
            except control.Refused as error:
                result.refused[str(error)] += 1
            except control.NotPossible:
                result.skipped += 1
            except control.TemporalUnavailable as error:
                result.unanswered[str(error)] += 1
            except OUTAGES:
                result.unanswered[DATABASE_AWAY] += 1
            else:
                result.cancelling += sentence == deleting.AT_ITS_END
                result.done += sentence != deleting.AT_ITS_END

    await asyncio.gather(*map(apply_to, jobs))
