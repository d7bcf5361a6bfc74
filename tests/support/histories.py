"""One history of every shape a job can take; tests/durable/test_09_deploy.py replays and saves them.

Jobs of older versions replay through today's workflow; what is saved here stands for them.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import uuid
from contextlib import suppress
from pathlib import Path

from temporalio import activity
from temporalio.client import WorkflowFailureError
from temporalio.worker import Worker

from jobs.removal.prune_workflow import PRUNE, PruneWorkflow
from jobs.requests import Failure, RetryRequest
from jobs.state import CONTROL, JobState, Output, StageState, StageStatus
from jobs.workflow.media_pipeline import MediaPipeline
from tests.support.product import until_async
from tests.support.world import (
    BOTH,
    BROKEN,
    World,
    attention,
    cancelled_with_creations,
    cloud_then_own,
    plan,
    running,
    status_when,
    transcode_last,
)

FOLDER = Path(__file__).parents[1] / "histories"
SILENT = Output(name="outputs/x.mp4", video_codec="h264", codecs_known=True, duration=10)
FLAKY = Failure("task_failed", task_over=True)
LOST = Failure("unreachable", outage=True, unanswered=True)


async def straight(env):
    async with running(env, World(), plan("previews")) as handle:
        await handle.result()
        return await handle.fetch_history()


async def checked(env):
    async with running(env, World(), plan("checked")) as handle:
        await handle.result()
        return await handle.fetch_history()


async def in_order(env):
    """The transcode waits for the thumbnails and the audio."""
    async with running(env, World(), transcode_last()) as handle:
        await handle.result()
        return await handle.fetch_history()


async def retried(env):
    script = {"extract_audio": [FLAKY, Failure("unreachable", outage=True)], "create transcode": [FLAKY]}
    async with running(env, World(script)) as handle:
        await handle.result()
        return await handle.fetch_history()


async def fallen_back(env):
    """The cloud fails for good, its task is given up, and the own engine makes the stage."""
    script = {"transcode": [BROKEN], "extract_audio": [FLAKY] * 3}
    async with running(env, World(script), cloud_then_own()) as handle:
        await handle.result()
        return await handle.fetch_history()


async def held(env):
    async with running(env, World({"transcode": [BROKEN]})) as handle:
        await status_when(env, handle, attention)
        await handle.execute_update(MediaPipeline.retry_stage, RetryRequest("transcode", "grace", "again"))
        await handle.result()
        return await handle.fetch_history()


async def given_up(env):
    async with running(env, World({"ingest": [BROKEN]})) as handle:
        with suppress(WorkflowFailureError):
            await handle.result()
        return await handle.fetch_history()


async def skipped(env):
    async with running(env, World({"ingest": [SILENT]})) as handle:
        await handle.result()
        return await handle.fetch_history()


async def carried(env):
    done = StageStatus("ingest", "Ingest", StageState.SUCCEEDED, 1, 3, output=BOTH, tries=1)
    given = plan(first_seq=30, carried={"ingest": done}, tries={"ingest": 1, "audio": 2})
    async with running(env, World(), given) as handle:
        await handle.result()
        return await handle.fetch_history()


async def timed_out(env):
    """The API takes longer over a task than its creation may take."""
    world = World({"create ingest": ["hang"]})
    async with running(env, world) as handle:
        await status_when(env, handle, lambda s: s.stage("ingest").retry_at is not None)
        world.gate.set()
        await handle.result()
        return await handle.fetch_history()


async def cancelled(env):
    async with running(env, World({"transcode": ["hang"]})) as handle:
        await status_when(
            env,
            handle,
            lambda s: s.state == JobState.RUNNING and s.stage("audio").state == StageState.SUCCEEDED,
        )
        await handle.cancel()
        with suppress(WorkflowFailureError):
            await handle.result()
        return await handle.fetch_history()


async def at_the_gate(env, world, created):
    """What a cancel makes of a pipeline that waits for *created* tasks to be created."""
    async with running(env, world) as handle:
        await until_async(lambda: asyncio.sleep(0, len(world.created) == created))
        await handle.cancel()
        await status_when(env, handle, lambda s: s.cancelling)
        world.gate.set()
        with suppress(WorkflowFailureError):
            await handle.result()
        return await handle.fetch_history()


async def cancelled_between(env):
    """While the tasks of the three that follow ingest are being created."""
    script = {f"create {name}": ["hang"] for name in ("thumbnails", "audio", "transcode")}
    return await at_the_gate(env, World(script), 4)


async def cancelled_unanswered(env):
    """While a task is being created of which nobody will hear."""
    return await at_the_gate(env, World({"create ingest": [("at the gate", LOST)]}), 1)


async def cancelled_as_created(env):
    """A worker hears of a new task and of the cancel at once."""
    world = World({"create ingest": [("at the gate", None)]})
    async with cancelled_with_creations(env, world, ["task-1"]) as handle:
        with suppress(WorkflowFailureError):
            await handle.result()
        return await handle.fetch_history()


async def cancelled_too_late(env):
    """When all is done but not yet recorded."""
    world = World()
    async with running(env, world) as handle:
        await status_when(env, handle, lambda s: s.stage("ingest").state == StageState.SUCCEEDED)
        world.script["record"] = ["hang"] * 9
        await status_when(env, handle, lambda s: s.state == JobState.SUCCEEDED)
        await handle.cancel()
        await status_when(env, handle, lambda _: True)
        world.gate.set()
        await handle.result()
        return await handle.fetch_history()


async def cancelled_at_its_end(env):
    """While its end is recorded."""
    world = World()
    async with running(env, world) as handle:
        world.at_end = handle.cancel
        await handle.result()
        return await handle.fetch_history()


@activity.defn(name=PRUNE)
async def prune() -> str:
    """As if something had gone."""
    return "ended sessions (2)"


async def pruned(env):
    """No job's: what is no longer kept is removed."""
    queue = f"prune-{uuid.uuid4()}"
    workflows = Worker(env.client, task_queue=queue, workflows=[PruneWorkflow])
    async with workflows, Worker(env.client, task_queue=queue + CONTROL, activities=[prune]):
        handle = await env.client.start_workflow(PruneWorkflow.run, id=queue, task_queue=queue)
        await handle.result()
        return await handle.fetch_history()


SKIPPING = (straight, checked, in_order, retried, fallen_back, held, given_up, skipped, carried, timed_out)
REAL = (cancelled, cancelled_between, cancelled_unanswered, cancelled_as_created)
REAL += (cancelled_too_late, cancelled_at_its_end)
OTHERS = (pruned,)  # of other workflows


def path_of(shape) -> Path:
    """Where the history of a shape is saved."""
    folder = FOLDER / "others" if shape in OTHERS else FOLDER
    return folder / f"{shape.__name__}.json.gz"


def save(path: Path, history) -> None:
    """Writes a history without the names of the machine that made it."""

    def plain(value):
        if isinstance(value, dict):
            return {k: "test" if k == "identity" else plain(v) for k, v in value.items()}
        return [plain(each) for each in value] if isinstance(value, list) else value

    path.parent.mkdir(exist_ok=True)
    text = json.dumps(plain(json.loads(history.to_json())), separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
