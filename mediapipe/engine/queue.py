"""The engine's queue is Temporal: a task is put into it once, and looked after while it is in it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta

from asgiref.sync import sync_to_async
from django.utils import timezone
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from mediapipe import temporal
from mediapipe.engine.models import EngineTask
from mediapipe.engine.workflows import LIGHT_QUEUE, TASK_QUEUE, EngineTaskWorkflow

SOON = timedelta(seconds=3)
QUIET = timedelta(seconds=30)  # without a change, after which it is worth a look
LOOK_EVERY = 30.0  # seconds between two looks at a task
ENDED = "The engine's work on this task was ended in Temporal, not from here."

POLL = timedelta(seconds=70)  # a worker that has room asks at least this often
KEPT = 5.0  # seconds that an answer about a lane is kept

_looked: dict[str, float] = {}
_deserted: dict[str, tuple[float, bool]] = {}


async def start(task: EngineTask) -> bool:
    """Puts a task into the queue, once however often it is called; False while Temporal is away."""
    client = await temporal.client()
    try:
        async with asyncio.timeout(5):
            with contextlib.suppress(WorkflowAlreadyStartedError):
                await client.start_workflow(
                    EngineTaskWorkflow.run,
                    args=[task.pk, task.light],
                    id=task.pk,
                    task_queue=TASK_QUEUE,
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    priority=temporal.fairness_key(task.owner),
                    static_summary=f"{task.kind} {task.options.get('format', '')}".strip(),
                    rpc_timeout=SOON,
                )
    except (RPCError, RuntimeError, TimeoutError):
        return False
    return True


async def look_after(task: EngineTask) -> None:
    """Fails a task whose workflow was ended behind our back, and queues one that Temporal doesn't know.

    Without this it would be told as queued or at work for ever. Cheap: most tasks have just changed.
    """
    now = time.monotonic()
    if not task.active or timezone.now() - task.updated_at < QUIET:
        return
    if now - _looked.get(task.pk, -LOOK_EVERY) < LOOK_EVERY:
        return
    if len(_looked) > 2000:
        _looked.clear()
    _looked[task.pk] = now
    client = await temporal.client()
    try:
        async with asyncio.timeout(3):
            found = await client.get_workflow_handle(task.pk).describe(rpc_timeout=SOON)
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            await start(task)
    except (RuntimeError, TimeoutError):
        return
    else:
        if found.status not in (None, WorkflowExecutionStatus.RUNNING):
            await sync_to_async(task.fail)("internal_error", ENDED)
            await task.arefresh_from_db()


async def deserted(task: EngineTask) -> bool:
    """Whether nobody listens to the task's lane: no worker asked for work lately, or is at any."""
    queue = LIGHT_QUEUE if task.light else TASK_QUEUE
    at, known = _deserted.get(queue, (-KEPT, False))
    if time.monotonic() - at >= KEPT:
        known = not await sync_to_async(EngineTask.at_work)(task.light) and not await _polled(queue)
        _deserted[queue] = time.monotonic(), known
    return known


async def _polled(queue: str) -> bool:
    """Whether a worker asks for a queue's work; True where Temporal cannot tell."""
    client = await temporal.client()
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=queue),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
    )
    try:
        async with asyncio.timeout(3):
            found = await client.workflow_service.describe_task_queue(request, timeout=SOON)
    except (RPCError, RuntimeError, TimeoutError):
        return True
    since = datetime.now(UTC) - POLL
    return any(poller.last_access_time.ToDatetime(UTC) > since for poller in found.pollers)
