"""Ends what can't go on: a workflow, the tasks whose results nobody will read, and then the row.

It decides nothing: jobs.reconcile says which job ends, and how. It knows no pages and no wishes.
"""

from __future__ import annotations

from collections.abc import Iterable

from asgiref.sync import sync_to_async
from temporalio.client import Client, WorkflowExecutionStatus

from jobs import trouble, workflow_calls
from jobs.ittybit import replies
from jobs.ittybit.client import IttybitClient
from jobs.models import Job
from jobs.state import JobState, StageState
from jobs.workflow import watch


class Closing:
    """By Temporal's *client*, and the *engine*; without one no task is cancelled."""

    def __init__(self, client: Client, engine: IttybitClient | None) -> None:
        self.client = client
        self.engine = engine

    async def close(self, job: Job, state: JobState, error: str, receipt: str = "") -> bool:
        """Cancels the tasks whose results no workflow will read, then ends the row; whether it did.

        Only then: while the engine is away the row still knows the tasks, and the next round asks again.
        """
        rows = job.stages.filter(state=StageState.RUNNING).exclude(task_id="")
        tasks = [task_id async for task_id in rows.values_list("task_id", flat=True)]
        if not await self.cancel_tasks(tasks):
            return False
        return await sync_to_async(job.close)(state, error, receipt)

    async def cancel_tasks(self, tasks: Iterable[str]) -> bool:
        """Whether the engine has answered for each."""
        if self.engine is None:
            return True
        for task_id in tasks:
            try:
                await watch.cancel_and_remove(self.engine, task_id)
            except replies.IttybitError as error:
                if not error.permanent:
                    return False
        return True

    async def terminate(self, job: Job, *, only_in_trouble: bool) -> bool:
        """Ends the workflow of this run in Temporal, where it runs; whether it did. Raises RPCError."""
        found, run = await workflow_calls.describe(self.client, job)
        if found is None or run != job.run or found.status != WorkflowExecutionStatus.RUNNING:
            return False
        if only_in_trouble and not await trouble.of(self.client, found):
            return False
        await workflow_calls.handle(self.client, job, found.run_id).terminate("it couldn't continue")
        return True
