"""5. What keeps progressing is never stopped by a fixed limit; what stalls is stopped, named and retried."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import timedelta
from itertools import count

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from jobs.models import Stage
from jobs.pipelines import AUDIO, INGEST, THUMBNAILS, TRANSCODE, allowed_seconds
from jobs.requests import Failure, TaskRequest, TaskWatch
from jobs.state import JobState, Output, Source
from jobs.workflow.limits import allowed_without_progress
from jobs.workflow.watch import Watcher
from tests.support import recorded
from tests.support.world import World, plan, running

pytestmark = pytest.mark.anyio
HOUR = 3600.0


async def create(doing, key):
    request = TaskRequest("job", "ingest", "video", {}, Source(url="https://example.com/a"), key)
    return await ActivityEnvironment().run(doing.create_task, request)


async def watch(doing, task, **limits):
    env, beats = ActivityEnvironment(), []
    env.on_heartbeat = lambda *details: beats.append(details[0])
    return await env.run(Watcher(doing.client, TaskWatch(task, **limits)).result), beats


@pytest.mark.parametrize(
    "stage, duration, size, allowed",
    [
        (INGEST, 30.0, 10**6, 600),  # the floor
        (THUMBNAILS, 1.0, 10**6, 122),
        (AUDIO, 60.0, 10**6, 1200),
        (TRANSCODE, 3 * HOUR, 8 * 10**9, 60 * HOUR),  # a film of three hours
        (TRANSCODE, None, 90 * 10**9, 90e9 / 500_000 + 120),  # only its size is known
        (TRANSCODE, None, None, 24 * HOUR),  # nothing is known
        (TRANSCODE, 1e14, None, 720 * HOUR),  # nonsense
    ],
)
def test_the_time_a_stage_gets_grows_with_the_media(stage, duration, size, allowed):
    assert allowed_seconds(stage, duration, size) == pytest.approx(allowed)


async def test_a_three_hour_film_gets_sixty_hours_for_its_transcode(skipping_env):
    film = Output(name="outputs/x.mp4", duration=3 * HOUR, filesize=10**9)
    world = World({"ingest": [film]})
    async with running(skipping_env, world) as handle:
        assert (await handle.result()).state == JobState.SUCCEEDED
    limits = {round(watched.allowed) for watched in world.watches[1:]}
    assert limits == {60 * 3600}
    assert {watched.stall for watched in world.watches[1:]} == {120, 900, 600}


async def test_a_length_that_makes_no_sense_does_not_jam_the_workflow(skipping_env):
    film = Output(name="outputs/x.mp4", duration=1e300, filesize=10**18)
    async with running(skipping_env, World({"ingest": [film]})) as handle:
        assert (await asyncio.wait_for(handle.result(), 60)).state == JobState.SUCCEEDED


async def test_a_task_without_progress_is_stopped_and_named(doing, api):
    api.life, api.extra = ["processing"], {"progress": 40}
    task = await create(doing, "media-long/1")
    with pytest.raises(ApplicationError) as error:
        await watch(doing, task, allowed=60, stall=0.5)
    assert error.value.details[0].kind == "stalled"
    assert error.value.details[0].stop and error.value.details[0].task_over
    assert "No progress for" in error.value.message and "at 40%" in error.value.message


async def test_a_task_that_has_lost_its_worker_stands_in_line_for_the_next_and_is_no_stall(doing, api):
    """All places may be taken for longer than the limit, or the line paused."""
    api.life, api.extra = ["processing"] * 12 + ["succeeded"], {"progress": 40, "waiting_for": "worker"}
    task = await create(doing, "media-long/lost")
    output, beats = await watch(doing, task, allowed=0.2, stall=0.2)
    assert output.url and {beat.waiting_for for beat in beats} >= {"worker"}


async def test_a_task_that_progresses_is_never_stopped_by_the_stall_limit(doing, api):
    api.life = ["processing"] * 9 + ["succeeded"]
    task = await create(doing, "media-long/2")

    async def moving():
        for number in count():  # for as long as the reads take on a busy machine
            api.extra = {"progress": 2 * number % 100}
            await asyncio.sleep(0.05)

    mover = asyncio.create_task(moving())
    output, beats = await watch(doing, task, allowed=60, stall=0.5)
    mover.cancel()
    assert output.url
    assert max(beat.progress for beat in beats) > 10


async def test_time_in_the_queue_is_free(doing, api):
    api.life = ["queued"] * 8 + ["processing"]
    task = await create(doing, "media-long/3")
    began = time.monotonic()
    with pytest.raises(ApplicationError) as error:
        await watch(doing, task, allowed=0.5, stall=60)
    assert error.value.details[0].kind == "timeout"
    assert time.monotonic() - began > 1.0


async def test_only_a_source_of_which_nothing_is_known_is_watched_by_a_learned_limit(skipping_env):
    film = Output(url="https://store.example.com/x.mp4", name="outputs/x.mp4")
    world = World({"ingest": [replace(film, duration=60)]})
    async with running(skipping_env, world, plan()) as handle:
        await handle.result()
    assert [watched.source and watched.source.url for watched in world.watches] == [
        *("https://example.com/a.mov", None, None, None)
    ]


async def test_a_task_that_tells_no_percentage_and_takes_far_longer_than_usual_is_given_up(doing, api):
    api.life, asked = ["processing"], []

    async def usual() -> float:
        asked.append(time.monotonic())
        return 0.6

    async def watching(task, **limits):
        return await ActivityEnvironment().run(
            Watcher(doing.client, TaskWatch(task, **limits), learn_limit=usual).result
        )

    task = await create(doing, "media-long/4")
    with pytest.raises(ApplicationError, match="without reporting a percentage") as error:
        await watching(task, allowed=60, stall=0.2)
    assert error.value.details[0] == Failure("stalled", task_over=True, stop=True)
    assert len(asked) == 1
    api.extra = {"progress": 40}  # who tells percentages is judged by them
    with pytest.raises(ApplicationError, match="No progress for"):
        await watching(task, allowed=60, stall=0.2)
    assert len(asked) == 1


class Silent:
    """A file server that tells the size alone: of *size* bytes, "" for none, "N part" for one byte of N."""

    def __init__(self, size: str) -> None:
        self.size, self.methods = size, []

    async def answer(self, reader, writer):
        self.methods.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[0])
        known, _, kind = self.size.partition(" ")
        status, header = ("206 Partial", f"Content-Range: bytes 0-0/{known}") if kind else ("200 OK", "")
        header = header or f"Content-Length: {known}" if known else "X: y"
        writer.write(f"HTTP/1.1 {status}\r\n{header}\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("seconds", "size", "allowed"),
    [
        (None, "", HOUR),  # nothing is known
        (4, "", HOUR),  # of a size that nobody says: it may be a long film after many short clips
        (4, str(10**6), 600),  # the stage's own timeout
        (100, str(10**6), 2000),
        (100, f"{5 * 10**9} part", 10_120),
        (None, str(5 * 10**9), 10_120),
        (9 * HOUR, "", 24 * HOUR),
    ],
)
async def test_the_limit_is_learned_from_finished_stages_and_the_size_of_the_source(
    editor, settings, seconds, size, allowed
):
    settings.ALLOW_PRIVATE_SOURCES = True
    if seconds is not None:
        await sync_to_async(recorded.job)(editor)
        now = timezone.now()
        await Stage.objects.filter(name="ingest").aupdate(
            started_at=now - timedelta(seconds=seconds), finished_at=now
        )
    server = Silent(size)
    async with await asyncio.start_server(server.answer, "127.0.0.1", 0) as listening:
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/film.mp4"
        watched = TaskWatch("t", 24 * HOUR, 600, Source(url=url))
        assert await allowed_without_progress("ingest", watched) == pytest.approx(allowed)
        assert server.methods == [b"GET"]
        settings.ALLOW_PRIVATE_SOURCES = False
        await allowed_without_progress("ingest", watched)
        assert server.methods == [b"GET"], "an address that may not be fetched was asked"


@pytest.mark.parametrize("kind", ["stalled", "timeout"])
async def test_a_stalled_task_is_stopped_at_the_engine_before_another_is_asked_for(skipping_env, kind):
    world = World({"transcode": [Failure(kind, task_over=True, stop=True)]})
    async with running(skipping_env, world, plan()) as handle:
        status = await handle.result()
    assert world.cancelled == [f"task-{[name for name, _ in world.created].index('transcode') + 1}"]
    assert world.keys("transcode") == ["transcode/1", "transcode/2"]
    assert status.stage("transcode").attempt == 2
    assert any(event.text == f"Transcode failed on attempt 1: it failed: {kind}" for event in world.events())
