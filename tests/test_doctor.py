"""What is wrong with a set-up is said by `doctor`, a line for each thing, with what to do."""

from __future__ import annotations

import json
import re
import threading
import time
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from asgiref.sync import sync_to_async
from temporalio.service import RPCError

from jobs.fleet import pausing
from jobs.models import FleetWorker
from mediapipe import doctor, temporal
from mediapipe.storage import s3
from tests.support.bucket import KEY, SECRET, Bucket
from tests.test_first_start import manage

# a thread of another test may have left a connection, which is looked at before each use of a thread
pytestmark = [pytest.mark.whole, pytest.mark.django_db]
TLS_FILES = ("SERVER_CA_CERT_PATH", "CLIENT_CERT_PATH", "CLIENT_KEY_PATH")


async def found(name: str) -> tuple[str, str]:
    """What it finds of one thing."""
    finding = await doctor.look(name)
    return finding.state, finding.text


def test_of_a_product_that_runs_nothing_is_wrong_and_no_web_warns_of_being_asked(product):
    before = product.log.read_text()
    done = product.command("doctor")
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert done.returncode == 0 and list(lines) == list(doctor.THINGS), done.stdout
    assert not [line for line in lines.values() if line.startswith("wrong")], done.stdout
    assert lines["Temporal"].startswith("ok: The dev server of `up` at 127.0.0.1:")
    assert lines["jobs"] == "ok: Workers serve media-pipeline and media-engine."
    assert "Key accepted" in lines["engine"] and lines["FFmpeg"].endswith("starts.")
    assert "Landlock" in lines["sandbox"] or "root" in lines["sandbox"]
    assert "Bad Request" not in product.log.read_text()[len(before) :]


def test_everything_that_is_wrong_is_said_at_once_and_no_secret(tmp_path):
    """Of a home that is open, with no database, no Temporal and no web server, at an address with https."""
    (stray := tmp_path / "notes.txt").write_text("x")
    stray.chmod(0o644)
    given = {
        "MEDIAPIPE_ENGINE_KEY": "quite-short",
        "MEDIAPIPE_PUBLIC_URL": "https://media.example.org",
        "MEDIAPIPE_ALLOWED_HOSTS": "*",
        "MEDIAPIPE_LOCAL_URL": "http://127.0.0.1:1",
        "MEDIAPIPE_EMAIL_HOST": "127.0.0.1",
        "MEDIAPIPE_EMAIL_PORT": "1",
        "TEMPORAL_ADDRESS": "127.0.0.1:1",
        "MEDIAPIPE_OIDC_ISSUER": "http://127.0.0.1:1",
        "MEDIAPIPE_OIDC_CLIENT_ID": "mediapipe",
        "MEDIAPIPE_OIDC_CLIENT_SECRET": SECRET,
        "MEDIAPIPE_S3_BUCKET": "media",
        "MEDIAPIPE_S3_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }
    done = manage(tmp_path, "doctor", "--json", **given)
    assert done.returncode == 1 and not done.stderr, done.stderr
    wrong = {each["name"]: each["text"] for each in json.loads(done.stdout) if each["state"] == "wrong"}
    for name, says in {
        "home": "Others on this machine can open",
        "keys": "MEDIAPIPE_ENGINE_KEY is too short",
        "database": "There is no SQLite at",
        "storage": "At http://127.0.0.1:1 the bucket media can’t be used",
        "Temporal": "The cluster at 127.0.0.1:1, namespace default: nobody listens there.",
        "jobs": "Can’t be looked at before that is right: database, Temporal.",
        "engine": "The engine can’t be reached.",
        "address": "Set MEDIAPIPE_BEHIND_PROXY.",
        "hosts": "MEDIAPIPE_ALLOWED_HOSTS is *",
        "mail": "The mail server can’t be reached.",
        "sign-in": "http://127.0.0.1:1/.well-known/openid-configuration can’t be reached",
    }.items():
        assert says in wrong.pop(name)
    assert not wrong and "quite-short" not in done.stdout and SECRET not in done.stdout


@pytest.mark.anyio
async def test_a_bucket_that_is_not_there_is_not_one_that_answers(settings, tmp_path, monkeypatch):
    server = Bucket(tmp_path / "s3").start()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    settings.S3_ENDPOINT_URL, settings.S3_REGION = server.url, "us-east-1"
    settings.MEDIA_ROOT.mkdir(exist_ok=True)
    try:
        for name, state, says in (("nosuch", "wrong", "404"), ("media", "ok", "The bucket media at")):
            settings.S3_BUCKET = name
            s3.storage.cache_clear()
            was, text = await found("storage")
            assert (was, says in text) == (state, True), text
    finally:
        server.kill()
        s3.storage.cache_clear()


@contextmanager
def another_program(ahead: float):
    """Something that answers 404 to all, and whose clock is so many seconds ahead: its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        do_POST = do_GET

        def date_time_string(self, timestamp=None) -> str:
            return formatdate(time.time() + ahead, usegmt=True)

        def log_message(self, *_) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("ahead", "state", "says"),
    [
        (0, "ok", "It agrees with the web server."),
        (60, "wrong", "The clock of the web server is N s ahead of this machine’s."),
        (-7200, "wrong", "The clock of the web server is N s behind this machine’s."),
    ],
)
async def test_a_clock_that_is_apart_is_named(settings, ahead, state, says):
    with another_program(ahead) as settings.LOCAL_URL:
        was, text = await found("clock")
    assert was == state and re.sub(r"[\d,]+ s ", "N s ", text).startswith(says), text
    seconds = [int(each.replace(",", "")) for each in re.findall(r"([\d,]+) s ", text)]
    assert ahead == 0 or seconds == pytest.approx([abs(ahead)], abs=5), "a busy machine takes its time"


@pytest.mark.anyio
async def test_a_temporal_without_our_namespace_is_said_by_doctor_worker_and_readiness(
    dev_env, temporal_at, monkeypatch, async_client
):
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "films")
    temporal_at(dev_env.client.service_client.config.target_host)
    says = "it has no namespace films: set TEMPORAL_NAMESPACE, or make that one"
    assert says in (await found("Temporal"))[1]
    with pytest.raises(RPCError) as error:
        await temporal.worker_client()
    assert temporal.explain(error.value) == says
    ready = await async_client.get("/readyz")
    assert ready.status_code == 503 and ready.json()["temporal"] is False
    monkeypatch.delenv("TEMPORAL_NAMESPACE")
    temporal_at(dev_env.client.service_client.config.target_host)
    assert (await async_client.get("/readyz")).json()["temporal"] is True


@pytest.mark.anyio
@pytest.mark.django_db(transaction=True)
async def test_a_worker_whose_place_is_taken_asks_for_nothing_and_serves_and_a_paused_line_is_said(
    dev_env, temporal_at
):
    temporal_at(dev_env.client.service_client.config.target_host)
    assert "No worker serves " in (await found("jobs"))[1]
    slots = {"media-pipeline": 200, "media-engine": 1}
    await sync_to_async(FleetWorker.tell)("cutter", machine="cutter", slots=slots)
    assert await found("jobs") == ("ok", "Workers serve media-pipeline and media-engine.")
    await pausing.pause("ada", "the disk is changed")
    try:
        state, says = await found("jobs")
    finally:
        await pausing.resume("ada")
    assert state == "advice" and says.startswith("The line is paused by ada: the disk is changed. Nothing")


@pytest.mark.anyio
async def test_another_program_at_the_port_is_not_taken_for_the_engine(settings):
    with another_program(0) as url:
        settings.LOCAL_URL, settings.ITTYBIT_API_URL = url, f"{url}/ittybit"
        state, text = await found("engine")
    assert state == "wrong" and "Another program answers there." in text and "Key accepted" not in text


def test_why_postgres_cannot_be_reached_is_said_and_not_only_that_it_was_waited_for(tmp_path):
    done = manage(tmp_path, "doctor", "--json", DATABASE_URL="postgres://ada:h1dden@127.0.0.1:1/films")
    text = next(each["text"] for each in json.loads(done.stdout) if each["name"] == "database")
    assert "Connection refused" in text and "Check DATABASE_URL, and that the server runs." in text
    assert "h1dden" not in done.stdout


@pytest.mark.parametrize(
    "name",
    ["MEDIAPIPE_CA_FILE", "AWS_CA_BUNDLE", *(f"TEMPORAL_TLS_{each}" for each in TLS_FILES)],
)
def test_a_certificate_that_is_not_there_is_named_by_every_command(name, tmp_path):
    done = manage(tmp_path, "doctor", **{name: "/nowhere/ca.pem"})
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr == f"{name} is '/nowhere/ca.pem': there is no such file, or it can’t be read.\n"


OTHER = "Or choose another folder: set MEDIAPIPE_HOME."


@pytest.mark.anyio
async def test_a_folder_that_takes_no_files_says_what_to_do(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "gone"
    state, text = await found("storage")
    assert (
        state == "wrong"
        and text == f"{tmp_path}/gone takes no files: No such file or directory. Make that folder. {OTHER}"
    )


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("url", "proxies", "state"),
    [
        ("", [], "ok"),
        ("http://127.0.0.1:8000", [], "ok"),
        ("http://media.example.org", ["127.0.0.1"], "wrong"),
        ("https://media.example.org", [], "wrong"),
        ("https://media.example.org", ["127.0.0.1"], "ok"),
    ],
)
async def test_an_address_for_others_has_https_and_a_proxy_that_is_named(settings, url, proxies, state):
    settings.PUBLIC_URL, settings.PROXIES = url, proxies
    assert (await found("address"))[0] == state


@pytest.mark.anyio
async def test_a_cloud_that_cannot_fetch_what_is_uploaded_is_wrong(settings, api):
    settings.EMBEDDED_ENGINE, settings.ITTYBIT_API_URL, settings.ITTYBIT_API_KEY = False, api.url, "k"
    state, text = await found("engine")
    assert state == "wrong" and text.endswith(
        "It can’t fetch what is uploaded here: set MEDIAPIPE_PUBLIC_URL."
    )
    settings.PUBLIC_URL = "https://media.example.org"
    assert (await found("engine"))[0] == "ok"
