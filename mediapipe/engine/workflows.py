"""A task as a short workflow: the engine's queue is Temporal. Deterministic, and free of Django."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.workflow import ActivityCancellationType

HEAVY_QUEUE = "media-engine"
LIGHT_QUEUE = "media-engine-light"
IMPORT_QUEUE = "media-engine-import"
# A worker that is lost or restarts is no reason to give up: the activities bound that themselves.
AGAIN = RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=10))


@workflow.defn(name="EngineTask")
class EngineTaskWorkflow:
    """Runs one task, on the heavy or the light task queue; a foreign source comes by a queue of its own."""

    @workflow.run
    async def run(
        self,
        task_id: str,
        light: bool,
        heartbeat_timeout: float = 10,
        foreign: bool = False,
        copies: bool = False,
    ) -> None:
        """Ends when the task is over: how it ended stands in its row.

        *heartbeat_timeout*: seconds of silence after which another worker takes it over. *foreign*: its
        source must be downloaded first. *copies*: it may be a copy, a moment's work, which never waits behind
        an encode; only where it is none it stands in line for one. No history from before these arguments
        has them, so none is patched.
        """
        silence = timedelta(seconds=heartbeat_timeout)
        if foreign and not await self._activity("import_source", task_id, IMPORT_QUEUE, silence):
            return
        if copies and await self._activity("copy_task", task_id, LIGHT_QUEUE, silence):
            return
        await self._activity("run_task", task_id, LIGHT_QUEUE if light else HEAVY_QUEUE, silence)

    async def _activity(self, name: str, task_id: str, queue: str, silence: timedelta) -> Any:
        return await workflow.execute_activity(
            name,
            task_id,
            task_queue=queue,
            start_to_close_timeout=timedelta(days=30),  # heartbeats and the stall watchdog end what hangs
            heartbeat_timeout=silence,
            retry_policy=AGAIN,
            cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
