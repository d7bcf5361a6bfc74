"""The engine's workers: queues of heavy encodes, of light tasks and of downloads, fed by Temporal.

It joins a task's row, its activity and its work (task.py), and knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import DatabaseError
from temporalio import activity
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import Worker

from mediapipe import task_queues
from mediapipe.database import OUTAGES, in_thread, persistently
from mediapipe.engine import check, course, imports, piece_files, piecework, prober, queue, sources, webhook
from mediapipe.engine.arguments import Plan
from mediapipe.engine.errors import Inexact, NeedsEncode
from mediapipe.engine.folders import clear, sweep
from mediapipe.engine.giving_back import GivesBack
from mediapipe.engine.hooks import AT_THE_BEGINNING, SoFar
from mediapipe.engine.imports import import_source
from mediapipe.engine.kinds import KINDS
from mediapipe.engine.media import Media
from mediapipe.engine.models import PIECES, EngineTask
from mediapipe.engine.piece_activity import encode_piece, hooks_of
from mediapipe.engine.pieces import MISSING, Division
from mediapipe.engine.piecework import InPieces
from mediapipe.engine.surroundings import Reporter, Work, again, attend, beat_forever, hands_over, is_over
from mediapipe.engine.task import drop_source, process, unpublish
from mediapipe.engine.workflows import HEAVY_QUEUE, IMPORT_QUEUE, LIGHT_QUEUE, EngineTaskWorkflow
from mediapipe.metrics import TASK_WAITS, TASKS
from mediapipe.payloads import WorkflowRunner
from mediapipe.places import Places
from mediapipe.task_options import check_options

SWEEP_EVERY = 3600.0  # seconds
RECONCILE_EVERY = 60.0  # seconds
Process = Callable[..., Coroutine[Any, Any, None]]  # takes a row, its reporter, and whom to tell of files
log = logging.getLogger(__name__)


@activity.defn
async def run_task(task_id: str, divides: bool = False, note: str = "") -> Division | None:
    """Runs a task, and writes its result to its row; where it *divides*, a long film's pieces instead.

    *note*: a warning that goes with the output.
    """
    try:
        await _attended(task_id, partial(_process, divides=divides, note=note))
    except InPieces as way:
        return way.division
    return None


@activity.defn
async def copy_task(task_id: str) -> bool:
    """Runs a task if it is a copy, which takes a moment; False where it stands in line for an encode now."""
    try:
        await _attended(task_id, partial(_process, only_copy=True))
    except NeedsEncode:
        await persistently(EngineTask(pk=task_id).needs_encode)
        return False
    return True


@activity.defn
async def join_pieces(task_id: str, division: Division) -> str:
    """Joins a film's pieces, and writes the result to its row; "", MISSING, or why it can't be done."""
    try:
        await _attended(task_id, partial(_join, division=division))
    except piecework.Missing:
        return MISSING
    except Inexact as reason:
        log.warning("task %s is encoded in one piece: %s", task_id, reason)
        return str(reason)
    if await persistently(EngineTask.objects.filter(pk=task_id, status=EngineTask.Status.SUCCEEDED).exists):
        with contextlib.suppress(OSError):  # of the bucket: then they are swept
            await asyncio.to_thread(piece_files.clear, division.key)
    return ""


async def _attended(task_id: str, process: Process) -> None:
    """Runs a task, and leaves nothing behind but its output, however it ends. Raises OtherWay."""
    handed_over = next((int(count) for count in activity.info().heartbeat_details), 0)  # by restarts
    heartbeats = asyncio.create_task(beat_forever(lambda: (handed_over,)))
    published: list[str] = []
    try:
        if settings.S3_BUCKET and activity.info().attempt == 1:
            await _leave_to_another(task_id)  # once
        work = partial(process, published=published)
        await _run(task_id, published, work, lost=activity.info().attempt - handed_over - 1)
    except asyncio.CancelledError:
        freed = clear(task_id)
        if await hands_over(task_id):  # a restart counts as no loss
            raise again("the worker is restarting", 0, handed_over + 1) from None
        with contextlib.suppress(*OUTAGES):
            await in_thread(EngineTask(pk=task_id).add_freed, freed)
        await _remove_published(task_id, published)
        if await is_over(task_id):
            await drop_source(task_id)
        raise
    finally:
        heartbeats.cancel()
        clear(task_id)


async def _leave_to_another(task_id: str) -> None:
    """Gives a task back where another machine may have its source."""
    is_far = await persistently(is_far_from_its_source, task_id)
    if is_far and await task_queues.has_another(activity.info().task_queue):
        raise again("another machine may have its source", 0, 1)


def is_far_from_its_source(task_id: str) -> bool:
    """Whether this machine would first be busy for a while to fetch a task's source from our bucket."""
    task = EngineTask.objects.filter(pk=task_id).first()
    return task is not None and sources.is_far(task.source, _output_size)


def _output_size(name: str) -> int | None:
    """Bytes of an output of ours, by the row of its task; None where none has it."""
    made = EngineTask.objects.filter(pk=Path(name).stem).first()
    output = (made and made.output) or {}
    return output["filesize"] if output.get("name") == name else None


async def _remove_published(task_id: str, published: list[str]) -> None:
    """Removes the files of an output that nobody will have: its task has failed or was cancelled."""
    if not published:
        return
    over = EngineTask.objects.filter(pk=task_id, status__in=EngineTask.WITHOUT_OUTPUT)
    with contextlib.suppress(*OUTAGES):
        if await in_thread(over.exists):  # else another worker may be publishing it anew
            await unpublish(published)


async def _run(task_id: str, published: list[str], work: Work, *, lost: int) -> None:
    """Does *work* on a task to its end, unless it was over before; *lost*: workers that have gone with it.

    *published*: the names of the files that it has stored.
    """
    task = await attend(task_id, lost, work)
    if task and task.started_at and task.finished_at:
        TASK_WAITS.labels(task.kind).observe((task.started_at - task.created_at).total_seconds())
        took = (task.finished_at - task.started_at).total_seconds()
        TASKS.labels(task.kind, task.status).observe(took)
    await _remove_published(task_id, published)
    if task and task.fetch_for and not task.active:
        await drop_source(task_id)


async def _process(
    task: EngineTask,
    reporter: Reporter,
    *,
    published: list[str],
    only_copy: bool = False,
    divides: bool = False,
    note: str = "",
) -> None:
    await persistently(task.begin)
    hooks = hooks_of(task, reporter, published)
    kind = KINDS[task.kind]
    options = check_options(kind.name, task.asked)

    async def divide(source: Path, media: Media, plan: Plan) -> None:
        film = piecework.Film(task.pk, kind, options, task.source, source, media, plan, hooks)
        takers = _slots() * await task_queues.pollers(HEAVY_QUEUE) if film.is_long else 1
        if division := await film.division(takers):
            reporter.step("encode", file=film.facts(), **{PIECES: division.key})
            await persistently(task.update, steps=reporter.steps)
            raise InPieces(division)

    if divides and kind.divides:
        hooks = replace(hooks, divide=divide)
    so_far = AT_THE_BEGINNING
    if note:
        so_far = SoFar(task.progress or 0.0, await persistently(course.worked, task.pk))
    work = check.process if kind.plan is None else partial(process, only_copy=only_copy, so_far=so_far)
    result = await work(task.pk, kind, options, task.source, hooks)
    warnings = [*result.warnings, *([note] if note else [])]
    await persistently(task.succeed, result.output, warnings, steps=reporter.steps)


async def _join(task: EngineTask, reporter: Reporter, *, published: list[str], division: Division) -> None:
    reporter.steps = dict(task.steps)
    kind = KINDS[task.kind]
    hooks = hooks_of(task, reporter, published)
    if await piece_files.missing(division.key, division.names, hooks):
        raise piecework.Missing
    await persistently(task.begin)
    film = await piecework.Film.of(task.pk, kind, check_options(kind.name, task.asked), task.source, hooks)
    result = await piecework.join(film, division, task.progress or 0.0)
    await persistently(task.succeed, result.output, result.warnings, steps=reporter.steps)


def active_tasks(found: list[str]) -> set[str]:
    """Which of these tasks are not over: running on any machine, or waiting for disk space midway."""
    alive = EngineTask.objects.filter(status__in=EngineTask.ACTIVE, pk__in=found)
    return set(alive.values_list("pk", flat=True))


async def sweep_forever() -> None:
    """Removes once an hour what lost workers left: a task that was lost here may have ended elsewhere."""
    while True:
        with contextlib.suppress(DatabaseError, OSError):
            await in_thread(sweep, active_tasks)
            await in_thread(imports.sweep, active_tasks)
            await in_thread(course.sweep, EngineTask.ACTIVE)
            await asyncio.to_thread(sources.sweep)
            await asyncio.to_thread(piece_files.sweep)
        await asyncio.sleep(SWEEP_EVERY)


async def reconcile_forever() -> None:
    """Settles every minute the tasks whose workflows are gone, until cancelled."""
    while True:
        try:
            await queue.reconcile_forgotten()
        except (RuntimeError, RPCError, TimeoutError, *OUTAGES):
            pass  # Temporal or the database is away: the next round tries again
        except Exception:
            log.exception("a round of reconciling tasks and workflows failed")
        await asyncio.sleep(RECONCILE_EVERY)


def _slots() -> int:
    """How many heavy encodes this machine takes at once."""
    return max(1, (os.cpu_count() or 1) // 2)


def _worker(
    client: Client,
    queue: str,
    slots: int,
    activities: Sequence[Callable[..., Any]],
    workflows: Sequence[type] = (),
) -> Worker:
    return Worker(
        client,
        task_queue=queue,
        workflows=workflows,
        workflow_runner=WorkflowRunner(),
        activities=activities,
        tuner=Places(queue, slots).tuner,
        interceptors=[GivesBack()],
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=3),
        max_heartbeat_throttle_interval=timedelta(milliseconds=500),
        graceful_shutdown_timeout=timedelta(0),
        build_id=settings.VERSION,  # else the SDK makes one of every module that is loaded
    )


@contextlib.asynccontextmanager
async def workers(client: Client) -> AsyncIterator[list[Worker]]:
    """This machine's three workers: a heavy encode for every two cores, as many light tasks, downloads."""
    slots = _slots()
    encodes: list[Callable[..., Any]] = [run_task, copy_task, encode_piece, join_pieces]
    prober.start()
    keepers = [asyncio.create_task(each) for each in (sweep_forever(), reconcile_forever())]
    yield [
        _worker(client, HEAVY_QUEUE, slots, encodes, [EngineTaskWorkflow]),
        _worker(client, LIGHT_QUEUE, slots, encodes),
        _worker(client, IMPORT_QUEUE, imports.SLOTS, [import_source]),
    ]
    for each in (*keepers, *webhook.notifications):
        each.cancel()
