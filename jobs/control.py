"""The verbs of a job: start, retry, cancel, force a restart, rename. To delete one: jobs.removal.deleting.

Whoever acts, on a page, in bulk, by a command or in the back office, acts through these. What a person asks
for is a wish in the row first and is delivered after that: at once if possible, else by jobs.reconcile. Every
call has a deadline, and every failure becomes a sentence. Who owns a job's state is in docs/durability.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from enum import Enum, auto

from asgiref.sync import sync_to_async
from django.db import transaction
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus

from jobs import trouble, workflow_calls
from jobs.live import reader
from jobs.models import Job
from jobs.models.job import CLAIM_TIME
from jobs.models.removal import UNDER_WAY, Removal, SourceGone
from jobs.models.wish import CANCEL, FORCE_RESTART, RETRY, Wish
from jobs.state import FINISHED, JobState, PipelineStatus, StageState
from jobs.workflow_calls import JUST_ENDED, deliver, describe, handle, temporal_call
from jobs.workflow_calls import NotPossible as NotPossible
from jobs.workflow_calls import Refused as Refused
from jobs.workflow_calls import TemporalUnavailable as TemporalUnavailable
from mediapipe import temporal
from mediapipe.accounts.audit import Act

CLOSING_INTERVAL = 0.05  # seconds between two looks at a run that is about to close
CLOSING_PATIENCE = 2.0  # seconds in which such a run should have closed
QUEUED_NOTE = "Waiting for the workflow service. Starts automatically."
CLOSING_NOTE = "Waiting for the previous run to end. Starts automatically."
RETRY_IF_FAILED = "This job is just ending. If it has failed, your retry starts it again."
CONTINUES = "This job can continue by itself, so it wasn’t ended."
BEING_DELETED = "This job is being deleted."
JOB_DELETED = "This job has been deleted."
NOTHING_TO_CANCEL = {  # why there is nothing to cancel
    JobState.SUCCEEDED: "This job is already done.",
    JobState.FAILED: "This job has already failed.",
    JobState.CANCELLED: "This job is already cancelled.",
}


class Seen(Enum):
    """What Temporal has seen of a job's run."""

    NEVER = auto()
    CLOSING = auto()  # the run before it is still open
    STARTED = auto()


async def start(job: Job) -> bool:
    """Starts the job's workflow, exactly once however often it is called; False: Temporal is unavailable.

    Only who has claimed the row starts it. The claim stays where the answer is lost, because Temporal may
    start the workflow yet: a cancel is then decided when Temporal answers again.
    """
    with contextlib.suppress(Job.DoesNotExist):
        return await _start(job)
    return True  # deleted meanwhile: there is nothing to start


async def _start(job: Job) -> bool:
    await job.arefresh_from_db()
    if not job.active or job.workflow_started_at:
        return True
    plan = await sync_to_async(job.workflow_input)()
    refusal = ""
    try:
        async with temporal_call(QUEUED_NOTE) as client:
            seen = await _look_for(client, job)
            began = time.monotonic()
            if seen == Seen.NEVER and await sync_to_async(job.claim)():
                if time.monotonic() - began > workflow_calls.CALL_SECONDS:
                    raise TimeoutError  # this process was stopped meanwhile: somebody else may have decided
                refusal = await workflow_calls.request_start(client, job, plan)
                seen = Seen.STARTED
    except (NotPossible, TemporalUnavailable):
        await sync_to_async(job.explain_wait)(QUEUED_NOTE)
        return False
    if refusal:  # about this job alone: waiting would not help it, and would hold up the others
        await sync_to_async(job.close)(JobState.FAILED, f"This job couldn’t be started: {refusal}.")
    elif seen == Seen.STARTED:
        await _mark_started(job)
    elif seen == Seen.CLOSING:
        await sync_to_async(job.explain_wait)(CLOSING_NOTE)
    elif job.cancelling:
        actor = next((wish.actor for wish in job.wishes if wish.kind == CANCEL), "")
        await sync_to_async(job.cancel_unstarted)(actor, unclaimed_for=CLAIM_TIME)
    await job.arefresh_from_db()
    return True


async def _mark_started(job: Job) -> None:
    """Records that the workflow runs, and gives it what was asked for while it was being started."""
    started = await sync_to_async(job.mark_started)()
    await job.arefresh_from_db()
    wishes = job.wishes if started else [Wish(CANCEL, "", run=job.run)]
    for wish in (wish for wish in wishes if wish.kind in workflow_calls.SENDERS):
        with contextlib.suppress(NotPossible, TemporalUnavailable):  # jobs.reconcile comes back to it
            await deliver(job, wish)


async def _look_for(client: Client, job: Job) -> Seen:
    """Whether Temporal has seen this very run of the job.

    The run before it records its end a moment before it closes. It is waited for: until then Temporal would
    take a start for one of that run. One that has said its end, or can't, and doesn't close is ended.
    """
    until = time.monotonic() + CLOSING_PATIENCE
    while True:
        found, run = await describe(client, job)
        if found is None or (run < job.run and found.status != WorkflowExecutionStatus.RUNNING):
            return Seen.NEVER
        if run >= job.run:
            return Seen.STARTED
        if time.monotonic() > until:
            with workflow_calls.unless_closed():  # meanwhile, which the next look finds
                if not await _ends(client, job, found):
                    return Seen.CLOSING
        await asyncio.sleep(CLOSING_INTERVAL)


async def _ends(client: Client, job: Job, found: WorkflowExecutionDescription) -> bool:
    """Ends a run that has said its end, or can't; one that still works is cancelled and not ended: False."""
    before = handle(client, job, found.run_id)
    last = await found.memo_value("status", None, type_hint=PipelineStatus)
    over = last is not None and last.state in FINISHED
    if over or await trouble.of(client, found):
        await before.terminate("its end is recorded", rpc_timeout=temporal.RPC_TIMEOUT)
        return True
    if not trouble.is_awaited(found):
        await before.cancel(reason="\nThe job was started again", rpc_timeout=temporal.RPC_TIMEOUT)
    return False


async def end_run_before(job: Job) -> None:
    """Ends a run that waits for a person though the row is at another. Raises TemporalUnavailable."""
    with contextlib.suppress(NotPossible):
        async with temporal_call(QUEUED_NOTE) as client:
            found, run = await describe(client, job)
            if found and run < job.run and found.status == WorkflowExecutionStatus.RUNNING:
                before = handle(client, job, found.run_id)
                await before.cancel(reason="\nAnother source", rpc_timeout=temporal.RPC_TIMEOUT)


async def reread(job: Job) -> None:
    """The row as it is now. Raises Refused where it is gone: somebody else has deleted the job meanwhile."""
    try:
        await job.arefresh_from_db()
    except Job.DoesNotExist:
        raise Refused(JOB_DELETED) from None
    if job.trashed_at:
        raise Refused(JOB_DELETED)


async def retry(job: Job, stage: str | None, actor: str, reason: str = "") -> str:
    """Runs a failed *stage* (or all that failed) again; returns a sentence.

    A closed job is started again, with its finished outputs carried over.
    Raises NotPossible; TemporalUnavailable, where the wish is kept.
    """
    await reread(job)
    if job.state == JobState.QUEUED:
        raise NotPossible("This job hasn’t started yet.")
    if not job.active:
        return await start_again(job, actor, reason)
    row = await job.stages.filter(name=stage).afirst() if stage else None
    # one retry per failure: a double click is answered like the first
    seen = f"{row.tries}-{row.finished_at and row.finished_at.timestamp()}" if row else job.seq
    key = f"retry-{stage or 'all'}-{seen}"
    wish = Wish(RETRY, actor, reason[:500], job.run, key, stage or "", row.tries if row else None)
    failed = job.stages.filter(state=StageState.FAILED, **({"name": stage} if stage else {}))
    if not await failed.aexists():  # its workflow may know better; if it can't say, nothing is promised
        try:
            sentence = await deliver(job, wish)
        except TemporalUnavailable as error:
            if str(error) in workflow_calls.PROMISES:
                raise NotPossible("Nothing has failed here, so there’s nothing to retry.") from None
            raise
        await sync_to_async(job.recorded)(Act.RETRY, actor, wish.text)
        return sentence
    if not await sync_to_async(job.keep_wish)(wish):
        raise NotPossible(JUST_ENDED)
    try:
        return await deliver(job, wish)
    except workflow_calls.Ended:
        raise Refused(RETRY_IF_FAILED) from None


@contextlib.contextmanager
def source_is_wanted() -> Iterator[None]:
    """Around what queues a job again. Raises NotPossible where it needs a source that was removed."""
    try:
        yield
    except SourceGone as error:
        raise NotPossible(str(error)) from None


async def going(job: Job) -> NotPossible | None:
    """Why a closed job can't be queued again: it, or files of it, are being removed; else None."""
    if job.being_deleted:
        return Refused(BEING_DELETED)
    return NotPossible(UNDER_WAY) if await sync_to_async(Removal.is_under_way)(job) else None


async def start_again(job: Job, actor: str, reason: str = "") -> str:
    """Starts a closed job again; returns a sentence. Raises NotPossible."""
    with source_is_wanted():
        started = await sync_to_async(job.start_again)(actor, reason)
    if not started:
        await reread(job)
        if job.state == JobState.SUCCEEDED:
            raise NotPossible("This job is done, so there’s nothing to retry.")
        raise await going(job) or NotPossible("Someone else has just restarted this job.")
    await reread(job)
    reader.invalidate(job)
    if not await start(job):
        return "It will restart as soon as the workflow service is back."
    return "Restarted. Finished outputs were kept."


async def cancel(job: Job, actor: str, reason: str = "") -> str:
    """Cancels the job; returns a sentence. Raises as retry() does."""
    await reread(job)
    if not job.active:
        raise NotPossible(NOTHING_TO_CANCEL[JobState(job.state)])
    if await sync_to_async(job.cancel_unstarted)(actor):
        return "Cancelled before it started."
    wish = Wish(CANCEL, actor, reason[:500], job.run)
    if not await sync_to_async(job.keep_wish)(wish):
        raise NotPossible(JUST_ENDED)
    return await deliver(job, wish)


async def force_restart(job: Job, actor: str, reason: str = "") -> str:
    """Has a workflow that can't continue ended, and the job started again; returns a sentence.

    The reconciler does it, since the workflow's tasks are to be stopped too, and looks again whether the
    workflow can't continue. Raises NotPossible.
    """
    await reread(job)
    with contextlib.suppress(workflow_calls.Ended, TemporalUnavailable):
        async with temporal_call(QUEUED_NOTE) as client:
            found, run = await describe(client, job)
            runs = found and run == job.run and found.status == WorkflowExecutionStatus.RUNNING
            if found and runs and await trouble.of(client, found) is None:
                raise NotPossible(CONTINUES)
    wish = Wish(FORCE_RESTART, actor, reason[:500], job.run)
    if not job.workflow_started_at or not await sync_to_async(job.keep_wish)(wish):
        raise NotPossible("This job isn’t running, so there’s nothing to end.")
    reader.invalidate(job)
    return "Restarting within a few seconds. Finished outputs are kept."


async def rename(job: Job, title: str, actor: str, reason: str = "") -> str:
    """Gives the job another title; returns a sentence. Raises NotPossible."""
    title = " ".join(title.split())[:300]
    if not title:
        raise NotPossible("Write a title.")
    await reread(job)
    if title != job.title:
        await sync_to_async(_rename)(job, title, actor)
    return "Renamed."


@transaction.atomic
def _rename(job: Job, title: str, actor: str) -> None:
    Job.objects.filter(pk=job.pk).update(**job.found_by(title=title))
    text = f"Renamed from “{job.title}” to “{title}”"
    job.add_event("renamed", actor=actor, text=f"Renamed from “{job.title}”")
    job.recorded(Act.RENAME, actor, text)
