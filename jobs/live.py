"""A running job as it is this second: the workflow's status query, and its activities' heartbeats.

Answers are cached for about a second per job, so the cost grows with jobs and not with viewers. With
no worker the memo answers, with no Temporal the database; a banner says what is missing. It changes
nothing (jobs.control does) and knows no pages.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from uuid import UUID

from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.utils.dateformat import format as date_format
from django.utils.timezone import localtime
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowQueryFailedError,
)
from temporalio.service import RPCError, RPCStatusCode

from jobs import trouble
from jobs.fleet import pausing
from jobs.models import Job
from jobs.pipelines import OWN
from jobs.requests import HeartbeatDetails
from jobs.state import JobState, PipelineStatus, StageState, StageStatus
from jobs.waits import Wait, until_next_attempt, until_progress
from jobs.workflow.media_pipeline import MediaPipeline
from mediapipe import temporal
from mediapipe.recent import Recent

CACHE_SECONDS = 1.0
STALE_SECONDS = 4.0  # how old an answer may be while a newer one is under way
SLOW_SECONDS = 6.0  # how old while Temporal doesn't answer: one slow answer is no outage
CACHED_JOBS = 2000
QUERY_BACKOFF = 3.0  # seconds without a query of a workflow after one that no worker answered
NO_WORKER_STATUSES = (  # what Temporal answers to a query in place of a worker
    RPCStatusCode.CANCELLED,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.FAILED_PRECONDITION,
)

TEMPORAL_UNAVAILABLE = (
    "Live status is unavailable. You’re seeing the last saved state; the job continues on its own."
)
WORKER_UNAVAILABLE = "Processing is paused: no worker is running. It resumes automatically."
WORKFLOW_FAILING = (
    "This job can’t continue: its workflow has an error. "
    "An admin can end it and restart it; finished outputs are kept."
)
START_WORKER = "Start one with “python3 manage.py up” or “python3 manage.py worker”."


@dataclass(frozen=True)
class Live:
    """A job for the page: its status with progress, and why it waits where it does.

    The dicts are by stage name: *speeds* as multiples of real time, *time_left* in seconds. *version*
    rises whenever this process' answer for the job changes, and never repeats, not after a restart either;
    it is 0 where the row alone answers, whose own version says what changed.
    """

    status: PipelineStatus
    fresh: bool = True
    banner: str = ""
    remedy: str = ""  # what an admin can do about it; names commands, so it is not for editors
    waits: dict[str, Wait] = field(default_factory=dict)
    speeds: dict[str, float] = field(default_factory=dict)
    time_left: dict[str, float] = field(default_factory=dict)
    temporal_url: str = ""
    troubled: bool = False  # its workflow fails again and again; only ending it helps
    version: int = field(default=0, compare=False)


class LiveReader:
    """Reads running jobs for this process: an answer is cached for a moment, and shared by all who wait."""

    def __init__(self) -> None:
        self.queries = 0  # status queries sent, for /metrics
        self._versions = itertools.count(time.time_ns())
        self._cache: Recent[UUID, tuple[float, Live]] = Recent(CACHED_JOBS)  # when it came, and the answer
        self._pending: dict[tuple[int, UUID], asyncio.Task[Live]] = {}  # by event loop: a task belongs to one
        self._heard: Recent[UUID, float] = Recent(CACHED_JOBS)  # when Temporal last answered for it
        self._no_query_before: Recent[UUID, float] = Recent(CACHED_JOBS)  # by the monotonic clock

    def read(self, job: Job) -> Live:
        """aread(), for a view that runs in a thread."""
        return self._without_temporal(job) or async_to_sync(self._shared)(job)

    def read_many(self, jobs: Iterable[Job]) -> dict[UUID, Live]:
        """read() of each job by its key; all requests to Temporal go out at the same time."""
        several = list(jobs)
        found = {job.pk: live for job in several if (live := self._without_temporal(job))}
        missing = [job for job in several if job.pk not in found]
        return found | (async_to_sync(self._shared_by_all)(missing) if missing else {})

    async def aread(self, job: Job) -> Live:
        """The job as it is now, at most about a second old. Never raises."""
        return await sync_to_async(self._without_temporal)(job) or await self._shared(job)

    def invalidate(self, job: Job) -> None:
        """Drops the cached answer of a job that was just changed."""
        self._cache.pop(job.pk, None)
        self._heard.pop(job.pk, None)

    def _without_temporal(self, job: Job) -> Live | None:
        """The job by its row alone, or from the cache; None where only Temporal knows."""
        if not job.active or job.workflow_started_at is None:
            return Live(job.status(), banner=job.note, temporal_url=_temporal_url(job))
        cached = self._cache.get(job.pk)
        if cached is None:
            return None
        # while a request is under way the other callers need not wait for it
        pending = any(pk == job.pk for _, pk in list(self._pending))
        answered_at, live = cached
        return (
            live if time.monotonic() - answered_at < (STALE_SECONDS if pending else CACHE_SECONDS) else None
        )

    async def _shared_by_all(self, jobs: list[Job]) -> dict[UUID, Live]:
        answers = await asyncio.gather(*map(self._shared, jobs))
        return {job.pk: live for job, live in zip(jobs, answers, strict=True)}

    async def _shared(self, job: Job) -> Live:
        """The answer of one request to Temporal, however many callers wait for it at once."""
        key = (id(asyncio.get_running_loop()), job.pk)
        if (task := self._pending.get(key)) is None:
            task = self._pending[key] = asyncio.ensure_future(self._fetch(job))
            task.add_done_callback(lambda _: self._pending.pop(key, None))
        return await asyncio.shield(task)

    async def _fetch(self, job: Job) -> Live:
        """The job as Temporal has it, or else its row; into the cache."""
        live = await self._from_temporal(job)
        _, before = self._cache.get(job.pk, (0.0, None))
        if live is not None:
            self._heard[job.pk] = time.monotonic()
        elif before and time.monotonic() - self._heard.get(job.pk, -SLOW_SECONDS) < SLOW_SECONDS:
            live = before
        else:
            status = await sync_to_async(job.status)()
            live = Live(status, fresh=False, banner=TEMPORAL_UNAVAILABLE, temporal_url=_temporal_url(job))
        live = replace(live, version=before.version if before == live else next(self._versions))
        self._cache[job.pk] = (time.monotonic(), live)
        return live

    async def _from_temporal(self, job: Job) -> Live | None:
        """None while Temporal is unavailable."""
        client = await temporal.client()
        try:
            async with asyncio.timeout(2.5):
                description, answer = await asyncio.gather(
                    client.get_workflow_handle(job.workflow_id).describe(rpc_timeout=timedelta(seconds=1)),
                    self._query(client, job),
                )
                if description.status != WorkflowExecutionStatus.RUNNING:
                    await sync_to_async(job.refresh_from_db)()
                    return Live(await sync_to_async(job.status)(), temporal_url=_temporal_url(job))
                status = answer or await description.memo_value("status", None, type_hint=PipelineStatus)
                status = status or await sync_to_async(job.status)()
                live = await _with_heartbeats(client, job, status, description, answered=answer is not None)
                found = None if answer else await trouble.of(client, description)
                return _in_trouble(live, found) if found else live
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                return None
            return Live(await sync_to_async(job.status)(), fresh=False)  # reconciling will settle it
        except (RuntimeError, TimeoutError):
            return None

    async def _query(self, client: Client, job: Job) -> PipelineStatus | None:
        """The status query's answer; None where no worker answers in time."""
        if time.monotonic() < self._no_query_before.get(job.pk, 0.0):
            return None
        self.queries += 1
        try:
            return await client.get_workflow_handle(job.workflow_id).query(
                MediaPipeline.status, rpc_timeout=timedelta(seconds=1.5)
            )
        except WorkflowQueryFailedError:
            return None
        except RPCError as error:
            if error.status not in NO_WORKER_STATUSES:
                raise
            self._no_query_before[job.pk] = time.monotonic() + QUERY_BACKOFF
            return None


reader = LiveReader()  # of this process


async def _with_heartbeats(
    client: Client,
    job: Job,
    status: PipelineStatus,
    description: WorkflowExecutionDescription,
    *,
    answered: bool,
) -> Live:
    """The status, with what the running activities report in their heartbeats."""
    live = Live(
        status,
        fresh=answered,
        banner="" if answered else WORKER_UNAVAILABLE,
        remedy="" if answered else START_WORKER,
        temporal_url=_temporal_url(job, description.run_id or ""),
    )
    if job.cancelling and status.state in (JobState.RUNNING, JobState.ATTENTION):
        status.cancelling = True
    for stage in status.stages:
        if stage.state == StageState.RUNNING and stage.retry_at:
            live.waits[stage.name] = until_next_attempt(stage)
    for pending in description.raw_description.pending_activities:
        details = await heartbeat_details(client, pending)
        name = details.stage or pending.activity_id.removeprefix("create-").rsplit("-", 1)[0]
        running = next((stage for stage in status.stages if stage.name == name), None)
        if running is None:
            continue
        _add_progress(live, running, details)
        ours = settings.EMBEDDED_ENGINE or running.engine == OWN
        held = await pausing.held() if ours and details.state == "queued" else ""
        if details.waiting_for == "nobody" and not held:
            live = replace(live, remedy=START_WORKER)
        if wait := until_progress(pending, details, answered=answered, held=held):
            live.waits[name] = wait
    return live


def _in_trouble(live: Live, found: trouble.Trouble) -> Live:
    """No worker is missing: the workflow itself fails."""
    since = date_format(localtime(found.since), "j M, H:i")
    remedy = f"Failing since {since}: {found.why or 'see the workflow in Temporal'}"
    return replace(live, banner=WORKFLOW_FAILING, remedy=remedy, troubled=True)


async def heartbeat_details(client: Client, pending: PendingActivityInfo) -> HeartbeatDetails:
    """What an activity reported last; empty where that is none of ours."""
    if not pending.HasField("heartbeat_details"):
        return HeartbeatDetails()
    try:
        decoded = await client.data_converter.decode(pending.heartbeat_details.payloads, [HeartbeatDetails])
    except (RuntimeError, TypeError, ValueError):  # another version's, or nobody's
        return HeartbeatDetails()
    return (decoded and decoded[0]) or HeartbeatDetails()


def _add_progress(live: Live, stage: StageStatus, details: HeartbeatDetails) -> None:
    if details.progress is not None:
        stage.progress = details.progress
    if details.speed is not None:
        live.speeds[stage.name] = details.speed
    if details.time_left is not None:
        live.time_left[stage.name] = details.time_left


def _temporal_url(job: Job, run_id: str = "") -> str:
    return temporal.workflow_url(job.workflow_id, run_id) if job.workflow_started_at else ""
