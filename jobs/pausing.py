"""Pausing the line: Temporal gives the engine's workers nothing new, and keeps who paused it, when and why.

What runs goes on to its end. It survives every restart, since Temporal keeps it with the task queues; nothing
of it is in our rows. It knows no page.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import NamedTuple

from asgiref.sync import sync_to_async
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, UpdateTaskQueueConfigRequest
from temporalio.service import RPCError, RPCStatusCode

from mediapipe import temporal
from mediapipe.accounts import audit
from mediapipe.accounts.audit import Act

ENCODES = "media-engine"  # the task queue of heavy work
QUEUES = (ENCODES, "media-engine-light", "media-engine-import")
ACTIVITIES = TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
SECONDS = 5.0  # for all calls
UNKNOWN = (RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.INVALID_ARGUMENT)
TOO_OLD = "This Temporal can’t pause a task queue. It takes a newer one, such as that of `up`."
AWAY = "The workflow service can’t be reached, so nothing was changed. Try again in a moment."


class NotPossible(Exception):
    """Why it can't be done, in a sentence."""


class Pause(NamedTuple):
    """Since when nothing new begins, and by whom and why."""

    since: datetime
    by: str
    why: str


async def paused() -> Pause | None:
    """The pause of the line; None where it goes on, and where Temporal can't say."""
    client = await temporal.client()
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=ENCODES),
        task_queue_type=ACTIVITIES,
        report_config=True,
    )
    try:
        async with asyncio.timeout(SECONDS / 2):
            found = await client.workflow_service.describe_task_queue(request, timeout=temporal.RPC_TIMEOUT)
    except temporal.UNAVAILABLE:
        return None
    limit = found.config.queue_rate_limit
    if not limit.HasField("rate_limit") or limit.rate_limit.requests_per_second > 0:
        return None
    about = limit.metadata
    return Pause(about.update_time.ToDatetime(UTC), about.update_identity, about.reason)


async def pause(who: str, why: str) -> None:
    """Lets nothing new begin. Raises NotPossible."""
    await _set(who, why, stopped=True)
    await sync_to_async(audit.record)(Act.PAUSE_LINE, who, name="the line", text=why)


async def resume(who: str) -> None:
    """Lets it go on. Raises NotPossible."""
    await _set(who, "", stopped=False)
    await sync_to_async(audit.record)(Act.RESUME_LINE, who, name="the line")


async def _set(who: str, why: str, *, stopped: bool) -> None:
    client = await temporal.client()
    try:
        async with asyncio.timeout(SECONDS):
            for queue in QUEUES:
                request = UpdateTaskQueueConfigRequest(
                    namespace=client.namespace,
                    identity=who,
                    task_queue=queue,
                    task_queue_type=ACTIVITIES,
                )
                request.update_queue_rate_limit.reason = why
                if stopped:
                    request.update_queue_rate_limit.rate_limit.SetInParent()  # none a second
                await client.workflow_service.update_task_queue_config(request, timeout=temporal.RPC_TIMEOUT)
    except RPCError as error:
        raise NotPossible(TOO_OLD if error.status in UNKNOWN else AWAY) from None
    except (RuntimeError, TimeoutError) as error:
        if not temporal.is_unavailable(error):
            raise
        raise NotPossible(AWAY) from None
