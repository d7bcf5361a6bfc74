"""Moving a job to the front: what it waits for at the engine is given out next, before everybody else's.

Temporal gives out the tasks of a higher priority first; what runs is not interrupted, and later stages come
as those of any job. It knows no page.
"""

from __future__ import annotations

import asyncio

from asgiref.sync import sync_to_async
from google.protobuf.field_mask_pb2 import FieldMask
from temporalio.api.activity.v1 import ActivityOptions
from temporalio.api.common.v1 import Priority, WorkflowExecution
from temporalio.api.workflow.v1 import WorkflowExecutionOptions
from temporalio.api.workflowservice.v1 import (
    UpdateActivityOptionsRequest,
    UpdateWorkflowExecutionOptionsRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from jobs.fleet.pausing import SECONDS, TEMPORAL_UNAVAILABLE, NotPossible
from jobs.models import Job, Stage
from jobs.state import StageState
from mediapipe import temporal
from mediapipe.accounts import audit
from mediapipe.accounts.audit import Act

MOVED = "moved"  # what its line in the timeline is
FIRST = 1  # of Temporal's priorities, 1 to 5; short steps of begun jobs have 2, everything else 3
PRIORITY = FieldMask(paths=["priority.priority_key"])
NOTHING_WAITS = "Nothing of this job waits at the engine at the moment, so there is nothing to move."


async def move(job: Job, who: str, why: str) -> None:
    """Has what *job* waits for go first. Raises NotPossible."""
    stages = Stage.objects.filter(job=job, state=StageState.RUNNING).exclude(task_id="")
    tasks = await sync_to_async(lambda: list(stages.values_list("name", "task_id")))()
    client = await temporal.client()
    try:
        async with asyncio.timeout(SECONDS):
            moved = [stage for stage, task in tasks if await _first(client, task, who)]
    except (RPCError, RuntimeError, TimeoutError) as error:
        if not temporal.is_unavailable(error):
            raise
        raise NotPossible(TEMPORAL_UNAVAILABLE) from None
    if not moved:
        raise NotPossible(NOTHING_WAITS)
    await sync_to_async(_tell)(job, moved, who, why)


async def _first(client: Client, task: str, who: str) -> bool:
    """Whether a task of the engine is given out first now: it is over where this is False, or elsewhere."""
    flow = WorkflowExecution(workflow_id=task)
    later = UpdateWorkflowExecutionOptionsRequest(
        namespace=client.namespace,
        identity=who,
        update_mask=PRIORITY,
        workflow_execution=flow,
        workflow_execution_options=WorkflowExecutionOptions(priority=Priority(priority_key=FIRST)),
    )
    now = UpdateActivityOptionsRequest(
        namespace=client.namespace,
        identity=who,
        update_mask=PRIORITY,
        execution=flow,
        match_all=True,
        activity_options=ActivityOptions(priority=Priority(priority_key=FIRST)),
    )
    service = client.workflow_service
    try:
        # in this order: of a workflow that has the priority already, an activity in line isn't moved
        await service.update_activity_options(now, timeout=temporal.RPC_TIMEOUT)
        await service.update_workflow_execution_options(later, timeout=temporal.RPC_TIMEOUT)
    except RPCError as error:
        if error.status in (RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION):
            return False
        raise
    return True


def _tell(job: Job, stages: list[str], who: str, why: str) -> None:
    for stage in stages:
        text = f"Moved to the front: {why}" if why else "Moved to the front"
        job.add_event(MOVED, stage=stage, actor=who, text=text)
    audit.record(Act.MOVE_FIRST, who, key=job.pk, name=job.title, text=why)
