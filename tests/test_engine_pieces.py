"""A long film encoded in pieces: it is that of an uncut encode, and what goes wrong costs a piece."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async
from temporalio.client import WorkflowHistory
from temporalio.testing import ActivityEnvironment
from temporalio.worker import Replayer

from mediapipe import storage
from mediapipe.engine import course, piece_files, pieces, queue, worker
from mediapipe.engine.folders import folder
from mediapipe.engine.hooks import Hooks, SoFar
from mediapipe.engine.kinds import KINDS
from mediapipe.engine.models import EngineTask
from mediapipe.engine.pieces import IN_ONE, MISSING, Division, PieceWork
from mediapipe.engine.piecework import Film
from mediapipe.engine.task import process
from mediapipe.engine.workflows import EngineTaskWorkflow
from mediapipe.payloads import WorkflowRunner
from tests.support.engine import X264, endless_space, enqueued, least_alike, likeness, packets
from tests.support.histories import FOLDER
from tests.support.product import until_async

pytestmark = [pytest.mark.anyio, pytest.mark.django_db(transaction=True)]
ASKED = {"format": "mp4", "width": 160, "quality": "medium"}


def lavfi(rate: str = "30", seconds: int = 10) -> list[str]:
    return ["-f", "lavfi", "-i", f"testsrc2=s=320x180:r={rate}:d={seconds}"]


TONE = ["-f", "lavfi", "-i", "sine=440:d=10"]
SOURCES = {
    "open.mp4": [*lavfi("30000/1001"), *TONE, *X264, "-bf", "3", "-g", "250", "-x264-params", "open-gop=1"],
    "uneven.mp4": [
        *[*lavfi("60"), *TONE, "-vf", r"select='not(eq(mod(n\,7)\,2))*not(eq(mod(n\,11)\,5))'"],
        *["-fps_mode", "vfr", "-enc_time_base", "1/90000", *X264, "-bf", "2"],
    ],
    "silent.mkv": [*lavfi("24000/1001"), "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"],
    "ten-bit.mkv": [
        *[*lavfi("25"), *TONE, "-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le"],
        *["-color_primaries", "bt2020", "-color_trc", "smpte2084", "-colorspace", "bt2020nc", "-c:a", "ac3"],
        *["-x265-params", "log-level=error:open-gop=1"],
    ],
    "late.mkv": [
        *[*lavfi("25"), *TONE, "-vf", "trim=start=0.4", "-fps_mode", "passthrough", *X264, "-bf", "2"],
        *["-c:a", "libopus"],
    ],
    "gap.mp4": [
        *[*lavfi("25"), *TONE, "-vf", "select='not(between(t,3,6.4))'", "-fps_mode", "passthrough", *X264],
    ],
    "interlaced.mov": [*lavfi("25"), *TONE, "-vf", "setfield=tff", *X264, "-flags", "+ildct+ilme"],
}


def put(made, name: str, arguments: list[str]) -> str:
    """A clip among the uploads; the link to it."""
    target = storage.path(f"sources/p/{name}")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(made(name, *arguments).read_bytes())
    return storage.signed_url(f"sources/p/{name}")


async def new(link: str, **options) -> EngineTask:
    return await EngineTask.objects.acreate(kind="video", input=link, options={**ASKED, **options})


async def run(activity, *arguments):
    return await ActivityEnvironment().run(activity, *arguments)


def works(task: EngineTask, division: Division) -> list[PieceWork]:
    each = [*division.pieces, *([None] if division.sound else [])]
    return [PieceWork(task.pk, division.key, division.seconds, piece) for piece in each]


async def in_pieces(task: EngineTask) -> Division:
    """Does all that the workflow would have done, without it."""
    division = await run(worker.run_task, task.pk, True)
    assert division and len(division.pieces) >= 2
    for work in reversed(works(task, division)):
        assert await run(worker.encode_piece, work)
    assert await run(worker.join_pieces, task.pk, division) == ""
    return division


async def encode_both(cut: EngineTask, whole: EngineTask) -> None:
    """Does the same task in pieces and in one: both succeed, and warn of the same."""
    await in_pieces(cut)
    assert await run(worker.run_task, whole.pk) is None
    for each in (cut, whole):
        await each.arefresh_from_db()
        assert each.status == "succeeded", each.error
    assert cut.warnings == whole.warnings


def output(task: EngineTask) -> Path:
    return storage.path(task.output["name"])


async def same_film(cut: EngineTask, whole: EngineTask) -> None:
    """Does the same task in pieces and in one: the same pictures and sound, at the same times, as long."""
    await encode_both(cut, whole)
    for kind in ("video", "audio"):
        assert packets(output(cut), kind) == packets(output(whole), kind)
    for fact in ("duration", "fps"):
        assert cut.output[fact] == whole.output[fact]
    assert least_alike(output(cut), output(whole)) > 0.9


SOME = ("open.mp4", "uneven.mp4")
CODECS: list[tuple[str, dict]] = [
    ("uneven.mp4", {"format": "webm", "codec": "av1"}),
    ("late.mkv", {"codec": "h265"}),
    ("open.mp4", {"format": "mov", "codec": "h265"}),
    ("uneven.mp4", {"codec": "av1"}),
    ("ten-bit.mkv", {"format": "webm"}),
    ("late.mkv", {"format": "webm"}),
]


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) if name in SOME else pytest.param(name, {}, marks=pytest.mark.release) for name in SOURCES]
    + CODECS[:1]
    + [pytest.param(*each, marks=pytest.mark.release) for each in CODECS[1:]],
)
async def test_a_film_of_pieces_is_that_of_an_uncut_encode(short_pieces, monkeypatch, made, name, options):
    """Whatever the codec: open groups of pictures, uneven frames, times in milliseconds, HDR, fields, a late
    start, a gap: the same at the same times.
    """
    if name == "uneven.mp4":  # two, with keyframes in them that don't lie on the grid
        for limit in ("MAX_PIECES", "MIN_PIECES"):
            monkeypatch.setattr(pieces, limit, 2)
    link = put(made, name, SOURCES[name])
    cut, whole = await new(link, **options), await new(link, **options)
    await same_film(cut, whole)
    source = storage.path(f"sources/p/{name}")
    assert likeness(output(cut), source) == pytest.approx(likeness(output(whole), source), abs=0.003)
    assert cut.output["filesize"] == pytest.approx(whole.output["filesize"], rel=0.02)
    assert not piece_files.folder("").exists() or not list(piece_files.folder("").iterdir())
    assert not folder(cut.pk).exists()


async def test_only_what_is_gone_is_encoded_again(short_pieces, made):
    """A retry of the stage, with a task of its own, takes what is there; a join says that a piece is gone."""
    link = put(made, "open.mp4", SOURCES["open.mp4"])
    first, again = await new(link), await new(link)
    division = await run(worker.run_task, first.pk, True)
    for work in works(first, division)[:-1]:
        assert await run(worker.encode_piece, work)
    kept = piece_files.folder(division.key)
    before = {each.name: each.stat().st_mtime_ns for each in kept.glob("*.mp4")}
    assert await run(worker.join_pieces, first.pk, division) == MISSING
    await first.arefresh_from_db()
    assert (first.status, first.progress) == ("queued", pytest.approx(99, abs=1))
    await sync_to_async(first.fail)("killed", "lost")
    division = await run(worker.run_task, again.pk, True)
    for work in works(again, division):
        assert await run(worker.encode_piece, work)
    now = {each.name: each.stat().st_mtime_ns for each in kept.glob("*.mp4")}
    assert before.items() < now.items()
    assert await run(worker.join_pieces, again.pk, division) == "" and not kept.exists()


async def test_a_film_in_pieces_takes_no_longer_than_the_hours_that_are_set(short_pieces, made, settings):
    """What its other pieces have taken counts for a piece, and for the film when it is encoded in one."""
    link = put(made, "open.mp4", SOURCES["open.mp4"])
    for quality in ("medium", "low"):
        task = await new(link, quality=quality)
        division = await run(worker.run_task, task.pk, True)
        first, second, *_ = works(task, division)
        assert await run(worker.encode_piece, first)
        await sync_to_async(course.say)(task.pk, 0, worked=3601)
        settings.MAX_ENCODE_HOURS = 1
        if quality == "medium":
            assert not await run(worker.encode_piece, second)
        else:
            await run(worker.run_task, task.pk, False, IN_ONE)
        await task.arefresh_from_db()
        assert task.status == "failed" and task.error["kind"] == "too_long", task.error


async def test_the_percentage_goes_on_where_the_pieces_ended(made, settings, tmp_path):
    link = put(made, "open.mp4", SOURCES["open.mp4"])
    seen: list[float] = []
    hooks = Hooks(endless_space, report=lambda percent, speed, left: seen.append(percent))
    await process("task_x", KINDS["video"], ASKED, link, hooks, so_far=SoFar(percent=60))
    assert seen == sorted(seen) and seen[0] >= 60 and seen[-1] > 95, seen


@pytest.mark.parametrize(
    "options",
    [{"bitrate": 400000}, {"fps": 12, "bitrate": 400000}, None],
)
async def test_what_is_not_known_to_come_out_the_same_or_is_short_stays_in_one(
    short_pieces, made, options, monkeypatch
):
    link = put(made, "open.mp4", SOURCES["open.mp4"])
    if options is None:
        monkeypatch.undo()
    film = await Film.of("t", KINDS["video"], {**ASKED, **(options or {})}, link, Hooks(endless_space))
    assert await film.division() is None


async def test_two_machines_with_nothing_but_a_bucket_in_common_make_one_film(
    bucket, short_pieces, settings, made, tmp_path
):
    """Each fetches the source once; pieces travel to where they are joined, and nothing of them stays."""
    await asyncio.to_thread(bucket.start)
    (bucket.folder / "sources").mkdir()
    (bucket.folder / "sources" / "open.mp4").write_bytes(made("open.mp4", *SOURCES["open.mp4"]).read_bytes())
    kept = f"{storage.OWN_FILE_PREFIX}sources/open.mp4"
    film, whole = await new(kept), await new(kept)
    here, there = tmp_path / "here", tmp_path / "there"
    settings.WORK_ROOT = here
    division = await run(worker.run_task, film.pk, True)
    assert division and not (here / film.pk).exists()
    fetched = {each.stat().st_ino for each in here.glob(".sources/*")}
    first, *others = works(film, division)
    assert await run(worker.encode_piece, first)
    assert {each.stat().st_ino for each in here.glob(".sources/*")} == fetched and len(fetched) == 1
    settings.WORK_ROOT = there
    assert await run(worker.join_pieces, film.pk, division) == MISSING
    await film.arefresh_from_db()
    share = first.piece.seconds / division.seconds * 100
    assert (film.status, film.progress) == ("queued", pytest.approx(share, abs=1))
    for work in works(film, division):
        assert await run(worker.encode_piece, work)
    assert len(list(there.glob(".sources/*"))) == 1
    assert len(list(there.glob(".pieces/*/*.mp4"))) == len(others), "the other machine's was made again"
    assert await run(worker.join_pieces, film.pk, division) == ""
    assert await run(worker.run_task, whole.pk) is None
    for each in (film, whole):
        await each.arefresh_from_db()
        assert (each.status, each.warnings) == ("succeeded", []), each.error
    cut, uncut = (bucket.folder / each.output["name"] for each in (film, whole))
    assert packets(cut, "video") == packets(uncut, "video")
    assert not list(bucket.folder.glob("pieces/**/*.*")) and not list(there.glob(".pieces/*"))
    settings.WORK_ROOT = here
    left = here / ".pieces" / division.key
    assert piece_files.sweep() == 0 and left.exists()
    os.utime(left, (0, time.time() - piece_files.UNSENT_FOR - 9))
    piece_files.sweep()
    assert not left.exists()


async def test_a_bucket_that_is_away_costs_a_piece_time_alone(bucket, short_pieces, made):
    await asyncio.to_thread(bucket.start)
    (bucket.folder / "sources").mkdir()
    (bucket.folder / "sources" / "open.mp4").write_bytes(made("open.mp4", *SOURCES["open.mp4"]).read_bytes())
    film = await new(f"{storage.OWN_FILE_PREFIX}sources/open.mp4")
    division = await run(worker.run_task, film.pk, True)
    bucket.kill()
    going = asyncio.ensure_future(run(worker.encode_piece, works(film, division)[0]))

    async def waits() -> bool:
        await film.arefresh_from_db()
        return film.waiting_for == "storage"

    await until_async(waits)
    await asyncio.to_thread(bucket.start)
    assert await going and list(bucket.folder.glob("pieces/*/0000-*.json"))
    await sync_to_async(film.cancel)()
    assert await queue.stop(film) is False and not list(bucket.folder.glob("pieces/**/*.*"))


async def test_a_short_encode_waits_for_a_piece_and_cancel_stops_them_all(engine_workers, short_pieces, made):
    link = put(made, "open.mp4", SOURCES["open.mp4"])
    slow = put(made, "slow.mp4", [*["-f", "lavfi", "-i", "testsrc2=s=640x360:r=25:d=30"], *X264])
    film, clip = await new(slow, width=640, quality="very_high"), await new(link, start=0, end=1)

    async def is_midway() -> bool:
        await film.arefresh_from_db()
        return bool(film.progress and film.progress > 6)

    await enqueued(film)
    await until_async(is_midway, 120)
    await enqueued(clip)
    await engine_workers.get_workflow_handle(clip.pk).result()
    await film.arefresh_from_db()
    await clip.arefresh_from_db()
    assert film.active and film.progress < 80 and clip.status == "succeeded"
    began = asyncio.get_running_loop().time()
    assert await queue.stop(film)
    assert asyncio.get_running_loop().time() - began < 3
    assert film.status == "cancelled" and film.freed_bytes
    assert not list(piece_files.folder("").iterdir()) and not folder(film.pk).exists()


async def test_what_does_not_come_out_exactly_is_encoded_in_one_and_says_so(
    engine_workers, short_pieces, made
):
    """Damage in the middle: pieces would not show what a decoder makes of it."""
    link = put(made, "open.mp4", SOURCES["open.mp4"])
    source = storage.path("sources/p/open.mp4")
    data = bytearray(source.read_bytes())
    middle = data.index(b"mdat") + (data.index(b"moov") - data.index(b"mdat")) // 2
    data[middle : middle + 3000] = b"\x55" * 3000
    source.write_bytes(data)
    task = await new(link)
    await enqueued(task)
    await engine_workers.get_workflow_handle(task.pk).result()
    await task.arefresh_from_db()
    assert task.status == "succeeded" and IN_ONE in task.warnings, (task.error, task.warnings)


async def test_a_history_of_pieces_replays():
    """One whose last piece was not exact, and that was encoded in one."""
    history = WorkflowHistory.from_json("task_x", (FOLDER / "engine" / "pieces.json").read_text())
    await Replayer(workflows=[EngineTaskWorkflow], workflow_runner=WorkflowRunner()).replay_workflow(history)
