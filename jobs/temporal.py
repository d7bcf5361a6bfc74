"""The one door from Django to Temporal: start, retry, cancel, hint.

Every call has a deadline, and what a person reads when Temporal is away is decided here. Reading a
running job is jobs.live, keeping rows and workflows in step is jobs.reconcile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import timedelta

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core import signing
from temporalio.client import (
    Client,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from jobs import activities, ittybit, replies
from jobs.live import Live, forget, live
from jobs.messages import RetryRequest
from jobs.models import Job
from jobs.pipelines import JobState, PipelineStatus
from jobs.workflows import MediaPipeline
from mediapipe import cluster

__all__ = [
    "Live",
    "Refused",
    "Unavailable",
    "cancel",
    "hint",
    "live",
    "retry",
    "start",
]

log = logging.getLogger(__name__)

TASK_QUEUE = "media-pipeline"
SOON = timedelta(seconds=3)
AWAY = "Temporal cannot be reached, so this job waits. It starts by itself when Temporal is back."


class Refused(Exception):
    """What was asked for is not possible as things stand; the sentence says why."""


class Unavailable(Exception):
    """Temporal, or its worker, is away; the sentence says what that means for the wish."""


def handle(client: Client, job: Job) -> WorkflowHandle[MediaPipeline, PipelineStatus]:
    """The job's workflow, whichever run is the latest."""
    return client.get_workflow_handle_for(MediaPipeline.run, job.workflow_id)


async def start(job: Job) -> bool:
    """Starts the job's workflow, exactly once however often it is called; False while Temporal is away."""
    client = await cluster.client()
    plan = await sync_to_async(job.workflow_input)()
    try:
        async with asyncio.timeout(5):
            if not await _already_ran(client, job):
                with contextlib.suppress(WorkflowAlreadyStartedError):
                    await client.start_workflow(
                        MediaPipeline.run,
                        plan,
                        id=job.workflow_id,
                        task_queue=TASK_QUEUE,
                        memo={"run": job.run, "title": job.title},
                        static_summary=job.title[:200],
                        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE
                        if job.run > 1
                        else WorkflowIDReusePolicy.REJECT_DUPLICATE,
                        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                        priority=cluster.turns(plan.submitted_by),
                        rpc_timeout=SOON,
                    )
    except (RPCError, RuntimeError, TimeoutError) as error:
        if isinstance(error, RPCError) and error.status == RPCStatusCode.INVALID_ARGUMENT:
            # this job's own fault: waiting would not help it, and would hold up the others
            await sync_to_async(job.close)(JobState.FAILED, f"Temporal refused this job: {error.message}.")
            await job.arefresh_from_db()
            return True
        await sync_to_async(job.explain_wait)(AWAY)
        return False
    if not await sync_to_async(job.mark_started)():  # cancelled a moment before
        await handle(client, job).cancel(rpc_timeout=SOON)
    await job.arefresh_from_db()
    return True


async def _already_ran(client: Client, job: Job) -> bool:
    """Whether this very run of a job that was started again exists already, closed or not."""
    if job.run == 1:
        return False  # Temporal itself refuses a second start
    try:
        description = await handle(client, job).describe(rpc_timeout=SOON)
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return False
        raise
    return bool(await description.memo_value("run", 1) == job.run)


async def retry(job: Job, stage: str | None, actor: str, reason: str = "") -> str:
    """Runs a failed *stage* (or all that failed) again; answers with a sentence.

    A closed job is started again, with its finished outputs carried over. Raises Refused, Unavailable.
    """
    await job.arefresh_from_db()
    if job.state == JobState.QUEUED:
        raise Refused("This job has not started yet, so there is nothing to retry.")
    if not job.active:
        return await _start_again(job, actor, reason)
    row = await job.stages.filter(name=stage).afirst() if stage else None
    request = RetryRequest(stage or "", actor, reason[:500], row.tries if row else None)
    # one retry per failure: a double click is answered like the first
    seen = f"{row.tries}-{row.finished_at and row.finished_at.timestamp()}" if row else job.seq
    client = await cluster.client()
    try:
        async with asyncio.timeout(5):
            labels = await handle(client, job).execute_update(
                MediaPipeline.retry_stage,
                request,
                id=f"retry-{stage or 'all'}-{seen}",
                rpc_timeout=SOON,
            )
    except WorkflowUpdateFailedError as error:
        raise Refused(_said(error.cause)) from None
    except WorkflowUpdateRPCTimeoutOrCancelledError:
        raise Unavailable("No worker answered; your retry will be applied when one is back.") from None
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            raise Refused("This job has just ended. Reload the page to see how.") from None
        raise Unavailable("Temporal cannot be reached. Try again in a moment.") from None
    except (RuntimeError, TimeoutError):
        raise Unavailable("Temporal cannot be reached. Try again in a moment.") from None
    forget(job)
    return f"{' and '.join(labels)}: trying again."


def _said(cause: BaseException | None) -> str:
    text = cause.message if isinstance(cause, ApplicationError) else str(cause)
    return text.removeprefix("ValueError: ")


async def _start_again(job: Job, actor: str, reason: str) -> str:
    if not await sync_to_async(job.start_again)(actor, reason):
        await job.arefresh_from_db()
        if job.state == JobState.SUCCEEDED:
            raise Refused("This job is done: there is nothing to retry.")
        raise Refused("This job has just been started again by somebody else.")
    await job.arefresh_from_db()
    forget(job)
    if not await start(job):
        return f"The job will start again. {AWAY}"
    return "The job was started again; its finished outputs are kept."


async def cancel(job: Job, actor: str, reason: str = "") -> str:
    """Cancels the job; answers with a sentence. Raises Refused, Unavailable."""
    await job.arefresh_from_db()
    if not job.active:
        raise Refused(f"This job has already ended ({job.state}), so there is nothing to cancel.")
    if await sync_to_async(job.cancel_unstarted)(actor):
        return "Cancelled before it started."
    client = await cluster.client()
    try:
        async with asyncio.timeout(5):
            await handle(client, job).cancel(reason=f"{actor}\n{reason[:500]}", rpc_timeout=SOON)
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            raise Refused("This job has just ended. Reload the page to see how.") from None
        raise Unavailable("Temporal cannot be reached, so the job goes on. Try again in a moment.") from None
    except (RuntimeError, TimeoutError):
        raise Unavailable("Temporal cannot be reached, so the job goes on. Try again in a moment.") from None
    await sync_to_async(job.mark_cancelling)()
    forget(job)
    return "Cancelling: the encoder is being stopped."


async def hint(token: str) -> bool:
    """A webhook says that a task is over: looks for itself, and spares the poller its wait.

    The body is never read. False for a token that isn't ours. A hint that comes early, late or twice
    changes nothing: polling is the guarantee.
    """
    try:
        job_id, stage, activity_id = signing.loads(token, salt=activities.HOOK_SALT)
    except (signing.BadSignature, ValueError):
        return False
    client = await cluster.client()
    workflow_id = f"media-{job_id}"
    with contextlib.suppress(
        RPCError, RuntimeError, TimeoutError, KeyError, WorkflowQueryFailedError, replies.IttybitError
    ):
        async with asyncio.timeout(10):
            run = client.get_workflow_handle_for(MediaPipeline.run, workflow_id)
            task_id = (await run.query(MediaPipeline.status, rpc_timeout=SOON)).stage(stage).task_id
            if task_id is None:
                return True
            async with ittybit.connection(settings.ITTYBIT_API_URL, settings.ITTYBIT_API_KEY) as http:
                task = await ittybit.Client(http, settings.ITTYBIT_RESOURCE).read(task_id)
            if not task.terminal or (task.state == replies.TaskState.SUCCEEDED and not task.output):
                return True  # the poller looks again for an output that is named a moment later
            waiting = client.get_async_activity_handle(
                workflow_id=workflow_id, run_id=None, activity_id=activity_id
            )
            try:
                await waiting.complete(activities.outcome(task), rpc_timeout=SOON)
            except ApplicationError as error:
                await waiting.fail(error, rpc_timeout=SOON)
    return True
