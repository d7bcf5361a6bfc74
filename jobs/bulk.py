"""What is done to many jobs at once, and the sentence about what was done and what was not."""

from __future__ import annotations

from asgiref.sync import async_to_sync, sync_to_async

from jobs import temporal
from jobs.models import Job

MOST = 5000  # jobs that are acted on at once
ACTIONS = {"retry": "retried", "cancel": "cancelled", "delete": "deleted"}
SKIPPED = {
    "retry": "nothing failed there",
    "cancel": "they had already ended",
    "delete": "they are still active; cancel them first",
}


def act(action: str, jobs: list[Job], actor: str) -> tuple[str, int]:
    """Does it to each job; the sentence, and how many it was done to."""
    done = async_to_sync(_each)(action, jobs, actor)
    skipped = len(jobs) - done
    text = f"{done} {ACTIONS[action]}" + (f", {skipped} skipped: {SKIPPED[action]}" if skipped else "") + "."
    return text, done


async def _each(action: str, jobs: list[Job], actor: str) -> int:
    done = 0
    for job in jobs:
        try:
            if action == "delete":
                done += await sync_to_async(job.remove)()
                continue
            await (temporal.retry(job, None, actor) if action == "retry" else temporal.cancel(job, actor))
            done += 1
        except (temporal.Refused, temporal.Unavailable):
            continue
    return done
