"""The verbs of a job that rests: make a stage again, add one, replace the source, use or remove a version.

As jobs.control, whose errors and sentences these share: whoever acts, on a page, by the API or by a command,
acts through these. What is changed in the row is in jobs.remaking.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping

from asgiref.sync import sync_to_async
from django.conf import settings

from jobs import control, remaking
from jobs.control import NotPossible, TemporalUnavailable
from jobs.live import reader
from jobs.models import EarlierVersion, Job, Upload
from jobs.pipelines import THUMBNAILS, Option
from jobs.state import Source
from mediapipe.task_options import check_options
from mediapipe.validators import InvalidRequest

BEGINS_LATER = "It begins as soon as the workflow service is back."
RUNNING = "This job is running. Wait until it’s done, or cancel it first."
NO_VERSION = "This earlier version is gone: someone has removed it, or it’s in use again."
CANCELLING = "This job is being cancelled. Try again when it has ended."
REMOVED_LATER = "The storage can’t be reached. The files are removed when it’s back."

log = logging.getLogger(__name__)


async def make_again(
    job: Job, stage: str, changes: Mapping[str, Option | None], actor: str, reason: str = ""
) -> str:
    """Makes a stage of a closed job again with other options, and what needs it; returns a sentence.

    *changes*: to the options it has; None leaves one to the engine. The outputs that it has become earlier
    versions. Raises NotPossible.
    """
    await control.reread(job)
    planned = job.planned(stage)
    if planned is None or not remaking.can_be_made_again(planned):
        raise NotPossible(f"This job has no stage {stage!r:.60} that can be made again.")
    wanted = {name: value for name, value in {**planned["options"], **changes}.items() if value is not None}
    try:
        check_options(planned["kind"], wanted)
    except InvalidRequest as error:
        raise NotPossible(str(error)) from None
    with control.source_is_wanted():
        begun = await sync_to_async(remaking.make_again)(job, stage, wanted, actor, reason[:500])
    if not begun:
        raise await _why_not(job)
    return await _begin(job, f"Making {planned['label']} again.")


async def use_frame(job: Job, seconds: float, shown: str, actor: str, reason: str = "") -> str:
    """Makes the thumbnail of the frame at *seconds* of what the player shows; as make_again().

    *shown*: the stage whose output that is. It may begin later than what the thumbnail is taken from.
    """
    thumbnails = job.planned(THUMBNAILS.name)
    player = job.planned(shown)
    same = thumbnails is not None and shown == thumbnails["needs"]
    skipped = 0.0 if same or player is None else float(player["options"].get("start", 0))
    changes: dict[str, Option | None] = {"start": round(seconds + skipped, 3)}
    if settings.EMBEDDED_ENGINE:  # no other one knows it
        changes["moment"] = "exact"
    return await make_again(job, THUMBNAILS.name, changes, actor, reason)


async def add_stage(job: Job, name: str, actor: str, reason: str = "") -> str:
    """Adds a stage that another pipeline has to a closed job; returns a sentence. Raises NotPossible."""
    await control.reread(job)
    addable = await sync_to_async(remaking.addable)(job)
    stage = next((each for each in addable if each.name == name), None)
    if stage is None:
        raise NotPossible(f"There’s no {name!r:.60} to add: this job has it, or no pipeline offers it.")
    with control.source_is_wanted():
        begun = await sync_to_async(remaking.add)(job, stage, actor, reason[:500])
    if not begun:
        raise await _why_not(job)
    return await _begin(job, f"Adding {stage.label}.")


async def add_pipeline(job: Job, name: str, actor: str, reason: str = "") -> str:
    """Adds all that a closed job lacks of another pipeline; returns a sentence. Raises NotPossible."""
    await control.reread(job)
    if not await sync_to_async(remaking.add_pipeline)(job, name, actor, reason[:500]):
        await control.reread(job)
        raise await _why_not(job) if job.active else NotPossible("This job has all of it.")
    return await _begin(job, "Adding what it lacks.")


async def check_replaceable(job: Job) -> None:
    """Raises NotPossible where the source can't be replaced now: before a file is stored for it."""
    await control.reread(job)
    if job.working or job.being_deleted or job.cancelling:
        raise await _why_not(job)


async def replace_source(
    job: Job, source: Source, actor: str, reason: str = "", upload: Upload | None = None
) -> str:
    """Runs the job on another *source*, under its own address; returns a sentence. Raises NotPossible.

    *upload*: which it came by. The file that is nobody's then is removed.
    """
    await control.reread(job)
    before = job.source
    changed = await sync_to_async(remaking.replace_source)(job, source, actor, reason[:500], upload)
    unused = before if changed else source
    try:
        await sync_to_async(remaking.remove_source)(unused.name)
    except OSError as error:
        log.warning("the source %s of job %s can't be removed: %s", unused.name, job.pk, error)
    if not changed:
        raise await _why_not(job)
    await control.reread(job)
    with contextlib.suppress(TemporalUnavailable):
        await control.end_run_before(job)
    return await _begin(job, "Starting on the new source.")


async def _begin(job: Job, sentence: str) -> str:
    """Starts the job that was queued again; it is started later where Temporal is away."""
    await control.reread(job)
    reader.invalidate(job)
    return sentence if await control.start(job) else f"{sentence} {BEGINS_LATER}"


async def _why_not(job: Job) -> NotPossible:
    """Why nothing was changed in the job as it now stands."""
    await control.reread(job)
    return await control.going(job) or NotPossible(CANCELLING if job.cancelling else RUNNING)


async def go_back(job: Job, number: int, actor: str, reason: str = "") -> str:
    """Uses an earlier version again; returns a sentence. Raises NotPossible."""
    await control.reread(job)
    if not await sync_to_async(remaking.go_back)(job, number, actor):
        known = await EarlierVersion.objects.filter(job=job.pk, pk=number, removed=False).aexists()
        raise await _why_not(job) if known else NotPossible(NO_VERSION)
    return "The earlier version is used again."


async def remove_version(job: Job, number: int, actor: str, reason: str = "") -> str:
    """Removes an earlier version and its files; returns a sentence.

    Raises NotPossible; TemporalUnavailable where the storage doesn't answer, and jobs.reconcile removes them.
    """
    await control.reread(job)
    version = await sync_to_async(remaking.mark_removed)(job, number, actor)
    if version is None:
        raise NotPossible(NO_VERSION)
    try:
        await sync_to_async(remaking.remove_files)(version)
    except OSError:
        raise TemporalUnavailable(REMOVED_LATER) from None
    return "The earlier version was removed."
