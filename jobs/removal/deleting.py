"""The verbs that end a job: delete, which puts it into the trash, restore, and delete for good.

As jobs.control, whose errors these share: whoever acts, on a page, in bulk, by the API or in the back office,
acts through these. What changes in the rows is in jobs.removal.trash and jobs.models.job.
"""

from __future__ import annotations

import contextlib
import logging
from uuid import UUID

from asgiref.sync import sync_to_async

from jobs import control
from jobs.control import JOB_DELETED, NotPossible, Refused, TemporalUnavailable
from jobs.live import reader
from jobs.models import Job
from jobs.models.wish import DELETE, DELETE_AT_END, Wish
from jobs.removal import trash
from mediapipe.database import OUTAGES

log = logging.getLogger(__name__)

BATCH_SIZE = 100  # jobs that are put into the trash at a time: their rows are locked for as long

DELETE_LATER = "The storage can’t be reached. Your delete is finished when it’s back."
DATABASE_AWAY = "The database can’t be reached. Look again in a moment whether the job is still there."
NOT_DELETED = (
    "This job couldn’t be deleted, and some of its media may be gone. "
    "An admin can find the reason in the log; delete it again after that."
)
RUNNING = "This job is still running; cancel it first."
AT_ITS_END = "Cancelling. It’s deleted as soon as it has ended."
AT_ITS_END_LATER = "The workflow service can’t be reached. Your job is cancelled and deleted when it’s back."
NOT_THERE = "This job isn’t in the trash any more."


async def delete(job: Job, actor: str, reason: str = "") -> str:
    """Puts a closed job into the trash; returns a sentence. Raises NotPossible.

    Where no time is set for the trash, as delete_for_good().
    """
    if not trash.lifetime():
        return await delete_for_good(job, actor)
    await control.reread(job)
    if job.being_deleted:  # for good already, which waits for the storage
        return await delete_for_good(job, actor)
    if await sync_to_async(_put_in_trash)([job], actor):
        return "Deleted."
    await control.reread(job)
    raise NotPossible(RUNNING)


async def cancel_and_delete(job: Job, actor: str, reason: str = "") -> str:
    """Deletes a job that may still run: cancels it and deletes it when it has ended; returns a sentence.

    The wish stays in the row until then, and jobs.fulfilling does it. Raises as delete().
    """
    await control.reread(job)
    wish = Wish(DELETE_AT_END, actor, reason[:500], job.run)
    if job.active and await sync_to_async(job.keep_wish)(wish):
        with contextlib.suppress(NotPossible):  # it has just ended
            try:
                await control.cancel(job, actor, reason)
            except TemporalUnavailable:
                raise TemporalUnavailable(AT_ITS_END_LATER) from None
        try:
            await control.reread(job)
        except Refused:  # done by somebody who was faster
            return "Deleted."
        if job.active:
            return AT_ITS_END
    return await delete(job, actor)


def delete_together(jobs: list[Job], actor: str) -> list[Job]:
    """Puts what can be of *jobs* into the trash, many in a transaction; the rest, of which delete() says why.

    All of them are the rest where no time is set for the trash, and what comes after an outage is.
    """
    rest = list(jobs)
    for at in range(0, len(jobs) if trash.lifetime() else 0, BATCH_SIZE):
        try:
            done = _put_in_trash(jobs[at : at + BATCH_SIZE], actor)
        except OUTAGES as error:
            log.warning("jobs can't be deleted yet: %s", error)
            break
        rest = [job for job in rest if job.pk not in done]
    return rest


def _put_in_trash(jobs: list[Job], actor: str) -> set[UUID]:
    done = trash.put_in(jobs, actor)
    for job in jobs:
        if job.pk in done:
            log.info("job %s (%s) was deleted by %s", job.pk, job.title, actor)
            reader.invalidate(job)
    return done


async def restore(job: Job, actor: str, reason: str = "") -> str:
    """Takes a job out of the trash; returns a sentence. Raises NotPossible."""
    if not await sync_to_async(trash.take_out)(job, actor):
        raise Refused(NOT_THERE)
    return "Restored."


async def delete_for_good(job: Job, actor: str, reason: str = "") -> str:
    """Deletes a closed job and its media; returns a sentence.

    Raises NotPossible; TemporalUnavailable where the storage doesn't answer, and the wish is kept.
    """
    return await sync_to_async(remove)(job, actor)


def remove(job: Job, actor: str) -> str:
    """What delete_for_good() does, for a caller with threads of its own: a storage may answer late."""
    name = job.pk  # which Django takes away with the row
    try:
        removed = job.remove(actor)
    except OSError as error:
        log.warning("job %s can't be deleted yet: %s", name, error)
        raise TemporalUnavailable(DELETE_LATER) from None
    except OUTAGES:
        raise TemporalUnavailable(DATABASE_AWAY) from None
    except Exception:
        log.exception("job %s could not be deleted", name)
        job.drop_wish(Wish(DELETE, actor, run=job.run))  # to do it again would end the same way
        raise Refused(NOT_DELETED) from None
    if not removed and not Job.with_trash.filter(pk=name).exists():
        raise Refused(JOB_DELETED)
    if not removed:
        raise NotPossible(RUNNING)
    log.info("job %s (%s) was deleted for good by %s", name, job.title, actor)
    return "Deleted."
