"""Pausing the line, or one worker of the engine: what runs goes on to its end, and nothing new begins.

Of the line Temporal keeps who paused it, when and why, with its task queues; of a worker its row does, by the
name under which it is started again. So both survive every restart. It knows no page.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import NamedTuple

from asgiref.sync import sync_to_async
from django.db import transaction
from django.utils import timezone
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, UpdateTaskQueueConfigRequest
from temporalio.service import RPCError, RPCStatusCode

from jobs.models import FleetWorker
from mediapipe import temporal
from mediapipe.accounts import audit
from mediapipe.accounts.audit import Act
from mediapipe.recent import Recent

ENCODES = "media-engine"  # the task queue of heavy work
QUEUES = (ENCODES, "media-engine-light", "media-engine-import")
ACTIVITIES = TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
SECONDS = 5.0  # for all calls
HELD_FOR = 3.0  # seconds for which an answer to why nothing begins counts
UNKNOWN = (RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.INVALID_ARGUMENT)
TOO_OLD = "This Temporal can’t pause a task queue. It takes a newer one, such as that of `up`."
TEMPORAL_UNAVAILABLE = "The workflow service can’t be reached, so nothing was changed. Try again in a moment."


class NotPossible(Exception):
    """Why it can't be done, in a sentence."""


_held: Recent[str, tuple[float, str]] = Recent(1)  # by task queue: when it was asked, and the answer


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
        raise NotPossible(TOO_OLD if error.status in UNKNOWN else TEMPORAL_UNAVAILABLE) from None
    except (RuntimeError, TimeoutError) as error:
        if not temporal.is_unavailable(error):
            raise
        raise NotPossible(TEMPORAL_UNAVAILABLE) from None


@transaction.atomic
def pause_worker(worker: FleetWorker, who: str, why: str) -> None:
    """Has one worker take nothing new. Raises NotPossible."""
    if not worker.pause(who, why):
        raise NotPossible(f"{worker.name} is paused already.")
    audit.record(Act.PAUSE_WORKER, who, key=worker.pk, name=worker.name, text=why)


@transaction.atomic
def resume_worker(worker: FleetWorker, who: str) -> None:
    """Has it take work again. Raises NotPossible."""
    if not worker.resume():
        raise NotPossible(f"{worker.name} isn’t paused.")
    audit.record(Act.RESUME_WORKER, who, key=worker.pk, name=worker.name)


async def held() -> str:
    """Why nothing new begins, in words for those who wait; "" where something does. At most seconds old."""
    at, words = _held.get(ENCODES, (-HELD_FOR, ""))
    if time.monotonic() - at >= HELD_FOR:
        if line := await paused():
            words = _in_words([line.why])
        else:
            words = await sync_to_async(_all_workers)()
        _held[ENCODES] = time.monotonic(), words
    return words


def _all_workers() -> str:
    """The same where each worker of the engine that runs is paused."""
    now = timezone.now()
    rows = [row for row in FleetWorker.known(now) if ENCODES in row.slots and row.runs(now)]
    return _in_words([row.paused_why for row in rows]) if rows and all(row.paused_at for row in rows) else ""


def _in_words(reasons: list[str]) -> str:
    given = ", ".join(dict.fromkeys(filter(None, reasons)))
    return f"Paused by an admin: {given}" if given else "Paused by an admin"
