"""A batch as a workflow: it starts the jobs that have room, and sleeps until there is more to do.

Deterministic, and free of Django: which jobs there are stands in the rows, and nothing of it here.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from jobs.state import CONTROL

ADVANCE_BATCH = "advance_batch"
MAX_ROUNDS = 200  # after which it continues as new, so that its history stays short
FALLBACK = timedelta(minutes=10)  # in which it looks by itself, should nobody tell it
RETRY_POLICY = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=10))


@workflow.defn(name="Batch")
class BatchWorkflow:
    """One batch: its id is the batch's, so there is one however often somebody starts it."""

    def __init__(self) -> None:
        self.news = False

    @workflow.signal
    def look(self) -> None:
        """There is room, or somebody has cancelled the batch, or nothing is left to do."""
        self.news = True

    @workflow.run
    async def run(self, batch_id: str) -> str:
        """Ends when no job of the batch is waiting or under way."""
        for _ in range(MAX_ROUNDS):
            self.news = False
            over = await workflow.execute_activity(
                ADVANCE_BATCH,
                batch_id,
                result_type=bool,
                task_queue=workflow.info().task_queue + CONTROL,
                summary="start what has room",
                start_to_close_timeout=timedelta(minutes=1),
                retry_policy=RETRY_POLICY,
            )
            if over:
                return "over"
            with suppress(TimeoutError):
                await workflow.wait_condition(lambda: self.news, timeout=FALLBACK)
        workflow.continue_as_new(batch_id)
