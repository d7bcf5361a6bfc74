"""What is no longer kept is removed by a short workflow of one activity, once a day.

Deterministic, and free of Django.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from jobs.state import CONTROL

PRUNE = "prune"
A_DAY = timedelta(hours=20)  # after which it is left to tomorrow's
SILENCE = timedelta(minutes=1)  # after which another worker goes on where it was
RETRY_POLICY = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=5))


@workflow.defn(name="Prune")
class PruneWorkflow:
    """One time: what there is to remove is found again by whoever goes on with it."""

    @workflow.run
    async def run(self) -> str:
        """What was removed, in words; "" for nothing."""
        removed: str = await workflow.execute_activity(
            PRUNE,
            result_type=str,
            task_queue=workflow.info().task_queue + CONTROL,
            summary="remove what is no longer kept",
            schedule_to_close_timeout=A_DAY,
            heartbeat_timeout=SILENCE,
            retry_policy=RETRY_POLICY,
        )
        return removed
