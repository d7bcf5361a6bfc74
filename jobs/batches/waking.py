"""Wakes the workflows of batches that have something to do, and starts those that are missing.

It runs inside the worker, every second, and is harmless to run twice at once. One call does both: a workflow
that never came to be, was ended, or whose history is gone, is started by the same signal that wakes it.
"""

from __future__ import annotations

import asyncio
import logging

from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy

from jobs.batches.batch_workflow import BatchWorkflow
from jobs.models import Batch
from jobs.state import TASK_QUEUE
from mediapipe import temporal
from mediapipe.database import in_thread, log_failure

log = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds between two rounds


async def run_forever() -> None:
    """Rounds until cancelled; a round that fails is logged, and the next one tries again."""
    while True:
        try:
            await run_once()
        except Exception as error:
            log_failure(log, "a round of waking batches failed", error)
        await asyncio.sleep(INTERVAL)


async def run_once() -> int:
    """One round; how many batches were woken: none while Temporal is unavailable."""
    due = await in_thread(_due)
    try:
        for batch in due:
            await wake(batch)
    except temporal.UNAVAILABLE as error:
        if not temporal.is_unavailable(error):
            raise
        return 0
    return len(due)


def _due() -> list[Batch]:
    return [b for b in Batch.objects.filter(finished_at=None).select_related("owner") if b.has_work]


async def wake(batch: Batch) -> None:
    """Tells the batch's workflow to look, and starts it where it doesn't run. Raises as Temporal's client."""
    client = await temporal.client()
    await client.start_workflow(
        BatchWorkflow.run,
        str(batch.pk),
        id=batch.workflow_id,
        task_queue=TASK_QUEUE,
        start_signal="look",
        static_summary=batch.title[:200],
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        priority=temporal.fairness_key(batch.owner.get_username()),
        rpc_timeout=temporal.RPC_TIMEOUT,
    )
