"""The workers of the pipeline's task queues, and the reconciler that runs beside them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

from django.conf import settings
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import Worker, WorkerDeploymentConfig

from jobs import reconcile
from jobs.engine import open_client
from jobs.ittybit.client import IttybitClient
from jobs.state import CONTROL, TASK_QUEUE, TRANSFERS
from jobs.workflow.activities import Activities, record
from jobs.workflow.media_pipeline import MediaPipeline

DEPLOYMENT = "mediapipe"  # what Temporal calls all versions of these workers together
MAX_STAGES = 200  # that one worker watches at once
THROTTLE = timedelta(seconds=1)  # between two heartbeats, at least
# The suffixes of version 0.1, whose jobs may have activities waiting there: served for the last time by 0.2.
RETIRED = {CONTROL: "-desk", TRANSFERS: "-copies"}


@contextlib.asynccontextmanager
async def workers(client: Client) -> AsyncIterator[list[Worker]]:
    """The pipeline's workers, around their one HTTP client; the reconciler runs until the context ends."""
    async with open_client() as engine:
        reconciler = asyncio.create_task(reconcile.run_forever(engine))
        try:
            yield build(client, engine)
        finally:
            reconciler.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reconciler


def deployment() -> WorkerDeploymentConfig | None:
    """This code's version, as Temporal knows it: a run stays with the version that began it.

    None where MEDIAPIPE_BUILD_ID isn't set: whichever worker is there continues a run.
    """
    if not settings.BUILD_ID:
        return None
    version = WorkerDeploymentVersion(DEPLOYMENT, settings.BUILD_ID)
    return WorkerDeploymentConfig(version, True, VersioningBehavior.PINNED)


def build(
    client: Client, engine: IttybitClient, task_queue: str = TASK_QUEUE, max_stages: int = MAX_STAGES
) -> list[Worker]:
    """The workers, not yet running: heartbeats reach Temporal each second, a shutdown hands over within 5 s.

    *max_stages*: how many stages are watched at once; more of them wait, or are completed by webhooks.
    """
    activities = Activities(engine)
    grace = timedelta(seconds=5)
    return [
        Worker(
            client,
            task_queue=task_queue,
            workflows=[MediaPipeline],
            activities=[*activities.stages(), record],  # local activities run where their workflow does
            max_concurrent_activities=max_stages,
            max_heartbeat_throttle_interval=THROTTLE,
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=3),
            graceful_shutdown_timeout=grace,
            deployment_config=deployment(),
        ),
        *(
            Worker(
                client,
                task_queue=task_queue + suffix,
                activities=functions,
                max_concurrent_activities=concurrent,
                max_heartbeat_throttle_interval=THROTTLE,
                max_concurrent_activity_task_polls=polls,
                graceful_shutdown_timeout=grace,
                deployment_config=None if suffix in RETIRED.values() else deployment(),
            )
            for suffix, functions, concurrent, polls in (
                (CONTROL, activities.control(), 200, 5),
                (TRANSFERS, activities.transfers(), 10, 5),
                (RETIRED[CONTROL], activities.control(), 200, 1),
                (RETIRED[TRANSFERS], activities.transfers(), 10, 1),
            )
        ),
    ]
