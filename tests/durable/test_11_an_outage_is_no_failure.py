"""11. Storage and database may go away in the middle: that costs time, and nothing that is done."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import socket
import tempfile
import time
from pathlib import Path

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.test import AsyncClient
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from jobs import monitoring
from jobs.ittybit.replies import PERMANENT_KINDS, Unavailable, check_response
from jobs.live import reader
from jobs.requests import KeepRequest
from jobs.workflow.activities import Copying
from mediapipe import download, storage
from mediapipe.engine import surroundings, worker
from mediapipe.engine.errors import TaskError
from mediapipe.engine.folders import folder
from mediapipe.engine.models import EngineTask
from mediapipe.engine.serialize import task_json
from mediapipe.storage import outage, s3
from tests.support.bucket import KEY, SECRET
from tests.support.product import make_clip, until_async

pytestmark = [pytest.mark.anyio, pytest.mark.django_db(transaction=True)]
TABLE = EngineTask._meta.db_table


class Running:
    """A task's activity under way, as Temporal sees it: by its heartbeats."""

    def __init__(self, task: EngineTask):
        self.task = task
        self.beats: list[float] = []
        self.env = ActivityEnvironment()
        self.env.on_heartbeat = lambda *details: self.beats.append(time.monotonic())
        self.activity = asyncio.ensure_future(self.env.run(worker.run_task, task.pk))

    async def waits_for(self, what: str, step: str) -> None:
        async def look() -> bool:
            await self.task.arefresh_from_db()
            now = (self.task.status, self.task.waiting_for, step in self.task.steps)
            return now == ("queued", what, True)

        await until_async(look, about=lambda: f"{self.task.status}, {self.task.error}")
        assert (await sync_to_async(task_json)(self.task))["waiting_for"] == what

    async def beats_on(self) -> None:
        """It is alive: two more heartbeats."""
        count = len(self.beats)

        async def look() -> bool:
            return len(self.beats) >= count + 2

        await until_async(look)

    async def succeeds(self) -> None:
        await asyncio.wait_for(self.activity, 60)
        await self.task.arefresh_from_db()
        assert (self.task.status, self.task.waiting_for) == ("succeeded", ""), self.task.error


@pytest.mark.whole
async def test_a_source_in_a_bucket_that_is_away_is_waited_for(bucket, tmp_path):
    bucket.start()
    clip = make_clip(tmp_path / "clip.mp4", 2, "320x180")
    await asyncio.to_thread(storage.publish, clip, "sources/t/source.mp4")
    bucket.kill()
    kept = storage.to_kept(storage.signed_url("sources/t/source.mp4", local=True))
    running = Running(await EngineTask.objects.acreate(kind="audio", input=kept))
    await running.waits_for("storage", "import")
    await running.beats_on()
    bucket.start()
    await running.succeeds()
    assert (bucket.folder / running.task.output["name"]).stat().st_size == running.task.output["filesize"]


@pytest.mark.whole
async def test_a_link_that_somebody_pasted_gets_no_patience_because_it_leads_into_our_bucket(
    bucket, monkeypatch
):
    monkeypatch.setattr(download, "BACKOFF", (0.01,) * 4)
    pasted = f"{bucket.url}/media/sources/t/source.mp4?X-Amz-Signature=0&X-Amz-Expires=60"
    for kind in ("source_unreachable", "source_refused"):
        if kind == "source_refused":
            await asyncio.to_thread(bucket.start)
        task = await EngineTask.objects.acreate(kind="audio", input=pasted)
        await asyncio.wait_for(ActivityEnvironment().run(worker.run_task, task.pk), 60)
        await task.arefresh_from_db()
        assert task.error["kind"] == kind


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "another"}, "the secret key of the bucket isn’t right"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "the bucket’s server doesn’t know the access key"),
        ({}, "there is no bucket elsewhere"),
    ],
)
@pytest.mark.whole
async def test_a_bucket_that_refuses_is_given_up_in_minutes_and_the_task_names_the_reason(
    bucket, settings, tmp_path, monkeypatch, wrong, reason
):
    await asyncio.to_thread(bucket.start)
    settings.S3_BUCKET = "media" if wrong else "elsewhere"
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    (file := tmp_path / "x.mp3").write_bytes(b"encoded")
    waits = surroundings.Waits(await EngineTask.objects.acreate(kind="audio", input="x"))
    monkeypatch.setattr(outage, "REFUSED_FOR", -1)
    with pytest.raises(TaskError) as caught:
        await storage.publish_patiently(file, "outputs/x.mp3", waits.storage_failed)
    error = caught.value
    assert str(error) == f"The storage can’t be used: {reason}. Retry once an admin has put that right."
    assert error.kind == "storage_refused" and error.kind in PERMANENT_KINDS
    assert "the bucket" in error.details and file.exists()


@pytest.mark.parametrize(
    ("number", "lasting"),
    [
        (errno.EACCES, True),
        (errno.EROFS, True),
        (errno.EXDEV, True),
        (errno.ENOSPC, False),
        (errno.EIO, False),
    ],
)
def test_a_disk_that_refuses_is_waited_for_some_minutes_and_one_that_is_full_for_as_long_as_any(
    monkeypatch, number, lasting
):
    waiting = outage.Outage(3600)
    assert waiting.pause(OSError(number, "x")) == outage.RETRY_EVERY
    monkeypatch.setattr(outage, "REFUSED_FOR", -1)
    assert (waiting.pause(OSError(number, "x")) is None) is lasting
    waiting.pause(OSError("the connection broke"))
    assert waiting.refused_since is None, "it refuses no more"
    waiting.longest = -1
    assert waiting.pause(OSError(number, "x")) is None
    waiting.is_over()
    assert waiting.since is None


async def test_a_copy_gives_up_in_minutes_where_waiting_mends_nothing_and_its_output_is_not_lost(monkeypatch):
    monkeypatch.setattr(outage, "REFUSED_FOR", -1)
    waiting = Copying("ingest").wait_for_storage
    with pytest.raises(
        ApplicationError, match="The storage can’t be used: its file system is read-only"
    ) as no:
        await ActivityEnvironment().run(waiting, OSError(errno.EROFS, "x"))
    failure = no.value.details[0]
    assert (failure.kind, failure.permanent) == ("storage_refused", True)
    assert not (failure.outage or failure.task_over)


@pytest.fixture
def foreign(api, settings, tmp_path):
    """A source at somebody else's address."""
    settings.ALLOW_PRIVATE_SOURCES = True
    clip = make_clip(tmp_path / "clip.mp4", 2, "320x180")
    made = httpx.post(f"{api.url}/tasks", json={"kind": "clip"}, headers={"Idempotency-Key": "clip"})
    api.files["clip"] = clip.read_bytes()
    return f"{api.url}/files/{made.json()['id']}.mp4"


@pytest.mark.whole
async def test_who_watches_over_the_installation_is_told_that_the_bucket_is_away(bucket, monkeypatch):
    monkeypatch.setattr(monitoring, "STORAGE_KNOWN", 0)

    async def told() -> bool:
        return (await AsyncClient().get("/readyz")).json()["storage"]

    assert not await told()
    bucket.start()
    assert await told()
    bucket.kill()
    assert not await told()


async def test_a_silent_bucket_is_asked_by_one_thread_however_many_want_to_know(settings, monkeypatch):
    monkeypatch.setattr(monitoring, "STORAGE_SECONDS", 0.2)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    with socket.create_server(("127.0.0.1", 0), backlog=50) as silent:
        settings.S3_BUCKET, settings.S3_REGION = "media", "us-east-1"
        settings.S3_ENDPOINT_URL = f"http://127.0.0.1:{silent.getsockname()[1]}"
        s3.storage.cache_clear()
        asked = monitoring._Storage()
        assert not any(await asyncio.gather(*(asked.answers() for _ in range(50))))
        first, _ = await asyncio.to_thread(silent.accept)
        silent.settimeout(0.2)
        with pytest.raises(TimeoutError):
            silent.accept()
        first.close()
    s3.storage.cache_clear()


async def test_a_copy_of_an_output_waits_for_the_bucket_and_says_so(bucket, inside):
    job = await inside.submit()
    ingest = await until_ingest(inside, job)
    await asyncio.to_thread(bucket.start)
    await inside.until(job, lambda j: j.stages.get(name="ingest").state == "succeeded")
    stage = await job.stages.aget(name="ingest")
    assert stage.attempt == 1 and (bucket.folder / stage.output["name"]).exists()
    assert len(inside.asked(job, "ingest")) == 1 and "Waiting for storage" in ingest


async def until_ingest(inside, job) -> str:
    """What the page says of ingest, once it waits for its storage."""
    await inside.until(job, lambda j: j.stages.get(name="ingest").task_id)

    async def look() -> str | None:
        reader.invalidate(job)
        wait = (await reader.aread(job)).waits.get("ingest")
        return str(wait) if wait and "storage" in str(wait) else None

    return await until_async(look)


async def test_a_stage_that_was_completed_by_hand_without_an_output_is_watched_again(doing):
    with pytest.raises(ApplicationError, match="without an output") as caught:
        await ActivityEnvironment().run(doing.keep_output, KeepRequest("job", "ingest", "ingest-1"))
    failure = caught.value.details[0]
    assert failure.outage and not failure.task_over


@pytest.mark.parametrize("disk", ["the same disk", "another disk"])
def test_a_file_that_could_not_be_published_is_still_there_to_be_published_again(settings, tmp_path, disk):
    if disk == "another disk":
        if not Path("/dev/shm").is_dir() or os.stat("/dev/shm").st_dev == tmp_path.stat().st_dev:
            pytest.skip("there is no other disk here")
        settings.MEDIA_ROOT = tempfile.mkdtemp(dir="/dev/shm")
    try:
        (source := tmp_path / "x.mp3").write_bytes(b"encoded")
        target = storage.path("outputs/x.mp3")
        target.mkdir(parents=True)  # what can't be replaced
        with pytest.raises(OSError, match=r"."):
            storage.publish(source, "outputs/x.mp3")
        assert source.read_bytes() == b"encoded" and list(target.parent.iterdir()) == [target]
        target.rmdir()
        storage.publish(source, "outputs/x.mp3")
        assert target.read_bytes() == b"encoded" and not source.exists()
    finally:
        shutil.rmtree(settings.MEDIA_ROOT)


async def test_the_engines_api_says_that_its_database_is_away_and_to_come_back(settings):
    await sync_to_async(rename)(TABLE, "away")
    try:
        key = {"Authorization": f"Bearer {settings.ENGINE_KEY}"}
        answer = await AsyncClient().get("/ittybit/tasks/task_1", headers=key)
    finally:
        await sync_to_async(rename)("away", TABLE)
    assert (answer.status_code, answer["Retry-After"]) == (503, "2")
    assert answer.json()["message"].startswith("The engine’s database can’t be reached.")
    with pytest.raises(Unavailable) as caught:
        check_response(httpx.Response(503, content=answer.content))
    assert caught.value.outage and caught.value.kind == "database_unavailable"


async def test_without_keys_for_the_bucket_its_links_wait_and_foreign_ones_do_not(
    bucket, settings, monkeypatch
):
    """A role's keys come from elsewhere, and may be away."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert storage.is_in_bucket(f"{bucket.url}/media/x.mp4") and not storage.is_in_bucket("http://x/y.mp4")
    task = await EngineTask.objects.acreate(kind="audio", input="media:sources/t/source.mp4")
    key = {"Authorization": f"Bearer {settings.ENGINE_KEY}"}
    answer = await AsyncClient().get(f"/ittybit/tasks/{task.pk}", headers=key)
    assert (answer.status_code, answer["Retry-After"]) == (503, "2")
    assert answer.json()["kind"] == "storage_unavailable"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    answer = await AsyncClient().get(f"/ittybit/tasks/{task.pk}", headers=key)
    assert answer.status_code == 200 and "X-Amz-Signature" in answer.json()["input"], "they are back"


def rename(table: str, to: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO {to}")


@pytest.mark.whole
async def test_a_finished_encode_outlives_a_bucket_and_a_database_that_are_away(bucket, foreign):
    running = Running(await EngineTask.objects.acreate(kind="audio", input=foreign))
    await running.waits_for("storage", "export")
    steps = running.task.steps
    await sync_to_async(rename)(TABLE, "away")
    try:
        await asyncio.to_thread(bucket.start)
        published = bucket.folder / f"outputs/{running.task.pk}.mp3"

        async def look() -> bool:
            return published.exists()

        await until_async(look)
        await running.beats_on()
        assert not running.activity.done()
    finally:
        await sync_to_async(rename)("away", TABLE)
    await running.succeeds()
    assert {**running.task.steps, "export": 0} == {**steps, "export": 0}, "it was encoded again"


@pytest.mark.whole
async def test_a_task_that_waits_for_its_storage_can_be_cancelled(bucket, foreign):
    running = Running(await EngineTask.objects.acreate(kind="audio", input=foreign))
    await running.waits_for("storage", "export")
    await sync_to_async(running.task.cancel)()
    running.env.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running.activity
    await running.task.arefresh_from_db()
    assert running.task.status == "cancelled" and running.task.freed_bytes > 0
    assert not folder(running.task.pk).exists()
