"""Keeps rows and workflows in step: starts what never started, settles what ended behind our back.

It runs inside the worker, every few seconds, and is harmless to run twice at once. One job that
cannot be kept in step is logged and holds up no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import timedelta

from asgiref.sync import sync_to_async
from django.db import close_old_connections
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from jobs import control
from jobs.ittybit import replies
from jobs.ittybit.client import IttybitClient
from jobs.models import Job
from jobs.state import FINISHED, JobState, PipelineStatus, StageState
from jobs.uploads import intake
from mediapipe import temporal

log = logging.getLogger(__name__)

EVERY = 5.0  # seconds
AGE = timedelta(seconds=3)  # younger jobs are being started by the request that made them
AT_ONCE = 20  # jobs that Temporal is asked about at the same time
RUNNING = "WorkflowType = 'MediaPipeline' AND ExecutionStatus = 'Running'"
TERMINATED = (
    "The workflow was ended in Temporal ({how}), not from here. "
    "Retry starts it again; finished outputs are kept."
)
FORGOTTEN = (
    "Temporal no longer knows this job's workflow (its history expired, or its database was replaced). "
    "Retry starts it again; finished outputs are kept."
)


async def once(engine: IttybitClient | None = None) -> int:
    """One round; how many jobs were started or settled. Raises RPCError, RuntimeError: Temporal is away.

    *engine*: where the tasks of a job that was ended behind our back are stopped.
    """
    changed = 0
    for job in await _jobs(Job.objects.unstarted(AGE).order_by("created_at")[:100]):
        try:
            if not await control.start(job):
                return changed  # Temporal is away: the others would wait just as long
            changed += 1
        except Exception:
            log.exception("job %s could not be started", job.pk)
    started = await _jobs(Job.objects.active().exclude(workflow_started_at=None))
    suspects = await _not_running(started) if started else []
    for at in range(0, len(suspects), AT_ONCE):
        several = suspects[at : at + AT_ONCE]
        changed += sum(await asyncio.gather(*(_settle(job, engine) for job in several)))
    return changed


@sync_to_async
def _jobs(query: object) -> list[Job]:
    close_old_connections()
    return list(query)  # type: ignore[call-overload, no-any-return]


async def _not_running(jobs: list[Job]) -> list[Job]:
    """Those that Temporal doesn't list as running: one question for all, however many there are."""
    client = await temporal.client()
    running: set[str] = set()
    async with asyncio.timeout(30):
        async for found in client.list_workflows(RUNNING, rpc_timeout=timedelta(seconds=5)):
            running.add(found.id)
    return [job for job in jobs if job.workflow_id not in running]


async def _settle(job: Job, engine: IttybitClient | None) -> bool:
    """Settles a job whose workflow is over although its row says otherwise."""
    try:
        return await _settled(job, engine)
    except Exception:
        log.exception("job %s could not be settled", job.pk)
        return False


async def _settled(job: Job, engine: IttybitClient | None) -> bool:
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


async def _close(job: Job, why: str, engine: IttybitClient | None) -> bool:
    """Settles the row, and stops what nobody waits for any more."""
    stages = job.stages.filter(state=StageState.RUNNING).exclude(task_id="")
    tasks = [task_id async for task_id in stages.values_list("task_id", flat=True)]
    if not await sync_to_async(job.close)(JobState.FAILED, why):
        return False
    for task_id in tasks if engine else ():
        with contextlib.suppress(replies.IttybitError):
            await engine.cancel(task_id)  # type: ignore[union-attr]
    return True


async def forever(engine: IttybitClient) -> None:
    """Rounds until cancelled; a round that fails is logged and the next one tries again."""
    while True:
        try:
            await once(engine)
            await sync_to_async(intake.sweep)()
        except (RuntimeError, RPCError, TimeoutError):
            pass  # Temporal is away: the pages say so
        except Exception:
            log.exception("a round of keeping rows and workflows in step failed")
        await asyncio.sleep(EVERY)
