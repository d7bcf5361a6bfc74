"""The engine's queue is Temporal: a task is put into it once, and kept in step with it while it is there.

It knows rows and workflows, and nothing of FFmpeg.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import timedelta

from asgiref.sync import sync_to_async
from django.conf import settings
from django.utils import timezone
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError
from temporalio.common import Priority, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from mediapipe import storage, task_queues, temporal
from mediapipe.database import in_thread
from mediapipe.engine import piece_files
from mediapipe.engine.models import PIECES, EngineTask, Lane
from mediapipe.engine.task import drop_source
from mediapipe.engine.workflows import HEAVY_QUEUE, IMPORT_QUEUE, LIGHT_QUEUE, EngineTaskWorkflow
from mediapipe.recent import Recent

UNCHANGED_FOR = timedelta(seconds=30)  # of a row, after which its workflow is described
DESCRIBE_EVERY = 30.0  # seconds between two describes of a task's workflow
AWAY_FOR = 3.0  # seconds that a Temporal isn't asked for any task that has just not answered for one
TEMPORAL = "temporal"  # its place among the tasks that were described
STOPPED_ELSEWHERE = "This task was stopped in Temporal itself, so it has no output. Start it again."
TASK_UNKNOWN = "Temporal has no record of this task: its database was replaced. Start it again."
FORGOTTEN_AFTER = timedelta(minutes=10)  # that a row hasn't changed
FORGOTTEN_FOR = (
    600.0  # seconds between two rounds that miss its workflow: who waits for it reads it meanwhile
)
MOST_AT_ONCE = 100  # tasks that one round settles
QUEUES: dict[Lane, str] = {"import": IMPORT_QUEUE, "light": LIGHT_QUEUE, "heavy": HEAVY_QUEUE}
RUNNING = "WorkflowType = 'EngineTask' AND ExecutionStatus = 'Running'"
LATER_WEIGHT = 2.0  # turns of an owner's begun jobs for one of those that have yet to begin
STEPS_BEFORE = 2  # of begun jobs, that may wait in a queue: no more stand before whoever comes new
SHORT = 60.0  # seconds of a film of which a step is soon done
CANCEL_TIMEOUT = 6.0  # seconds that a cancel waits for the encoder to end
CACHE_SECONDS = 5.0  # that an answer about a queue is cached

_described: Recent[str, float] = Recent(2000)
_missed: dict[str, float] = {}  # tasks without a workflow: since when each round has missed it
_unpolled: Recent[str, tuple[float, bool]] = Recent(10)


def turn(task: EngineTask) -> Priority:
    """When a task's turn comes: owners take turns, and with each turn their begun jobs go on first."""
    if task.is_later:
        return temporal.fairness_key(task.owner, line="later", weight=LATER_WEIGHT)
    return temporal.fairness_key(task.owner)


def goes_before(task: EngineTask) -> bool:
    """Whether a task goes before all that take turns: a short step of a job that has begun.

    So jobs are done one after the other, and not all at the end. Only while few of them wait in its queue:
    else they take turns too, or one person's hundreds would keep the others from beginning.
    """
    if not task.is_later:
        return False
    maker = task.input.removeprefix(storage.MADE_HERE).partition(".")[0]
    if not EngineTask.objects.filter(pk=maker, output__duration__lte=SHORT).exists():
        return False
    waiting = EngineTask.in_lane(task.lane).filter(
        status=EngineTask.Status.QUEUED, input__startswith=storage.MADE_HERE
    )
    return not waiting[STEPS_BEFORE:].exists()


async def enqueue(task: EngineTask) -> bool:
    """Puts a task into the queue, once however often it is called; False while Temporal is unavailable."""
    client = await temporal.client()
    before = await sync_to_async(goes_before)(task)
    try:
        async with asyncio.timeout(5):
            with contextlib.suppress(WorkflowAlreadyStartedError):
                await client.start_workflow(
                    EngineTaskWorkflow.run,
                    args=[
                        *(task.pk, task.light, settings.ENGINE_HEARTBEAT_SECONDS),
                        *(bool(task.fetch_for), task.copies, before),
                    ],
                    id=task.pk,
                    task_queue=HEAVY_QUEUE,
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    priority=turn(task),
                    static_summary=f"{task.kind} {task.options.get('format', '')}".strip(),
                    rpc_timeout=temporal.RPC_TIMEOUT,
                )
    except (RPCError, RuntimeError, TimeoutError):
        return False
    return True


async def stop(task: EngineTask) -> bool:
    """Cancels a task; whether its workflow has ended within seconds, and with it what was at work."""
    stopped = False
    if await sync_to_async(task.cancel)():
        client = await temporal.client()
        handle = client.get_workflow_handle(task.pk)
        with contextlib.suppress(RPCError, RuntimeError, TimeoutError):
            async with asyncio.timeout(CANCEL_TIMEOUT):
                await handle.cancel(rpc_timeout=temporal.RPC_TIMEOUT)
                with contextlib.suppress(WorkflowFailureError):
                    await handle.result()
                stopped = True
        if task.fetch_for:  # it may have waited, with nobody at work to remove what had arrived
            await drop_source(task.pk)
    await task.arefresh_from_db()
    if task.status == task.Status.CANCELLED and PIECES in task.steps:
        with contextlib.suppress(OSError):  # of a bucket that is away: then they are swept
            async with asyncio.timeout(CANCEL_TIMEOUT):
                freed = await asyncio.to_thread(piece_files.clear, task.steps[PIECES])
            await in_thread(task.add_freed, freed)
        await task.arefresh_from_db()
    return stopped


async def reconcile_task(task: EngineTask) -> None:
    """Fails a task whose workflow was ended elsewhere, and queues one that Temporal doesn't know.

    Without this it would be queued or running for ever. Cheap: most tasks have just changed.
    """
    now = time.monotonic()
    if not task.active or timezone.now() - task.updated_at < UNCHANGED_FOR:
        return
    if now - _described.get(task.pk, -DESCRIBE_EVERY) < DESCRIBE_EVERY:
        return
    if now - _described.get(TEMPORAL, -AWAY_FOR) < AWAY_FOR:
        return
    client = await temporal.client()
    try:
        async with asyncio.timeout(3):
            found = await client.get_workflow_handle(task.pk).describe(rpc_timeout=temporal.RPC_TIMEOUT)
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND and await enqueue(task):
            _described[task.pk] = now
    except (RuntimeError, TimeoutError):
        _described[TEMPORAL] = now
    else:
        _described[task.pk] = now
        if found.status not in (None, WorkflowExecutionStatus.RUNNING):
            await sync_to_async(_fail)(task, STOPPED_ELSEWHERE)


async def reconcile_forgotten() -> int:
    """Fails tasks that nobody asks for and that have no workflow any more; how many.

    Whoever still waits for a task reads it, and reconcile_task() queues it again long before: for ten minutes
    this process and Temporal have been there for that. Without this the others would stand in line for ever,
    in front of all that come after them. Raises RPCError, RuntimeError, TimeoutError while Temporal is
    unavailable.
    """
    try:
        suspects = await _forgotten()
        return sum([await _settle_forgotten(task) for task in suspects[:MOST_AT_ONCE]])
    except Exception:
        _missed.clear()  # nobody could ask for them meanwhile
        raise


async def _forgotten() -> list[EngineTask]:
    """Tasks that no workflow has run for two rounds, ten minutes apart."""
    still = EngineTask.objects.filter(
        status__in=EngineTask.ACTIVE, updated_at__lt=timezone.now() - FORGOTTEN_AFTER
    )
    tasks: list[EngineTask] = await in_thread(list, still)
    if not tasks:
        _missed.clear()
        return []
    client = await temporal.client()
    running: set[str] = set()
    async with asyncio.timeout(30):  # one question for all, however many wait in line
        async for found in client.list_workflows(RUNNING, rpc_timeout=timedelta(seconds=5)):
            running.add(found.id)
    missed = [task for task in tasks if task.pk not in running]
    now = time.monotonic()
    since = {task.pk: _missed.get(task.pk, now) for task in missed}
    _missed.clear()
    _missed.update(since)
    return [task for task in missed if now - since[task.pk] >= FORGOTTEN_FOR]


async def _settle_forgotten(task: EngineTask) -> bool:
    """Fails a task unless Temporal has its workflow after all: its list is a moment behind."""
    client = await temporal.client()
    try:
        found = await client.get_workflow_handle(task.pk).describe(rpc_timeout=temporal.RPC_TIMEOUT)
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
        return await in_thread(_fail, task, TASK_UNKNOWN)
    if found.status in (None, WorkflowExecutionStatus.RUNNING):
        return False
    return await in_thread(_fail, task, STOPPED_ELSEWHERE)


def _fail(task: EngineTask, sentence: str) -> bool:
    """Fails a task that no worker has, with what its last one may have stored; False where it was over."""
    failed = task.fail("internal_error", sentence)
    task.refresh_from_db()
    task.remove_output()
    return failed


async def has_no_poller(task: EngineTask) -> bool:
    """Whether a task waits and no worker serves its queue: none polled it lately, none runs a task of it."""
    if task.status != EngineTask.Status.QUEUED or task.waiting_for not in ("", "turn"):
        return False
    queue = QUEUES[task.lane]
    at, known = _unpolled.get(queue, (-CACHE_SECONDS, False))
    if time.monotonic() - at >= CACHE_SECONDS:
        running = await sync_to_async(EngineTask.is_any_running)(task.lane)
        known = not running and not await task_queues.is_polled(queue)
        _unpolled[queue] = (time.monotonic(), known)
    return known
