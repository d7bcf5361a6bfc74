"""All outputs of a job as one zip: whole, for its owner alone, and never in memory at once."""

from __future__ import annotations

import asyncio
import io
import os
import tracemalloc
import zipfile

import pytest
from django.test import Client

from jobs.models import Stage
from mediapipe import storage
from mediapipe.storage.archive import BLOCK, Archive
from tests.support.recorded import job

pytestmark = pytest.mark.django_db(transaction=True)
OUTPUTS = {
    "ingest": {"name": "outputs/t1.mp4"},
    "thumbnails": {"name": "outputs/t2.webp", "extras": {"vtt": "outputs/t2.vtt"}},
    "audio": {"url": "https://cdn.example.com/a.mp3"},
    "transcode": {"name": "outputs/t4/index.m3u8"},
}


def stored(name: str, data: bytes) -> str:
    path = storage.path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return name


@pytest.fixture
def done(editor):
    made = job(editor, title='a/b: "c" 小林.mov')
    for name, output in OUTPUTS.items():
        Stage.objects.filter(job=made, name=name).update(output=output)
    for name in ("t1.mp4", "t2.webp", "t2.vtt", "t4/index.m3u8", "t4/1.m4s"):
        stored(f"outputs/{name}", name.encode() * 1000)
    return made


def whole(answer) -> bytes:
    async def parts() -> bytes:
        return b"".join([part async for part in answer.streaming_content])

    return asyncio.run(parts())


def test_it_holds_every_output_of_ours_under_a_name_that_every_machine_takes(ada, done):
    answer = ada.get(f"/jobs/{done.pk}/outputs.zip")
    assert answer["Content-Type"] == "application/zip" and "attachment" in answer["Content-Disposition"]
    with zipfile.ZipFile(io.BytesIO(whole(answer))) as archive:
        assert archive.testzip() is None
        held = {entry.filename: archive.read(entry) for entry in archive.infolist()}
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
    assert held == {
        "a-b- -c- 小林 - ingest.mp4": b"t1.mp4" * 1000,
        "Thumbnails/t2.webp": b"t2.webp" * 1000,
        "Thumbnails/t2.vtt": b"t2.vtt" * 1000,
        "Transcode/index.m3u8": b"t4/index.m3u8" * 1000,
        "Transcode/1.m4s": b"t4/1.m4s" * 1000,
    }


def test_it_is_for_who_may_see_the_job(ada, done, client, django_user_model):
    stranger = Client()
    stranger.force_login(django_user_model.objects.create_user("eve"))
    path = f"/jobs/{done.pk}/outputs.zip"
    assert stranger.get(path).status_code == 404 and client.get(path).status_code == 302
    Stage.objects.filter(job=done).update(output=None)
    assert ada.get(path).status_code == 404, "there is nothing to put into it"


def test_a_file_of_any_size_takes_the_memory_of_a_few_blocks():
    name = stored("outputs/large.bin", b"")
    os.truncate(storage.path(name), 64 * BLOCK)

    async def length() -> int:
        return sum([len(part) async for part in Archive([("large.bin", name)])])

    tracemalloc.start()
    sent = asyncio.run(length())
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sent > 64 * BLOCK and most < 8 * BLOCK


def test_who_ends_the_download_closes_the_file():
    name = stored("outputs/large.bin", b"x" * 3 * BLOCK)

    async def begin() -> Archive:
        archive = Archive([("large.bin", name)])
        await anext(archive.__aiter__())
        return archive

    def opened() -> int:
        links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
        return sum("large.bin" in os.readlink(each) for each in links if os.path.islink(each))

    archive = asyncio.run(begin())
    assert opened() == 1
    archive.close()
    assert opened() == 0
