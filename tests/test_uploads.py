"""The tus server, rule by rule of the protocol's parts that are offered, and bad input."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from jobs import incoming
from jobs.models import Job, Upload
from mediapipe import files

pytestmark = pytest.mark.django_db(transaction=True)
TUS = {"Tus-Resumable": "1.0.0"}
STREAM = "application/offset+octet-stream"
DATA = bytes(range(256)) * 40
LENGTH = len(DATA)


def encoded(**values: str) -> str:
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items())


@pytest.fixture
def signed_in(editor):
    client = Client()
    client.force_login(editor)
    return client


def create(signed_in, length=LENGTH, name="holiday.mp4", data=None, **headers):
    about = {**TUS, "Upload-Length": str(length), "Upload-Metadata": encoded(filename=name), **headers}
    content = STREAM if data is not None else "application/octet-stream"
    return signed_in.post("/uploads/", data=data or b"", content_type=content, headers=about)


def patch(signed_in, url, data, offset, **headers):
    about = {**TUS, "Upload-Offset": str(offset), **headers}
    return signed_in.patch(url, data=data, content_type=STREAM, headers=about)


def offset(signed_in, url):
    return int(signed_in.head(url, headers=TUS)["Upload-Offset"])


def test_options_tell_what_is_offered(signed_in):
    answer = signed_in.options("/uploads/")
    assert answer.status_code == 204 and answer["Tus-Version"] == "1.0.0"
    assert set(answer["Tus-Extension"].split(",")) == {
        *("creation", "creation-with-upload", "expiration", "checksum", "termination")
    }
    assert "sha256" in answer["Tus-Checksum-Algorithm"] and int(answer["Tus-Max-Size"]) > 0


def test_a_file_in_parts_becomes_exactly_one_job(signed_in, editor):
    made = create(signed_in)
    assert made.status_code == 201 and "Upload-Expires" in made
    url = made["Location"]
    assert offset(signed_in, url) == 0
    first = patch(signed_in, url, DATA[:4000], 0)
    assert (first.status_code, first["Upload-Offset"]) == (204, "4000")
    head = signed_in.head(url, headers=TUS)
    assert head["Upload-Offset"] == "4000" and head["Upload-Length"] == str(len(DATA))
    assert head["Cache-Control"] == "no-store" and head["Upload-Metadata"] == encoded(filename="holiday.mp4")
    last = patch(signed_in, url, DATA[4000:], 4000)
    job = Job.objects.get()
    assert last["Mediapipe-Job"] == job.get_absolute_url()
    assert signed_in.head(url, headers=TUS)["Mediapipe-Job"] == job.get_absolute_url()
    assert Job.objects.count() == 1 and job.owner == editor and job.title == "holiday.mp4"
    assert files.path(job.source_name).read_bytes() == DATA
    assert job.source_sha256 == hashlib.sha256(DATA).hexdigest() and job.source_size == len(DATA)
    assert not list((files.path("incoming")).iterdir())


def test_a_file_can_come_with_its_creation(signed_in):
    made = create(signed_in, data=DATA)
    assert made.status_code == 201 and made["Upload-Offset"] == str(len(DATA))
    assert Job.objects.count() == 1


def test_an_upload_goes_on_after_a_restart_of_the_server(signed_in):
    url = create(signed_in)["Location"]
    patch(signed_in, url, DATA[:1000], 0)
    incoming.digests.clear()  # what a new process knows
    patch(signed_in, url, DATA[1000:], 1000)
    assert Job.objects.get().source_sha256 == hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize("wrong", ["1", "99999", "-1", "x", "1e3", "9" * 30, "٣"])
def test_a_wrong_offset_writes_nothing(signed_in, wrong):
    url = create(signed_in)["Location"]
    answer = patch(signed_in, url, DATA, wrong)
    assert answer.status_code in (400, 409) and offset(signed_in, url) == 0


@pytest.mark.parametrize("wrong", ["", "-1", "1.5", "x", "9" * 30, "0"])
def test_a_wrong_length_makes_no_upload(signed_in, wrong):
    answer = create(signed_in, length=wrong)
    assert answer.status_code == 400 and answer.content and Upload.objects.count() == 0


def test_a_file_over_the_cap_or_without_room_is_refused_with_a_sentence(signed_in, settings):
    settings.MAX_UPLOAD_BYTES = 1000
    answer = create(signed_in)
    assert answer.status_code == 413 and b"too large" in answer.content
    settings.MAX_UPLOAD_BYTES = 1 << 60
    answer = create(signed_in, length=1 << 59)
    assert answer.status_code == 507 and b"not enough free space" in answer.content


def test_more_bytes_than_promised_are_dropped(signed_in):
    url = create(signed_in, length=100)["Location"]
    answer = patch(signed_in, url, DATA, 0)
    assert answer.status_code == 413 and offset(signed_in, url) == 0


def test_a_checksum_that_does_not_match_drops_the_part(signed_in):
    url = create(signed_in)["Location"]
    right = base64.b64encode(hashlib.sha1(DATA[:100]).digest()).decode()
    assert patch(signed_in, url, DATA[:100], 0, **{"Upload-Checksum": f"sha1 {right}"}).status_code == 204
    answer = patch(signed_in, url, DATA[101:200], 100, **{"Upload-Checksum": f"sha1 {right}"})
    assert answer.status_code == 460 and offset(signed_in, url) == 100
    assert patch(signed_in, url, b"x", 100, **{"Upload-Checksum": "crc32 AAAA"}).status_code == 400
    assert patch(signed_in, url, b"x", 100, **{"Upload-Checksum": "sha1 !!"}).status_code == 400
    patch(signed_in, url, DATA[100:], 100)
    assert files.path(Job.objects.get().source_name).read_bytes() == DATA


@pytest.mark.parametrize(
    "raw", ["filename !!!", "filename " + base64.b64encode(b"\xff\xfe").decode(), "k " + "A" * 9000]
)
def test_bad_metadata_is_refused(signed_in, raw):
    assert create(signed_in, **{"Upload-Metadata": raw}).status_code == 400


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("a\r\nb\x00c.mp4", "abc.mp4"),
        ("", "upload"),
        ("日本語 ü😀.mp4", "日本語 ü😀.mp4"),
        ("x" * 500 + ".mp4", ("x" * 500 + ".mp4")[-200:]),
    ],
)
def test_a_name_is_only_shown_and_never_a_path(signed_in, name, shown):
    create(signed_in, name=name, data=DATA)
    job = Job.objects.get()
    assert job.source_filename == shown
    assert job.source_name.startswith("sources/") and ".." not in job.source_name


def test_somebody_elses_upload_is_not_found(signed_in, django_user_model):
    url = create(signed_in)["Location"]
    other = Client()
    assert patch(other, url, DATA, 0).status_code == 401
    other.force_login(django_user_model.objects.create_user("eve"))
    for answer in (other.head(url, headers=TUS), patch(other, url, DATA, 0), other.delete(url, headers=TUS)):
        assert answer.status_code == 404
    assert offset(signed_in, url) == 0


def test_an_upload_can_be_given_up(signed_in):
    url = create(signed_in)["Location"]
    patch(signed_in, url, DATA[:100], 0)
    assert signed_in.delete(url, headers=TUS).status_code == 204
    assert signed_in.head(url, headers=TUS).status_code == 404
    assert not list(files.path("incoming").iterdir())


def test_an_expired_upload_is_gone_and_swept(signed_in):
    url = create(signed_in)["Location"]
    patch(signed_in, url, DATA[:100], 0)
    Upload.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert signed_in.head(url, headers=TUS).status_code == 410
    assert incoming.sweep() == 1
    assert Upload.objects.count() == 0 and not list(files.path("incoming").iterdir())


def test_one_writer_at_a_time(signed_in):
    url = create(signed_in)["Location"]
    patch(signed_in, url, DATA[:10], 0)
    with incoming.writing(Upload.objects.get()):
        assert patch(signed_in, url, DATA[10:], 10).status_code == 423
    assert patch(signed_in, url, DATA[10:], 10).status_code == 204


def test_two_finishes_at_once_make_one_job(signed_in):
    url = create(signed_in)["Location"]
    patch(signed_in, url, DATA[:-1], 0)
    part = incoming.part_path(Upload.objects.get())
    part.write_bytes(DATA)  # the last byte arrived, and the server died before it said so
    answers: list[int] = []

    def finish():
        from django.db import connection

        answers.append(signed_in.head(url, headers=TUS).status_code)
        connection.close()

    threads = [threading.Thread(target=finish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 4 and Job.objects.count() == 1


def test_the_same_bytes_offer_the_job_that_is_there(signed_in, django_user_model):
    create(signed_in, data=DATA)
    again = create(signed_in, name="copy.mp4", data=DATA)
    assert again["Mediapipe-Duplicate"] == Job.objects.get().get_absolute_url()
    run = signed_in.post(f"{again['Location']}run/", headers=TUS)
    assert run.status_code == 201 and Job.objects.count() == 2
    assert Job.objects.order_by("created_at").last().title == "copy.mp4"
    other = Client()
    other.force_login(django_user_model.objects.create_user("eve"))
    assert "Mediapipe-Job" in create(other, data=DATA)  # nobody learns what others have


def test_an_upload_goes_with_its_job_and_the_same_file_can_come_again(signed_in):
    url = create(signed_in, data=DATA)["Location"]
    job = Job.objects.get()
    Job.objects.update(state="succeeded")
    job.refresh_from_db()
    assert job.remove() and not files.exists(job.source_name)
    assert signed_in.head(url, headers=TUS).status_code == 404
    assert "Mediapipe-Job" in create(signed_in, data=DATA)


def test_requests_that_are_no_tus_are_told_so(signed_in):
    url = create(signed_in)["Location"]
    assert signed_in.head(url).status_code == 412
    assert (
        signed_in.patch(
            url, data=b"x", content_type="text/plain", headers={**TUS, "Upload-Offset": "0"}
        ).status_code
        == 415
    )
    assert signed_in.get(url, headers=TUS).status_code == 405
    over = signed_in.post(
        url,
        data=b"xy",
        content_type=STREAM,
        headers={**TUS, "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"},
    )
    assert over.status_code == 204 and over["Upload-Offset"] == "2"


def test_a_disk_that_fills_up_loses_nothing(signed_in, tmp_path):
    """A real full disk: a small file system, where this machine lets us mount one."""
    import subprocess

    small = tmp_path / "media"
    small.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(small)], capture_output=True)
    if done.returncode:
        pytest.skip("this machine lets nobody mount a file system")
    try:
        upload = Upload.objects.create(
            owner=signed_in.session and Upload._meta.get_field("owner").related_model.objects.get(),
            length=200_000,
            filename="big.mp4",
            expires_at=timezone.now() + timedelta(days=1),
        )
        url = f"/uploads/{upload.pk}/"
        answer = patch(signed_in, url, os.urandom(200_000), 0)
        assert answer.status_code == 507 and b"goes on once there is room" in answer.content
        assert 0 <= offset(signed_in, url) < 200_000
    finally:
        subprocess.run(["umount", str(small)], check=True)
