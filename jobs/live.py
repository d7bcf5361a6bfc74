"""A running job as it is this second: the workflow's status query, and its activities' heartbeats.

Answers are kept for about a second per job, so the cost grows with jobs and not with viewers. With
no worker the memo answers, with no Temporal the database; what is missing is said in plain words.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync, sync_to_async
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowQueryFailedError,
)
from temporalio.service import RPCError, RPCStatusCode

from jobs.models import Job
from jobs.state import HeartbeatDetails, JobState, PipelineStatus, StageState, StageStatus
from jobs.workflow.media_pipeline import MediaPipeline
from mediapipe import temporal

KEPT = 1.0  # seconds
STALE = 4.0  # seconds that an answer serves while a new one is asked for
SILENT = 10.0  # seconds without a heartbeat that are worth a word
QUIET = 3.0  # seconds for which no query is tried after one that nobody answered

TEMPORAL_AWAY = (
    "Temporal cannot be reached. This is what was last recorded; the job goes on by itself when it is back."
)
WORKER_AWAY = (
    "No worker answers, so nothing moves. Jobs go on by themselves once one is back; "
    "an admin starts one with “python3 manage.py up” or “python3 manage.py worker”."
)


@dataclass(frozen=True)
class Wait:
    """Why a stage doesn't move, in plain words; *until*: unix seconds of what happens next."""

    text: str
    until: int | None = None
    reason: str = ""

    @property
    def left(self) -> str:
        """How long until then."""
        return f"{max(0, round((self.until or 0) - time.time()))} s"

    def __str__(self) -> str:
        when = f" in {self.left}" if self.until else ""
        return self.text + when + (f": {self.reason}" if self.reason else "")


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
    waits: dict[str, Wait] = field(default_factory=dict)
    speeds: dict[str, float] = field(default_factory=dict)
    time_left: dict[str, float] = field(default_factory=dict)
    temporal_url: str = ""
    version: int = field(default=0, compare=False)


_versions = itertools.count(time.time_ns())
_kept: dict[UUID, tuple[float, Live]] = {}
_asking: dict[tuple[int, UUID], asyncio.Task[Live]] = {}
_quiet_until = 0.0
asked = 0  # status queries that this process has sent


def forget(job: Job) -> None:
    """The next look asks Temporal again: something was just changed."""
    _kept.pop(job.pk, None)


def known(job: Job) -> Live | None:
    """The job without asking Temporal: it cannot move, or was just asked; None where it must be asked."""
    if not job.active or job.workflow_started_at is None:
        return Live(job.status(), banner=job.note, temporal_url=_temporal_url(job))
    kept = _kept.get(job.pk)
    if kept is None:
        return None
    # while one asks, the others need not wait for the answer with it
    asked = any(pk == job.pk for _, pk in list(_asking))
    return kept[1] if time.monotonic() - kept[0] < (STALE if asked else KEPT) else None


def look(job: Job) -> Live:
    """live(), for a view that runs in a thread."""
    return known(job) or async_to_sync(_shared)(job)


def look_many(jobs: Iterable[Job]) -> dict[UUID, Live]:
    """look() at each job; those that must be asked are asked at the same time."""
    several = list(jobs)
    found = {job.pk: seen for job in several if (seen := known(job))}
    missing = [job for job in several if job.pk not in found]
    return found | (async_to_sync(_shared_by_all)(missing) if missing else {})


async def live(job: Job) -> Live:
    """The job as it is now, at most about a second old. Never raises."""
    return await sync_to_async(known)(job) or await _shared(job)


async def _shared_by_all(jobs: list[Job]) -> dict[UUID, Live]:
    return dict(zip((job.pk for job in jobs), await asyncio.gather(*map(_shared, jobs)), strict=True))


async def _shared(job: Job) -> Live:
    """The answer to one question, however many ask it at once."""
    key = (id(asyncio.get_running_loop()), job.pk)
    if (task := _asking.get(key)) is None:
        task = _asking[key] = asyncio.ensure_future(_ask(job))
        task.add_done_callback(lambda _: _asking.pop(key, None))
    return await asyncio.shield(task)


async def _ask(job: Job) -> Live:
    found = await _from_temporal(job)
    if found is None:
        status = await sync_to_async(job.status)()
        found = Live(status, fresh=False, banner=TEMPORAL_AWAY, temporal_url=_temporal_url(job))
    if len(_kept) > 2000:
        _kept.clear()
    before = _kept.get(job.pk)
    unchanged = before is not None and before[1] == found
    found = replace(found, version=before[1].version if before and unchanged else next(_versions))
    _kept[job.pk] = (time.monotonic(), found)
    return found


async def _from_temporal(job: Job) -> Live | None:
    """None where Temporal is away."""
    client = await temporal.client()
    try:
        async with asyncio.timeout(2.5):
            description, asked = await asyncio.gather(
                client.get_workflow_handle(job.workflow_id).describe(rpc_timeout=timedelta(seconds=1)),
                _query(client, job),
            )
            if description.status != WorkflowExecutionStatus.RUNNING:
                await sync_to_async(job.refresh_from_db)()
                return Live(await sync_to_async(job.status)(), temporal_url=_temporal_url(job))
            status = asked or await description.memo_value("status", None, type_hint=PipelineStatus)
            status = status or await sync_to_async(job.status)()
            return await _merged(client, job, status, description, answered=asked is not None)
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            return None
        return Live(await sync_to_async(job.status)(), fresh=False)  # reconciling will settle it
    except (RuntimeError, TimeoutError):
        return None


async def _query(client: Client, job: Job) -> PipelineStatus | None:
    """The status query's answer; None where no worker answers in time."""
    global _quiet_until, asked
    if time.monotonic() < _quiet_until:
        return None
    asked += 1
    try:
        return await client.get_workflow_handle(job.workflow_id).query(
            MediaPipeline.status, rpc_timeout=timedelta(seconds=1.5)
        )
    except WorkflowQueryFailedError:
        return None
    except RPCError as error:
        if error.status in (RPCStatusCode.CANCELLED, RPCStatusCode.DEADLINE_EXCEEDED) or (
            error.status == RPCStatusCode.FAILED_PRECONDITION
        ):
            _quiet_until = time.monotonic() + QUIET
            return None
        raise


async def _merged(
    client: Client,
    job: Job,
    status: PipelineStatus,
    description: WorkflowExecutionDescription,
    *,
    answered: bool,
) -> Live:
    """The status with what the running activities say in their heartbeats."""
    found = Live(
        status,
        fresh=answered,
        banner="" if answered else WORKER_AWAY,
        temporal_url=_temporal_url(job, description.run_id or ""),
    )
    if job.cancelling and status.state in (JobState.RUNNING, JobState.ATTENTION):
        status.cancelling = True
    for stage in status.stages:
        if stage.state == StageState.RUNNING and stage.retry_at:
            found.waits[stage.name] = _until_next(stage)
    for pending in description.raw_description.pending_activities:
        name = pending.activity_id.removeprefix("create-").rsplit("-", 1)[0]
        stage_status = next((s for s in status.stages if s.name == name), None)
        if stage_status is None:
            continue
        beat = HeartbeatDetails()
        if pending.HasField("heartbeat_details"):
            beats = await client.data_converter.decode(pending.heartbeat_details.payloads, [HeartbeatDetails])
            beat = beats[0] if beats else beat
        _tell(found, stage_status, beat)
        if words := _wait(pending, beat, answered=answered):
            found.waits[name] = words
    return found


def _tell(found: Live, stage: StageStatus, beat: HeartbeatDetails) -> None:
    if beat.progress is not None:
        stage.progress = beat.progress
    if beat.speed is not None:
        found.speeds[stage.name] = beat.speed
    if beat.time_left is not None:
        found.time_left[stage.name] = beat.time_left


def _until_next(stage: StageStatus) -> Wait:
    again = f"attempt {stage.attempt + 1} of {stage.max_attempts}"
    if stage.error_kind in ("unreachable", "busy"):
        again = "asks the engine again"
    return Wait(again, round(stage.retry_at or 0), stage.error or "")


def _wait(pending: Any, beat: HeartbeatDetails, *, answered: bool) -> Wait | None:
    """Why a running activity doesn't progress, in plain words; nothing where it does."""
    if pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED:
        return Wait("waiting for a free worker" if answered else "no worker is listening")
    heard = (
        pending.last_heartbeat_time if pending.HasField("last_heartbeat_time") else pending.last_started_time
    )
    silent = (datetime.now(UTC) - heard.ToDatetime(UTC)).total_seconds()
    if silent > SILENT:
        return Wait(f"the worker has been silent for {silent:.0f} s; another takes over after 30 s")
    if beat.last_error:
        return Wait("asks the engine again", round(beat.next_at) if beat.next_at else None, beat.last_error)
    if beat.waiting_for == "space":
        return Wait("waiting for free disk space")
    if beat.waiting_for == "nobody":
        return Wait("no worker listens to the engine's queue; `python3 manage.py worker` starts one")
    if beat.waiting_for == "worker":
        return Wait("the engine's worker is silent; another takes over after 10 s")
    if beat.state == "queued":
        place = beat.queue_position
        return Wait(f"place {place} in the engine's queue" if place else "waiting in the engine's queue")
    return None


def _temporal_url(job: Job, run_id: str = "") -> str:
    return temporal.workflow_url(job.workflow_id, run_id) if job.workflow_started_at else ""
