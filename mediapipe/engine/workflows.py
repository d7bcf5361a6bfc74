"""A task as a short workflow: the engine's queue is Temporal. Deterministic, and free of Django."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.workflow import ActivityCancellationType

HEAVY_QUEUE = "media-engine"
LIGHT_QUEUE = "media-engine-light"


@workflow.defn(name="EngineTask")
class EngineTaskWorkflow:
    """Runs one task, on the heavy or the light task queue."""

    @workflow.run
    async def run(self, task_id: str, light: bool, heartbeat_timeout: float = 10) -> None:
        """Ends when the task is over: how it ended stands in its row.

        *heartbeat_timeout*: seconds of silence after which another worker takes it over.
        """
        await workflow.execute_activity(
            "run_task",
            task_id,
            task_queue=LIGHT_QUEUE if light else HEAVY_QUEUE,
            start_to_close_timeout=timedelta(days=30),  # heartbeats and the stall watchdog end what hangs
            heartbeat_timeout=timedelta(seconds=heartbeat_timeout),
            # a worker that is lost or restarts is no reason to give up; run_task bounds it
            retry_policy=RetryPolicy(
                initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=10)
            ),
            cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
