"""What becomes of uploads: one job of each, no job of what is no media, and nothing lost to bad luck."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import subprocess
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace
from urllib.parse import unquote, urlencode, urlsplit

import av
import httpx
import pytest
import respx
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone

from jobs.models import Job, Upload
from jobs.models.wish import DELETE, Wish
from jobs.uploads import intake, one_piece, sample_clip, sweeping, writing
from jobs.uploads.part_file import PartFile, part_path
from jobs.uploads.source_check import TIMEOUT, find_problem
from mediapipe import disk, storage
from tests.support.environment import SHARED
from tests.support.tusclient import DATA, LENGTH, TUS, create, encoded, head, offset, patch, sound

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_api")]
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63f8cfc0f01f00"
    "050001ff5ccdc8a60000000049454e44ae426082"
)


@pytest.fixture
def signed_in(editor):
    client = Client()
    client.force_login(editor)
    return client


def leftovers() -> list[str]:
    """Every file that is under the media's folder."""
    return [each.name for each in storage.path("incoming").parent.rglob("*") if each.is_file()]


def test_a_file_in_parts_becomes_exactly_one_job(signed_in, editor):
    url = create(signed_in)["Location"]
    patch(signed_in, url, DATA[:4000], 0)
    last = patch(signed_in, url, DATA[4000:], 4000)
    job = Job.objects.get()
    assert last["Mediapipe-Job"] == job.get_absolute_url()
    assert head(signed_in, url)["Mediapipe-Job"] == job.get_absolute_url()
    assert Job.objects.count() == 1 and job.owner == editor and job.title == "holiday.wav"
    assert storage.path(job.source_name).read_bytes() == DATA
    assert job.source_sha256 == hashlib.sha256(DATA).hexdigest() and job.source_size == LENGTH
    assert leftovers() == ["source.wav"]


def test_an_upload_goes_on_after_a_restart_of_the_server(signed_in):
    url = create(signed_in)["Location"]
    patch(signed_in, url, DATA[:1000], 0)
    PartFile.digests.clear()  # as a new process begins
    patch(signed_in, url, DATA[1000:], 1000)
    assert Job.objects.get().source_sha256 == hashlib.sha256(DATA).hexdigest()


# --- what is no media -----------------------------------------------------------------------------

FOREIGN = "This isn’t a video or audio file, so it wasn’t uploaded."
NO_MEDIA = {
    "text": (b"this is no film\n" * 99, FOREIGN),
    "page": (b"<!doctype html><title>x</title>" * 9, FOREIGN),
    "archive": (b"PK\3\4" + bytes(5000), FOREIGN),
    "noise": (hashlib.shake_128(b"noise").digest(20_000), FOREIGN),
    "playlist": (b"#EXTM3U\nhttp://127.0.0.1/x.ts\n", FOREIGN),
    "one byte": (b"x", FOREIGN),
    "picture": (PNG, "This is an image. Upload a video or audio file instead."),
    "cut off": (
        b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41\0\1\0\0mdat" + bytes(5000),
        "This file is incomplete or damaged, so it wasn’t uploaded. Export it again and upload the new file.",
    ),
}


@pytest.mark.parametrize("kind", NO_MEDIA)
def test_what_is_no_media_is_refused_in_a_sentence_and_forgotten(signed_in, kind):
    data, sentence = NO_MEDIA[kind]
    reply = create(signed_in, len(data), "holiday.mp4")
    url = reply["Location"]
    last = patch(signed_in, url, data, 0)
    assert last.status_code == 422 and last.content.decode() == sentence
    assert head(signed_in, url).status_code == 404
    assert Job.objects.count() == Upload.objects.count() == 0 and leftovers() == []


def test_the_plain_form_refuses_it_too_and_keeps_what_was_typed(signed_in):
    data = {"title": "My holiday", "pipeline": "previews"}
    answer = signed_in.post("/jobs/new/", {**data, "file": SimpleUploadedFile("a.mp4", NO_MEDIA["text"][0])})
    page = answer.content.decode()
    assert answer.status_code == 422 and FOREIGN in page
    assert 'value="My holiday"' in page and re.search(r'value="previews"\s+selected', page)
    assert Job.objects.count() == 0 and leftovers() == []
    assert (
        signed_in.post("/jobs/new/", {**data, "file": SimpleUploadedFile("a.wav", DATA)}).status_code == 302
    )
    assert Job.objects.get().title == "My holiday" and leftovers() == ["source.wav"]


def test_a_form_whose_answer_was_lost_before_its_job_was_written_leaves_one_file_when_it_is_sent_again(
    signed_in,
):
    """The database was away, or the server killed, when the file was stored already."""

    def away(execute, sql, *rest):
        if sql.startswith('INSERT INTO "jobs_job"'):
            raise OperationalError("database is locked")
        return execute(sql, *rest)

    def send():
        form = {"idempotency_key": str(uuid.UUID(int=1)), "file": SimpleUploadedFile("a.wav", DATA)}
        return signed_in.post("/jobs/new/", form).status_code

    signed_in.raise_request_exception = False
    with connection.execute_wrapper(away):
        assert send() == 503
    assert send() == send() == 302
    assert storage.exists(Job.objects.get().source_name) and leftovers() == ["source.wav"]


def test_a_large_file_of_the_plain_form_is_checked_on_the_disk_and_moved(signed_in, settings):
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 0
    assert signed_in.post("/jobs/new/", {"file": SimpleUploadedFile("a.mp4", b"text")}).status_code == 422
    assert leftovers() == []
    assert signed_in.post("/jobs/new/", {"file": SimpleUploadedFile("a.wav", DATA)}).status_code == 302
    assert storage.path(Job.objects.get().source_name).read_bytes() == DATA and leftovers() == ["source.wav"]


@pytest.mark.skipif(not SHARED.exists(), reason="the shared media are not here")
@pytest.mark.parametrize(
    ("name", "becomes"),
    [
        ("sample_fragmented_widevine.mp4", "copy-protected. Upload an unprotected copy."),
        ("sample_with_invalid_nalu.mp4", "job"),
        ("chunk_out_of_range.mp4", "a video or audio file"),
        ("sample_missing_stsd.mp4", "job"),
        ("newtonscradle.gif", "job"),
    ],
)
def test_protected_films_are_refused_and_damaged_ones_that_open_are_taken(signed_in, name, becomes):
    data = (SHARED / "media" / "dev" / name).read_bytes()
    made = create(signed_in, len(data), name, data=data)
    assert ("Mediapipe-Job" in made) is (becomes == "job")
    assert becomes == "job" or becomes in made.content.decode()


@pytest.mark.parametrize(
    "engine",
    [
        {"side_effect": httpx.ConnectError},
        {"side_effect": httpx.ReadTimeout},
        {"status_code": 500},
        {"status_code": 401, "json": {"kind": "token_invalid", "message": "This key is not valid here."}},
        {"text": "<!doctype html>"},
        {"json": {"object": "probe", "problem": None, "source": None, "unread": "It took too long."}},
        {"json": {"object": "probe"}},
    ],
)
def test_where_the_engine_cannot_look_at_a_file_it_is_taken_and_the_log_says_why(
    signed_in, own_api, engine, caplog
):
    own_api.side_effect = None
    own_api.mock(**engine) if "side_effect" in engine else own_api.respond(**engine)
    assert "Mediapipe-Job" in create(signed_in, 99, data=b"x" * 99) and own_api.called
    assert re.search(r"[0-9a-f]{32}\.wav was accepted unchecked: .+\.", caplog.text)


def test_a_file_is_checked_however_busy_the_machine_is(settings, tmp_path, caplog):
    """The very process that asks also answers: where it gets no time, its own patience mustn't end."""
    body = b'{"problem": {"kind": "not_media", "message": "This is text."}}'

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    async def ask() -> str:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            settings.LOCAL_URL = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            asking = asyncio.create_task(find_problem("incoming/a.mp4"))
            while not asking.done():
                await asyncio.sleep(0)
                time.sleep(0.15)  # what others take of this process' time, each time that it is its turn
            return await asking

    with respx.mock(assert_all_mocked=False) as router, caplog.at_level("INFO", "jobs.uploads"):
        router.route().pass_through()
        assert asyncio.run(ask()) == FOREIGN
    assert caplog.messages == ["incoming/a.mp4 was refused (not_media): This is text."]


def test_an_engine_that_is_not_there_keeps_no_upload_waiting(signed_in, settings, own_api):
    own_api.side_effect = None
    own_api.pass_through()
    settings.LOCAL_URL = "http://127.0.0.1:9"
    began = time.monotonic()
    with respx.mock(assert_all_mocked=False) as router:
        router.route().pass_through()
        assert "Mediapipe-Job" in create(signed_in, 99, data=b"x" * 99)
    assert time.monotonic() - began < TIMEOUT / 10


def test_the_engine_is_asked_with_its_key_by_a_signed_link_to_the_part(signed_in, own_api, settings):
    settings.S3_BUCKET = "b"  # what is still incoming lies on our own disk
    settings.PUBLIC_URL = "https://example.org"
    url = storage.signed_url("incoming/x.mp4", local=True)
    assert url.startswith(f"{settings.LOCAL_URL}/media/incoming/") and not storage.in_bucket("incoming/x.mp4")
    settings.S3_BUCKET = ""
    create(signed_in, data=DATA)
    request = own_api.calls.last.request
    assert str(request.url) == f"{settings.LOCAL_URL}/ittybit/probe"
    assert request.headers["Authorization"] == f"Bearer {settings.ENGINE_KEY}"
    name = storage.name_of(json.loads(request.content)["input"])
    assert re.fullmatch(r"incoming/[0-9a-f]{32}\.wav", name)


def test_a_whole_upload_whose_server_died_before_it_looked_is_refused_by_the_next_look(signed_in):
    url = create(signed_in, 99, "a.mp4")["Location"]
    part_path(Upload.objects.get()).parent.mkdir(parents=True, exist_ok=True)
    part_path(Upload.objects.get()).write_bytes(b"x" * 99)
    reply = head(signed_in, url)
    assert reply.status_code == 422 and reply["Mediapipe-Says"] == FOREIGN.replace("’", "'")


# --- caps -----------------------------------------------------------------------------------------


def test_an_empty_file_is_refused_in_a_sentence(signed_in):
    answer = create(signed_in, length=0)
    assert answer.status_code == 400 and b"This file is empty (0 bytes)" in answer.content


def test_a_file_over_the_cap_or_without_room_is_refused_with_a_sentence(signed_in, settings, caplog):
    settings.MAX_UPLOAD_BYTES = 1000
    answer = create(signed_in)
    assert answer.status_code == 413 and b"too large" in answer.content
    settings.MAX_UPLOAD_BYTES = 1 << 60
    with caplog.at_level("INFO", "jobs.uploads"):
        answer = create(signed_in, length=1 << 59)
    assert "an upload was refused (507): The server doesn’t have enough free space" in caplog.text
    assert answer.status_code == 507 and "doesn’t have enough free space" in answer.content.decode()


def test_nobody_has_more_than_so_many_unfinished_uploads(signed_in, editor):
    later = timezone.now() + timedelta(days=1)
    Upload.objects.bulk_create(
        Upload(owner=editor, length=9, expires_at=later, filename=str(n)) for n in range(200)
    )
    answer = create(signed_in)
    assert answer.status_code == 429 and b"Finish or remove some before adding more" in answer.content


def test_what_one_person_has_under_way_is_limited_in_bytes_too_and_for_nobody_else(
    signed_in, django_user_model, settings
):
    settings.MAX_UPLOAD_BYTES = 10 * LENGTH
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: create(signed_in), range(16)))
    assert sorted(each.status_code for each in answers) == [201] * 10 + [429] * 6
    refused = next(each for each in answers if each.status_code == 429)
    assert "unfinished uploads may have" in refused.content.decode()
    other = Client()
    other.force_login(django_user_model.objects.create_user("grace"))
    assert create(other).status_code == 201
    url = next(each["Location"] for each in answers if each.status_code == 201)
    assert signed_in.delete(url, headers=TUS).status_code == 204
    assert create(signed_in).status_code == 201


def test_a_digest_is_of_the_bytes_that_reached_the_disk(signed_in, small_disk):
    """A full disk takes a piece of a block, or nothing of it."""
    data = sound(100_000)
    create(signed_in, len(data))
    upload = Upload.objects.get()
    for start in (0, 60_000):
        with PartFile.open(upload) as part, suppress(OSError):
            part.write([data[start : start + 60_000]])
    kept = part_path(upload).read_bytes()
    assert kept == data[: len(kept)] and len(kept) < 100_000
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    with PartFile.open(upload) as part:
        part.write([data[len(kept) :]])
    assert PartFile.take_sha256(upload) == hashlib.sha256(data).hexdigest()


# --- names, owners, writers -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("a\r\nb\x00c.wav", "abc.wav"),
        ("", "upload"),
        ("日本語 ü😀.wav", "日本語 ü😀.wav"),
        ("👨\u200d👩\u200d👧.wav", "👨\u200d👩\u200d👧.wav"),
        ("می\u200cخواهم.wav", "می\u200cخواهم.wav"),
        ("\u200d\u202egpj.wav", "gpj.wav"),
        ("\u200d", "upload"),
        ("x" * 500 + ".wav", ("x" * 500 + ".wav")[-200:]),
    ],
)
def test_a_name_is_only_shown_and_never_a_path(signed_in, name, shown):
    create(signed_in, name=name, data=DATA)
    job = Job.objects.get()
    assert job.source_filename == shown
    assert re.fullmatch(r"sources/[0-9a-f-]{36}/source\.(wav|bin)", job.source_name)


def test_somebody_elses_upload_is_not_found(signed_in, django_user_model):
    url = create(signed_in)["Location"]
    other = Client()
    assert patch(other, url, DATA, 0).status_code == 401
    other.force_login(django_user_model.objects.create_user("eve"))
    for answer in (head(other, url), patch(other, url, DATA, 0), other.delete(url, headers=TUS)):
        assert answer.status_code == 404
    assert offset(signed_in, url) == 0
    assert "holiday.wav" not in other.get("/").content.decode()


def test_an_expired_upload_is_swept_with_its_bytes(signed_in):
    url = create(signed_in)["Location"]
    patch(signed_in, url, DATA[:100], 0)
    assert sweeping.sweep() == 0
    Upload.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert sweeping.sweep() == 1
    assert Upload.objects.count() == 0 and leftovers() == []


def test_bytes_that_nobody_knows_are_swept_once_they_are_old(signed_in):
    stray = storage.path("incoming/stray")
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"x")
    assert sweeping.sweep() == 0
    os.utime(stray, (1, 1))
    assert sweeping.sweep() == 1 and leftovers() == []


def test_a_file_whose_job_was_never_made_goes_once_it_is_old(editor, tmp_path):
    """Who stores it may be killed before there is a row."""
    (path := tmp_path / "a film.wav").write_bytes(DATA)
    lost = one_piece.store_local_file(path)
    made = one_piece.store_local_file(path)
    Job.submit(editor, title="a film", pipeline="standard", source=made)
    assert one_piece.sweep() == 0 and storage.exists(lost.name)
    for mark in storage.path("storing").iterdir():
        os.utime(mark, (1, 1))
    assert one_piece.sweep() == 1 and not storage.exists(lost.name)
    assert storage.exists(made.name) and leftovers() == ["source.wav"]
    one_piece.has_job(made)
    assert one_piece.sweep() == 0


def test_a_form_leaves_no_mark_beside_a_file_that_has_its_job(signed_in):
    signed_in.post("/jobs/new/", {"file": SimpleUploadedFile("tone.wav", DATA), "pipeline": "standard"})
    assert Job.objects.get().source_filename == "tone.wav" and leftovers() == ["source.wav"]


def test_one_writer_at_a_time(signed_in):
    url = create(signed_in)["Location"]
    patch(signed_in, url, DATA[:10], 0)
    with PartFile.open(Upload.objects.get()):
        answer = patch(signed_in, url, DATA[10:], 10)
        assert answer.status_code == 423 and b"Try again in a moment" in answer.content
        assert answer["Retry-After"] == "2"
    assert patch(signed_in, url, DATA[10:], 10).status_code == 204


def test_nothing_is_remembered_of_an_upload_that_was_removed_while_it_was_written(signed_in):
    create(signed_in)
    upload, parts = Upload.objects.get(), [DATA[:100], b""]

    def read(size: int) -> bytes:
        if len(parts) == 1:
            part_path(upload).unlink()
        return parts.pop(0)

    with PartFile.open(upload) as part:
        asyncio.run(writing.write_body(SimpleNamespace(read=read), part, None))
        assert part.offset == 100
    assert upload.pk not in PartFile.digests


def test_bytes_whose_checksum_is_not_known_yet_are_no_whole_file(signed_in):
    """A look in the middle of the last part must not publish what may yet be dropped."""
    url = create(signed_in)["Location"]
    with PartFile.open(Upload.objects.get()) as part:
        part.write([DATA])
        assert head(signed_in, url).status_code == 423
        part.truncate()
    assert offset(signed_in, url) == 0 and Job.objects.count() == 0


def test_who_read_the_row_before_the_file_went_to_its_place_hears_that_all_has_arrived(signed_in):
    url = create(signed_in)["Location"]
    patch(signed_in, url, DATA[:-1], 0)
    upload = Upload.objects.get()
    part_path(upload).write_bytes(DATA)
    assert head(signed_in, url)["Mediapipe-Job"]  # another request
    assert intake.offset_of(upload) == len(DATA) and intake.is_finished(upload)


def test_two_finishes_at_once_make_one_job(signed_in):
    url = create(signed_in)["Location"]
    patch(signed_in, url, DATA[:-1], 0)
    part = part_path(Upload.objects.get())
    part.write_bytes(DATA)  # the last byte arrived, and the server died before it said so
    answers: list[str] = []

    def finish():
        from django.db import connection

        answers.append(head(signed_in, url)["Mediapipe-Job"])
        connection.close()

    threads = [threading.Thread(target=finish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [Job.objects.get().get_absolute_url()] * 4 and leftovers() == ["source.wav"]


# --- duplicates -----------------------------------------------------------------------------------


def test_the_same_bytes_offer_the_job_that_is_there(signed_in, django_user_model):
    create(signed_in, data=DATA)
    again = create(signed_in, name="copy.wav", data=DATA)
    assert again["Mediapipe-Duplicate"] == Job.objects.get().get_absolute_url()
    run = signed_in.post(f"{again['Location']}run/", headers=TUS)
    assert run.status_code == 201 and Job.objects.count() == 2
    assert Job.objects.order_by("created_at").last().title == "copy.wav"
    other = Client()
    other.force_login(django_user_model.objects.create_user("eve"))
    assert "Mediapipe-Job" in create(other, data=DATA)  # nobody learns what others have


def test_the_same_bytes_go_through_another_pipeline_unasked_and_the_question_says_what_is_there(signed_in):
    def sent(name: str, pipeline: str):
        about = encoded(filename=name, pipeline=pipeline)
        return create(signed_in, data=DATA, **{"Upload-Metadata": about})

    sent("bikes.wav", "standard")
    assert "Mediapipe-Job" in sent("bikes.wav", "streaming")
    asked = unquote(sent("copy.wav", "streaming")["Mediapipe-Duplicate-Says"])
    assert asked.startswith("You’ve already processed this file as “bikes.wav” with Streaming (HLS), ")
    assert sorted(Job.objects.values_list("pipeline", flat=True)) == ["standard", "streaming"]


def test_a_duplicate_that_is_not_wanted_leaves_no_bytes(signed_in):
    create(signed_in, data=DATA)
    again = create(signed_in, data=DATA)["Location"]
    assert len(leftovers()) == 2
    assert signed_in.delete(again, headers=TUS).status_code == 204
    assert len(leftovers()) == 1 and storage.exists(Job.objects.get().source_name)


def test_an_upload_goes_with_its_job_and_the_same_file_can_come_again(signed_in):
    url = create(signed_in, data=DATA)["Location"]
    job = Job.objects.get()
    Job.objects.update(state="succeeded")
    job.refresh_from_db()
    assert job.remove() and not storage.exists(job.source_name)
    assert head(signed_in, url).status_code == 404
    assert "Mediapipe-Job" in create(signed_in, data=DATA)


def ask(client, data: bytes, **more):
    """Asks whether a file is here before it is sent."""
    about = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "filename": "copy.wav", **more}
    query = urlencode({key: value for key, value in about.items() if value is not None})
    return client.post(f"/uploads/known/?{query}", headers=TUS)


def test_what_is_here_already_is_known_before_a_byte_is_sent(signed_in):
    assert "Mediapipe-Size-Known" not in ask(signed_in, DATA, sha256=None)
    create(signed_in, name="bikes.wav", data=DATA)
    first = Job.objects.get()
    assert ask(signed_in, DATA, sha256=None)["Mediapipe-Size-Known"]
    asked = ask(signed_in, DATA)
    assert asked["Mediapipe-Duplicate"] == first.get_absolute_url()
    assert "as “bikes.wav” with Standard, " in unquote(asked["Mediapipe-Duplicate-Says"])
    again = ask(signed_in, DATA, again=1)["Mediapipe-Job"]
    other = ask(signed_in, DATA, pipeline="streaming")["Mediapipe-Job"]
    assert len({again, other, first.get_absolute_url()}) == 3 == Job.objects.count()
    assert set(Job.objects.values_list("source_name", flat=True)) == {first.source_name}
    assert leftovers() == ["source.wav"] and Job.objects.filter(title="copy.wav").count() == 2


def test_bytes_that_others_have_or_that_are_being_deleted_or_gone_are_to_be_sent(
    signed_in, django_user_model
):
    create(signed_in, data=DATA)
    made = Job.objects.get()
    other = Client()
    other.force_login(django_user_model.objects.create_user("eve", is_staff=True))
    for more in ({"sha256": None}, {}, {"again": 1}):
        answer = ask(other, DATA, **more)
        assert answer.status_code == 204 and not [name for name in answer.headers if "Mediapipe" in name]
    assert "Mediapipe-Job" not in ask(signed_in, sound(), size=len(DATA)), "of that size, and other bytes"
    Job.objects.update(state="succeeded")
    made.refresh_from_db()
    made.keep_wish(Wish(DELETE, "ada"))
    assert "Mediapipe-Job" not in ask(signed_in, DATA, again=1)
    Job.objects.update(kept_wishes=None)
    storage.remove(made.source_name)
    assert "Mediapipe-Job" not in ask(signed_in, DATA, again=1)
    assert Job.objects.count() == 1


@pytest.mark.parametrize("query", ["", "size=-1", "size=9&sha256=abc", f"size={'9' * 5000}", "size=٣"])
def test_what_is_no_size_and_no_digest_is_refused(signed_in, query):
    assert signed_in.post(f"/uploads/known/?{query}", headers=TUS).status_code == 400
    assert Client().post("/uploads/known/?size=1", headers=TUS).status_code == 401


def test_of_two_jobs_on_one_file_each_can_be_deleted(signed_in):
    create(signed_in, data=DATA)
    ask(signed_in, DATA, again=1)
    Job.objects.update(state="succeeded")
    first, second = Job.objects.all()
    assert first.remove() and storage.exists(second.source_name)
    assert second.remove() and not leftovers()


# --- the sample -----------------------------------------------------------------------------------


def test_the_sample_clip_is_there_at_a_click_and_copied_once():
    began = time.thread_time()  # of which other threads, and other programs, take none
    source = sample_clip.source()
    assert time.thread_time() - began < 0.2
    path = storage.path(source.name)
    assert path.read_bytes() == sample_clip.CLIP.read_bytes() and leftovers() == ["source.mp4"]
    before = path.stat()
    assert sample_clip.source() == source and path.stat() == before
    assert 300_000 < before.st_size < 600_000
    with av.open(str(path)) as clip:
        picture = clip.streams.video[0]
        assert (picture.width, picture.height, len(clip.streams.audio)) == (1280, 720, 1)
        assert 8 <= clip.duration / av.time_base <= 12


# --- what stopped ---------------------------------------------------------------------------------


def test_what_stopped_is_told_with_what_is_needed_to_go_on(signed_in):
    about = encoded(filename="holiday <1>.wav", modified="1700000000123")
    url = create(signed_in, **{"Upload-Metadata": about})["Location"]
    patch(signed_in, url, DATA[: LENGTH * 61 // 100 + 1], 0)
    create(signed_in, name="whole.wav", data=sound())
    page = signed_in.get("/").content.decode()
    assert page.count("data-stopped=") == 1 and f'data-stopped="{urlsplit(url).path}"' in page
    assert 'data-modified="1700000000123"' in page and f'data-size="{LENGTH}"' in page
    assert "holiday &lt;1&gt;.wav</strong>" in page and "Stopped at 61%. Choose the same file again" in page


# --- disks ----------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """A real small disk, where this machine lets us mount one."""
    small = tmp_path / "media"
    small.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(small)], capture_output=True)
    if done.returncode:
        pytest.skip("this machine lets nobody mount a file system")
    monkeypatch.setattr(disk, "MEDIA_RESERVE", -(1 << 30))
    yield small
    subprocess.run(["umount", str(small)], check=True)


def test_a_disk_that_fills_up_loses_nothing_and_the_upload_goes_on(signed_in, small_disk):
    data = sound(100_000)
    url = create(signed_in, len(data))["Location"]
    answer = patch(signed_in, url, data, 0)
    assert answer.status_code == 507 and "will continue when there’s room" in answer.content.decode()
    kept = offset(signed_in, url)
    assert kept < len(data) and part_path(Upload.objects.get()).read_bytes() == data[:kept]
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    assert "Mediapipe-Job" in patch(signed_in, url, data[kept:], kept)
    assert Job.objects.get().source_sha256 == hashlib.sha256(data).hexdigest()


def test_uploads_under_way_leave_the_reserve_that_everything_else_lives_on(
    signed_in, small_disk, monkeypatch
):
    url = create(signed_in)["Location"]
    patch(signed_in, url, DATA[:1000], 0)
    monkeypatch.setattr(disk, "MEDIA_RESERVE", 1 << 20)
    answer = patch(signed_in, url, DATA[1000:], 1000)
    assert answer.status_code == 507 and offset(signed_in, url) == 1000
