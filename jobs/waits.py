"""Why a stage does not move at the moment, in sentences. It reads reports and asks nobody."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo

from jobs.state import HeartbeatDetails, StageStatus

STALE_HEARTBEAT = 10.0  # seconds of silence that a page mentions


@dataclass(frozen=True)
class Wait:
    """Why a stage does not move; *until*: unix seconds of what happens next, *reason*: the last failure."""

    text: str
    until: int | None = None
    reason: str = ""

    @property
    def left(self) -> str:
        """How long until then, as "8 s"."""
        return f"{max(0, round((self.until or 0) - time.time()))} s"

    def __str__(self) -> str:
        when = f" in {self.left}" if self.until else ""
        return self.text + when + (f": {self.reason}" if self.reason else "")


def until_next_attempt(stage: StageStatus) -> Wait:
    """What a stage between two attempts waits for."""
    text = f"attempt {stage.attempt + 1} of {stage.max_attempts}"
    if stage.error_kind in ("unreachable", "busy"):
        text = "asks the engine again"
    return Wait(text, round(stage.retry_at or 0), stage.error or "")


def until_progress(pending: PendingActivityInfo, details: HeartbeatDetails, *, answered: bool) -> Wait | None:
    """What a stage's activity waits for; None where it makes progress.

    *pending*: the activity as Temporal describes it; *answered*: whether a worker has answered just now.
    """
    if pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED:
        return Wait("waiting for a free worker" if answered else "no worker is listening")
    silent = _seconds_since_heartbeat(pending)
    if silent > STALE_HEARTBEAT:
        return Wait(f"the worker has been silent for {silent:.0f} s; another takes over after 30 s")
    if details.last_error:
        until = round(details.next_at) if details.next_at else None
        return Wait("asks the engine again", until, details.last_error)
    return _at_the_engine(details)


def _seconds_since_heartbeat(pending: PendingActivityInfo) -> float:
    has_heartbeat = pending.HasField("last_heartbeat_time")
    heard = pending.last_heartbeat_time if has_heartbeat else pending.last_started_time
    return (datetime.now(UTC) - heard.ToDatetime(UTC)).total_seconds()


def _at_the_engine(details: HeartbeatDetails) -> Wait | None:
    if details.waiting_for == "space":
        return Wait("waiting for free disk space")
    if details.waiting_for == "nobody":
        return Wait("no worker listens to the engine's queue; `python3 manage.py worker` starts one")
    if details.waiting_for == "worker":
        return Wait("the engine's worker is silent; another takes over after 10 s")
    if details.state == "queued":
        place = details.queue_position
        return Wait(f"place {place} in the engine's queue" if place else "waiting in the engine's queue")
    return None
