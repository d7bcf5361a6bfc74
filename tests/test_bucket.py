"""Sources and outputs in a bucket: the product against a real S3 server."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urljoin, urlsplit

import httpx
import pytest

from tests.support.bucket import KEY, SECRET, Bucket
from tests.support.dashboard import look, settled
from tests.support.product import CALM, MANAGE, Product, free_port, make_clip, token, until
from tests.support.tusclient import STREAM, TUS, sound

pytestmark = pytest.mark.whole


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """The server's address, and the folder of its bucket."""
    server = Bucket(tmp_path_factory.mktemp("s3")).start()
    yield server.url, server.folder
    server.kill()


@pytest.fixture(scope="module")
def stored(tmp_path_factory, bucket):
    url, _ = bucket
    settings = {
        "MEDIAPIPE_S3_BUCKET": "media",
        "MEDIAPIPE_S3_ENDPOINT_URL": url,
        "MEDIAPIPE_S3_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "MEDIAPIPE_ALLOW_PRIVATE_SOURCES": "0",  # our own bucket is no private source
    }
    product = Product(tmp_path_factory.mktemp("stored") / "home", **settings).start()
    yield product
    product.stop()


@pytest.fixture(scope="module")
def job(stored, tmp_path_factory) -> str:
    """The id of a job that is over."""
    browser = stored.editor("ada")
    clip = make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 4, "960x540", *CALM)
    form = {"csrfmiddlewaretoken": token(browser.get("/jobs/new/")), "pipeline": "streaming"}
    answer = browser.post("/jobs/new/", data=form, files={"file": ("clip ü.mp4", clip.read_bytes())})
    job = answer.url.path.split("/")[2]
    done = settled(browser, job)
    assert done["status"] == "succeeded", json.dumps(done)
    return job


def test_a_job_lives_in_the_bucket_alone(stored, bucket, job):
    url, folder = bucket
    browser = stored.editor("ada")
    path = f"/jobs/{job}/"
    done = look(browser, job)
    for stage in done["stages"]:
        got = httpx.get(stage["output"]["url"], trust_env=False, timeout=60)
        assert got.status_code == 200, stage
        direct = stage["output"]["url"].startswith(f"{url}/media/outputs/")
        assert direct or stage["output"]["url"].startswith(stored.url)
    assert not [p for p in (stored.home / "media").rglob("*") if p.is_file()]
    assert len([p for p in folder.rglob("*") if p.is_file()]) >= 6
    page = browser.get(path)
    assert f"media-src 'self' {url}" in page.headers["Content-Security-Policy"]
    assert browser.get(path).text.count("X-Amz-Signature") == page.text.count("X-Amz-Signature") > 4


def test_links_are_stable_expire_and_need_their_signature_and_a_pages_its_session(stored, bucket, job):
    browser = stored.editor("ada")
    browser.get("/")
    rows = browser.get("/jobs/rows/")
    again = browser.get("/jobs/rows/", headers={"HX-PTag": rows.headers["HX-PTag"]})
    assert again.status_code == 304, "a signed URL changed between two polls"
    image = re.search(r'<img\s+src="([^"]+)"', rows.text)[1].replace("&amp;", "&")
    assert browser.get(image).headers["content-type"] == "image/webp"
    assert httpx.get(stored.url + image, trust_env=False, timeout=60).status_code == 403
    signed = str(browser.get(image).url)
    assert signed.startswith(bucket[0]) and "X-Amz-Expires=43200" in signed, "it ends within half a day"
    assert httpx.get(signed.split("?")[0], trust_env=False, timeout=60).status_code in (400, 403)


def test_all_outputs_come_as_one_zip_through_us(stored, job):
    browser = stored.editor("ada")
    answer = browser.get(f"/jobs/{job}/outputs.zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
    assert {"clip ü - transcode.mp4", "clip ü - audio.mp3", "HLS/index.m3u8"} <= set(names), names


def test_a_playlist_names_signed_segments(stored, job):
    stages = {stage["name"]: stage for stage in look(stored.editor("ada"), job)["stages"]}
    playlist = httpx.get(stages["hls"]["output"]["url"], trust_env=False, timeout=60)
    assert playlist.headers["content-type"] == "application/vnd.apple.mpegurl"
    named = [
        urljoin(str(playlist.url), line) for line in playlist.text.splitlines() if line and line[0] != "#"
    ]
    inner = [httpx.get(each, trust_env=False, timeout=60).text for each in named]
    segments = [line for text in inner for line in text.splitlines() if line and line[0] != "#"]
    assert segments and all(
        httpx.get(each, trust_env=False, timeout=60).status_code == 200 for each in segments
    )


def test_an_upload_by_tus_reaches_the_bucket(stored, bucket, tmp_path):
    _, folder = bucket
    browser = stored.editor("ada")
    data = make_clip(tmp_path / "tus.mp4", 2, "320x180").read_bytes()
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Length": str(len(data)),
        "X-CSRFToken": token(browser.get("/")),
    }
    made = browser.post("/uploads/", headers={**headers, "Upload-Metadata": "filename dHVzLm1wNA=="})
    patch = {**headers, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    answer = browser.patch(made.headers["Location"], content=data, headers=patch)
    assert answer.status_code == 204 and "Mediapipe-Job" in answer.headers
    assert any(path.read_bytes() == data for path in folder.rglob("source.mp4"))


@pytest.fixture
def second_web(stored, tmp_path):
    """Another web server, which shares the database and the bucket alone: its process, and its address."""
    port = free_port()
    own = {
        "MEDIAPIPE_HOME": str(tmp_path),
        "MEDIAPIPE_LOCAL_URL": stored.url,
        "MEDIAPIPE_SECRET_KEY": (stored.home / "secret_key").read_text(),
        "MEDIAPIPE_ENGINE_KEY": (stored.home / "engine_key").read_text(),
        "DATABASE_URL": f"sqlite:///{stored.home}/mediapipe.sqlite3",
    }
    command = [*MANAGE, "web", "--port", str(port)]
    web = subprocess.Popen(command, env={**stored.environment, **own}, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/healthz", trust_env=False, timeout=60).status_code == 200
        except httpx.HTTPError:
            return False

    until(answers)
    yield web, url
    web.kill()
    web.wait()


@pytest.mark.release
def test_a_web_that_is_killed_in_the_middle_of_an_upload_costs_a_part_and_another_goes_on(
    stored, bucket, second_web
):
    web, other = second_web
    browser = stored.editor("ada")
    data = sound(12 << 20)  # 24 MiB
    headers = {**TUS, "X-CSRFToken": token(browser.get("/"))}
    made = browser.post("/uploads/", headers={**headers, "Upload-Length": str(len(data))})
    path = urlsplit(made.headers["Location"]).path
    killed = threading.Event()

    def half() -> Iterator[bytes]:
        yield data[: 20 << 20]
        until(lambda: int(browser.head(path, headers=headers).headers["Upload-Offset"]) >= 16 << 20)
        web.kill()
        killed.set()
        yield data[20 << 20 :]

    about = {**headers, "Upload-Offset": "0", "Content-Type": STREAM, "Content-Length": str(len(data))}
    with suppress(httpx.TransportError):
        browser.patch(f"{other}{path}", content=half(), headers=about)
    assert killed.is_set()
    at = int(browser.head(path, headers=headers).headers["Upload-Offset"])
    assert 16 << 20 <= at <= 20 << 20

    def sent() -> httpx.Response | None:
        rest = {**headers, "Upload-Offset": str(at), "Content-Type": STREAM}
        answer = browser.patch(path, content=data[at:], headers=rest)
        assert answer.status_code in (204, 423)
        return answer if answer.status_code == 204 else None

    assert until(sent).headers["Mediapipe-Job"]
    whole = [each for each in bucket[1].rglob("source.bin") if each.read_bytes() == data]
    question = "from jobs.models import Job; print(Job.objects.first().source_sha256)"
    rows = stored.commands.run("shell", "-c", question)
    assert len(whole) == 1 and hashlib.sha256(data).hexdigest() in rows.stdout
