"""A film's pieces on several machines: as long as it needs for all to be done at once, and in their order."""

from __future__ import annotations

import asyncio
import heapq
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from asgiref.sync import sync_to_async
from temporalio.client import Client
from temporalio.worker import Worker

from mediapipe import storage, task_queues
from mediapipe.engine import piece_files, sources, worker
from mediapipe.engine.hooks import Hooks
from mediapipe.engine.kinds import KINDS
from mediapipe.engine.media import Audio, Media, Video
from mediapipe.engine.pieces import Division, divide
from mediapipe.engine.piecework import Film
from mediapipe.engine.sources import source_file
from mediapipe.engine.workflows import HEAVY_QUEUE
from mediapipe.storage import s3
from tests.support.engine import endless_space, enqueued
from tests.support.product import until_async
from tests.test_engine_pieces import ASKED, SOURCES, new, put, run

OPTIONS = {"format": "mp4", "width": 1280, "codec": "h264", "quality": "medium"}


def cut(takers: int, seconds: float = 120.0, cores: int = 1) -> Division:
    """A film of 1080p at 25 frames a second, cut for so many."""
    count = round(seconds * 25)
    video = Video(0, "h264", 1920, 1080, fps=25, frames=count, duration=seconds, decodes=True)
    media = Media("mov", seconds, video=video, audio=Audio(1, "aac"))
    places = range(2, int(seconds), 2)
    read = {"read": 0.0, "joint": 0.0}
    cuts = [{"at": at - 0.02, "first": at, "before": at * 25, "late": 0.0, **read} for at in places]
    about = {"problem": "", "origin": 0, "end": 0.0, "slack": 0, **read}
    times = {**about, "first": 0.0, "last": seconds, "count": count, "cuts": cuts}
    plan = KINDS["video"].plan(OPTIONS, media, "/x")
    found = divide(plan, media, times, "key", cores, takers)
    assert found
    assert sum(piece.frames for piece in found.pieces) == count
    return found


def all_done(lengths: Iterable[float], takers: int, late: float) -> float:
    """When the last piece is, if each taker takes the next one; the first of them begins *late*."""
    free = [late, *[0.0] * (takers - 1)]
    for length in lengths:
        heapq.heapreplace(free, free[0] + length)
    return max(free)


@pytest.mark.parametrize("takers", [2, 3, 4])
@pytest.mark.parametrize("seconds", [120.0, 137.0, 600.0])
def test_machines_that_share_a_film_are_done_with_it_at_about_the_same_time(takers, seconds):
    """Whenever one of them comes to it: nobody waits for longer than a short piece takes."""
    lengths = [piece.seconds for piece in cut(takers, seconds).pieces]
    for late in (0.0, 3.0, 7.0, 12.0):
        even = (seconds + late) / takers
        assert all_done(lengths, takers, late) - even <= max(lengths) / 3, (
            late,
            lengths,
        )


def test_one_machine_alone_encodes_pieces_of_the_same_length():
    lengths = {piece.seconds for piece in cut(1).pieces[:-1]}
    assert len(lengths) == 1 and len(cut(1).pieces) == 7


def test_a_film_begins_with_the_same_pieces_for_however_many_machines():
    """So that a retry finds them, whatever machines have come or gone meanwhile."""
    one, two = ([piece.name for piece in cut(takers, 240).pieces] for takers in (1, 2))
    assert one[:10] == two[:10] and one != two and len(set(two)) == len(two)


@pytest.mark.anyio
@pytest.mark.django_db(transaction=True)
class TestOnMachines:
    """With files, a bucket and Temporal."""

    async def test_what_one_division_has_made_another_one_finds(self, short_pieces, made):
        link = put(made, "open.mp4", SOURCES["open.mp4"])
        film = await Film.of("t", KINDS["video"], ASKED, link, Hooks(endless_space))
        one, two = await film.division(), await film.division(takers=3)
        assert one and two and one.key == two.key
        assert (one.at_once, two.at_once) == (2, 6)

    async def test_no_more_pieces_wait_than_are_soon_taken(self, engine_workers, short_pieces, made):
        """So they are taken in their order, the short ones last."""
        task = await new(put(made, "open.mp4", SOURCES["open.mp4"]))
        await enqueued(task)
        handle = engine_workers.get_workflow_handle(task.pk)
        await handle.result()
        await task.arefresh_from_db()
        assert task.status == "succeeded", task.error
        asked: dict[int, str] = {}
        waiting: set[int] = set()
        most = 0
        async for event in handle.fetch_history_events():
            if event.HasField("activity_task_scheduled_event_attributes"):
                about = event.activity_task_scheduled_event_attributes
                if about.activity_type.name == "encode_piece" and about.task_queue.name == HEAVY_QUEUE:
                    asked[event.event_id] = event.user_metadata.summary.data.decode()
                    waiting.add(event.event_id)
            if event.HasField("activity_task_completed_event_attributes"):
                waiting.discard(event.activity_task_completed_event_attributes.scheduled_event_id)
            most = max(most, len(waiting))
        count = len(asked)
        assert list(asked.values()) == [f'"piece {number} of {count}"' for number in range(1, count + 1)]
        assert most == 2 < count

    async def test_a_task_goes_to_another_machine_where_its_source_may_be(
        self, bucket, engine_workers, made, settings, tmp_path, monkeypatch
    ):
        """Once, unless it is here, or there is no other, or it is soon fetched."""
        (bucket.folder / "sources").mkdir()
        for name in ("one", "two", "small"):
            clip = made("open.mp4", *SOURCES["open.mp4"])
            (bucket.folder / f"sources/{name}.mp4").write_bytes(clip.read_bytes())
        await asyncio.to_thread(bucket.start)
        settings.WORK_ROOT = tmp_path / "here"
        given = [await self.given(engine_workers, name) for name in ("one", "one")]
        host = engine_workers.service_client.config.target_host
        other = await Client.connect(host, identity="another machine")
        async with Worker(other, task_queue=HEAVY_QUEUE, activities=[worker.run_task]):

            async def polls() -> bool:
                return await task_queues.pollers(HEAVY_QUEUE) == 2

            await until_async(polls)
            given += [await self.given(engine_workers, "small")]
            monkeypatch.setattr(sources, "SOON_FETCHED", 0)
            given += [await self.given(engine_workers, name) for name in ("two", "two", "one")]
        assert given == [1, 1, 1, 2, 1, 1]

    async def test_how_large_an_output_is_its_row_says_and_no_bucket_that_may_be_away(self, bucket):
        """One that has just taken a film reads it again before it says anything of it."""
        for size in (sources.SOON_FETCHED, sources.SOON_FETCHED + 1):
            ingest = await new("media:sources/one.mp4")
            name = f"outputs/{ingest.pk}.mp4"
            await sync_to_async(ingest.succeed)({"name": name, "filesize": size}, [])
            later = await new(f"{storage.OWN_FILE_PREFIX}{name}")
            is_far = await sync_to_async(worker.is_far_from_its_source)(later.pk)
            assert is_far == (size > sources.SOON_FETCHED)

    async def test_all_threads_of_a_process_have_one_connection_to_the_bucket(self, bucket):
        """To make another one takes a fifth of a second of the processor."""
        together = threading.Barrier(3)

        def connection() -> object:
            together.wait(30)
            return s3.storage().connection

        for _ in range(2):  # the first ones may each have made one
            found = await asyncio.gather(*(asyncio.to_thread(connection) for _ in range(3)))
        assert len(set(map(id, found))) == 1

    async def test_pieces_of_other_machines_come_several_at_a_time(self, bucket, settings, tmp_path):
        """And whole: a bucket that is far takes longer to answer than to send one."""
        settings.WORK_ROOT = tmp_path / "here"
        asked: set[str] = set()
        several = threading.Event()

        class Far(BaseHTTPRequestHandler):
            """Answers nobody until three have asked."""

            def do_GET(self) -> None:
                asked.add(self.path)
                if len(asked) == 3:
                    several.set()
                assert several.wait(10)
                body = self.path.encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        with ThreadingHTTPServer(("127.0.0.1", bucket.port), Far) as far:
            serving = asyncio.create_task(asyncio.to_thread(far.serve_forever))
            try:
                await piece_files.bring("key", [f"{number}.mp4" for number in range(6)], Hooks(endless_space))
            finally:
                far.shutdown()
                await serving
        kept = {each.name: each.read_text() for each in piece_files.folder("key").iterdir()}
        wanted = [f"{number}.{kind}" for number in range(6) for kind in ("json", "mp4")]
        assert kept == {name: f"/media/pieces/key/{name}" for name in wanted}

    async def given(self, client, name: str) -> int:
        """How often a task on a file of the bucket was given out."""
        task = await new(f"{storage.OWN_FILE_PREFIX}sources/{name}.mp4", start=0, end=1)
        await enqueued(task)
        handle = client.get_workflow_handle(task.pk)
        await handle.result()
        await task.arefresh_from_db()
        assert task.status == "succeeded", task.error
        events = [event async for event in handle.fetch_history_events()]
        started = [event.activity_task_started_event_attributes for event in events]
        return max(each.attempt for each in started)

    async def test_what_a_machine_has_put_into_the_bucket_it_need_not_fetch(
        self, bucket, made, settings, tmp_path
    ):
        """Nor look into again, however many tasks read it."""
        await asyncio.to_thread(bucket.start)
        (bucket.folder / "sources").mkdir()
        (bucket.folder / "sources/open.mp4").write_bytes(made("open.mp4", *SOURCES["open.mp4"]).read_bytes())
        settings.WORK_ROOT = tmp_path / "here"
        task = await new(f"{storage.OWN_FILE_PREFIX}sources/open.mp4", start=0, end=1)
        await run(worker.run_task, task.pk)
        await task.arefresh_from_db()
        assert task.status == "succeeded", task.error
        name = task.output["name"]
        made_here = (bucket.folder / name).read_bytes()
        bucket.kill()
        read = []
        for number in range(2):
            source, _ = await source_file(
                f"{storage.OWN_FILE_PREFIX}{name}", tmp_path / f"{number}", Hooks(endless_space)
            )
            assert source.read_bytes() == made_here
            read.append((source.stat().st_ino, source.stat().st_mtime_ns))
        assert read[0] == read[1]
