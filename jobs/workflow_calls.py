"""What is sent to a job's workflow: the start, and what people asked for. Every call has a deadline.

It knows no states of rows: jobs.control decides what is sent when.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

from asgiref.sync import sync_to_async
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from jobs import trouble
from jobs.live import NO_WORKER_STATUSES, reader
from jobs.models import Job
from jobs.models.wish import CANCEL, RETRY, Wish
from jobs.requests import RetryRequest
from jobs.state import FINISHED, TASK_QUEUE, JobState, PipelineInput, PipelineStatus
from jobs.workflow import search_attributes
from jobs.workflow.media_pipeline import MediaPipeline
from mediapipe import temporal

CALL_SECONDS = 5  # for all calls of a verb to Temporal, retries included
RETRY_LATER = "The workflow service can’t be reached. Your retry starts when it’s back."
CANCEL_LATER = "The workflow service can’t be reached. Your cancel takes effect when it’s back."
CANCEL_TAKEN = "Cancel requested. Finished outputs are kept."
NO_WORKER = "No worker is running. Your retry starts when one is back."
PROMISES = (RETRY_LATER, NO_WORKER)  # of a retry that is kept
WORKFLOW_FAILING = "This job can’t continue, so it can’t take your retry. An admin can end it and restart it."
ENDING = "This job is ending"  # so begins what a workflow says whose end is near
JUST_ENDED = "This job has just ended. Reload the page to see how."


class NotPossible(Exception):
    """The request is not possible as things stand; the sentence says why."""


class Refused(NotPossible):
    """Not possible for a reason that is this job's own: its sentence is shown for each job of many."""


class Ended(NotPossible):
    """The run is over, or ending: what comes of a retry is decided when the job's row says how it ended."""


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
            raise Ended(JUST_ENDED) from None
        raise TemporalUnavailable(unavailable) from None
    except (RuntimeError, TimeoutError) as error:
        if not temporal.is_unavailable(error):
            raise
        raise TemporalUnavailable(unavailable) from None


@contextlib.contextmanager
def unless_closed() -> Iterator[None]:
    """A call to a workflow that may have closed a moment ago, which is no error then."""
    try:
        yield
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise


def handle(
    client: Client, job: Job, run_id: str | None = None
) -> WorkflowHandle[MediaPipeline, PipelineStatus]:
    """The job's workflow: of Temporal's *run_id*, or whichever is the latest."""
    return client.get_workflow_handle_for(MediaPipeline.run, job.workflow_id, run_id=run_id)


async def describe(client: Client, job: Job) -> tuple[WorkflowExecutionDescription | None, int]:
    """The job's latest workflow and which run of the job it is; None and 0 where Temporal knows none."""
    try:
        description = await handle(client, job).describe(rpc_timeout=temporal.RPC_TIMEOUT)
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return None, 0
        raise
    return description, int(await description.memo_value("run", 1))


async def last_status(client: Client, job: Job, found: WorkflowExecutionDescription) -> PipelineStatus | None:
    """What a workflow that is over said last, which its row may not have heard of; None: nothing.

    Its memo has its end. Where it has none, a worker answers a query as of one that runs, and knows more than
    the memo, which stands for it where none can. Raises RPCError.
    """
    noted = await found.memo_value("status", None, type_hint=PipelineStatus)
    if noted and noted.state in FINISHED:
        return noted  # without a worker that replays it
    try:
        return await handle(client, job, found.run_id).query(
            MediaPipeline.status, rpc_timeout=temporal.RPC_TIMEOUT
        )
    except RPCError as error:
        if error.status not in NO_WORKER_STATUSES:
            raise
    except WorkflowQueryFailedError:
        pass
    return noted


async def request_start(client: Client, job: Job, plan: PipelineInput, searchable: bool = True) -> str:
    """Starts the workflow where it has not run; answers why Temporal refuses this job, or nothing.

    *searchable*: with search attributes, where Temporal knows ours.
    """
    searchable = searchable and await temporal.knows_search_attributes(client, search_attributes.NAMES)
    found_by = (plan.submitted_by, job.pipeline, job.title, JobState.RUNNING)
    once = WorkflowIDReusePolicy.REJECT_DUPLICATE
    try:
        await client.start_workflow(
            MediaPipeline.run,
            replace(plan, searchable=searchable),
            id=job.workflow_id,
            task_queue=TASK_QUEUE,
            memo={"run": job.run, "title": job.title},
            search_attributes=search_attributes.of_job(*found_by) if searchable else None,
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
        if searchable:  # they may have been removed since
            return await request_start(client, job, plan, searchable=False)
        return error.message
    return ""


async def deliver(job: Job, wish: Wish) -> str:
    """Gives a kept wish, of a kind in GIVEN, to the job's workflow; returns a sentence.

    Raises NotPossible, where it is of no more use and is dropped, and TemporalUnavailable, where it is kept;
    a retry is kept where Ended is raised, too: a job that has failed is started again for it.
    """
    try:
        if wish.run != job.run:
            raise NotPossible(JUST_ENDED)
        sentence = await SENDERS[wish.kind](job, wish)
    except NotPossible as error:
        if wish.kind != RETRY or not isinstance(error, Ended):
            await sync_to_async(job.drop_wish)(wish)
        raise
    finally:
        reader.invalidate(job)
    return sentence


async def _this_run(client: Client, job: Job) -> WorkflowExecutionDescription | None:
    """The job's open workflow; None where it is yet to be started. Raises Ended where it is over."""
    description, run = await describe(client, job)
    if run < job.run and not job.workflow_started_at:
        return None
    if description is None or run != job.run or description.status != WorkflowExecutionStatus.RUNNING:
        raise Ended(JUST_ENDED)
    return description


async def _give_retry(job: Job, wish: Wish) -> str:
    request = RetryRequest(wish.stage, wish.actor, wish.reason, wish.tries)
    async with temporal_call(RETRY_LATER) as client:
        description = await _this_run(client, job)
        if description is None:
            raise TemporalUnavailable(RETRY_LATER)
        if await trouble.of(client, description):
            raise Refused(WORKFLOW_FAILING)
        try:
            labels = await handle(client, job, description.run_id).execute_update(
                MediaPipeline.retry_stage, request, id=wish.key, rpc_timeout=temporal.RPC_TIMEOUT
            )
        except WorkflowUpdateFailedError as error:
            raise rejection(error.cause) from None
        except WorkflowUpdateRPCTimeoutOrCancelledError:
            raise TemporalUnavailable(NO_WORKER) from None
    await sync_to_async(job.drop_wish)(wish)
    return f"Retrying {' and '.join(labels)}."


def rejection(cause: BaseException | None) -> NotPossible:
    """What the workflow answered to an update that it rejects; Ended where it is because its end is near."""
    text = cause.message if isinstance(cause, ApplicationError) else str(cause)
    text = text.removeprefix("ValueError: ")
    return Ended(text) if text.startswith(ENDING) else NotPossible(text)


async def _give_cancel(job: Job, wish: Wish) -> str:
    """One for a workflow that somebody is just starting stays in the row; who starts it delivers it."""
    async with temporal_call(CANCEL_LATER) as client:
        if description := await _this_run(client, job):
            reason = f"{wish.actor}\n{wish.reason}"
            workflow = handle(client, job, description.run_id)
            await workflow.cancel(reason=reason, rpc_timeout=temporal.RPC_TIMEOUT)
            await sync_to_async(job.drop_wish)(wish)
    return CANCEL_TAKEN


SENDERS = {RETRY: _give_retry, CANCEL: _give_cancel}  # the kinds of wishes that a workflow takes
