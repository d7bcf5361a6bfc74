"""Why a stage does not move at the moment, in sentences. It makes no requests."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo

from jobs.requests import HeartbeatDetails
from jobs.state import StageStatus

# Errors of a stage that uses up no attempt.
OUTAGES = ("unreachable", "unavailable", "busy", "completed_by_hand")
# Of these what is away has a name that people know.
NAMED = {
    "storage": "Waiting for storage",
    "database_unavailable": "Waiting for the database",
    "queue_unavailable": "Waiting for the workflow service",
}
PAUSED = (
    PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED,
    PendingActivityState.PENDING_ACTIVITY_STATE_PAUSE_REQUESTED,
)
IN_LINE = ("", "turn", "nobody")  # what a task of the engine waits for that would begin next
STALE_HEARTBEAT = 10.0  # seconds of silence that a page mentions


@dataclass(frozen=True)
class Wait:
    """Why a stage does not move; *until*: unix seconds of what happens next, *reason*: the last failure."""

    text: str
    until: int | None = None
    reason: str = ""
    busy: bool = False  # something is done meanwhile

    @property
    def left(self) -> str:
        """How long until then, as "8 s"."""
        return f"{max(0, round((self.until or 0) - time.time()))} s"

    def __str__(self) -> str:
        text = f"{self.text} in {self.left}" if self.until else self.text
        return f"{self.reason} {text}." if self.reason else text


def until_next_attempt(stage: StageStatus) -> Wait:
    """What a stage between two attempts waits for."""
    if named := NAMED.get(stage.error_kind or ""):
        return Wait(named)
    text = f"Attempt {stage.attempt + 1} of {stage.max_attempts}"
    if stage.error_kind in OUTAGES:
        text = "Trying again"
    return Wait(text, round(stage.retry_at or 0), _with_period(stage.error or ""))


def until_progress(
    pending: PendingActivityInfo, details: HeartbeatDetails, *, answered: bool, held: str = ""
) -> Wait | None:
    """What a stage's activity waits for; None where it makes progress.

    *pending*: the activity as Temporal describes it; *answered*: whether a worker has answered just now;
    *held*: why nothing that stands in line begins.
    """
    if pending.paused or pending.state in PAUSED:
        return Wait("Paused in Temporal. It continues when it’s unpaused there.")
    if pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED:
        return Wait("Waiting for a free worker" if answered else "No worker is running")
    silent = _seconds_since_heartbeat(pending)
    if silent > STALE_HEARTBEAT:
        takeover = settings.HEARTBEAT_SECONDS
        return Wait(f"No sign from the worker for {silent:.0f} s. Another takes over at {takeover:g} s.")
    if named := NAMED.get(details.waiting_for):
        return Wait(named)
    if details.last_error:
        until = round(details.next_at) if details.next_at else None
        return Wait("Trying again", until, _with_period(details.last_error))
    in_line = details.state == "queued" and details.waiting_for in IN_LINE
    if held and (in_line or details.waiting_for == "worker"):  # who would take over is held, too
        return Wait(held)
    return _at_the_engine(details)


def _seconds_since_heartbeat(pending: PendingActivityInfo) -> float:
    """Since it was heard of, or since it began: the last heartbeat may be another worker's."""
    signs = (pending.last_heartbeat_time, pending.last_started_time)
    return (datetime.now(UTC) - max(sign.ToDatetime(UTC) for sign in signs)).total_seconds()


def _at_the_engine(details: HeartbeatDetails) -> Wait | None:
    if details.waiting_for == "space":
        return Wait("Waiting for free disk space")
    if details.waiting_for == "download":
        return Wait("Downloading the source", busy=True)
    if details.waiting_for == "turn":
        return Wait("Waiting for your other downloads")
    if details.waiting_for == "source":
        return Wait("The source’s server is busy and asked to be tried again later")
    if details.waiting_for == "nobody":
        return Wait("No encoder is running")
    if details.waiting_for == "worker":
        takeover = settings.ENGINE_HEARTBEAT_SECONDS
        return Wait(f"No sign from the encoder. After {takeover:.0f} s the next that is free takes over.")
    minutes = int((time.time() - details.since) / 60) if details.since else 0
    if details.state != "queued":
        silent = details.progress is None and not settings.EMBEDDED_ENGINE
        sentence = f"Working for {minutes} min; this engine reports no percentage."
        return Wait(sentence) if silent and minutes else None
    if details.queue_position == 1:
        return Wait("Next in line")
    if details.queue_position:  # by age: people take turns, so that it may be sooner or later than those
        return Wait(f"In line: {details.queue_position - 1} came before it")
    return Wait("Waiting in line" + (f" for {minutes} min" if minutes else ""))


def _with_period(sentence: str) -> str:
    return sentence if not sentence or sentence.endswith((".", "!", "?")) else f"{sentence}."
