"""The verbs of a job against Temporal: start, retry, cancel.

Every call has a deadline, and every failure becomes a sentence for the person who pressed the button.
Reading running jobs is jobs.live, keeping rows and workflows in step is jobs.reconcile.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from asgiref.sync import sync_to_async
from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from jobs.live import reader
from jobs.models import Job
from jobs.state import TASK_QUEUE, JobState, PipelineInput, PipelineStatus, RetryRequest
from jobs.workflow.media_pipeline import MediaPipeline
from mediapipe import temporal

CLOSING_INTERVAL = 0.05  # seconds between two looks at a run that is about to close
CALL_SECONDS = 5  # for all calls of a verb to Temporal, retries included
QUEUED_NOTE = "Waiting for the workflow service. Starts automatically."
UNAVAILABLE = "The workflow service can’t be reached. Try again in a moment."
NOT_CANCELLED = "The workflow service can’t be reached, so the job continues. Try again in a moment."
NO_WORKER = "No worker is running. Your retry starts when one is back."
NOTHING_TO_CANCEL = {  # why there is nothing to cancel
    JobState.SUCCEEDED: "This job is already done.",
    JobState.FAILED: "This job has already failed.",
    JobState.CANCELLED: "This job is already cancelled.",
}


class NotPossible(Exception):
    """The request is not possible as things stand; the sentence says why."""


class TemporalUnavailable(Exception):
    """Temporal, or a worker, does not answer; the sentence says what that means for the request."""


@contextlib.asynccontextmanager
async def temporal_call(unavailable: str) -> AsyncIterator[Client]:
    """A block of calls to Temporal, with its client and a deadline.

    Raises NotPossible where the workflow is over, TemporalUnavailable(*unavailable*) where nothing answers.
    """
    client = await temporal.client()
    try:
        async with asyncio.timeout(CALL_SECONDS):
            yield client
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            raise NotPossible("This job has just ended. Reload the page to see how.") from None
        raise TemporalUnavailable(unavailable) from None
    except (RuntimeError, TimeoutError):
        raise TemporalUnavailable(unavailable) from None


def handle(client: Client, job: Job) -> WorkflowHandle[MediaPipeline, PipelineStatus]:
    """The job's workflow, whichever run is the latest."""
    return client.get_workflow_handle_for(MediaPipeline.run, job.workflow_id)


async def start(job: Job) -> bool:
    """Starts the job's workflow, exactly once however often it is called; False: Temporal is unavailable."""
    plan = await sync_to_async(job.workflow_input)()
    try:
        async with temporal_call(QUEUED_NOTE) as client:
            refusal = await _request_start(client, job, plan)
    except (NotPossible, TemporalUnavailable):
        await sync_to_async(job.explain_wait)(QUEUED_NOTE)
        return False
    if refusal:  # about this job alone: waiting would not help it, and would hold up the others
        await sync_to_async(job.close)(JobState.FAILED, f"This job couldn’t be started: {refusal}.")
    elif not await sync_to_async(job.mark_started)():  # cancelled a moment before
        await handle(client, job).cancel(rpc_timeout=temporal.RPC_TIMEOUT)
    await job.arefresh_from_db()
    return True


async def _request_start(client: Client, job: Job, plan: PipelineInput) -> str:
    """Starts the workflow where it has not run; answers why Temporal refuses this job, or nothing."""
    once = WorkflowIDReusePolicy.REJECT_DUPLICATE
    try:
        if await _already_ran(client, job):
            return ""
        await client.start_workflow(
            MediaPipeline.run,
            plan,
            id=job.workflow_id,
            task_queue=TASK_QUEUE,
            memo={"run": job.run, "title": job.title},
            static_summary=job.title[:200],
            id_reuse_policy=once if job.run == 1 else WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            priority=temporal.fairness_key(plan.submitted_by),
            rpc_timeout=temporal.RPC_TIMEOUT,
        )
    except WorkflowAlreadyStartedError:
        return ""
    except RPCError as error:
        if error.status != RPCStatusCode.INVALID_ARGUMENT:
            raise
        return error.message
    return ""


async def _already_ran(client: Client, job: Job) -> bool:
    """Whether this very run of a job that was started again exists already, closed or not.

    The run before it, which records its end a moment before it closes, is waited for: until then Temporal
    would take a start for one of that run, and the new run would never begin.
    """
    while job.run > 1:  # of a first run Temporal itself refuses a second start
        try:
            description = await handle(client, job).describe(rpc_timeout=temporal.RPC_TIMEOUT)
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return False
            raise
        if await description.memo_value("run", 1) == job.run:
            return True
        if description.status != WorkflowExecutionStatus.RUNNING:
            return False
        await asyncio.sleep(CLOSING_INTERVAL)
    return False


async def retry(job: Job, stage: str | None, actor: str, reason: str = "") -> str:
    """Runs a failed *stage* (or all that failed) again; returns a sentence.

    A closed job is started again, with its finished outputs carried over.
    Raises NotPossible, TemporalUnavailable.
    """
    await job.arefresh_from_db()
    if job.state == JobState.QUEUED:
        raise NotPossible("This job hasn’t started yet.")
    if not job.active:
        return await _start_again(job, actor, reason)
    row = await job.stages.filter(name=stage).afirst() if stage else None
    request = RetryRequest(stage or "", actor, reason[:500], row.tries if row else None)
    # one retry per failure: a double click is answered like the first
    seen = f"{row.tries}-{row.finished_at and row.finished_at.timestamp()}" if row else job.seq
    update_id = f"retry-{stage or 'all'}-{seen}"
    async with temporal_call(UNAVAILABLE) as client:
        try:
            labels = await handle(client, job).execute_update(
                MediaPipeline.retry_stage, request, id=update_id, rpc_timeout=temporal.RPC_TIMEOUT
            )
        except WorkflowUpdateFailedError as error:
            raise NotPossible(_why_rejected(error.cause)) from None
        except WorkflowUpdateRPCTimeoutOrCancelledError:
            raise TemporalUnavailable(NO_WORKER) from None
    reader.invalidate(job)
    return f"Retrying {' and '.join(labels)}."


def _why_rejected(cause: BaseException | None) -> str:
    """What the workflow answered to an update that it rejects."""
    text = cause.message if isinstance(cause, ApplicationError) else str(cause)
    return text.removeprefix("ValueError: ")


async def _start_again(job: Job, actor: str, reason: str) -> str:
    if not await sync_to_async(job.start_again)(actor, reason):
        await job.arefresh_from_db()
        if job.state == JobState.SUCCEEDED:
            raise NotPossible("This job is done, so there’s nothing to retry.")
        raise NotPossible("Someone else has just restarted this job.")
    await job.arefresh_from_db()
    reader.invalidate(job)
    if not await start(job):
        return "It will restart as soon as the workflow service is back."
    return "Restarted. Finished outputs were kept."


async def cancel(job: Job, actor: str, reason: str = "") -> str:
    """Cancels the job; returns a sentence. Raises NotPossible, TemporalUnavailable."""
    await job.arefresh_from_db()
    if not job.active:
        raise NotPossible(NOTHING_TO_CANCEL[JobState(job.state)])
    if await sync_to_async(job.cancel_unstarted)(actor):
        return "Cancelled before it started."
    async with temporal_call(NOT_CANCELLED) as client:
        await handle(client, job).cancel(reason=f"{actor}\n{reason[:500]}", rpc_timeout=temporal.RPC_TIMEOUT)
    await sync_to_async(job.mark_cancelling)()
    reader.invalidate(job)
    return "Cancel requested. Finished outputs are kept."
