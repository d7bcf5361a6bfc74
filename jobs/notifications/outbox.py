"""From what happened to who hears of it: notices become deliveries, and each delivery gets its workflow.

It runs beside the reconciler, every few seconds, and is harmless to run twice at once: a notice is handled by
one transaction, a workflow is started by its id. It knows no channel's inside.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Max
from django.utils import timezone
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy

from jobs.models import Batch, Job
from jobs.models.delivery import BATCH, EVENTS, Delivery
from jobs.models.destination import Destination
from jobs.models.notice import Notice
from jobs.models.stage import Stage
from jobs.notifications import events
from jobs.notifications.channels import BY_NAME
from jobs.notifications.delivery_workflow import NOTIFICATIONS, DeliveryRequest, DeliveryWorkflow
from jobs.state import TASK_QUEUE, JobState, StageState
from mediapipe import temporal
from mediapipe.database import in_thread, log_failure

log = logging.getLogger(__name__)

INTERVAL = 5.0  # seconds between two rounds
LOOK_EVERY = 60.0  # seconds between two looks for what has gone on for long
BUNDLE_SECONDS = 60.0  # in which what happens joins the same message
DAY = timedelta(days=1)
KEEP_FOR = timedelta(days=30)  # for which notices and deliveries can be looked at
SLOW_TIMES = 3  # as long as usual
SLOW_LEAST = timedelta(minutes=10)


async def run_forever() -> None:
    """Rounds until cancelled; a round that fails is logged, and the next one tries again."""
    looked = -LOOK_EVERY
    while True:
        try:
            if time.monotonic() - looked >= LOOK_EVERY:
                looked = time.monotonic()
                await in_thread(look, timezone.now())
            await run_once()
        except Exception as error:
            log_failure(log, "a round of notifications failed", error)
        await asyncio.sleep(INTERVAL)


async def run_once(task_queue: str = TASK_QUEUE) -> None:
    """One round; what Temporal can't take at the moment waits for the next one."""
    await in_thread(hand_out)
    waiting = await in_thread(lambda: list(Delivery.unasked()[:100]))
    try:
        client = await temporal.client() if waiting else None
        for delivery in waiting:
            assert client is not None
            await start(client, delivery, task_queue)
    except temporal.UNAVAILABLE as error:
        if not temporal.is_unavailable(error):
            raise


async def start(client: Client, delivery: Delivery, task_queue: str) -> None:
    """Starts the delivery's workflow, or finds it running."""
    bundled = delivery.about == EVENTS and delivery.tries == 0 and BY_NAME[delivery.channel].bundled
    await client.start_workflow(
        DeliveryWorkflow.run,
        DeliveryRequest(str(delivery.pk), BUNDLE_SECONDS if bundled and delivery.go == 1 else 0),
        id=delivery.workflow_id,
        task_queue=task_queue + NOTIFICATIONS,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        rpc_timeout=temporal.RPC_TIMEOUT,
    )
    mine = Delivery.objects.filter(pk=delivery.pk, go=delivery.go)
    await in_thread(mine.update, asked_at=timezone.now())


def hand_out() -> None:
    """Makes deliveries of the notices that nobody has handled."""
    about = "job__batch_item__batch"
    waiting = Notice.objects.filter(handled=False)
    notices = list(waiting.select_related("job", about)[:500])
    destinations = _destinations() if notices else []
    nobodys: list[int] = []
    for notice in notices:
        receivers = [each for each in destinations if _receives(each, notice)]
        if not receivers:
            nobodys.append(notice.pk)
            continue
        with transaction.atomic():
            if not waiting.filter(pk=notice.pk).update(handled=True):
                continue  # another worker has
            for each in receivers:
                Delivery.of_notice(each, notice, bundled=BY_NAME[each.channel].bundled)
    waiting.filter(pk__in=nobodys).update(handled=True)  # at once: most are of stages that nobody asked for


def _receives(destination: Destination, notice: Notice) -> bool:
    """Whether somebody wants to hear of it there."""
    if reported_by_batch(notice) and not BY_NAME[destination.channel].for_programs:
        return False
    owner = destination.owner
    mine = notice.job.owner_id == destination.owner_id
    return events.wanted(destination.wants, notice.type, mine=mine, admin=owner.is_staff)


def _destinations() -> list[Destination]:
    """Where people and programs are notified."""
    confirmed = Destination.objects.exclude(confirmed_at=None).filter(owner__is_active=True, ended="")
    return [each for each in confirmed.select_related("owner") if each.channel in BY_NAME]


def reported_by_batch(notice: Notice) -> bool:
    """Whether people hear of it by the one message at the end of the job's batch."""
    item = getattr(notice.job, "batch_item", None)
    if item is None or notice.type not in events.REPORTED_BY_BATCH:
        return False
    return item.batch.finished_at is None or notice.at <= item.batch.finished_at


def tell_of_batch(batch: Batch) -> None:
    """Tells people that the batch is over, in a message for each place, as it is ended."""
    counts = batch.counts()
    happened = [events.DONE] * bool(counts.done) + [events.HELD] * bool(counts.attention + counts.rejected)
    for each in _destinations():
        mine = batch.owner_id == each.owner_id
        admin = each.owner.is_staff
        wanted = any(events.wanted(each.wants, event, mine=mine, admin=admin) for event in happened)
        if wanted and not BY_NAME[each.channel].for_programs:
            Delivery.to(each, BATCH, batch)


def look(now: datetime) -> None:
    """Finds what no change of a row tells: jobs that still wait for a person, and stages that take long."""
    for job in Job.objects.filter(state=JobState.ATTENTION):
        since = job.stages.aggregate(last=Max("finished_at"))["last"]
        if since and (days := (now - since) // DAY) >= 1:
            still = events.Happened(events.STILL_HELD, text=_reason(job))
            Notice.store(job, [still], f"{since.timestamp():.0f}-{days}")
    usual: dict[str, float | None] = {}
    running = Stage.objects.filter(state=StageState.RUNNING, job__state=JobState.RUNNING)
    for stage in running.filter(started_at__lt=now - SLOW_LEAST).select_related("job"):
        if stage.name not in usual:
            usual[stage.name] = Stage.usual_seconds(stage.name)
        typical = usual[stage.name]
        if typical and stage.started_at and (now - stage.started_at).total_seconds() > SLOW_TIMES * typical:
            text = f"{stage.label} usually takes {_minutes(typical)} here."
            Notice.store(stage.job, [events.Happened(events.SLOW, stage.name, text)], "slow")
    Delivery.objects.filter(created_at__lt=now - KEEP_FOR).delete()
    Notice.objects.filter(at__lt=now - KEEP_FOR).exclude(job__state=JobState.ATTENTION).delete()


def _reason(job: Job) -> str:
    failed = job.stages.filter(state=StageState.FAILED).first()
    return f"{failed.label}: {failed.error}" if failed else ""


def _minutes(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return "a minute" if minutes == 1 else f"{minutes} minutes"
