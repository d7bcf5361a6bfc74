"""Removes what is no longer kept: once a day by a schedule of Temporal's, or by a command.

What that is, each part says for itself (mediapipe.retention). The audit log says each time what was removed.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from django.conf import settings
from temporalio import activity
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleCalendarSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCStatusCode

from jobs.dashboard.formatting import filesize
from jobs.removal.prune_workflow import PRUNE, PruneWorkflow
from jobs.removal.retention import ACTOR
from jobs.state import TASK_QUEUE
from jobs.workflow.watch import or_hand_over
from mediapipe import retention, temporal
from mediapipe.accounts import audit
from mediapipe.accounts.audit import Act
from mediapipe.accounts.models import AuditEntry
from mediapipe.database import in_thread
from mediapipe.retention import Kind, Removed

log = logging.getLogger(__name__)

SCHEDULE = "prune"
HOUR_OF_DAY = 3  # of the night, by this installation's clock
HEARTBEAT_INTERVAL = 10.0  # seconds between two heartbeats while one step is slow
LOOK_EVERY = 3600.0  # seconds until it is looked again whether the schedule is there
RETRY_INTERVAL = 30.0  # and where Temporal didn't answer
FOR_LONG = (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED, RPCStatusCode.UNIMPLEMENTED)
ANSWER = 2.5  # seconds for Temporal's answer to a page
Totals = dict[str, list[int]]  # by a kind's name: how many were removed, and how many bytes


class Times(NamedTuple):
    """When it last began, and whether it still runs; when it begins next, unless its schedule is *paused*."""

    last: datetime | None
    runs: bool
    next: datetime | None
    paused: bool


def step(kind: Kind, totals: Totals) -> bool:
    """Removes some of a *kind*, and adds to *totals*; whether there may be more. Raises as a database does.

    A storage that is away ends this kind for today.
    """
    try:
        removed = kind.remove()
    except OSError as error:
        log.warning("%s can't be removed yet: %s", kind.words, error)
        removed = Removed()
    count, size = totals.get(kind.name, (0, 0))
    if removed.many:
        totals[kind.name] = [count + removed.many, size + removed.size]
    return removed.more


def in_words(totals: Totals) -> str:
    """What was removed, like "ended sessions (2), jobs’ outputs (3, 1.2 GB)"; "" for nothing."""
    words = {kind.name: kind.words for kind in retention.kinds()}
    return ", ".join(
        f"{words.get(name, name)} ({count:,}{f', {filesize(size)}' if size else ''})"
        for name, (count, size) in totals.items()
    )


def record(totals: Totals, actor: str, run: str = "") -> str:
    """Has the audit log say what was removed, once for a *run*; the same in words."""
    if text := in_words(totals):
        if run and AuditEntry.objects.filter(act=Act.PRUNE, key=run).exists():
            return text  # by a worker that was lost before it could say that it had
        audit.record(Act.PRUNE, actor, key=run, text=text)
    return text


def remove_all(actor: str) -> Totals:
    """Removes all that is no longer kept, by a command; what was removed."""
    totals: Totals = {}
    try:
        for kind in retention.kinds():
            while step(kind, totals):
                pass
    finally:
        record(totals, actor)
    return totals


@activity.defn(name=PRUNE)
async def prune() -> str:
    """The same as an activity: another worker that goes on with it knows what was removed before."""
    totals: Totals = next(iter(activity.info().heartbeat_details), {})
    beats = asyncio.create_task(_beat(totals))
    try:
        return await or_hand_over(_prune(totals))
    finally:
        beats.cancel()


async def _prune(totals: Totals) -> str:
    for kind in retention.kinds():
        while await in_thread(step, kind, totals):
            activity.heartbeat(totals)
    return await in_thread(record, totals, ACTOR, activity.info().workflow_run_id or "")


async def _beat(totals: Totals) -> None:
    while True:
        activity.heartbeat(totals)
        await asyncio.sleep(HEARTBEAT_INTERVAL)


def wanted(task_queue: str) -> Schedule:
    """The schedule: once a day, one at a time; a night without Temporal is made up for."""
    return Schedule(
        action=ScheduleActionStartWorkflow(PruneWorkflow.run, id=SCHEDULE, task_queue=task_queue),
        spec=ScheduleSpec(
            calendars=[ScheduleCalendarSpec(hour=[ScheduleRange(HOUR_OF_DAY)])],
            jitter=timedelta(hours=1),
            time_zone_name=settings.TIME_ZONE,
        ),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=timedelta(days=1)),
    )


async def schedule(client: Client, task_queue: str = TASK_QUEUE) -> None:
    """Makes the schedule, or has it be as wanted; a pause of it stays. Raises as Temporal's client."""
    new = wanted(task_queue)
    try:
        await client.create_schedule(SCHEDULE, new, rpc_timeout=temporal.RPC_TIMEOUT)
    except ScheduleAlreadyRunningError:

        async def updated(given: ScheduleUpdateInput) -> ScheduleUpdate:
            return ScheduleUpdate(replace(new, state=given.description.schedule.state))

        await client.get_schedule_handle(SCHEDULE).update(updated, rpc_timeout=temporal.RPC_TIMEOUT)


async def times() -> Times | None:
    """When it is done; None where Temporal can't say, or has no schedule yet."""
    try:
        async with asyncio.timeout(ANSWER):
            handle = (await temporal.client()).get_schedule_handle(SCHEDULE)
            found = await handle.describe(rpc_timeout=temporal.RPC_TIMEOUT)
    except temporal.UNAVAILABLE:
        return None
    begun = found.info.recent_actions[-1:]
    following = found.info.next_action_times[:1]
    return Times(
        last=begun[0].started_at if begun else None,
        runs=bool(found.info.running_actions),
        next=following[0] if following else None,
        paused=found.schedule.state.paused,
    )


async def keep_scheduled() -> None:
    """Has the schedule be there, until cancelled: a Temporal whose database was replaced has none."""
    while True:
        pause = LOOK_EVERY
        try:
            await schedule(await temporal.client())
        except temporal.UNAVAILABLE as error:
            pause = RETRY_INTERVAL
            if not temporal.is_unavailable(error) or getattr(error, "status", None) in FOR_LONG:
                log.warning("what is no longer kept stays: its schedule can't be made: %s", error)
                pause = LOOK_EVERY
        except Exception:
            log.exception("the schedule that removes what is no longer kept can't be made")
        await asyncio.sleep(pause)
