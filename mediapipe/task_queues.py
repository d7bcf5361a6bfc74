"""Who polls a task queue, and whether anything waits in it, as Temporal has it."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

from temporalio.api.workflowservice.v1 import DescribeTaskQueueResponse

from mediapipe import temporal


async def is_polled(queue: str) -> bool:
    """Whether a worker polls a task queue; True where Temporal can't say."""
    found = await _described(queue)
    since = datetime.now(UTC) - temporal.POLL_INTERVAL
    return found is None or any(each.last_access_time.ToDatetime(UTC) > since for each in found.pollers)


async def pollers(queue: str) -> int:
    """How many workers have polled a task queue within minutes; one where Temporal can't say."""
    found = await _described(queue)
    return max(1, len(found.pollers)) if found else 1


async def has_another(queue: str) -> bool:
    """Whether several workers poll a task queue in which nothing waits: what goes back goes to another."""
    found = await _described(queue)
    return found is not None and len(found.pollers) > 1 and not found.stats.approximate_backlog_count


async def _described(queue: str) -> DescribeTaskQueueResponse | None:
    with contextlib.suppress(*temporal.UNAVAILABLE):
        async with asyncio.timeout(3):
            return await temporal.describe_queue(await temporal.client(), queue)
    return None
