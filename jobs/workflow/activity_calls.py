"""The activities as the workflow calls them: name, task queue, timeouts, retries. Deterministic.

By name, because the activities' own module imports Django, which the workflow must not. When to call
which, and what a failure means, is decided elsewhere (stage_run, failures).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, FailureError
from temporalio.workflow import ActivityCancellationType

with workflow.unsafe.imports_passed_through():
    from jobs import state
    from jobs.pipelines import StageDefinition, allowed_seconds
    from jobs.requests import (
        Cancellation,
        HeartbeatDetails,
        KeepRequest,
        RecordRequest,
        TaskRequest,
        TaskWatch,
    )
    from jobs.state import Output, Source

NO_RETRIES = RetryPolicy(maximum_attempts=1)  # attempts are counted in the workflow
RETRY_FOREVER = RetryPolicy(initial_interval=timedelta(seconds=0.5), maximum_interval=timedelta(seconds=10))
COPY = RetryPolicy(initial_interval=timedelta(seconds=2), maximum_attempts=5)
QUICK = timedelta(seconds=2)  # less than a worker that shuts down waits for its activities
IN_QUEUE = timedelta(days=7)  # waiting for an encoder counts against no limit of the stage


def _control_queue() -> str:
    """Where short activities run, which never wait behind the stages."""
    return workflow.info().task_queue + state.CONTROL


async def create_task(request: TaskRequest, label: str) -> str:
    """Creates a task at the engine; its id. Once begun it is awaited, even when the stage is cancelled."""
    creating = workflow.start_activity(
        state.CREATE_TASK,
        request,
        result_type=str,
        activity_id=f"create-{request.activity_id}",
        task_queue=_control_queue(),
        start_to_close_timeout=timedelta(seconds=30),
        retry_policy=NO_RETRIES,
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        summary=f"create the task of {label}",
    )
    if workflow.patched("no-cancel-reaches-a-creation"):
        with suppress(asyncio.CancelledError):  # the stage's; the SDK would lose an id that came with it
            return str(await asyncio.shield(creating))
    return str(await creating)


async def await_task(
    stage: StageDefinition,
    task_id: str,
    source: Source,
    duration: float | None,
    *,
    activity_id: str,
    heartbeat_timeout: float,
    attempt: int,
    seen: HeartbeatDetails | None,
    engine: str,
    asked_at: float,
) -> Output:
    """Runs the stage's own activity, which ends with its task; the task's output.

    *source* is what the task works on, *duration* its seconds where they are known, *seen* what was last
    reported of it, *asked_at* when it was asked for, 0 where that was before another such activity.
    """
    allowed = allowed_seconds(stage, duration, source.size)
    unmeasured = source if duration is None and source.size is None else None
    watch = TaskWatch(task_id, allowed, stage.timeout, unmeasured, seen, engine, asked_at)
    output: Output = await workflow.execute_activity(
        stage.activity,
        watch,
        result_type=Output,
        activity_id=activity_id,
        start_to_close_timeout=timedelta(seconds=watch.allowed) + IN_QUEUE,
        heartbeat_timeout=timedelta(seconds=heartbeat_timeout),
        retry_policy=NO_RETRIES,
        cancellation_type=ActivityCancellationType.TRY_CANCEL,
        summary=f"{stage.label}, attempt {attempt}",
    )
    return replace(output, kind=output.kind or stage.output_kind)


async def copy_output(request: KeepRequest, label: str, *, heartbeat_timeout: float) -> Output:
    """Copies an output of the API into our storage, because its URL may expire; the copy."""
    copy: Output = await workflow.execute_activity(
        state.KEEP_OUTPUT,
        request,
        task_queue=workflow.info().task_queue + state.TRANSFERS,
        result_type=Output,
        start_to_close_timeout=timedelta(hours=6),
        heartbeat_timeout=timedelta(seconds=heartbeat_timeout),
        retry_policy=COPY,
        summary=f"copy the output of {label}",
    )
    return copy


async def cancel_task(task_id: str, engine: str) -> Cancellation | None:
    """Cancels a task at the *engine*; None where the engine didn't answer within a minute."""
    return await _cancel(state.CANCEL_TASK, task_id, engine)


async def cancel_unanswered(key: str, engine: str) -> Cancellation | None:
    """The same for what the request with that *key* may have created: its answer never came."""
    return await _cancel(state.CANCEL_UNANSWERED, key, engine)


async def _cancel(activity: str, what: str, engine: str) -> Cancellation | None:
    try:
        result: Cancellation = await workflow.execute_activity(
            activity,
            args=[what, engine] if engine else [what],
            task_queue=_control_queue(),
            result_type=Cancellation,
            start_to_close_timeout=timedelta(seconds=20),
            schedule_to_close_timeout=timedelta(seconds=60),
            retry_policy=RETRY_FOREVER,
        )
    except ActivityError:
        return None
    return result


async def record(request: RecordRequest, *, locally: bool) -> None:
    """Writes a status and its events to the database, however long the database is unavailable.

    *locally*: at first as a local activity, which is one event in the history instead of six. It holds the
    workflow task, and with it queries and the next commands, so it gets QUICK and one try; then an ordinary
    activity waits for the database, whose retries take no room in the history at all.
    """
    if locally:
        try:
            await workflow.execute_local_activity(
                state.RECORD,
                request,
                schedule_to_close_timeout=QUICK,
                retry_policy=NO_RETRIES,
                summary="record",
            )
        except FailureError:  # the activity's own error, or that its time was over
            pass
        else:
            return
    await workflow.execute_activity(
        state.RECORD,
        request,
        task_queue=_control_queue(),
        start_to_close_timeout=timedelta(seconds=20),
        retry_policy=RETRY_FOREVER,
        summary="record",
    )
