"""13. Somebody else's slowness holds no slot: sources come beside the encodes, a few for each person."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from mediapipe import storage, temporal
from mediapipe.engine import encode, folders, imports, surroundings, task, worker
from mediapipe.engine.models import EngineTask, fetch_for
from mediapipe.engine.workflows import EngineTaskWorkflow
from mediapipe.part import Part, boot_id
from tests.support.dashboard import kill_and_wait, settled, submit
from tests.support.engine import ask
from tests.support.histories import FOLDER
from tests.support.product import make_clip, until, until_async
from tests.support.slow_site import SlowSite, padded

pytestmark = pytest.mark.anyio
whole = pytest.mark.whole
SLOTS = max(1, (os.cpu_count() or 1) // 2)


@pytest.fixture
def site(tmp_path):
    with SlowSite(padded(make_clip(tmp_path / "clip.mp4", 1, "320x240").read_bytes())) as site:
        yield site


class Engine:
    """The engine in this process: its API, its workers, a real Temporal."""

    def __init__(self, client, settings) -> None:
        self.client, self.tasks = client, []
        self.key = {"Authorization": f"Bearer {settings.ENGINE_KEY}"}

    async def ask(self, source: str, owner: str, kind: str = "video") -> str:
        body = {"kind": kind, "input": source, "options": {"width": 160}, "metadata": {"owner": owner}}
        answer = await AsyncClient().post(
            "/ittybit/tasks", json.dumps(body), content_type="application/json", headers=self.key
        )
        assert answer.status_code == 201, answer.content
        self.tasks.append(answer.json()["id"])
        return self.tasks[-1]

    async def look(self, name: str) -> dict:
        return (await AsyncClient().get(f"/ittybit/tasks/{name}", headers=self.key)).json()

    async def until(self, name: str, **wanted) -> dict:
        """The task, as soon as it has these values."""
        last = {}

        async def reached() -> bool:
            nonlocal last
            last = await self.look(name)
            return all(last.get(key) == value for key, value in wanted.items())

        await until_async(reached, 120, about=lambda: str(last))
        return last

    async def pending(self, name: str):
        """Its activity, as Temporal has it."""
        found = await self.client.get_workflow_handle(name).describe()
        return found.raw_description.pending_activities[0]


@pytest.fixture
async def engine(dev_env, settings, temporal_at, transactional_db):
    temporal_at(dev_env.client.service_client.config.target_host)
    settings.ALLOW_PRIVATE_SOURCES = True
    settings.ENGINE_HEARTBEAT_SECONDS = 3.0
    made = Engine(dev_env.client, settings)
    async with worker.workers(dev_env.client) as built, temporal.run_workers(built):
        yield made
        for name in made.tasks:
            await AsyncClient().delete(f"/ittybit/tasks/{name}", headers=made.key)


def left() -> list[str]:
    """What lies in the folders of work and of foreign sources."""
    return [
        str(path.relative_to(folder.parent))
        for folder in (folders.folder("x").parent, storage.path(storage.FETCHED))
        for path in folder.rglob("*")
    ]


async def until_nothing_left() -> None:
    """A task's files go when its end has been said."""
    await until_async(lambda: asyncio.sleep(0, not left()), about=lambda: str(left()))


@whole
async def test_anothers_clip_is_encoded_while_urls_drip_and_a_server_asks_to_be_left_alone(
    engine, site, tmp_path
):
    drips = [await engine.ask(f"{site.url}/drip/{n}", f"bob{n}") for n in range(SLOTS)]
    busy = await engine.ask(f"{site.url}/busy/1", "carol")
    for name in drips:
        await engine.until(name, status="processing", waiting_for="download", queue_position=None)
    await engine.until(busy, status="queued", waiting_for="source", queue_position=None)
    clip = storage.path("sources/t/source.mp4")
    clip.parent.mkdir(parents=True)
    make_clip(clip, 2, "320x240")
    mine = await engine.ask(storage.signed_url("sources/t/source.mp4"), "ada")
    await engine.until(mine, status="succeeded")
    for name in drips:
        assert (await engine.look(name))["status"] == "processing"
    waits = await engine.pending(busy)
    assert waits.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED, "it holds a slot"
    assert waits.scheduled_time.ToDatetime().timestamp() > time.time() + 3000
    site.let_go("")
    for name in drips:
        assert (await engine.until(name, status="succeeded"))["source"]["kind"] == "video"
    await until_nothing_left()


@whole
async def test_one_persons_many_downloads_leave_room_for_anothers(engine, site):
    many = [await engine.ask(f"{site.url}/drip/{n}", "bob") for n in range(5)]

    async def states() -> list[str]:
        return sorted([(await engine.look(name)).get("waiting_for", "") for name in many])

    async def three_at_once() -> bool:
        return await states() == ["download"] * 3 + ["turn"] * 2

    await until_async(three_at_once)
    other = await engine.ask(f"{site.url}/film/1", "ada", "image")
    await engine.until(other, status="succeeded")
    assert await three_at_once()
    site.let_go("")
    for name in many:
        await engine.until(name, status="succeeded")


@pytest.mark.parametrize(
    ("kept", "metadata", "whose"),
    [
        ("https://a.example/x.mp4", {"owner": "ada"}, "owner ada"),
        ("https://a.example/x.mp4", {}, "host a.example"),
        ("media:sources/t/source.mp4", {"owner": "ada"}, ""),
        ("https://a.example/x.mp4", {"owner": "x\0" * 999}, "owner " + "x" * 194),
    ],
)
def test_downloads_take_turns_by_person_and_by_server_where_nobody_is_named(kept, metadata, whose):
    assert fetch_for(kept, metadata) == whose


@whole
async def test_a_server_that_asks_to_come_back_again_and_again_counts_as_no_loss(engine, site, monkeypatch):
    monkeypatch.setattr(surroundings, "MAX_LOST_WORKERS", 2)
    site.busy_for, site.busy_times = 1, 3
    name = await engine.ask(f"{site.url}/busy/1", "ada", "image")
    done = await engine.until(name, status="succeeded")
    assert len(site.asked) == 4 and done["error"] is None


@whole
async def test_a_cancel_leaves_nothing_of_a_source_that_comes_or_waits(engine, site):
    drips = await engine.ask(f"{site.url}/drip/1", "ada")
    waits = await engine.ask(f"{site.url}/half/1", "ada")
    await engine.until(waits, waiting_for="source")

    async def both_have_a_part() -> bool:
        return sorted(left()) == sorted(
            f"work/{name}{end}" for name in (drips, waits) for end in ("", "/input")
        )

    await until_async(both_have_a_part)
    for name in (drips, waits):
        answer = await AsyncClient().delete(f"/ittybit/tasks/{name}", headers=engine.key)
        assert answer.json()["status"] == "cancelled"
        if name == drips:
            assert answer.json()["cancelled"]["freed_bytes"] >= 100_000

    await until_nothing_left()


@pytest.mark.django_db(transaction=True)
async def test_sources_of_tasks_that_are_over_are_swept_and_those_that_wait_are_not():
    waiting = await EngineTask.objects.acreate(kind="audio", input="x", fetch_for="owner a", fetched=True)
    over = await EngineTask.objects.acreate(kind="audio", input="x", fetch_for="owner a", status="failed")
    folder = storage.path(storage.FETCHED)
    folder.mkdir(parents=True)
    for name in (waiting.pk, over.pk, "task_gone", ".publish-now", ".publish-old"):
        (folder / name).write_bytes(b"x")
    os.utime(folder / ".publish-old", (0, 0))
    assert await sync_to_async(imports.sweep)(worker.active_tasks) == 3
    assert {path.name for path in folder.iterdir()} == {waiting.pk, ".publish-now"}


@pytest.mark.django_db(transaction=True)
async def test_what_still_downloads_stands_in_nobodys_way():
    rows = [
        await EngineTask.objects.acreate(kind="video", input="x", fetch_for=whose, fetched=here, **more)
        for whose, here, more in (
            ("owner a", False, {}),
            ("owner a", False, {"waiting_for": "source"}),
            ("owner a", True, {}),
            ("", False, {}),
        )
    ]
    assert [await sync_to_async(row.queue_position)() for row in rows] == [None, None, 1, 2]


def test_a_part_is_continued_where_it_was_written_and_by_nobody_else_at_once(tmp_path):
    file = tmp_path / "input"
    file.write_bytes(b"x" * 100)

    def told(**other) -> Part:
        part = Part()
        part.take({"have": 60, "validator": '"one"', "boot": boot_id(), "seconds": 7.0, **other})
        return part

    def reopened(part: Part) -> tuple[int, int]:
        fd = part.open(file)
        try:
            return part.have, os.fstat(fd).st_size
        finally:
            os.close(fd)

    assert reopened(told()) == (60, 100)
    fd = told().open(file)  # a worker that was taken for lost
    assert reopened(anew := told()) == (0, 0) and anew.seconds == 7.0
    os.close(fd)
    for other in ({"have": 200}, {"boot": "another"}, {"validator": ""}):
        file.write_bytes(b"x" * 100)
        assert reopened(told(**other)) == (0, 0)


@whole
@pytest.mark.release
def test_a_worker_killed_in_the_middle_of_a_download_goes_on_with_it(product, site):
    browser = product.editor("grace", staff=True)
    job = submit(product, f"{site.url}/drip/film.mp4")
    until(lambda: any((product.home / "work").glob("*/input")))
    part = next((product.home / "work").glob("*/input"))
    until(lambda: part.stat().st_size > 110_000)
    page = until(
        lambda: (text := browser.get(f"/jobs/{job}/").text) and "Downloading the source" in text and text
    )
    assert "Ingest" in page
    kill_and_wait(product, "worker")
    until(lambda: len(site.ranges("/drip/film.mp4")) > 1)
    site.let_go("")
    done = settled(browser, job)
    assert done["status"] == "succeeded", json.dumps(done)
    continued = site.ranges("/drip/film.mp4")[1]
    assert continued and int(re.findall(r"\d+", continued)[0]) >= 100_000, "it began anew"
    for folder in ("work", "media/fetched"):
        until(lambda folder=folder: not list(Path(product.home / folder).glob("*")))


async def test_a_history_from_before_downloads_had_a_queue_replays():
    history = WorkflowHistory.from_json("task_x", (FOLDER / "engine" / "task.json").read_text())
    await Replayer(workflows=[EngineTaskWorkflow]).replay_workflow(history)


@pytest.fixture
def silence(made):
    """An hour of it in a small file."""
    minute = made("minute.m4a", "-f", "lavfi", "-i", "anullsrc=r=48000:cl=mono", "-t", 60)
    return made("silence.m4a", "-stream_loop", 59, "-i", minute, "-c", "copy")


async def test_a_run_ends_as_soon_as_its_pace_says_that_it_will_take_far_too_long(silence, monkeypatch):
    monkeypatch.setattr(encode, "JUDGED_AFTER", 0.0)
    monkeypatch.setattr(encode, "DEADLINE_FACTOR", 1e-6)
    with pytest.raises(
        task.TaskError, match=r"At its pace so far the encode would take .* are allowed"
    ) as caught:
        await ask(silence, "audio", {"format": "opus"})
    assert caught.value.kind == "too_long"


async def test_no_run_takes_longer_than_the_hours_that_are_set(silence, settings):
    settings.MAX_ENCODE_HOURS = 0.5 / 3600
    with pytest.raises(task.TaskError, match="Encoding took longer than 1 minute") as caught:
        await ask(silence, "audio", {"format": "opus"})
    assert caught.value.kind == "too_long"
    day = encode.TimeLimit(24)
    assert day.of(24 * 3600) == 24 * 3600 and day.of(60) == 1200


def test_a_file_that_claims_a_minute_and_goes_on_for_days_is_stopped():
    progress = encode.Progress(60, 0, lambda percent, speed, left: None)
    for line in ("out_time_us=90000000000", "total_size=1", "progress=continue"):
        progress.line(line)
    with pytest.raises(task.TaskError, match="goes on for more than 25 hours"):
        encode._check_pace(10, progress, 1200, 0)
