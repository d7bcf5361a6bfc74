"""The workers of the pipeline's task queue, and the reconciling that goes on beside them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

from django.conf import settings
from temporalio.client import Client
from temporalio.worker import Worker

from jobs import ittybit, reconcile, temporal
from jobs.activities import Activities
from jobs.workflows import MediaPipeline


@contextlib.asynccontextmanager
async def workers(client: Client) -> AsyncIterator[list[Worker]]:
    """The pipeline's one worker, around its one HTTP client; rows are kept in step meanwhile."""
    keeper = asyncio.create_task(reconcile.forever())
    try:
        async with ittybit.connection(settings.ITTYBIT_API_URL, settings.ITTYBIT_API_KEY) as http:
            yield [worker(client, ittybit.Client(http, settings.ITTYBIT_RESOURCE))]
    finally:
        keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeper


def worker(client: Client, engine: ittybit.Client, task_queue: str = temporal.TASK_QUEUE) -> Worker:
    """A worker as it is run: heartbeats reach Temporal each second, a shutdown hands over within 5 s."""
    return Worker(
        client,
        task_queue=task_queue,
        workflows=[MediaPipeline],
        activities=Activities(engine).all(),
        max_concurrent_activities=200,  # they only wait
        max_heartbeat_throttle_interval=timedelta(seconds=1),
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=3),
        graceful_shutdown_timeout=timedelta(seconds=5),
    )
