"""Keeps rows and workflows in step, in both directions, and delivers what people asked for.

What never started is started, what ended without a report is settled, what no row owns is stopped. It runs
inside the worker, every few seconds, and is harmless to run twice at once. One job that cannot be reconciled
is logged and holds up no other. It knows no pages and no people.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar
from uuid import UUID

from temporalio.client import Client, WorkflowExecutionStatus

from jobs import control, trouble, workflow_calls
from jobs.closing import Closing
from jobs.fulfilling import Fulfilling, delete_some
from jobs.ittybit.client import IttybitClient
from jobs.models import EarlierVersion, Job, JobQuerySet, Turn
from jobs.removal import trash
from jobs.state import FINISHED, PipelineStatus, workflow_id
from jobs.uploads import one_piece, sweeping
from mediapipe import temporal
from mediapipe.database import OUTAGES, in_thread, log_failure

log = logging.getLogger(__name__)

INTERVAL = 5.0  # seconds between two rounds
CHECKS = 2  # in that time, whether the turn is ours by now
TURN = "reconcile"
MIN_AGE = timedelta(seconds=3)  # younger jobs are being started by the request that created them
GRACE = timedelta(seconds=30)  # for which a workflow is left alone, after its start and after its row's end
CONCURRENCY = 20  # requests to Temporal at the same time
SEVERAL = 3  # active jobs; where Temporal knows none of so many, it may be the wrong Temporal
CONFIRM_SECONDS = 60.0  # after which that is believed
MISSED = 3  # rounds of ours, after which another process may have seen something else
RUNNING = "WorkflowType = 'MediaPipeline' AND ExecutionStatus = 'Running'"
WRONG_TEMPORAL = (
    "Temporal knows none of the %d active jobs. Check TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE; "
    "unless it knows one of them within %d s, they are closed."
)

T = TypeVar("T")
# Since when, and when last (monotonic), this process saw that Temporal knows none of several active jobs.
_unknown: list[float] = []


async def run_forever(engine: IttybitClient) -> None:
    """Rounds until cancelled, one worker's for all; one that fails is logged, and the next tries again."""
    try:
        for look in itertools.count():
            try:
                if await in_thread(Turn.take, TURN, timedelta(seconds=INTERVAL)):
                    await run_once(engine)
                if look % CHECKS == 0:
                    await in_thread(sweeping.sweep)
                    await in_thread(one_piece.sweep)
            except Exception as error:
                log_failure(log, "a round of reconciling rows and workflows failed", error)
            await asyncio.sleep(INTERVAL / CHECKS)
    finally:
        with contextlib.suppress(TimeoutError, *OUTAGES):
            async with asyncio.timeout(2):
                await in_thread(Turn.give_up, TURN)


async def run_once(engine: IttybitClient | None = None) -> int:
    """One round; how many jobs were started or settled: none while Temporal is unavailable.

    *engine*: where the tasks of a job are cancelled whose workflow no longer waits for them.
    """
    try:
        return await Round(await temporal.client(), engine).run()
    except temporal.UNAVAILABLE as error:
        if not temporal.is_unavailable(error):
            raise
        waiting = Job.objects.unstarted(MIN_AGE).exclude(note=control.QUEUED_NOTE)
        await in_thread(waiting.update, note=control.QUEUED_NOTE)
        return 0


def established(started: list[Job]) -> list[Job]:
    """Those of *started* that Temporal must know: begun before anybody could have been misled.

    A job that was begun a moment ago is known by the wrong Temporal too, if that is where it was begun.
    """
    old = [job for job in started if job.workflow_started_at and job.workflow_started_at < established_by()]
    return old if len(old) >= SEVERAL else started


def established_by() -> datetime:
    """When what is in Temporal must have begun to prove that it is the right one."""
    return datetime.now(UTC) - GRACE - timedelta(seconds=CONFIRM_SECONDS)


async def _fetch(jobs: JobQuerySet) -> list[Job]:
    return await in_thread(lambda: list(jobs))


class Open(NamedTuple):
    """A running workflow: of which job and run it is, and when it began."""

    job_id: UUID
    run: int
    started_at: datetime


class Round:
    """One look at the started jobs, at what people asked of them, and at the running workflows."""

    def __init__(self, client: Client, engine: IttybitClient | None) -> None:
        self.client = client
        self.closing = Closing(client, engine)

    async def run(self) -> int:
        """Everything in its order; how many jobs were changed."""
        started = await _fetch(Job.objects.active().exclude(workflow_started_at=None))
        running = {found.job_id: found async for found in self._running()}
        suspects = [job for job in started if job.pk not in running or running[job.pk].run != job.run]
        if await self._is_wrong_temporal(started, suspects):
            return 0
        changed = await self._start_queued()
        changed += await self._each(self.closing.settle, suspects)
        changed += await self._each(
            self.closing.end_where_it_cannot_cancel, [j for j in started if j.cancelling]
        )
        kept = await _fetch(Job.with_trash.filter(kept_wishes__isnull=False))
        deleted = [job for job in kept if job.being_deleted]
        changed += await self._each(
            Fulfilling(self.closing).fulfil, [job for job in kept if job not in deleted]
        )
        for job in started:
            running.pop(job.pk, None)
        changed += await self._stop_unowned(list(running.values()))
        removed = await in_thread(lambda: list(EarlierVersion.objects.filter(removed=True)[:100]))
        overdue = await _fetch(trash.overdue()[:100])
        return changed + await delete_some([*deleted, *removed, *overdue])

    async def _start_queued(self) -> int:
        """Only in a Temporal that knows the other jobs: one that was begun elsewhere would be lost."""
        away = False

        async def start(job: Job) -> bool:
            nonlocal away
            if away:
                return False  # Temporal is unavailable: the others would wait just as long
            started = await control.start(job)
            away |= not started
            return started

        queued = Job.objects.unstarted(MIN_AGE).order_by("created_at")
        return await self._each(start, await _fetch(queued[:100]))

    async def _running(self) -> AsyncIterator[Open]:
        """The running workflows: one question for all, however many there are."""
        async with asyncio.timeout(30):
            async for found in self.client.list_workflows(RUNNING, rpc_timeout=timedelta(seconds=5)):
                with contextlib.suppress(ValueError):  # an id that is none of ours
                    job_id = UUID(found.id.removeprefix(workflow_id("")))
                    yield Open(job_id, int(await found.memo_value("run", 1)), found.start_time)

    async def _each(self, act: Callable[[T], Awaitable[bool]], many: Sequence[T]) -> int:
        """Does it to each, some at a time; how many were changed. One that fails holds up no other."""
        slots = asyncio.Semaphore(CONCURRENCY)

        async def one(each: T) -> bool:
            async with slots:
                try:
                    return await act(each)
                except Job.DoesNotExist:
                    return False  # deleted meanwhile
                except Exception as error:
                    if temporal.is_unavailable(error):
                        return False  # the next round comes back to it
                    log.exception("%s could not be kept in step", getattr(each, "pk", each))
                    return False

        return sum(await asyncio.gather(*map(one, many)))

    async def _is_wrong_temporal(self, started: list[Job], suspects: list[Job]) -> bool:
        """Whether Temporal knows none of several active jobs, for less than CONFIRM_SECONDS.

        An address that leads to another, empty Temporal would else close every job at once.
        """
        if _unknown and time.monotonic() - _unknown[1] > MISSED * INTERVAL:
            _unknown.clear()
        expected = established(started)
        suspected = {job.pk for job in suspects}
        unknown = [job for job in expected if job.pk in suspected]
        if len(expected) < SEVERAL or len(unknown) < len(expected) or await self._knows_any(unknown):
            _unknown.clear()
            return False
        now = time.monotonic()
        if not _unknown:
            log.error(WRONG_TEMPORAL, len(expected), CONFIRM_SECONDS)
            _unknown[:] = [now, now]
        _unknown[1] = now
        return now - _unknown[0] < CONFIRM_SECONDS

    async def _knows_any(self, jobs: list[Job]) -> bool:
        for job in jobs:
            found, _ = await workflow_calls.describe(self.client, job)
            if found:
                return True
        return False

    async def _stop_unowned(self, running: list[Open]) -> int:
        """Cancels the workflows whose row is gone, or has ended, so that their tasks are stopped.

        Never where the database has no job at all: then it is the database that is wrong.
        """
        then = datetime.now(UTC) - GRACE
        old = [each for each in running if each.started_at < then]
        if not old or not await Job.with_trash.aexists():
            return 0
        rows = {job.pk: job for job in await _fetch(Job.objects.filter(pk__in=[each.job_id for each in old]))}
        # a run records its end before it closes, and some seconds before where its worker dies in between
        ended = [pk for pk, job in rows.items() if not job.active and (job.finished_at or then) <= then]
        unowned = [each for each in old if each.job_id not in rows or each.job_id in ended]
        return await self._each(self._stop, unowned)

    async def _stop(self, running: Open) -> bool:
        job = Job(pk=running.job_id, run=running.run)  # its row may be gone
        found, run = await workflow_calls.describe(self.client, job)
        if found is None or run != running.run or found.status != WorkflowExecutionStatus.RUNNING:
            return False
        last = await found.memo_value("status", None, type_hint=PipelineStatus)
        if last and last.state in FINISHED:
            return False  # about to close
        workflow = workflow_calls.handle(self.client, job, found.run_id)
        if await trouble.of(self.client, found):
            await workflow.terminate("no job owns it")
            await self.closing.cancel_work(job, last.stages if last else [])
        elif trouble.is_awaited(found):
            return False  # by a worker that is lost: what it would do is not known yet
        else:
            await workflow.cancel(reason="\nNo job owns it", rpc_timeout=temporal.RPC_TIMEOUT)
        log.warning("workflow %s was stopped: no job owns it", job.workflow_id)
        return True
