"""Ends what can't go on: a workflow, the tasks whose results nobody will read, and then the row.

And settles what has ended without a report. jobs.reconcile says which jobs to look at. It knows no pages.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from uuid import UUID

from asgiref.sync import sync_to_async
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus

from jobs import trouble, workflow_calls
from jobs.ittybit import replies
from jobs.ittybit.client import IttybitClient
from jobs.models import Job, Stage
from jobs.models.wish import FORCE_RESTART
from jobs.pipelines import task_key
from jobs.state import FINISHED, JobState, StageState, StageStatus
from jobs.workflow import watch

ENGINE_TIMEOUT = 300.0  # seconds for which an engine is waited for: the row knows the tasks until then
TERMINATED = (
    "This job was ended in Temporal ({how}), not from the dashboard. "
    "Restart it any time; finished outputs are kept."
)
HISTORY_GONE = (
    "Temporal has no record of this job: its history expired, or its database was replaced. "
    "Restart it any time; finished outputs are kept."
)
FORCED = "This run couldn’t continue, so it was ended. Finished outputs were kept."
CANCELLED_BY_FORCE = "Cancelled. This run couldn’t continue, so it was ended. Finished outputs were kept."
CANCELLED_AND_ENDED = "Cancelled. This run was ended in Temporal. Finished outputs were kept."
UNSTOPPED = "The engine couldn’t be reached, so its work may still finish."

_away_since: dict[UUID, float] = {}  # by job: since when (monotonic) the engine hasn't answered for its tasks


class Closing:
    """By Temporal's *client*, and the *engine*; without one no task is cancelled."""

    def __init__(self, client: Client, engine: IttybitClient | None) -> None:
        self.client = client
        self.engine = engine

    async def close(self, job: Job, state: JobState, error: str, receipt: str = "") -> bool:
        """Cancels the tasks whose results no workflow will read, then ends the row; whether it did.

        Only then: while the engine is away the row still knows the tasks, and the next round asks again, for
        ENGINE_TIMEOUT. After that, and where the engine answers nothing of use, the row says so and ends.
        """
        problem = await self.cancel_work(job, [stage async for stage in job.stages.all()])
        if problem and problem.outage:
            since = _away_since.setdefault(job.pk, time.monotonic())
            if time.monotonic() - since < ENGINE_TIMEOUT:
                return False
        _away_since.pop(job.pk, None)
        if problem and receipt:
            receipt = f"{receipt} {UNSTOPPED}"
        elif problem:
            error = f"{error} {UNSTOPPED}"
        return await sync_to_async(job.close)(state, error, receipt)

    async def cancel_work(
        self, job: Job, stages: Iterable[Stage | StageStatus]
    ) -> replies.IttybitError | None:
        """Cancels the tasks of the stages that run: by their keys, where nobody has heard of their ids.

        Why the engine has not answered for each of them; None where it has. Ends at the first outage.
        """
        problem = None
        if self.engine is None:
            return None
        running = [stage for stage in stages if stage.state == StageState.RUNNING]
        named = [self.engine.of(stage.engine).cancel(stage.task_id) for stage in running if stage.task_id]
        # the last one that was reported, and one that was being asked for since
        unnamed = [(s, s.tries + more) for s in running if not s.task_id for more in (0, 1)]
        keys = [
            self.engine.of(stage.engine).cancel_of_key(task_key(job.workflow_id, stage.name, number))
            for stage, number in unnamed
            if number
        ]
        for asked in [*named, *keys]:
            if problem and problem.outage:
                asked.close()
                continue
            try:
                await watch.removed(asked)
            except replies.IttybitError as error:
                problem = problem if error.permanent else error
        return problem

    async def settle(self, job: Job) -> bool:
        """Settles a job whose workflow is over although its row says otherwise; whether it did.

        Raises RPCError.
        """
        found, run = await workflow_calls.describe(self.client, job)
        if found is None:
            return await self.close(job, JobState.FAILED, HISTORY_GONE)
        if run < job.run:  # the start of this run was taken for one of the run before
            return await sync_to_async(job.requeue)()
        if found.status in (None, WorkflowExecutionStatus.RUNNING):
            return False
        if last := await workflow_calls.last_status(self.client, job, found):
            recorded = await sync_to_async(job.record)(last, [], run)
            if last.state in FINISHED:
                return recorded
        if any(wish.kind == FORCE_RESTART for wish in job.wishes):  # by whom it was ended, then killed
            return await self.close(job, JobState.FAILED, FORCED)
        if job.cancelling:
            return await self.close(job, JobState.CANCELLED, "", CANCELLED_AND_ENDED)
        how = (found.status.name or "closed").lower().replace("_", " ")
        return await self.close(job, JobState.FAILED, TERMINATED.format(how=how))

    async def end_where_it_cannot_cancel(self, job: Job) -> bool:
        """Ends a job whose workflow fails again and again, and so takes no cancel; whether it did.

        Raises RPCError.
        """
        found = await self.running(job)
        if found is None or not await self.terminate_in_trouble(job, found):
            return False
        return await self.close(job, JobState.CANCELLED, "", CANCELLED_BY_FORCE)

    async def running(self, job: Job) -> WorkflowExecutionDescription | None:
        """The workflow of this run, where it runs. Raises RPCError."""
        found, run = await workflow_calls.describe(self.client, job)
        runs = found is not None and run == job.run and found.status == WorkflowExecutionStatus.RUNNING
        return found if runs else None

    async def terminate_in_trouble(self, job: Job, found: WorkflowExecutionDescription) -> bool:
        """Ends a workflow that can't continue; False: it can. Raises RPCError."""
        if not await trouble.of(self.client, found):
            return False
        await workflow_calls.handle(self.client, job, found.run_id).terminate("it couldn't continue")
        return True
