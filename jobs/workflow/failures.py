"""What an attempt's end means, and what the workflow asks of the engine beside it. Deterministic."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError

with workflow.unsafe.imports_passed_through():
    from jobs.state import CONTROL, HANDED_OVER, STAGE_FAILED, Cancellation, Failure

FOREVER = RetryPolicy(initial_interval=timedelta(seconds=0.5), maximum_interval=timedelta(seconds=10))


class AttemptFailed(Exception):
    """An attempt that came to nothing: the sentence, and what it means for the next one."""

    def __init__(self, message: str, failure: Failure, outcome: str = "failed") -> None:
        super().__init__(message)
        self.failure = failure
        self.outcome = outcome  # failed, lost, handed over


def classify_failure(error: ActivityError) -> AttemptFailed:
    """What an activity's failure means."""
    cause = error.cause
    if isinstance(cause, TimeoutError):
        return AttemptFailed("The worker was lost.", Failure("worker_lost"), "lost")
    if isinstance(cause, ApplicationError):
        if cause.type == HANDED_OVER:
            return AttemptFailed("The worker was restarted.", Failure("handed_over"), "handed over")
        details: Any = cause.details[0] if cause.details else None
        if cause.type == STAGE_FAILED and isinstance(details, dict):
            known = {key: value for key, value in details.items() if key in Failure.__dataclass_fields__}
            return AttemptFailed(cause.message, Failure(**known))
    return AttemptFailed("The worker hit an unexpected error.", Failure("internal_error", details=str(cause)))


def control_queue() -> str:
    """The task queue of what is done at once."""
    return workflow.info().task_queue + CONTROL


async def cancel_task(task_id: str) -> Cancellation | None:
    """Stops a task at the engine; None where the engine could not be told."""
    try:
        result: Cancellation = await workflow.execute_activity(
            "cancel_task",
            task_id,
            task_queue=control_queue(),
            result_type=Cancellation,
            start_to_close_timeout=timedelta(seconds=20),
            schedule_to_close_timeout=timedelta(seconds=60),
            retry_policy=FOREVER,
        )
    except ActivityError:
        return None
    return result


def outage_wait(waits: int, lasted: float, asked: float | None) -> float:
    """Seconds until an engine that is away is asked again, for the *waits*-th time.

    *asked*: how long it wants to be left alone. After some minutes it is a tenth of how long the
    outage has *lasted*: each question costs room in the history, which would be full after a night.
    """
    return max(asked or min(2.0 ** min(waits, 5), 30.0), min(lasted / 10, 300.0))
