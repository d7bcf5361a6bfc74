"""A task of the engine as its worker does it: room on the disk, progress, what is left behind."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.test import AsyncClient
from django.utils import timezone
from temporalio import activity
from temporalio.activity import ActivityCancellationDetails
from temporalio.service import RPCError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import Worker

from jobs.models import Job, Stage
from jobs.state import Source
from mediapipe import disk, storage, temporal
from mediapipe.engine import imports, queue, surroundings, worker
from mediapipe.engine.folders import folder, sweep
from mediapipe.engine.models import EngineTask, new_id
from mediapipe.engine.serialize import output_json, task_json
from mediapipe.engine.workflows import HEAVY_QUEUE, LIGHT_QUEUE, EngineTaskWorkflow
from tests.support.dashboard import signal_encoders
from tests.support.engine import enqueued
from tests.support.product import make_clip, until_async
from tests.support.slow_site import SlowSite, padded

pytestmark = [pytest.mark.anyio, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def task():
    clip = storage.path("sources/t/source.mp4")
    clip.parent.mkdir(parents=True)
    make_clip(clip, 2, "320x180")
    return EngineTask.objects.create(kind="audio", input=storage.signed_url("sources/t/source.mp4"))


@pytest.fixture
def small_disk(settings):
    """A real one for the engine's work, with 200 MB above its reserve, where this machine lets us mount."""
    folder = Path(settings.WORK_ROOT)
    folder.mkdir(parents=True)
    size = (disk.WORK_RESERVE >> 20) + 200
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}m", "none", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """Takes all of a disk's room but *leave* bytes, while others write to it too."""
    ballast = disk / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - (leave or 8 << 20))
        file.seek(0, 2)
        with suppress(OSError):
            while not leave:
                file.write(b"x" * 4096)
    return ballast


async def reached(task: EngineTask, condition) -> None:
    """Waits until *condition* holds for the task's row."""

    async def look() -> bool:
        await task.arefresh_from_db()
        return condition()

    await until_async(look, about=lambda: f"{task.status}, waiting for {task.waiting_for!r}")


async def test_a_task_waits_visibly_for_space_and_goes_on_by_itself(task, small_disk):
    ballast = fill(small_disk, leave=disk.WORK_RESERVE + (10 << 20))
    assert not disk.is_work_full()
    running = asyncio.ensure_future(ActivityEnvironment().run(worker.run_task, task.pk))
    await reached(task, lambda: (task.status, task.waiting_for) == ("queued", "space"))
    ballast.unlink()
    await asyncio.wait_for(running, 60)
    await task.arefresh_from_db()
    assert (task.status, task.waiting_for) == ("succeeded", ""), task.error


async def test_a_download_waits_for_room_for_itself_and_for_what_is_made_of_it(
    settings, small_disk, tmp_path
):
    settings.ALLOW_PRIVATE_SOURCES = True
    data = padded(make_clip(tmp_path / "clip.mp4", 1, "320x240").read_bytes())
    ballast = fill(small_disk, leave=disk.WORK_RESERVE + len(data) * 3 // 2)
    with SlowSite(data) as site:
        foreign = await EngineTask.objects.acreate(
            kind="audio", input=f"{site.url}/film/1", fetch_for="owner a"
        )
        coming = asyncio.ensure_future(ActivityEnvironment().run(imports.import_source, foreign.pk))
        await reached(foreign, lambda: (foreign.status, foreign.waiting_for) == ("queued", "space"))
        ballast.unlink()
        assert await asyncio.wait_for(coming, 60)
    await foreign.arefresh_from_db()
    assert foreign.fetched and storage.path(storage.fetched(foreign.pk)).stat().st_size == len(data)
    tasks = await sync_to_async(job_json)(foreign)
    assert [tasks[step] for step in ("import", "encode")] == ["succeeded", "waiting"]
    assert await ActivityEnvironment().run(imports.import_source, foreign.pk), "it is not downloaded twice"
    await ActivityEnvironment().run(worker.run_task, foreign.pk)
    await foreign.arefresh_from_db()
    assert foreign.status == "succeeded" and not storage.path(storage.fetched(foreign.pk)).exists()


def job_json(row: EngineTask) -> dict[str, str]:
    """A row's four tasks, as the newer resource shows them: their statuses."""
    row.pk = row.pk.replace("task_", "job_")
    try:
        return {each["step"]: each["status"] for each in task_json(row)["tasks"]}
    finally:
        row.pk = row.pk.replace("job_", "task_")


async def test_a_disk_that_fills_in_the_middle_of_an_encode_makes_it_wait_and_begin_again(task, small_disk):
    """Another program takes the last byte; what was half written makes room, and is never seen."""
    clip = storage.path("sources/t/source.mp4")
    make_clip(clip, 12, "1280x720")
    task.kind, task.options = "video", {"quality": "very_high", "fps": 25}
    await task.asave()
    running = asyncio.ensure_future(ActivityEnvironment().run(worker.run_task, task.pk))
    here = SimpleNamespace(home=small_disk.parent)
    while (task.progress or 0) <= 10:  # it works for a moment at a time: else it could have ended by then
        signal_encoders(here, signal.SIGCONT)
        await asyncio.sleep(0.15)
        signal_encoders(here, signal.SIGSTOP)
        await asyncio.sleep(0.6)  # until what it has reported is in the row
        await task.arefresh_from_db()
        assert task.status in ("queued", "processing"), task.error
    ballast = fill(small_disk)
    signal_encoders(here, signal.SIGCONT)
    await reached(task, lambda: (task.status, task.waiting_for) == ("queued", "space"))
    assert not list(folder(task.pk).glob("out/*")) and output_json(task) is None
    ballast.unlink()
    await reached(task, lambda: task.status == "processing" and task.progress is not None)
    assert task.progress > 10, "what was told never goes back"
    await asyncio.wait_for(running, 180)
    await task.arefresh_from_db()
    assert task.status == "succeeded" and task.output["duration"] == pytest.approx(12, abs=0.1), task.error


async def test_a_mistake_of_the_engines_own_ends_the_task_at_once_and_does_not_blame_the_file(task, caplog):
    """A lost worker would be tried ten times, and told as one."""
    task.kind = "a kind that this version does not have"
    await task.asave()
    await ActivityEnvironment().run(worker.run_task, task.pk)
    await task.arefresh_from_db()
    assert (task.status, task.error["kind"]) == ("failed", "internal_error")
    assert task.error["message"].startswith("Something went wrong in the engine itself, not with your file.")
    assert "KeyError" in task.error["details"] and task.pk in caplog.text and "Traceback" in caplog.text


async def test_a_reason_in_odd_characters_is_kept_as_far_as_a_database_takes_it(task):
    await sync_to_async(task.fail)("damaged", "Cut \ud83d off", "a log\0 \udcff")
    await task.arefresh_from_db()
    assert task.error == {"kind": "damaged", "message": "Cut ? off", "details": "a log ?"}


async def test_a_task_that_was_cancelled_meanwhile_is_not_begun(task):
    await sync_to_async(task.cancel)()
    await ActivityEnvironment().run(worker.run_task, task.pk)
    await task.arefresh_from_db()
    assert task.status == "cancelled" and task.started_at is None


async def test_folders_of_dead_runs_are_swept_and_those_at_work_are_not(task):
    """A task that waits for room in the middle of its work is queued, and keeps what it has downloaded."""
    waiting = await EngineTask.objects.acreate(kind="audio", input="x", waiting_for="space")
    over = await EngineTask.objects.acreate(kind="audio", input="x", status="failed")
    await sync_to_async(task.begin)()
    for name in ("task_gone", over.pk, task.pk, waiting.pk):
        folder(name).mkdir(parents=True)
        (folder(name) / "part").write_bytes(b"x" * 1000)
    assert await sync_to_async(sweep)(worker.active_tasks) == 2
    assert {path.name for path in folder("x").parent.iterdir()} == {task.pk, waiting.pk}


async def test_how_long_a_worker_may_be_silent_travels_with_the_task(dev_env, settings, temporal_at):
    """A third of the setting; tasks that were started before it was an argument keep ten seconds."""
    seen = []

    @activity.defn(name="run_task")
    async def look(task_id: str) -> None:
        seen.append(activity.info().heartbeat_timeout.total_seconds())

    client = dev_env.client
    temporal_at(client.service_client.config.target_host)
    settings.ENGINE_HEARTBEAT_SECONDS = 4.0
    task = await EngineTask.objects.acreate(kind="audio", input="x")
    light = Worker(client, task_queue=LIGHT_QUEUE, activities=[look])
    async with light, Worker(client, task_queue=HEAVY_QUEUE, workflows=[EngineTaskWorkflow]):
        await enqueued(task)
        await client.get_workflow_handle(task.pk).result()
        older = await client.start_workflow(
            "EngineTask", args=["x", True], id="older", task_queue=HEAVY_QUEUE
        )
        await older.result()
    assert seen == [4, 10]


async def test_a_copy_waits_behind_no_encode_and_what_is_none_joins_their_line(dev_env, temporal_at, task):
    """Nobody serves the line of encodes."""
    client = dev_env.client
    temporal_at(client.service_client.config.target_host)
    storage.path("sources/t/film.mkv").write_bytes(
        make_clip(storage.path("sources/t/f.mkv"), 1, "320x180", "-c:v", "mpeg4").read_bytes()
    )
    ingest = {"kind": "video", "options": {"format": "mp4", "quality": "high"}, "copies": True}
    copy = await EngineTask.objects.acreate(input=task.input, **ingest)
    film = await EngineTask.objects.acreate(input=storage.signed_url("sources/t/film.mkv"), **ingest)
    assert (copy.lane, film.lane) == ("light", "light")
    light = Worker(client, task_queue=LIGHT_QUEUE, activities=[worker.copy_task])
    async with light, Worker(client, task_queue=HEAVY_QUEUE, workflows=[EngineTaskWorkflow]):
        for each in (film, copy):
            await enqueued(each)
        await reached(copy, lambda: copy.status == "succeeded")
        await reached(film, lambda: film.lane == "heavy")
        assert (film.status, film.started_at) == ("queued", None) and not folder(film.pk).exists()
        assert await queue.stop(film)


async def test_jobs_that_have_begun_take_turns_of_their_own(task):
    """So that a newsroom's first job is done before its last one has begun."""
    task.metadata = {"owner": "ada"}
    later = EngineTask(kind="video", input="media:outputs/task_x.mp4", metadata=task.metadata)
    keys = [queue.turn(each).fairness_key for each in (task, later)]
    assert keys == ["ada", "ada/later"]


async def made(seconds: float | None) -> str:
    """What a task has made, so many seconds long, as the input of the next stage."""
    maker = await EngineTask.objects.acreate(kind="video", input="x", status="succeeded")
    name = f"outputs/{maker.pk}.mp4"
    await EngineTask.objects.filter(pk=maker.pk).aupdate(output={"name": name, "duration": seconds})
    return f"{storage.OWN_FILE_PREFIX}{name}"


async def goes_before(source: str) -> bool:
    task = await EngineTask.objects.acreate(kind="image", input=source, metadata={"owner": "ada"})
    return await sync_to_async(queue.goes_before)(task)


async def test_only_short_steps_of_jobs_that_have_begun_go_before_what_begins_and_only_a_few_of_them():
    clip = await made(5)
    assert [await goes_before(await made(queue.SHORT)), await goes_before(clip)] == [True, True]
    for other in (
        await made(queue.SHORT + 1),
        await made(None),
        "media:outputs/x.mp4",
        "media:sources/x.mp4",
    ):
        assert not await goes_before(other), other
    await EngineTask.objects.filter(status="queued").adelete()
    assert [await goes_before(clip) for _ in range(queue.STEPS_BEFORE + 2)] == [
        *[True] * queue.STEPS_BEFORE,
        *[False] * 2,
    ]
    encode = await EngineTask.objects.acreate(kind="video", input=clip, metadata={"owner": "ada"})
    assert await sync_to_async(queue.goes_before)(encode), "they wait in another queue"
    await EngineTask.objects.filter(status="queued").aupdate(status="processing")
    assert await goes_before(clip), "none waits any more"


async def test_steps_of_begun_jobs_go_first_and_many_of_them_keep_nobody_from_beginning(dev_env, temporal_at):
    """Bea's first tasks stand in line when thirty steps of Ada's come, and Dan's first one at last."""
    client = dev_env.client
    temporal_at(client.service_client.config.target_host)
    names: dict[str, str] = {}
    order: list[str] = []

    @activity.defn(name="run_task")
    async def note(task_id: str) -> None:
        order.append(names[task_id])

    async def ask(owner: str, source: str, many: int) -> None:
        for _ in range(many):
            task = await EngineTask.objects.acreate(kind="image", input=source, metadata={"owner": owner})
            names[task.pk] = owner
            await enqueued(task)

    async def all_wait() -> bool:
        with suppress(RPCError):  # a busy Temporal is asked again
            found = await temporal.describe_queue(client, LIGHT_QUEUE)
            return found.stats.approximate_backlog_count == len(names)
        return False

    async with Worker(client, task_queue=HEAVY_QUEUE, workflows=[EngineTaskWorkflow]):
        await ask("bea", "media:sources/x.mp4", 6)
        await ask("ada", await made(5), 30)
        await ask("dan", "media:sources/x.mp4", 1)
        await until_async(all_wait)
        async with Worker(client, task_queue=LIGHT_QUEUE, activities=[note], max_concurrent_activities=1):
            await until_async(lambda: asyncio.sleep(0, len(order) == len(names)))
    few = queue.STEPS_BEFORE
    assert order[:few] == ["ada"] * few, f"steps of begun jobs did not go first: {order}"
    assert order.index("dan") <= few + 4, f"a new person did not have a turn: {order}"


async def test_a_job_shows_its_four_tasks_and_each_one_times_and_result(task):
    """As the current API does; a plain task has none of them."""
    job = await EngineTask.objects.acreate(id=new_id("job"), kind="audio", input=task.input)
    before = await sync_to_async(task_json)(job)
    assert [part["status"] for part in before["tasks"]] == ["waiting"] * 4 and before["output"] is None
    for each in (job, task):
        await ActivityEnvironment().run(worker.run_task, each.pk)
        await each.arefresh_from_db()
    assert "tasks" not in task_json(task) and task_json(task)["output"]["format"] == "mp3"
    about = task_json(task)["source"]
    assert (about["format"], about["width"], about["codecs"]["video"]) == ("mp4", 320, "h264")
    told = task_json(job)
    probe, fetched, encode, export = told["tasks"]
    assert [part["step"] for part in told["tasks"]] == ["probe", "import", "encode", "export"]
    assert {part["status"] for part in told["tasks"]} == {"succeeded"} and encode["kind"] == "audio"
    assert told["output"] == export["output"]["url"] and export["output"]["duration"] == pytest.approx(
        2, abs=0.1
    )
    assert (probe["output"]["width"], probe["output"]["codecs"]["audio"]) == (320, "aac")
    assert told["started_at"] <= fetched["started_at"] <= probe["started_at"] <= encode["started_at"]
    assert encode["finished_at"] == export["started_at"] and export["finished_at"] == told["finished_at"]


async def test_a_failed_jobs_failed_task_says_why_and_the_others_are_cancelled(task):
    job = await EngineTask.objects.acreate(id=new_id("job"), kind="image", input=task.input + "0")
    await ActivityEnvironment().run(worker.run_task, job.pk)
    await job.arefresh_from_db()
    told = {part["step"]: (part["status"], part["error"]) for part in task_json(job)["tasks"]}
    assert job.status == "failed" and told["import"] == ("failed", job.error)
    assert {told[step][0] for step in ("probe", "encode", "export")} == {"cancelled"}


async def test_the_time_left_is_learnt_from_past_runs(task):
    now = timezone.now()
    for seconds in (9, 10, 11):
        await EngineTask.objects.acreate(
            kind="audio",
            input="x",
            status="succeeded",
            started_at=now - timezone.timedelta(seconds=seconds),
            finished_at=now,
            output={"duration": 20},
        )
    factor = await sync_to_async(task.realtime_factor)()
    assert factor == pytest.approx(0.5)
    reporter = surroundings.Reporter(task)
    # FFmpeg begins fast: 100 s of film left, in 2.5 s it says
    for said, written in (((1.0, 40.0, 2.5), 50), ((50.0, 2.0, 25.0), 25)):
        reporter.report(*said)
        await sync_to_async(reporter.write)(reporter.latest)
        await task.arefresh_from_db()
        assert task.time_left == pytest.approx(written)


async def test_what_no_job_refers_to_is_listed_and_removed(editor):
    def run(*arguments) -> str:
        out = StringIO()
        call_command("outputs", *arguments, stdout=out)
        return out.getvalue()

    def make():
        job = Job.submit(editor, title="t", pipeline="standard", source=Source(name="sources/a/source.mp4"))
        output = {"name": "outputs/kept/index.m3u8", "extras": {"vtt": "outputs/kept.vtt"}}
        Stage.objects.filter(job=job, name="ingest").update(output=output)
        for name in (
            *(
                "sources/a/source.mp4",
                "outputs/kept/index.m3u8",
                "outputs/kept/rendition0.m3u8",
                "outputs/kept/segment0.m4s",
                "outputs/kept.vtt",
            ),
            *("sources/b/source.mp4", "outputs/old.mp4", "outputs/gone/index.m3u8"),
        ):
            path = storage.path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * 2000)
            os.utime(path, (0, time.time() - 2 * 86400))
        new = storage.path("outputs/new.mp4")
        new.write_bytes(b"just made")
        listed = run()
        assert "3 files, 6.0 kB" in listed and "old.mp4" in listed and "new.mp4" not in listed
        assert storage.path("outputs/old.mp4").exists()
        run("--remove")
        left = {path.name for path in storage.path("outputs").parent.rglob("*") if path.is_file()}
        assert left == {"source.mp4", "index.m3u8", "rendition0.m3u8", "segment0.m4s", "kept.vtt", "new.mp4"}
        assert not storage.path("outputs/gone").exists() and not storage.path("sources/b").exists()
        assert "Every file" in run()

    await sync_to_async(make)()


def test_a_deleted_job_takes_every_file_of_its_stream_along(editor):
    job = Job.submit(editor, title="t", pipeline="streaming", source=Source(name="sources/a/source.mp4"))
    Stage.objects.filter(job=job, name="hls").update(output={"name": "outputs/s/index.m3u8"})
    for name in ("index.m3u8", "rendition0.m3u8", "rendition1.m3u8", "init_1.mp4", "segment1_0000.m4s"):
        path = storage.path(f"outputs/s/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert not job.remove() and storage.exists("outputs/s/rendition1.m3u8")
    Job.objects.filter(pk=job.pk).update(state="succeeded")
    assert Job.objects.get(pk=job.pk).remove()
    assert not storage.path("outputs/s").exists()


class Listener(BaseHTTPRequestHandler):
    """Remembers where it was told something."""

    told: list[str] = []

    def do_POST(self):
        self.told.append(self.path)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *parts):
        pass


@pytest.fixture
def second_address():
    """Another address of this installation, that answers there."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


async def test_a_task_outlives_the_address_and_the_key_that_it_was_asked_with(
    task, settings, dev_env, temporal_at, second_address
):
    """`up` was stopped and began again on another port, with another secret."""
    temporal_at(dev_env.client.service_client.config.target_host)

    async def ask(method: str = "post", **fields):
        headers = {"Authorization": f"Bearer {settings.ENGINE_KEY}", "Idempotency-Key": "media-1/audio/1"}
        fields = fields if method == "get" else {"data": fields, "content_type": "application/json"}
        return await getattr(AsyncClient(), method)("/ittybit/tasks", **fields, headers=headers)

    def as_today() -> dict[str, str]:
        url = storage.signed_url("sources/t/source.mp4", local=True)
        return {"kind": "audio", "input": url, "webhook_url": f"{settings.LOCAL_URL}/hooks/ittybit/token"}

    asked = as_today()
    first = await ask(**asked)
    assert first.status_code == 201, first.content
    settings.LOCAL_URL, settings.SECRET_KEY = second_address, "another"
    again = await ask(**as_today())
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    kept = await EngineTask.objects.aget(pk=first.json()["id"])
    assert (kept.input, kept.webhook_url) == ("media:sources/t/source.mp4", "/hooks/ittybit/token")
    assert [each["id"] for each in (await ask("get", data={"input": as_today()["input"]})).json()] == [
        kept.pk
    ]
    await ActivityEnvironment().run(worker.run_task, kept.pk)
    await kept.arefresh_from_db()
    assert kept.status == "succeeded", kept.error
    assert task_json(kept)["input"] == as_today()["input"] != asked["input"]

    async def told() -> bool:
        return Listener.told == ["/hooks/ittybit/token"]

    await until_async(told)


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("http://127.0.0.1:8122{signed}", "succeeded"),
        ("https://earlier.example.org/media-pages{signed}", "succeeded"),
        ("http://127.0.0.1:8122{forged}", "failed"),
        ("{own}{forged}", "failed"),
        ("http://127.0.0.1:8122/media/sources/t/source.mp4", "failed"),
    ],
)
async def test_a_row_of_an_earlier_version_names_its_source_by_our_signature_alone(
    task, settings, address, status
):
    signed = storage.signed_path("sources/t/source.mp4")
    parts = {"signed": signed, "forged": signed[:-4] + "aaaa", "own": settings.LOCAL_URL}
    row = await EngineTask.objects.acreate(kind="audio", input=address.format(**parts))
    await ActivityEnvironment().run(worker.run_task, row.pk)
    await row.arefresh_from_db()
    assert row.status == status, row.error
    assert status == "succeeded" or row.error["kind"] == "source_refused"


@pytest.mark.parametrize("end", ["cancelled", "failed", "restarting"])
async def test_files_of_an_output_that_was_half_stored_go_with_its_task(task, monkeypatch, end):
    """But not where another worker goes on with it, and stores them again."""
    task.kind, task.options = "adaptive_video", {}
    await task.asave()
    playlist = storage.path(f"outputs/{task.pk}/index.m3u8")  # the last one, and it can't be stored
    (playlist / "in the way").mkdir(parents=True)
    monkeypatch.setattr(surroundings, "MAX_OUTAGE", -1 if end == "failed" else 60)
    env = ActivityEnvironment()
    running = asyncio.ensure_future(env.run(worker.run_task, task.pk))
    if end != "failed":
        await reached(task, lambda: (task.status, task.waiting_for) == ("queued", "storage"))
        assert len(list(playlist.parent.iterdir())) > 1
        if end == "cancelled":
            await sync_to_async(task.cancel)()
        env.cancel(ActivityCancellationDetails(worker_shutdown=end == "restarting"))
    await asyncio.wait({running}, timeout=60)
    await task.arefresh_from_db()
    assert task.status == {"restarting": "queued"}.get(end, end)
    assert end != "failed" or task.error["kind"] == "storage_unavailable"
    assert ([each.name for each in playlist.parent.iterdir()] == ["index.m3u8"]) is (end != "restarting")
    assert running.exception() if end == "restarting" else running.done()


async def test_a_worker_that_comes_back_too_late_leaves_a_download_to_the_one_that_has_its_task(
    task, tmp_path
):
    """Its machine stood still: Temporal knows its run no more, and another worker reads the source."""
    fetched = storage.path(storage.fetched(task.pk))
    fetched.parent.mkdir(parents=True, exist_ok=True)
    make_clip(tmp_path / "clip.mp4", 2, "320x180").rename(fetched)
    task.fetch_for, task.fetched = "owner a", True
    await task.asave()
    (in_the_way := storage.path(f"outputs/{task.pk}.mp3") / "x").mkdir(parents=True)
    env = ActivityEnvironment()
    running = asyncio.ensure_future(env.run(worker.run_task, task.pk))
    await reached(task, lambda: (task.status, task.waiting_for) == ("queued", "storage"))
    env.cancel(ActivityCancellationDetails(not_found=True))
    await asyncio.wait({running}, timeout=60)
    assert running.done() and fetched.exists()
    in_the_way.rmdir()
    in_the_way.parent.rmdir()
    await ActivityEnvironment().run(worker.run_task, task.pk)
    await task.arefresh_from_db()
    assert task.status == "succeeded" and not fetched.exists(), task.error


async def test_a_cancel_while_an_output_is_copied_to_another_disk_leaves_none(task, settings, monkeypatch):
    """The copy can't be called off: what it stores is removed when it has ended."""
    storing, may_end, stored = (threading.Event() for _ in range(3))
    replace = os.replace

    def slow_disk(fd):
        storing.set()
        may_end.wait(20)

    def noted(*names):
        replace(*names)
        stored.set()

    with tempfile.TemporaryDirectory(dir="/dev/shm") as settings.WORK_ROOT:
        monkeypatch.setattr(os, "fsync", slow_disk)
        monkeypatch.setattr(os, "replace", noted)
        env = ActivityEnvironment()
        running = asyncio.ensure_future(env.run(worker.run_task, task.pk))
        assert await asyncio.to_thread(storing.wait, 20)
        await sync_to_async(task.cancel)()
        env.cancel(ActivityCancellationDetails(cancel_requested=True))
        asyncio.get_running_loop().call_later(0.5, may_end.set)
        await asyncio.wait({running}, timeout=60)
        assert await asyncio.to_thread(stored.wait, 20)
    assert not storage.beginning_with(f"outputs/{task.pk}") and running.done()


@pytest.mark.parametrize("found_by", ["the engine’s API", "another worker"])
async def test_what_a_lost_worker_had_stored_goes_when_its_task_is_cancelled(task, settings, found_by):
    """It was killed, or handed over, between the storing and the task's end, and no other will store it."""
    assert await sync_to_async(task.begin)()
    gone, other = [f"outputs/{task.pk}.mp4", f"outputs/{task.pk}/main.m3u8"], "outputs/task_other.mp4"
    for name in (*gone, other):
        storage.path(name).parent.mkdir(parents=True, exist_ok=True)
        storage.path(name).write_bytes(b"x")
    if found_by == "another worker":
        await sync_to_async(task.cancel)()
        await ActivityEnvironment().run(worker.run_task, task.pk)
    else:
        headers = {"Authorization": f"Bearer {settings.ENGINE_KEY}"}
        answer = await AsyncClient().delete(f"/ittybit/tasks/{task.pk}", headers=headers)
        assert answer.json()["status"] == "cancelled"
    assert [name for name in (*gone, other) if storage.exists(name)] == [other]


async def test_a_list_takes_a_link_of_ours_that_has_expired(settings):
    """A row of an earlier version has it as it was given."""
    expired = settings.LOCAL_URL + storage.signed_path("sources/t/source.mp4", now=1)
    row = await EngineTask.objects.acreate(kind="audio", input=expired)
    headers = {"Authorization": f"Bearer {settings.ENGINE_KEY}"}
    answer = await AsyncClient().get("/ittybit/tasks", {"input": expired}, headers=headers)
    assert [each["id"] for each in answer.json()] == [row.pk]


@pytest.mark.parametrize("forged", ["media:sources/t/source.mp4", "{own}/media/sources/t/source.mp4"])
async def test_nobody_asks_for_a_file_of_ours_by_its_name_alone(task, settings, forged):
    headers = {"Authorization": f"Bearer {settings.ENGINE_KEY}"}
    body = {"kind": "audio", "input": forged.format(own=settings.LOCAL_URL)}
    answer = await AsyncClient().post(
        "/ittybit/tasks", body, content_type="application/json", headers=headers
    )
    assert answer.status_code == 400 and answer.json()["kind"] in ("invalid_input", "source_refused")
