"""Whether a workflow can't continue, and why: what Temporal says of workflow tasks that fail again and again.

A workflow whose code fails (a result that it can't read, a deploy that doesn't fit its history) is tried by
Temporal for ever, and takes no query, no update and no cancel meanwhile. It knows no jobs and no pages.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import GetWorkflowExecutionHistoryReverseRequest
from temporalio.client import Client, WorkflowExecutionDescription

ATTEMPTS = 3  # of one workflow task after which Temporal itself answers no more queries
MAX_EVENTS = 100  # of the history's end, in which the failure is looked for
MAX_LOST_ATTEMPTS = 6  # after which no more workers are blamed that were lost or slow: a minute and a half
UNANSWERED = "no worker has answered in time, {attempts} times in a row; its log may say why"


@dataclass(frozen=True)
class Trouble:
    """Since when the workflow fails, and Temporal's own words for why ("" where they are unknown)."""

    since: datetime
    why: str = ""


def is_awaited(description: WorkflowExecutionDescription) -> bool:
    """Whether this workflow has something to do that no worker has done yet: its own end, perhaps."""
    return description.raw_description.HasField("pending_workflow_task")


async def of(client: Client, description: WorkflowExecutionDescription) -> Trouble | None:
    """What keeps this workflow from continuing; None where nothing does, or only workers are missing.

    Raises RPCError.
    """
    pending = description.raw_description.pending_workflow_task
    if pending.attempt < ATTEMPTS:
        return None
    answer = await client.workflow_service.get_workflow_execution_history_reverse(
        GetWorkflowExecutionHistoryReverseRequest(
            namespace=client.namespace,
            execution=WorkflowExecution(workflow_id=description.id, run_id=description.run_id or ""),
            maximum_page_size=MAX_EVENTS,
        ),
        timeout=timedelta(seconds=1),
    )
    return of_events(answer.history.events, pending.attempt)


def of_events(newest_first: Iterable[HistoryEvent], attempt: int) -> Trouble | None:
    """What the end of a history says of a workflow task that is at this *attempt*.

    Of a row of attempts only the first one's end is in the history, and the SDK reports no other's failure:
    where the first one lost its worker, those that fail after it look as if they had lost theirs, too.
    """
    for event in newest_first:
        at = event.event_time.ToDatetime(UTC)
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
            return Trouble(at, event.workflow_task_failed_event_attributes.failure.message)
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT:
            return (
                Trouble(at, UNANSWERED.format(attempts=attempt - 1)) if attempt >= MAX_LOST_ATTEMPTS else None
            )
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            return None
    return None
