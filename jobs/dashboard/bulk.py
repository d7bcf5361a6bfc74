"""What is done to many jobs at once, and the sentences about what was done, what was not, and why."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from asgiref.sync import async_to_sync
from django.db.models import Case, Q, Value, When

from jobs import control
from jobs.models import Job, JobQuerySet
from jobs.state import ACTIVE, JobState

MOST = 1000  # jobs that are acted on in one request
AT_ONCE = 16  # questions to Temporal at the same time
GIVE_UP = 20  # jobs without an answer after which the rest is not tried
ACTIONS = {"retry": "retried", "cancel": "cancelled", "delete": "deleted"}
SKIPPED = {
    "retry": "nothing failed there",
    "cancel": "they had already ended",
    "delete": "they are still active; cancel them first",
}
SUITS = {
    "retry": Q(state__in=(JobState.ATTENTION, JobState.FAILED, JobState.CANCELLED)),
    "cancel": Q(state__in=ACTIVE),
    "delete": ~Q(state__in=ACTIVE),
}


@dataclass
class Outcome:
    """What came of it."""

    action: str
    done: int = 0
    skipped: int = 0
    unanswered: Counter[str] = field(default_factory=Counter)  # by what Temporal's silence means
    untried: int = 0

    def __str__(self) -> str:
        told = [f"{self.done} {ACTIONS[self.action]}"]
        if self.skipped:
            told.append(f"{self.skipped} skipped: {SKIPPED[self.action]}")
        text = ", ".join(told) + "."
        for meaning, count in self.unanswered.items():
            text += f" {count} got no answer: {meaning}"
        return text + (f" {self.untried} were not tried after that." if self.untried else "")


def first(action: str, jobs: JobQuerySet) -> list[Job]:
    """As many as one request acts on; those that the action suits come first."""
    unsuited = Case(When(SUITS[action], then=Value(0)), default=Value(1))
    return list(jobs.order_by(unsuited, "-created_at", "pk")[:MOST])


def act(action: str, jobs: list[Job], actor: str) -> Outcome:
    """Does it to each job, and tells what came of it."""
    if action == "delete":
        removed = sum(job.remove() for job in jobs)
        return Outcome(action, removed, len(jobs) - removed)
    return async_to_sync(_each)(action, jobs, actor)


async def _each(action: str, jobs: list[Job], actor: str) -> Outcome:
    outcome, slots = Outcome(action), asyncio.Semaphore(AT_ONCE)

    async def one(job: Job) -> None:
        async with slots:
            if outcome.unanswered.total() >= GIVE_UP:
                outcome.untried += 1
                return
            try:
                await (control.retry(job, None, actor) if action == "retry" else control.cancel(job, actor))
            except control.NotPossible:
                outcome.skipped += 1
            except control.TemporalUnavailable as away:
                outcome.unanswered[str(away)] += 1
            else:
                outcome.done += 1

    await asyncio.gather(*map(one, jobs))
    return outcome
