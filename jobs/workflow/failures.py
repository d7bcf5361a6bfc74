"""What the failure of an attempt means. Deterministic.

It knows neither stages nor jobs: jobs.workflow.stage_run decides what follows.
"""

from __future__ import annotations

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError

with workflow.unsafe.imports_passed_through():
    from jobs.state import HANDED_OVER, STAGE_FAILED, Failure


class AttemptFailed(Exception):
    """An attempt without an output: why, in a sentence, and what that means for the next one."""

    def __init__(self, message: str, failure: Failure, outcome: str = "failed") -> None:
        super().__init__(message)
        self.failure = failure
        self.outcome = outcome  # failed, lost, handed over


def classify_failure(error: ActivityError) -> AttemptFailed:
    """The failed attempt that an activity's error stands for: lost, handed over or failed."""
    cause = error.cause
    if isinstance(cause, TimeoutError):
        return AttemptFailed("The worker stopped.", Failure("worker_lost"), "lost")
    if isinstance(cause, ApplicationError):
        if cause.type == HANDED_OVER:
            return AttemptFailed("The worker was restarted.", Failure("handed_over"), "handed over")
        details: object = cause.details[0] if cause.details else None
        if cause.type == STAGE_FAILED and isinstance(details, dict):
            fields = {key: value for key, value in details.items() if key in Failure.__dataclass_fields__}
            return AttemptFailed(cause.message, Failure(**fields))
    return AttemptFailed(
        "Something unexpected went wrong while processing.", Failure("internal_error", details=str(cause))
    )


def was_cancelled() -> bool:
    """Whether the stage was cancelled while its task was being created, which always goes on to its end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def outage_wait(tries: int, lasted: float, retry_after: float | None) -> float:
    """Seconds until an unavailable engine is tried again, after *tries* tries in *lasted* seconds.

    *retry_after*: how long it asked us to wait. After some minutes the wait is a tenth of the outage so
    far: each try adds to the history, which would reach its limit in a night.
    """
    return max(retry_after or min(2.0 ** min(tries, 5), 30.0), min(lasted / 10, 300.0))
