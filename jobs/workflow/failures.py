"""What the failure of an attempt means. Deterministic.

It knows neither stages nor jobs: jobs.workflow.stage_run decides what follows.
"""

from __future__ import annotations

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError, TimeoutType

with workflow.unsafe.imports_passed_through():
    from jobs.requests import Failure, HeartbeatDetails
    from jobs.state import CREATE_TASK, HANDED_OVER, KEEP_OUTPUT, STAGE_FAILED

MAX_OUTAGE = 24 * 3600.0  # seconds that one attempt may wait for an unavailable engine
LOST = ("lost", "interrupted")  # outcomes of an attempt whose worker gave no sign
TEMPORAL_DELAY = 10.0  # seconds beyond the heartbeat timeout: with more, Temporal may have been away


class AttemptFailed(Exception):
    """An attempt without an output: why, in a sentence, and what that means for the next one."""

    def __init__(self, message: str, failure: Failure, outcome: str = "failed") -> None:
        super().__init__(message)
        self.failure = failure
        self.outcome = outcome  # failed, lost, interrupted, handed over
        self.seen: HeartbeatDetails | None = None  # what was last reported of the task

    def is_over(self, lasted: float) -> bool:
        """Whether the attempt is, after so many seconds: an outage only makes it longer, a day at most."""
        return not self.failure.outage or lasted > MAX_OUTAGE

    def event_text(self, label: str, attempt: int) -> str:
        """The failure of an attempt that was not the last one, in the timeline."""
        return {
            "lost": f"A worker stopped during {label}",
            "interrupted": f"{label} was interrupted. {self}",
            "handed over": f"{label} moved to another worker (planned restart)",
        }.get(self.outcome, f"{label} failed on attempt {attempt}: {self}")


def classify_failure(error: ActivityError, heartbeat_timeout: float) -> AttemptFailed:
    """The failed attempt that an activity's error stands for: lost, handed over or failed.

    *heartbeat_timeout*: seconds, as the stages' activities have it.
    """
    failed = _meaning(error, heartbeat_timeout)
    failed.seen = last_seen(error)
    return failed


def _meaning(error: ActivityError, heartbeat_timeout: float) -> AttemptFailed:
    cause = error.cause
    if isinstance(cause, TimeoutError):
        # only a heartbeat timeout says something of the worker; earlier runs took every timeout for one
        if cause.type != TimeoutType.HEARTBEAT and workflow.patched("timeouts-told-apart"):
            return timed_out(error.activity_type, cause.type)
        return gone_silent(cause, workflow.time(), heartbeat_timeout)
    if isinstance(cause, ApplicationError):
        if cause.type == HANDED_OVER:
            return AttemptFailed(
                "The worker was restarted.", Failure("handed_over", unanswered=True), "handed over"
            )
        details: object = cause.details[0] if cause.details else None
        if cause.type == STAGE_FAILED and isinstance(details, dict):
            fields = {key: value for key, value in details.items() if key in Failure.__dataclass_fields__}
            return AttemptFailed(cause.message, Failure(**fields))
    return AttemptFailed(
        "Something unexpected went wrong while processing.",
        Failure("internal_error", details=str(cause), unanswered=True),
    )


def last_seen(error: ActivityError) -> HeartbeatDetails | None:
    """What the activity had last reported of its task; None where it hadn't got that far."""
    cause = error.cause
    details = cause.last_heartbeat_details if isinstance(cause, TimeoutError) else ()
    details = cause.details if isinstance(cause, ApplicationError) else details
    last = details[-1] if details else None
    if not isinstance(last, dict) or not isinstance(last.get("since"), int | float):
        return None
    state = last.get("state")
    progress = last.get("progress")
    return HeartbeatDetails(
        state if isinstance(state, str) else "",
        progress if isinstance(progress, int | float) else None,
        since=last["since"],
    )


def was_cancelled() -> bool:
    """Whether the stage was cancelled while its task was being created, which always goes on to its end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def gone_silent(error: TimeoutError, now: float, heartbeat_timeout: float) -> AttemptFailed:
    """An attempt without a sign of life: its worker stopped, if that was noticed in time.

    Later than that it may as well have been Temporal that was away, which hears no heartbeats then.
    """
    details = error.last_heartbeat_details
    at = details[0].get("at") if details and isinstance(details[0], dict) else None
    if not isinstance(at, int | float) or not at or now - at < heartbeat_timeout + TEMPORAL_DELAY:
        return AttemptFailed("The worker stopped.", Failure("worker_lost"), "lost")
    sentence = f"No sign from the worker for {now - at:.0f} s: it stopped, or the workflow service was away."
    return AttemptFailed(sentence, Failure("worker_lost"), "interrupted")


def timed_out(activity: str, kind: TimeoutType | None) -> AttemptFailed:
    """An attempt whose activity took too long, or that no worker began, although none was lost."""
    if kind == TimeoutType.SCHEDULE_TO_START:
        return AttemptFailed("No worker was free in time.", Failure("unavailable", outage=True))
    if activity == CREATE_TASK:  # the same key finds the task that may have been created
        failure = Failure("unavailable", outage=True, unanswered=True)
        return AttemptFailed("Creating the task took too long.", failure)
    if activity == KEEP_OUTPUT:
        return AttemptFailed("Copying the output took too long.", Failure("timeout"))
    sentence = "This wasn’t done within its time limit, waiting in line included, and was stopped."
    return AttemptFailed(sentence, Failure("timeout", task_over=True, stop=True))


def outage_wait(tries: int, lasted: float, retry_after: float | None) -> float:
    """Seconds until an unavailable engine is tried again, after *tries* tries in *lasted* seconds.

    *retry_after*: how long it asked us to wait. After some minutes the wait is a tenth of the outage so
    far: each try adds to the history, which would reach its limit in a night.
    """
    return max(retry_after or min(2.0 ** min(tries, 5), 30.0), min(lasted / 10, 300.0))
