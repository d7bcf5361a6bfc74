"""Keeps rows and workflows in step: starts what never started, settles what ended behind our back.

It runs inside the worker, every few seconds, and is harmless to run twice at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import timedelta

from asgiref.sync import sync_to_async
from django.db import DatabaseError, close_old_connections
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from jobs import incoming, temporal
from jobs.models import Job
from jobs.pipelines import JobState, PipelineStatus
from mediapipe import cluster

log = logging.getLogger(__name__)

EVERY = 5.0  # seconds
AGE = timedelta(seconds=3)  # younger jobs are being started by the request that made them
TERMINATED = (
    "The workflow was ended in Temporal ({how}), not from here. "
    "Retry starts it again; finished outputs are kept."
)
FORGOTTEN = (
    "Temporal no longer knows this job's workflow (its history expired, or its database was replaced). "
    "Retry starts it again; finished outputs are kept."
)


async def once() -> int:
    """One round; how many jobs were started or settled."""
    changed = 0
    for job in await _jobs(Job.objects.unstarted(AGE)[:100]):
        if not await temporal.start(job):
            return changed  # Temporal is away: the others would wait just as long
        changed += 1
    started = Job.objects.active().exclude(workflow_started_at=None)[:500]
    for job in await _jobs(started):
        changed += await _settle(job)
    return changed


@sync_to_async
def _jobs(query: object) -> list[Job]:
    close_old_connections()
    return list(query)  # type: ignore[call-overload, no-any-return]


async def _settle(job: Job) -> bool:
    """Settles a job whose workflow is over although its row says otherwise."""
    client = await cluster.client()
    try:
        description = await temporal.handle(client, job).describe(rpc_timeout=timedelta(seconds=2))
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return await sync_to_async(job.close)(JobState.FAILED, FORGOTTEN)
        return False
    if description.status in (None, WorkflowExecutionStatus.RUNNING):
        return False
    last = await description.memo_value("status", None, type_hint=PipelineStatus)
    if last and last.state in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED):
        return await sync_to_async(job.record)(last, [])
    how = (description.status.name or "closed").lower().replace("_", " ")
    return await sync_to_async(job.close)(JobState.FAILED, TERMINATED.format(how=how))


async def forever() -> None:
    """Rounds until cancelled; a round that fails is logged and the next one tries again."""
    while True:
        with contextlib.suppress(RuntimeError, RPCError):  # Temporal is away: the pages say so
            try:
                await once()
                await sync_to_async(incoming.sweep)()
            except DatabaseError as error:
                log.warning("rows could not be reconciled: %s", error)
        await asyncio.sleep(EVERY)
