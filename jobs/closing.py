"""Ends what can't go on: a workflow, the tasks whose results nobody will read, and then the row.

It decides nothing: jobs.reconcile says which job ends, and how. It knows no pages and no wishes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from uuid import UUID

from asgiref.sync import sync_to_async
from temporalio.client import Client, WorkflowExecutionStatus

from jobs import trouble, workflow_calls
from jobs.ittybit import replies
from jobs.ittybit.client import IttybitClient
from jobs.models import Job
from jobs.state import JobState, StageState
from jobs.workflow import watch

PATIENCE = 300.0  # seconds for which an engine that is away is waited for: the row knows the tasks until then
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
        PATIENCE. After that, and where the engine answers nothing of use, the row says so and ends.
        """
        rows = job.stages.filter(state=StageState.RUNNING).exclude(task_id="")
        tasks = [task_id async for task_id in rows.values_list("task_id", flat=True)]
        problem = await self.cancel_tasks(tasks)
        if problem and problem.outage:
            since = _away_since.setdefault(job.pk, time.monotonic())
            if time.monotonic() - since < PATIENCE:
                return False
        _away_since.pop(job.pk, None)
        if problem and receipt:
            receipt = f"{receipt} {UNSTOPPED}"
        elif problem:
            error = f"{error} {UNSTOPPED}"
        return await sync_to_async(job.close)(state, error, receipt)

    async def cancel_tasks(self, tasks: Iterable[str]) -> replies.IttybitError | None:
        """Why the engine has not answered for each of them; None where it has. Ends at the first outage."""
        problem = None
        if self.engine is None:
            return None
        for task_id in tasks:
            try:
                await watch.cancel_and_remove(self.engine, task_id)
            except replies.IttybitError as error:
                problem = problem if error.permanent else error
                if error.outage:
                    break
        return problem

    async def terminate(self, job: Job, *, only_in_trouble: bool) -> bool:
        """Ends the workflow of this run in Temporal, where it runs; whether it did. Raises RPCError."""
        found, run = await workflow_calls.describe(self.client, job)
        if found is None or run != job.run or found.status != WorkflowExecutionStatus.RUNNING:
            return False
        if only_in_trouble and not await trouble.of(self.client, found):
            return False
        await workflow_calls.handle(self.client, job, found.run_id).terminate("it couldn't continue")
        return True
