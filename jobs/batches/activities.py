"""The activity of a batch: one look at its rows, and what they ask for. It gives Temporal no text."""

from __future__ import annotations

import contextlib
from uuid import UUID

from django.db import transaction
from temporalio import activity

from jobs import control
from jobs.batches.batch_workflow import ADVANCE_BATCH
from jobs.models import Batch, Job
from jobs.notifications import outbox
from mediapipe.database import in_thread


@activity.defn(name=ADVANCE_BATCH)
async def advance(batch_id: str) -> bool:
    """Starts the jobs that have room, and cancels what is to be cancelled; whether the batch is over.

    Twice is once: an item's job has the item's own id, and a job is started by its claim. One that is made
    and not started when a worker dies is started by the reconciler.
    """
    batch = await in_thread(Batch.objects.filter(pk=UUID(batch_id), finished_at=None).first)
    if batch is None:
        return True
    for job in await in_thread(lambda: list(batch.to_cancel())):
        with contextlib.suppress(control.NotPossible, control.TemporalUnavailable):  # ended, or kept
            await control.cancel(job, batch.cancelled_by)
    made: list[Job | None] = [await in_thread(item.submit) for item in await in_thread(batch.due)]
    for job in filter(None, made):
        if not await control.start(job):
            break  # Temporal is away: the reconciler starts them
    return await in_thread(_finish, batch)


def _finish(batch: Batch) -> bool:
    """Ends it where there is nothing left to do, and tells people in the same transaction."""
    with transaction.atomic():
        if finished := batch.finish():
            outbox.tell_of_batch(batch)
    return finished
