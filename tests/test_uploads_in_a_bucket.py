"""Uploads across web servers that share the database and the bucket alone, against a real S3 server."""

from __future__ import annotations

import base64
import hashlib
import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from jobs.models import Job, Upload
from jobs.models.upload import LEASE
from jobs.uploads import sweeping, writing
from jobs.uploads.arriving import Arriving
from jobs.uploads.bucket_part import BucketPart
from mediapipe import storage
from mediapipe.storage import multipart, s3
from tests.support.bucket import KEY, SECRET, Bucket
from tests.support.tusclient import DATA, TUS, create, head, offset, patch, sound

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_api")]
MIB = 1 << 20
PART = 5 * MIB
FILM = sound(6 * MIB)  # 12 MiB: two parts and a bit
OLD = timedelta(days=3)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Bucket(tmp_path_factory.mktemp("s3")).start()
    yield server
    server.kill()


def use(monkeypatch, settings, url: str) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    settings.S3_ENDPOINT_URL = url
    settings.S3_REGION = "us-east-1"
    for known in (s3.storage, s3.base):
        known.cache_clear()


@pytest.fixture(autouse=True)
def bucket(server, settings, monkeypatch):
    settings.S3_BUCKET = f"of-{uuid.uuid4().hex}"  # each test has its own
    use(monkeypatch, settings, server.url)
    s3.storage().bucket.create()
    monkeypatch.setattr(multipart, "MIN_PART_SIZE", PART)
    yield
    for known in (s3.storage, s3.base):
        known.cache_clear()


@pytest.fixture
def signed_in(editor):
    client = Client()
    client.force_login(editor)
    return client


def as_another_web():
    """What only one process knows is forgotten: the next request is answered by another one."""
    Arriving.digests.clear()
    BucketPart.sent.clear()


def begun() -> list[str]:
    return [each.name for each in multipart.begun("sources/")]


def ends() -> list[str]:
    return [name for name, _, _ in s3.under("incoming")]


def assert_whole(job: Job, data: bytes) -> None:
    assert s3.read(job.source_name) == data
    assert job.source_sha256 == hashlib.sha256(data).hexdigest() and job.source_size == len(data)
    assert ends() == [] and not any(name == job.source_name for name in begun())


def test_two_webs_take_the_parts_in_turn_and_the_file_is_whole(signed_in):
    step = 3 * MIB + 17
    url = create(signed_in, len(FILM))["Location"]
    for at in range(0, len(FILM), step):
        as_another_web()
        assert offset(signed_in, url) == at
        as_another_web()
        last = patch(signed_in, url, FILM[at : at + step], at)
        assert last.status_code == 204 and last["Upload-Offset"] == str(min(at + step, len(FILM)))
    assert_whole(Job.objects.get(), FILM)
    assert last["Mediapipe-Job"] == head(signed_in, url)["Mediapipe-Job"]


def test_what_one_process_sent_alone_is_not_read_back(signed_in, own_api):
    own_api.side_effect = None
    own_api.respond(500)  # nobody looks into it
    read = []
    events = s3.storage().bucket.meta.client.meta.events
    events.register("before-send.s3.GetObject", lambda request, **_: read.append(request.url))
    url = create(signed_in, len(FILM), data=FILM[: PART + MIB])["Location"]
    patch(signed_in, url, FILM[PART + MIB :], PART + MIB)
    assert [address.split("/")[4] for address in read] == ["incoming"]  # what was in no part yet
    assert_whole(Job.objects.get(), FILM)


def test_a_part_that_another_web_sent_meanwhile_makes_the_file_be_read_back(signed_in):
    url = create(signed_in, len(FILM))["Location"]
    patch(signed_in, url, FILM[: 2 * PART], 0)
    upload = Upload.objects.get()
    digest = hashlib.sha256(b"of other bytes")
    Arriving.digests[upload.pk] = (2 * PART, digest)
    BucketPart.sent[upload.pk] = {1: multipart.Part(PART, '"other"')}
    patch(signed_in, url, FILM[2 * PART :], 2 * PART)
    assert_whole(Job.objects.get(), FILM)


def test_a_web_that_is_killed_loses_less_than_a_part_and_no_offset_that_it_told(signed_in):
    url = create(signed_in, len(FILM))["Location"]
    patch(signed_in, url, FILM[: MIB + 5], 0)
    upload = Upload.objects.get()
    killed = BucketPart.open(upload)
    killed.write([FILM[MIB + 5 : PART + 3 * MIB]])  # and never closed
    as_another_web()
    Upload.objects.update(writer_seen_at=timezone.now() - LEASE - timedelta(seconds=1))
    at = offset(signed_in, url)
    assert MIB + 5 < at == PART
    patch(signed_in, url, FILM[at:], at)
    assert_whole(Job.objects.get(), FILM)


def test_a_writer_that_was_taken_for_killed_sends_nothing_more(signed_in):
    create(signed_in, len(FILM))
    upload = Upload.objects.get()
    first = BucketPart.open(upload)
    Upload.objects.update(writer_seen_at=timezone.now() - LEASE - timedelta(seconds=1))
    with BucketPart.open(upload) as second:
        second.write([FILM[:7]])
        first.stay()
        with pytest.raises(writing.UploadError):
            first.write([FILM[:PART]])
        first.close()
    assert BucketPart.offset_of(upload) == 7


def test_two_webs_never_write_at_once(signed_in, monkeypatch):
    url = create(signed_in, len(FILM))["Location"]
    monkeypatch.setattr(writing, "WRITER_TIMEOUT", 0.0)

    def send(_):
        return patch(signed_in, url, FILM, 0)

    with ThreadPoolExecutor(4) as threads:
        answers = [answer.status_code for answer in threads.map(send, range(4))]
    assert answers.count(204) == 1 and set(answers) <= {204, 423, 409, 413}
    assert_whole(Job.objects.get(), FILM)


def test_a_writer_elsewhere_is_423_with_when_to_come_again(signed_in):
    url = create(signed_in, len(FILM))["Location"]
    with BucketPart.open(Upload.objects.get()):
        refused = patch(signed_in, url, FILM, 0)
    assert refused.status_code == 423 and refused["Retry-After"] == "2"


def test_what_a_checksum_refuses_never_reaches_the_bucket(signed_in):
    url = create(signed_in, len(FILM))["Location"]
    wrong = base64.b64encode(hashlib.sha1(b"other").digest()).decode()
    right = base64.b64encode(hashlib.sha1(FILM[2:]).digest()).decode()
    patch(signed_in, url, FILM[:2], 0)
    reply = patch(signed_in, url, FILM[2:], 2, **{"Upload-Checksum": f"sha1 {wrong}"})
    assert reply.status_code == 460 and offset(signed_in, url) == 2
    assert not multipart.parts(begun()[0], Upload.objects.get().multipart)
    assert patch(signed_in, url, FILM[2:], 2, **{"Upload-Checksum": f"sha1 {right}"}).status_code == 204
    assert_whole(Job.objects.get(), FILM)


def test_what_is_no_media_leaves_nothing_in_the_bucket(signed_in):
    reply = create(signed_in, 3000, data=b"this is no film" * 200)
    assert reply.status_code == 422 and Upload.objects.count() == 0
    assert not s3.under("sources") and not ends() and not begun()


def test_the_same_bytes_are_asked_about_and_a_terminated_upload_leaves_nothing(signed_in):
    create(signed_in, data=DATA)
    again = create(signed_in, data=DATA)
    assert again["Mediapipe-Duplicate"] == Job.objects.get().get_absolute_url()
    half = create(signed_in, len(FILM), data=FILM[: PART + 9])
    assert begun() and ends()
    for url in (again["Location"], half["Location"]):
        assert signed_in.delete(url, headers=TUS).status_code == 204
        assert head(signed_in, url).status_code == 404
    assert [name for name, _, _ in s3.under("sources")] == [Job.objects.get().source_name]
    assert not ends() and not begun()


def test_a_web_that_is_killed_between_the_last_part_and_the_job_leaves_a_job_to_the_next_look(signed_in):
    url = create(signed_in, len(FILM), data=FILM[:-1])["Location"]
    upload = Upload.objects.get()
    with BucketPart.open(upload) as part:
        part.write([FILM[-1:]])
    BucketPart.seal(upload)
    as_another_web()
    assert "Mediapipe-Job" in head(signed_in, url)
    assert_whole(Job.objects.get(), FILM)


def test_what_the_bucket_lost_is_gone_and_says_so(signed_in):
    url = create(signed_in, len(FILM), data=FILM[:PART])["Location"]
    multipart.abort(begun()[0], Upload.objects.get().multipart)
    for reply in (head(signed_in, url), patch(signed_in, url, FILM[PART:], PART)):
        assert reply.status_code == 404
    assert Job.objects.count() == 0


def test_a_bucket_that_is_away_costs_time_and_no_byte(signed_in, settings, server, monkeypatch):
    url = create(signed_in, len(FILM), data=FILM[:MIB])["Location"]
    use(monkeypatch, settings, "http://127.0.0.1:9")
    for reply in (head(signed_in, url), patch(signed_in, url, FILM[MIB:], MIB), create(signed_in)):
        assert reply.status_code == 503 and reply["Retry-After"] == "5"
    assert Upload.objects.count() == 1 and signed_in.get("/").status_code == 200
    assert sweeping.sweep() == 0
    use(monkeypatch, settings, server.url)
    assert offset(signed_in, url) == MIB
    patch(signed_in, url, FILM[MIB:], MIB)
    assert_whole(Job.objects.get(), FILM)


def test_parts_are_swept_whoever_left_them_once_they_are_old(signed_in, monkeypatch):
    stray = multipart.begin("sources/4711/source.mp4", "video/mp4")
    s3.write("incoming/4711/0-1", b"x")
    kept = create(signed_in, len(FILM), data=FILM[: PART + 9])["Location"]
    expired = create(signed_in, len(FILM), data=FILM[: PART + 9])["Location"]
    Upload.objects.filter(pk=expired.split("/")[-2]).update(expires_at=timezone.now() - timedelta(seconds=1))
    monkeypatch.setattr(sweeping, "_last", {})
    assert sweeping.sweep() == 1 and len(begun()) == 2 and len(ends()) == 2
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + OLD.total_seconds())
    assert sweeping.remove_strays_in_bucket() == 2
    with pytest.raises(FileNotFoundError):
        multipart.parts("sources/4711/source.mp4", stray)
    assert offset(signed_in, kept) == PART + 9 and len(begun()) == len(ends()) == 1


def test_a_bucket_to_which_nobody_has_sent_a_part_has_nothing_to_sweep(caplog):
    assert sweeping.remove_strays_in_bucket() == 0 and not caplog.messages


def test_a_web_sweeps_its_own_disk_when_it_takes_an_upload(signed_in, monkeypatch):
    stray = storage.path("incoming/stray")
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"x")
    os.utime(stray, (1, 1))
    monkeypatch.setattr(sweeping, "_last", {})
    create(signed_in)
    assert not stray.exists()
