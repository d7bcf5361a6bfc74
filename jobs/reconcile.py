"""Keeps rows and workflows in step: starts what never started, settles what ended without a report.

It runs inside the worker, every few seconds, and is harmless to run twice at once. One job that
cannot be reconciled is logged and holds up no other. It knows no pages and no people.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import timedelta

from asgiref.sync import sync_to_async
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from jobs import control
from jobs.ittybit import replies
from jobs.ittybit.client import IttybitClient
from jobs.models import Job, JobQuerySet
from jobs.state import FINISHED, JobState, PipelineStatus, StageState
from jobs.uploads import intake
from mediapipe import temporal
from mediapipe.database import fresh_connections

log = logging.getLogger(__name__)

INTERVAL = 5.0  # seconds between two rounds
MIN_AGE = timedelta(seconds=3)  # younger jobs are being started by the request that created them
CONCURRENCY = 20  # requests to Temporal at the same time
RUNNING = "WorkflowType = 'MediaPipeline' AND ExecutionStatus = 'Running'"
TERMINATED = (
    "This job was ended in Temporal ({how}), not from the dashboard. "
    "Restart it any time; finished outputs are kept."
)
FORGOTTEN = (
    "Temporal has no record of this job: its history expired, or its database was replaced. "
    "Restart it any time; finished outputs are kept."
)


async def run_forever(engine: IttybitClient) -> None:
    """Rounds until cancelled; a round that fails is logged, and the next one tries again."""
    while True:
        try:
            await run_once(engine)
            await sync_to_async(intake.sweep)()
        except (RuntimeError, RPCError, TimeoutError):
            pass  # Temporal is unavailable: the pages say so
        except Exception:
            log.exception("a round of reconciling rows and workflows failed")
        await asyncio.sleep(INTERVAL)


async def run_once(engine: IttybitClient | None = None) -> int:
    """One round; how many jobs were started or settled.

    *engine*: where the tasks of a job are cancelled whose workflow no longer waits for them.
    Raises RPCError, RuntimeError, TimeoutError while Temporal is unavailable.
    """
    changed = 0
    for job in await _fetch(Job.objects.unstarted(MIN_AGE).order_by("created_at")[:100]):
        try:
            if not await control.start(job):
                return changed  # Temporal is unavailable: the others would wait just as long
            changed += 1
        except Exception:
            log.exception("job %s could not be started", job.pk)
    started = await _fetch(Job.objects.active().exclude(workflow_started_at=None))
    suspects = await _not_running(started) if started else []
    for first in range(0, len(suspects), CONCURRENCY):
        batch = suspects[first : first + CONCURRENCY]
        changed += sum(await asyncio.gather(*(_settle(job, engine) for job in batch)))
    return changed


@sync_to_async
@fresh_connections()
def _fetch(jobs: JobQuerySet) -> list[Job]:
    return list(jobs)


async def _not_running(jobs: list[Job]) -> list[Job]:
    """Those that Temporal doesn't list as running: one question for all, however many there are."""
    client = await temporal.client()
    running: set[str] = set()
    async with asyncio.timeout(30):
        async for found in client.list_workflows(RUNNING, rpc_timeout=timedelta(seconds=5)):
            running.add(found.id)
    return [job for job in jobs if job.workflow_id not in running]


async def _settle(job: Job, engine: IttybitClient | None) -> bool:
    """Settles a job whose workflow is over although its row says otherwise; whether it did."""
    try:
        return await _settle_or_raise(job, engine)
    except Exception:
        log.exception("job %s could not be settled", job.pk)
        return False


async def _settle_or_raise(job: Job, engine: IttybitClient | None) -> bool:
    client = await temporal.client()
    try:
        description = await control.handle(client, job).describe(rpc_timeout=timedelta(seconds=2))
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            return False
        return await _close(job, FORGOTTEN, engine)
    if description.status in (None, WorkflowExecutionStatus.RUNNING):
        return False
    last = await description.memo_value("status", None, type_hint=PipelineStatus)
    if last and last.state in FINISHED:
        run = int(await description.memo_value("run", 1))
        return await sync_to_async(job.record)(last, [], run)
    how = (description.status.name or "closed").lower().replace("_", " ")
    return await _close(job, TERMINATED.format(how=how), engine)


async def _close(job: Job, error: str, engine: IttybitClient | None) -> bool:
    """Settles the row as failed, and cancels the tasks whose results no workflow will read."""
    stages = job.stages.filter(state=StageState.RUNNING).exclude(task_id="")
    tasks = [task_id async for task_id in stages.values_list("task_id", flat=True)]
    if not await sync_to_async(job.close)(JobState.FAILED, error):
        return False
    if engine:
        for task_id in tasks:
            with contextlib.suppress(replies.IttybitError):
                await engine.cancel(task_id)
    return True
