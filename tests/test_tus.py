"""The tus protocol 1.0, rule by rule for the parts that are offered, in the order of its text.

https://tus.io/protocols/resumable-upload
"""

from __future__ import annotations

import base64
import hashlib
from datetime import timedelta
from email.utils import parsedate_to_datetime

import pytest
from django.test import Client
from django.utils import timezone

from jobs.models import Job, Upload
from mediapipe import storage
from tests.support.tusclient import DATA, LENGTH, STREAM, TUS, create, encoded, head, offset, patch

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_api")]


@pytest.fixture
def signed_in(editor):
    client = Client()
    client.force_login(editor)
    return client


@pytest.fixture
def url(signed_in):
    """An upload that waits for its bytes."""
    return create(signed_in)["Location"]


def digest(name: str, data: bytes) -> dict[str, str]:
    value = base64.b64encode(hashlib.new(name, data).digest()).decode()
    return {"Upload-Checksum": f"{name} {value}"}


# --- headers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["-1", "x", "1.5", "1e3", "0x10", " ", "9" * 30, "٣", "1,1", None])
def test_offsets_and_lengths_are_non_negative_integers(signed_in, url, wrong):
    assert patch(signed_in, url, DATA, 0, **{"Upload-Offset": wrong}).status_code == 400
    refused = create(signed_in, **{"Upload-Length": wrong})
    assert refused.status_code == 400 and b"must be a non-negative integer" in refused.content
    assert offset(signed_in, url) == 0 and Upload.objects.count() == 1


def test_every_reply_but_the_one_to_options_names_the_version(signed_in, url, editor):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(editor)
    replies = [
        create(signed_in),
        head(signed_in, url),
        patch(signed_in, url, DATA[:9], 0),
        patch(signed_in, url, DATA, 5),
        create(signed_in, length="x"),
        signed_in.get(url, headers=TUS),
        signed_in.head(url),
        Client().head(url, headers=TUS),
        signed_in.delete(url, headers=TUS),
        head(signed_in, url),
        create(strict),
        signed_in.get("/uploads/nothing", headers=TUS),
        signed_in.get("/uploads", headers=TUS),
        create(signed_in, Authorization="Bearer none"),
    ]
    assert [reply.get("Tus-Resumable") for reply in replies] == ["1.0.0"] * len(replies)
    assert "Tus-Resumable" not in signed_in.options("/uploads/")


@pytest.mark.parametrize("version", [None, "", "0.2.2", "1.0.1", "2.0.0"])
def test_another_version_is_answered_412_with_ours_and_nothing_is_done(signed_in, url, version):
    for reply in (
        create(signed_in, **{"Tus-Resumable": version}),
        patch(signed_in, url, DATA, 0, **{"Tus-Resumable": version}),
        signed_in.delete(url, headers={"Tus-Resumable": version} if version is not None else {}),
    ):
        assert reply.status_code == 412 and reply["Tus-Version"] == "1.0.0"
    assert offset(signed_in, url) == 0 and Upload.objects.count() == 1


def test_options_tell_what_is_offered_whatever_the_version(signed_in, url, settings):
    for path, headers in (("/uploads/", {}), (url, {}), ("/uploads/", {"Tus-Resumable": "0.1"})):
        reply = signed_in.options(path, headers=headers)
        assert reply.status_code == 204 and reply["Tus-Version"] == "1.0.0"
        assert set(reply["Tus-Extension"].split(",")) == {
            *("creation", "creation-with-upload", "expiration", "checksum", "termination")
        }
        assert {"sha1", "sha256"} <= set(reply["Tus-Checksum-Algorithm"].split(","))
        assert int(reply["Tus-Max-Size"]) == settings.MAX_UPLOAD_BYTES


def test_a_method_override_is_heard_on_post_and_the_real_method_ignored(signed_in, url):
    def over(method, data=b"", **headers):
        about = {**TUS, "X-HTTP-Method-Override": method, "Content-Type": STREAM, **headers}
        return signed_in.post(url, data=data, content_type=STREAM, headers=about)

    assert over("PATCH", b"xy", **{"Upload-Offset": "0"})["Upload-Offset"] == "2"
    assert over("HEAD")["Upload-Offset"] == "2"
    assert over("OPTIONS")["Tus-Version"] == "1.0.0"
    assert signed_in.get(url, headers={**TUS, "X-HTTP-Method-Override": "DELETE"}).status_code == 405
    assert over("delete").status_code == 204 and head(signed_in, url).status_code == 404


def test_the_csrf_token_is_asked_for_before_a_byte_is_taken(editor, url):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(editor)
    assert create(strict).status_code == 403 and patch(strict, url, DATA, 0).status_code == 403
    assert strict.delete(url, headers=TUS).status_code == 403
    token = strict.get("/").wsgi_request.META["CSRF_COOKIE"]
    assert patch(strict, url, DATA[:5], 0, **{"X-CSRFToken": token}).status_code == 204
    assert offset(strict, url) == 5


# --- core -----------------------------------------------------------------------------------------


def test_head_tells_offset_length_and_metadata_and_may_not_be_cached(signed_in, url):
    patch(signed_in, url, DATA[:4000], 0)
    reply = head(signed_in, url)
    assert reply.status_code == 200 and not reply.content
    assert (reply["Upload-Offset"], reply["Upload-Length"]) == ("4000", str(LENGTH))
    assert reply["Cache-Control"] == "no-store"
    assert reply["Upload-Metadata"] == encoded(filename="holiday.wav")


def test_head_of_what_is_not_there_names_no_offset_and_says_so_in_a_header(signed_in):
    reply = head(signed_in, "/uploads/7a2d2b9e-7a0f-4b41-9d6c-0d6f0f8f0000/")
    assert reply.status_code == 404 and "Upload-Offset" not in reply
    assert reply["Mediapipe-Says"] == "This upload no longer exists. Start it again."


def test_a_patch_appends_and_answers_204_with_the_new_offset(signed_in, url):
    for at in range(0, 3000, 1000):
        reply = patch(signed_in, url, DATA[at : at + 1000], at)
        assert (reply.status_code, reply["Upload-Offset"]) == (204, str(at + 1000)) and not reply.content


@pytest.mark.parametrize("wrong", [1, 99, 101, LENGTH, 10**17])
def test_a_patch_elsewhere_than_at_the_offset_is_409_and_writes_nothing(signed_in, url, wrong):
    patch(signed_in, url, DATA[:100], 0)
    reply = patch(signed_in, url, DATA[100:], wrong)
    assert reply.status_code == 409 and reply["Upload-Offset"] == "100"
    assert offset(signed_in, url) == 100


def test_a_patch_of_a_whole_upload_is_held_to_the_same_rules(signed_in):
    url = create(signed_in, data=DATA)["Location"]
    assert patch(signed_in, url, b"", LENGTH).status_code == 204
    assert patch(signed_in, url, b"", 0).status_code == 409
    assert patch(signed_in, url, b"more", LENGTH).status_code == 413
    assert storage.path(Job.objects.get().source_name).read_bytes() == DATA


@pytest.mark.parametrize(
    "kind", ["application/octet-stream", "text/plain", "multipart/form-data; boundary=x"]
)
def test_a_body_of_another_type_is_415(signed_in, url, kind):
    about = {**TUS, "Upload-Offset": "0"}
    assert signed_in.patch(url, data=b"x", content_type=kind, headers=about).status_code == 415
    about = {**TUS, "Upload-Length": "10"}
    assert signed_in.post("/uploads/", data=b"x", content_type=kind, headers=about).status_code == 415
    assert offset(signed_in, url) == 0 and Upload.objects.count() == 1


def test_a_patch_of_what_is_not_there_is_404(signed_in):
    assert patch(signed_in, "/uploads/7a2d2b9e-7a0f-4b41-9d6c-0d6f0f8f0000/", DATA, 0).status_code == 404


def test_a_body_longer_than_the_rest_is_413_and_its_bytes_are_dropped(signed_in):
    url = create(signed_in, length=100)["Location"]
    patch(signed_in, url, DATA[:60], 0)
    reply = patch(signed_in, url, DATA[60:], 60)
    assert reply.status_code == 413 and b"More bytes came" in reply.content
    assert offset(signed_in, url) == 60


def test_other_methods_are_405_and_tell_which_are_known(signed_in, url):
    assert "PATCH" in signed_in.get(url, headers=TUS)["Allow"]
    assert signed_in.get(url, headers=TUS).status_code == 405
    assert signed_in.get("/uploads/", headers=TUS)["Allow"] == "POST, OPTIONS"
    assert signed_in.get(f"{url}run/", headers=TUS).status_code == 405


# --- creation -------------------------------------------------------------------------------------


def test_creation_answers_201_with_the_place_and_no_byte_yet(signed_in):
    reply = create(signed_in)
    assert reply.status_code == 201 and reply["Upload-Offset"] == "0"
    assert reply["Location"] == f"http://testserver/uploads/{Upload.objects.get().pk}/"


@pytest.mark.parametrize(
    ("public", "headers", "base"),
    [
        ("", {}, "http://testserver"),
        ("https://testserver", {}, "https://testserver"),  # a proxy dropped the scheme
        ("https://testserver:8443", {}, "https://testserver:8443"),
        ("https://example.org", {}, "http://testserver"),  # a program inside
        ("https://testserver", {"Origin": "http://testserver:8000"}, "http://testserver:8000"),
        ("https://testserver", {"Origin": "https://evil.example"}, "https://testserver"),
    ],
)
def test_the_place_is_the_whole_address_as_the_client_reaches_us(signed_in, settings, public, headers, base):
    settings.PUBLIC_URL = public
    assert create(signed_in, **headers)["Location"].startswith(f"{base}/uploads/")


@pytest.mark.parametrize(
    "headers",
    [
        {"Upload-Length": None},
        {"Upload-Length": None, "Upload-Defer-Length": "1"},
        {"Upload-Defer-Length": "1"},
        {"Upload-Concat": "partial"},
        {"Upload-Concat": "final;/uploads/a /uploads/b", "Upload-Length": None},
    ],
)
def test_what_is_not_offered_is_refused_and_never_ignored(signed_in, headers):
    """A third of a film that a client sends as a part of it must not become a job."""
    assert create(signed_in, **headers).status_code == 400 and Upload.objects.count() == 0
    offered = signed_in.options("/uploads/")["Tus-Extension"]
    assert "creation-defer-length" not in offered and "concatenation" not in offered


def test_a_length_over_the_largest_is_413(signed_in, settings):
    assert create(signed_in, length=settings.MAX_UPLOAD_BYTES + 1).status_code == 413
    assert Upload.objects.count() == 0


@pytest.mark.parametrize(
    "raw",
    [
        "filename !!!",
        "filename " + base64.b64encode(b"\xff\xfe").decode(),
        "filename aGk=,filename aGk=",  # a key twice
        " aGk=",  # no key
        ",filename aGk=",
        "filename aGk=,",
        "filename  aGk=",  # two spaces
        "filename aGk= aGk=",
        "k " + "A" * 9000,
    ],
)
def test_metadata_that_breaks_a_rule_is_400(signed_in, raw):
    reply = create(signed_in, **{"Upload-Metadata": raw})
    assert reply.status_code == 400 and b"Upload-Metadata" in reply.content and Upload.objects.count() == 0


@pytest.mark.parametrize("raw", ["filename aGk=,is_confidential", "is_confidential", "a ,b aGk=", None])
def test_a_key_may_have_no_value_and_head_echoes_what_was_said(signed_in, raw):
    reply = head(signed_in, create(signed_in, **{"Upload-Metadata": raw})["Location"])
    assert reply.get("Upload-Metadata") == raw


# --- creation with upload -------------------------------------------------------------------------


def test_bytes_may_come_with_the_creation_whole_or_in_part(signed_in):
    part = create(signed_in, data=DATA[:500])
    assert (
        part.status_code == 201
        and part["Upload-Offset"] == "500" == head(signed_in, part["Location"])["Upload-Offset"]
    )
    whole = create(signed_in, data=DATA)
    assert whole["Upload-Offset"] == str(LENGTH) and "Mediapipe-Job" in whole
    empty = create(signed_in, data=b"")
    assert (empty.status_code, empty["Upload-Offset"]) == (201, "0")


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Upload-Length": "100"}, 413), (digest("sha1", b"other"), 460), ({"Upload-Checksum": "x y"}, 400)],
)
def test_a_creation_whose_bytes_are_refused_leaves_no_upload(signed_in, headers, status):
    assert create(signed_in, data=DATA, **headers).status_code == status
    assert Upload.objects.count() == 0 and not list(storage.path("incoming").glob("*"))


# --- expiration -----------------------------------------------------------------------------------


def test_creation_and_each_patch_tell_until_when_and_a_patch_puts_it_off(signed_in, url):
    Upload.objects.update(expires_at=timezone.now() + timedelta(seconds=30))
    reply = patch(signed_in, url, DATA[:5], 0)
    left = parsedate_to_datetime(reply["Upload-Expires"]) - timezone.now()
    assert left > timedelta(days=1)
    assert reply["Upload-Expires"] == head(signed_in, url)["Upload-Expires"]
    assert reply["Upload-Expires"].endswith(" GMT") and "Upload-Expires" in create(signed_in)
    assert "Upload-Expires" in patch(signed_in, url, DATA[:5], 0)  # 409


def test_what_has_become_a_job_does_not_expire(signed_in):
    made = create(signed_in, data=DATA)
    assert "Upload-Expires" not in made and "Upload-Expires" not in head(signed_in, made["Location"])


def test_an_expired_upload_is_410(signed_in, url):
    patch(signed_in, url, DATA[:100], 0)
    Upload.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    for reply in (head(signed_in, url), patch(signed_in, url, DATA[100:], 100)):
        assert reply.status_code == 410 and "Upload-Offset" not in reply


# --- checksum -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sha1", "sha256", "md5"])
def test_a_part_is_taken_when_its_checksum_matches_and_dropped_when_not(signed_in, url, name):
    assert patch(signed_in, url, DATA[:100], 0, **digest(name, DATA[:100])).status_code == 204
    reply = patch(signed_in, url, DATA[101:200], 100, **digest(name, DATA[100:199]))
    assert reply.status_code == 460 and offset(signed_in, url) == 100
    assert patch(signed_in, url, DATA[100:200], 100, **digest(name, DATA[100:200])).status_code == 204


@pytest.mark.parametrize("said", ["crc32 AAAA", "sha1 !!", "sha1 é", "", "SHA1 AAAA"])
def test_an_algorithm_or_value_that_nobody_understands_is_400(signed_in, url, said):
    assert patch(signed_in, url, b"x", 0, **{"Upload-Checksum": said}).status_code == 400
    assert offset(signed_in, url) == 0


# --- termination ----------------------------------------------------------------------------------


def test_a_terminated_upload_is_gone_with_its_bytes(signed_in, url):
    patch(signed_in, url, DATA[:100], 0)
    assert signed_in.delete(url, headers=TUS).status_code == 204
    for reply in (head(signed_in, url), patch(signed_in, url, b"", 100), signed_in.delete(url, headers=TUS)):
        assert reply.status_code == 404
    assert not list(storage.path("incoming").iterdir()) and Upload.objects.count() == 0


def test_terminating_a_finished_upload_forgets_it_and_keeps_the_job(signed_in):
    url = create(signed_in, data=DATA)["Location"]
    assert signed_in.delete(url, headers=TUS).status_code == 204
    assert head(signed_in, url).status_code == 404
    assert storage.path(Job.objects.get().source_name).read_bytes() == DATA
    assert not list(storage.path("incoming").iterdir())
