"""The workers of the pipeline's task queues, and reconciler, outbox, batches and schedule beside them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

from django.conf import settings
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import FixedSizeSlotSupplier, Worker, WorkerDeploymentConfig

from jobs import reconcile
from jobs.batches import waking
from jobs.batches.activities import advance
from jobs.batches.batch_workflow import BatchWorkflow
from jobs.engine import open_client
from jobs.ittybit.client import IttybitClient
from jobs.notifications import activities as delivering
from jobs.notifications import outbox
from jobs.notifications.delivery_workflow import NOTIFICATIONS, DeliveryWorkflow
from jobs.removal import pruning
from jobs.removal.prune_workflow import PruneWorkflow
from jobs.state import CONTROL, TASK_QUEUE, TRANSFERS
from jobs.workflow.activities import Activities, record
from jobs.workflow.media_pipeline import MediaPipeline
from mediapipe.payloads import WorkflowRunner
from mediapipe.places import OneByOne, tuner

DEPLOYMENT = "mediapipe"  # what Temporal calls all versions of these workers together
MAX_STAGES = 200  # that one worker watches at once; more of them wait, or are completed by webhooks
GRACE = timedelta(seconds=5)  # in which a worker that shuts down hands over
THROTTLE = timedelta(seconds=1)  # between two heartbeats, at least
# The suffixes of version 0.1, whose jobs may have activities waiting there: served for the last time by 0.2.
RETIRED = {CONTROL: "-desk", TRANSFERS: "-copies"}


@contextlib.asynccontextmanager
async def workers(client: Client) -> AsyncIterator[list[Worker]]:
    """The pipeline's workers, around their one HTTP client; what runs beside them ends with the context."""
    async with open_client() as engine:
        loops = (
            reconcile.run_forever(engine),
            outbox.run_forever(),
            waking.run_forever(),
            pruning.keep_scheduled(),
        )
        beside = [asyncio.create_task(each) for each in loops]
        try:
            yield build(client, engine)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)


def deployment() -> WorkerDeploymentConfig | None:
    """This code's version, as Temporal knows it: a run stays with the version that began it.

    None where MEDIAPIPE_BUILD_ID isn't set: whichever worker is there continues a run.
    """
    if not settings.BUILD_ID:
        return None
    version = WorkerDeploymentVersion(DEPLOYMENT, settings.BUILD_ID)
    return WorkerDeploymentConfig(version, True, VersioningBehavior.PINNED)


def _worker(client: Client, task_queue: str, *, is_deployed: bool = True, **options: Any) -> Worker:
    """A worker of this code, known to Temporal by its deployment or else by its version.

    Where a worker has neither, the SDK hashes every module that is loaded: a fifth of a second of each start.
    """
    known = deployment() if is_deployed else None
    return Worker(
        client,
        task_queue=task_queue,
        graceful_shutdown_timeout=GRACE,
        deployment_config=known,
        build_id=None if known else settings.VERSION,
        **options,
    )


def _of_deliveries(client: Client, task_queue: str) -> Worker:
    """Who tells people: a server of theirs that hangs takes no slot of the pipeline."""
    return _worker(
        client,
        task_queue + NOTIFICATIONS,
        workflows=[DeliveryWorkflow],
        workflow_runner=WorkflowRunner(),
        activities=delivering.ALL,
        max_concurrent_activities=10,
        max_concurrent_activity_task_polls=2,
        max_concurrent_workflow_task_polls=2,
    )


def build(
    client: Client, engine: IttybitClient, task_queue: str = "", max_stages: int = MAX_STAGES
) -> list[Worker]:
    """The workers, not yet running: heartbeats reach Temporal each second, 5 s are left to hand over."""
    task_queue = task_queue or TASK_QUEUE
    activities = Activities(engine)
    of_their_own: list[Callable[..., Any]] = [advance, pruning.prune]
    return [
        _worker(
            client,
            task_queue,
            workflows=[MediaPipeline, BatchWorkflow, PruneWorkflow],
            workflow_runner=WorkflowRunner(),
            activities=[*activities.stages(), record],  # local activities run where their workflow does
            tuner=tuner(OneByOne(), FixedSizeSlotSupplier(max_stages)),
            max_heartbeat_throttle_interval=THROTTLE,
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=3),
        ),
        _of_deliveries(client, task_queue),
        *(
            _worker(
                client,
                task_queue + suffix,
                is_deployed=suffix not in RETIRED.values(),
                activities=functions,
                max_concurrent_activities=concurrent,
                max_heartbeat_throttle_interval=THROTTLE,
                max_concurrent_activity_task_polls=polls,
            )
            for suffix, functions, concurrent, polls in (
                (CONTROL, [*activities.control(), *of_their_own], 200, 5),
                (TRANSFERS, activities.transfers(), 10, 5),
                (RETIRED[CONTROL], activities.control(), 200, 1),
                (RETIRED[TRANSFERS], activities.transfers(), 10, 1),
            )
        ),
    ]
