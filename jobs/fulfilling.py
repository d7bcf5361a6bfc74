"""Does what people asked for where it couldn't be done at once: the wishes that jobs' rows keep.

It asks no Temporal what runs: jobs.reconcile, which calls it every few seconds, has settled that before.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Sequence

from asgiref.sync import sync_to_async

from jobs import control, remaking, workflow_calls
from jobs.closing import FORCED, Closing
from jobs.models import EarlierVersion, Job
from jobs.models.wish import DELETE, DELETE_AT_END, FORCE_RESTART, RETRY, Wish
from jobs.removal import deleting, trash
from jobs.state import JobState
from mediapipe.database import in_thread

log = logging.getLogger(__name__)

DELETES = 3  # at a time, of those that wait for the storage
DELETE_SECONDS = 5.0  # for which a round waits for them
STILL_WANTED = (  # by whom asked for a job that has been closed since: it is started again
    (RETRY, JobState.FAILED),
    (FORCE_RESTART, JobState.FAILED),
    (FORCE_RESTART, JobState.CANCELLED),
)

_deleting: list[asyncio.Future[list[bool]]] = []  # a few deletes that may still be under way


class Fulfilling:
    """All wishes but deletes; *closing* ends what a forced restart ends."""

    def __init__(self, closing: Closing) -> None:
        self.closing = closing

    async def fulfil(self, job: Job) -> bool:
        """Does each of them, or drops what has no more use; whether the job was changed. Raises RPCError."""
        done = False
        for wish in job.wishes:
            await job.arefresh_from_db()
            if not any(wish.same(other) for other in job.wishes):
                continue  # done by somebody meanwhile, or moot
            with contextlib.suppress(control.NotPossible, control.TemporalUnavailable):
                done |= await self._fulfil_one(job, wish)
        return done

    async def _fulfil_one(self, job: Job, wish: Wish) -> bool:
        if wish.run != job.run:
            await sync_to_async(job.drop_wish)(wish)
        elif job.active and wish.kind == FORCE_RESTART:
            return await self._force_restart(job, wish)
        elif job.active and job.workflow_started_at and wish.kind in workflow_calls.SENDERS:
            await workflow_calls.deliver(job, wish)
        elif wish.kind == DELETE_AT_END:
            return not job.active and await self._delete(job, wish)
        elif (wish.kind, job.state) in STILL_WANTED:
            await control.start_again(job, wish.actor, wish.reason)
        elif not job.active:
            await sync_to_async(job.drop_wish)(wish)
        else:  # about to be started: who starts it delivers it
            return False
        return True

    async def _delete(self, job: Job, wish: Wish) -> bool:
        try:
            await deleting.delete(job, wish.actor)
        except control.Refused:  # to do it again would end the same way
            await sync_to_async(job.drop_wish)(wish)
            return False
        return True

    async def _force_restart(self, job: Job, wish: Wish) -> bool:
        """Ends a run that can't continue, and starts the job again; one that can continue is left alone."""
        if not job.workflow_started_at:
            return False  # about to be started: then it is known whether it can continue
        if (found := await self.closing.running(job)) is None:
            await self.closing.settle(job)
        elif await self.closing.terminate_in_trouble(job, found):
            await self.closing.close(job, JobState.FAILED, FORCED)
        else:
            await sync_to_async(job.drop_wish)(wish)
            await sync_to_async(job.add_event)("continues", actor=wish.actor, text=control.CONTINUES)
            return False
        await job.arefresh_from_db()
        return not job.active and await self._fulfil_one(job, wish)


async def delete_some(unwanted: Sequence[Job | EarlierVersion]) -> int:
    """Deletes a few of the jobs and earlier versions that people asked to be rid of; how many are gone.

    By chance, so that none waits behind those that can't go; and where the storage is so late that a round
    can't wait for it, no others until these are answered.
    """
    if any(not task.done() for task in _deleting):
        return 0
    chosen = random.sample(unwanted, min(len(unwanted), DELETES))
    under_way = asyncio.ensure_future(asyncio.gather(*map(_delete, chosen)))
    _deleting[:] = [under_way]
    await asyncio.wait(_deleting, timeout=DELETE_SECONDS)
    return sum(under_way.result()) if under_way.done() else 0


async def _delete(unwanted: Job | EarlierVersion) -> bool:
    try:
        await in_thread(_remove, unwanted)
    except (control.NotPossible, control.TemporalUnavailable):
        return False  # said in the log
    except Exception:
        log.exception("%s could not be deleted", unwanted.pk)
        return False
    return True


def _remove(unwanted: Job | EarlierVersion) -> None:
    if isinstance(unwanted, EarlierVersion):
        return remaking.remove_files(unwanted)
    actor = next((wish.actor for wish in unwanted.wishes if wish.kind == DELETE), trash.TRASH_ACTOR)
    deleting.remove(unwanted, actor)
