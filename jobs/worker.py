"""The workers of the pipeline's task queues, and the reconciling that goes on beside them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

from django.conf import settings
from temporalio.client import Client
from temporalio.worker import Worker

from jobs import control, reconcile
from jobs.ittybit.client import IttybitClient, open_http
from jobs.state import CONTROL, TRANSFERS
from jobs.workflow.activities import Activities
from jobs.workflow.media_pipeline import MediaPipeline

WAITING = 200  # stages that one worker watches


@contextlib.asynccontextmanager
async def workers(client: Client) -> AsyncIterator[list[Worker]]:
    """The pipeline's workers, around their one HTTP client; rows are kept in step meanwhile."""
    async with open_http(settings.ITTYBIT_API_URL, settings.ITTYBIT_API_KEY) as http:
        engine = IttybitClient(http, settings.ITTYBIT_RESOURCE)
        keeper = asyncio.create_task(reconcile.run_forever(engine))
        try:
            yield build(client, engine)
        finally:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper


def build(
    client: Client, engine: IttybitClient, task_queue: str = control.TASK_QUEUE, waiting: int = WAITING
) -> list[Worker]:
    """Workers as they are run: heartbeats reach Temporal each second, a shutdown hands over within 5 s.

    *waiting*: how many stages are watched at once; the rest are told by the engine's webhook, or wait.
    """
    activities = Activities(engine)
    grace = timedelta(seconds=5)
    return [
        Worker(
            client,
            task_queue=task_queue,
            workflows=[MediaPipeline],
            activities=activities.waiting(),
            max_concurrent_activities=waiting,
            max_heartbeat_throttle_interval=timedelta(seconds=1),
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=3),
            graceful_shutdown_timeout=grace,
        ),
        Worker(
            client,
            task_queue=task_queue + CONTROL,
            activities=activities.at_once(),
            max_concurrent_activities=200,
            graceful_shutdown_timeout=grace,
        ),
        Worker(
            client,
            task_queue=task_queue + TRANSFERS,
            activities=[activities.keep_output],
            max_concurrent_activities=10,
            graceful_shutdown_timeout=grace,
        ),
    ]
