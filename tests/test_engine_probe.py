"""The engine's probe over HTTP: what a file of this installation holds, and what is certainly no media."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import httpx
import pytest
from django.conf import settings
from django.core import signing
from django.test import Client

from jobs.ittybit.replies import Rejected, check_response
from jobs.workflow.webhook import SALT, webhook_url
from mediapipe import storage
from mediapipe.storage import s3
from mediapipe.web.middleware import policy
from tests.support.environment import SHARED
from tests.test_uploads import PNG

ENCRYPTED = SHARED / "media" / "dev" / "sample_fragmented_widevine.mp4"
# An index follows what is written here, and is missing.
CUT_OFF = b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41\0\1\0\0mdat" + bytes(5000)
WAV = ["-f", "lavfi", "-i", "sine=440:d=2"]
FILM = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=2", *WAV, "-c:v", "libx264", "-c:a", "aac"]


@pytest.fixture
def probe(settings):
    """POST /ittybit/probe, and its answer."""

    def ask(body: object, **headers: str):
        headers = {"Authorization": f"Bearer {settings.ENGINE_KEY}", **headers}
        return Client().post("/ittybit/probe", body, content_type="application/json", headers=headers)

    return ask


def stored(name: str, data: bytes) -> str:
    """A signed URL of a file with these bytes, on the disk."""
    path = storage.path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return settings.LOCAL_URL + storage.signed_path(name)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"this is no film\n" * 99, "not_media"),
        (b"<!doctype html><title>x</title>" * 9, "not_media"),
        (b"PK\3\4" + bytes(5000), "not_media"),
        (hashlib.shake_128(b"noise").digest(20_000), "not_media"),
        (b"#EXTM3U\nhttp://127.0.0.1/x.ts\n", "not_media"),
        (b"x", "not_media"),
        (CUT_OFF, "damaged"),
        (PNG, "image"),
    ],
    ids=["text", "page", "archive", "noise", "playlist", "one byte", "cut off", "image"],
)
def test_what_is_certainly_no_media_is_a_problem_in_a_sentence(probe, data, kind):
    answer = probe({"input": stored("incoming/a.mp4", data)})
    found = answer.json()
    assert answer.status_code == 200 and found["object"] == "probe" and found["problem"]["kind"] == kind
    assert found["problem"]["message"].endswith(".") and set(found["problem"]) == {"kind", "message"}
    assert (found["source"] or {}).get("kind") == ("image" if kind == "image" else None)


def test_a_film_and_sound_are_told_by_their_facts_and_have_no_problem(probe, made):
    url = stored("sources/f/source.mp4", made("film.mp4", *FILM).read_bytes())
    found = probe({"input": url}).json()
    assert found == {
        "object": "probe",
        "problem": None,
        "source": {
            "object": "file",
            "url": url,
            "kind": "video",
            "format": "mp4",
            "width": 320,
            "height": 180,
            "duration": pytest.approx(2, abs=0.1),
            "codecs": {"video": "h264", "audio": "aac"},
        },
        "unread": None,
    }
    sound = probe({"input": stored("sources/s/source.wav", made("tone.wav", *WAV).read_bytes())}).json()
    assert sound["problem"] is None and (sound["source"]["kind"], sound["source"]["width"]) == ("audio", None)


@pytest.mark.skipif(not ENCRYPTED.exists(), reason="the shared media are not here")
def test_a_protected_film_is_a_problem(probe):
    found = probe({"input": stored("incoming/p.mp4", ENCRYPTED.read_bytes())}).json()
    assert found["problem"]["kind"] == "protected"


def test_a_url_of_anybody_else_is_refused_and_never_fetched(probe, listener, settings):
    port, seen = listener
    settings.ALLOW_PRIVATE_SOURCES = True
    for url in (f"http://127.0.0.1:{port}/a.mp4", f"http://127.0.0.1:{port}/media/incoming/a.mp4?expires=1"):
        answer = probe({"input": url})
        assert answer.status_code == 400 and answer.json()["kind"] == "source_refused"
        assert set(answer.json()) == {"kind", "message"}
    assert seen == []


def test_a_link_that_is_forged_or_has_expired_is_refused(probe, settings):
    url = stored("incoming/a.wav", b"x")
    old = settings.LOCAL_URL + storage.signed_path("incoming/a.wav", now=time.time() - 10 * 86400)
    out = f"{settings.LOCAL_URL}{storage.signed_path('../secret')}"
    for wrong in (url[:-3] + "abc", url.replace("a.wav", "b.wav"), old, out):
        answer = probe({"input": wrong})
        assert (answer.status_code, answer.json()["kind"]) == (400, "source_refused"), wrong


def test_a_file_that_is_gone_is_not_found(probe):
    url = stored("incoming/a.wav", b"x")
    Path(storage.path("incoming/a.wav")).unlink()
    answer = probe({"input": url})
    assert (answer.status_code, answer.json()["kind"]) == (404, "source_not_found")


@pytest.fixture
def bucket(settings, monkeypatch):
    """Settings of a bucket that nobody serves."""
    settings.S3_BUCKET = "media"
    settings.S3_ENDPOINT_URL = "http://127.0.0.1:9"
    settings.S3_PUBLIC_URL = None
    settings.S3_REGION = "us-east-1"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mediapipe")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-of-some-length")

    def forget() -> None:
        for cache in (s3.storage, s3.base):
            cache.cache_clear()

    forget()
    yield forget
    forget()


def test_a_file_in_a_bucket_is_not_fetched_and_one_on_its_way_there_is_probed(probe, settings, made, bucket):
    stored("incoming/a.wav", made("tone.wav", *WAV).read_bytes())
    foreign = probe({"input": storage.signed_url("outputs/a.wav")})
    assert foreign.status_code == 400 and foreign.json()["kind"] == "source_refused"
    local = probe({"input": settings.LOCAL_URL + storage.signed_path("incoming/a.wav")})
    assert local.status_code == 200 and local.json()["source"]["kind"] == "audio"


@pytest.mark.django_db  # who fetches a file is noted
def test_our_engine_is_asked_for_a_file_in_the_bucket_by_our_own_signature(settings, bucket):
    """The bucket's address and key may change while the task waits, so neither is kept."""
    url = storage.signed_url("sources/a.wav", local=True)
    assert storage.to_kept(url) == "media:sources/a.wav"
    answer = Client().get(url.removeprefix(settings.LOCAL_URL))
    assert answer.status_code == 302 and answer["Location"].startswith(
        "http://127.0.0.1:9/media/sources/a.wav?"
    )
    assert "X-Amz-Signature" in answer["Location"]
    unsigned = answer["Location"].partition("?")[0]
    assert storage.to_kept(unsigned) == unsigned, "whoever knows a name would get the file"
    assert storage.kept_name(unsigned) is None


def test_browsers_get_links_to_the_buckets_public_address_and_the_engine_downloads_inside(settings, bucket):
    settings.S3_PUBLIC_URL = "https://media.example.org"
    bucket()
    link, inside = storage.link("sources/a b.wav"), storage.source_url("sources/a b.wav")
    assert link.startswith("https://media.example.org/media/sources/a%20b.wav?")
    assert inside.startswith("http://127.0.0.1:9/media/sources/a%20b.wav?")
    assert link.partition("Signature=")[2] != inside.partition("Signature=")[2], "the host is signed too"
    assert storage.name_of(link) == storage.name_of(inside) == "sources/a b.wav"
    assert " https://media.example.org;" in policy.__wrapped__()


@pytest.mark.parametrize(("token", "kept"), [("", True), ("a-role's", False)])
def test_a_link_into_the_bucket_is_not_kept_longer_than_a_roles_keys(bucket, monkeypatch, token, kept):
    monkeypatch.setattr(s3, "ROLE_PERIOD", 0)
    monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    first = storage.link(f"outputs/{kept}.mp4")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "renewed")
    bucket()
    assert "X-Amz-Credential=mediapipe" in first
    assert (storage.link(f"outputs/{kept}.mp4") == first) is kept


@pytest.mark.parametrize("body", ["{", [], {}, {"input": 7}, {"input": "http://x/y", "kind": "video"}])
def test_a_wrong_request_is_told_what_is_wrong(probe, body):
    answer = probe(body)
    assert answer.status_code == 400 and set(answer.json()) == {"kind", "message"}


def test_only_post_with_the_key_is_answered(probe, settings):
    assert probe({}, Authorization="Bearer nonsense").status_code == 401
    key = {"Authorization": f"Bearer {settings.ENGINE_KEY}"}
    answer = Client().get("/ittybit/probe", headers=key)
    assert answer.status_code == 405 and answer["Allow"] == "POST"


OLD, NEW = {"current": "the old secret"}, {"current": "the new secret"}
KNOWS_NEW = {**OLD, "also": ["the new secret"]}
KNOWS_OLD = {**NEW, "also": ["the old secret"]}


@pytest.mark.parametrize(
    ("worker", "web"),
    [
        (OLD, KNOWS_NEW),  # first every machine learns the new keys, in any order
        (KNOWS_NEW, OLD),
        (KNOWS_NEW, KNOWS_OLD),  # then every machine uses them
        (KNOWS_OLD, KNOWS_NEW),
        (KNOWS_OLD, NEW),  # and forgets the old ones
        (NEW, KNOWS_OLD),
    ],
)
def test_keys_are_replaced_machine_by_machine_while_everything_runs(probe, settings, db, worker, web):
    """What a worker sends and signs before, between and after the steps of docs/machines.md."""

    def become(machine: dict) -> None:
        settings.SECRET_KEY = settings.ENGINE_KEY = machine["current"]
        settings.SECRET_KEY_FALLBACKS = settings.ENGINE_KEY_FALLBACKS = machine.get("also", [])

    become(worker)
    sent = {"Authorization": f"Bearer {settings.ENGINE_KEY}"}
    source = stored("incoming/a.mp4", b"this is no film\n" * 99)
    hook = webhook_url("0", "audio", "audio-1").rpartition("/")[2]
    become(web)
    answer = probe({"input": source}, **sent)
    assert answer.status_code == 200 and answer.json()["problem"]["kind"] == "not_media", answer.content
    assert Client().get("/metrics", headers=sent).status_code == 200
    assert signing.loads(hook, salt=SALT) == ["0", "audio", "audio-1"]
    assert Client().get(source.removeprefix(settings.LOCAL_URL)).status_code == 200


def test_a_key_that_no_longer_counts_is_refused_everywhere(probe, settings, db):
    source = stored("incoming/a.wav", b"x")
    sent = {"Authorization": f"Bearer {settings.ENGINE_KEY}"}
    settings.SECRET_KEY = settings.ENGINE_KEY = "the new secret"
    assert probe({"input": source}).json()["kind"] == "source_refused"
    assert Client().get(source.removeprefix(settings.LOCAL_URL)).status_code == 403
    assert Client().get("/metrics", headers=sent).status_code == 403
    refused = probe({"input": source}, **sent)
    assert refused.status_code == 401 and refused.json()["kind"] == "token_invalid"
    with pytest.raises(Rejected) as error:
        check_response(httpx.Response(401, json=refused.json()))
    assert "ITTYBIT" not in str(error.value)
