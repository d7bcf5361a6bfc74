"""Sources and outputs in a bucket: the product against a real S3 server."""

from __future__ import annotations

import io
import json
import re
import zipfile
from urllib.parse import urljoin

import httpx
import pytest

from tests.support.bucket import KEY, SECRET, Bucket
from tests.support.dashboard import look, settled
from tests.support.product import CALM, Product, make_clip, token

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
    clip = make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 4, "1280x720", *CALM)
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
        got = httpx.get(stage["output"]["url"], trust_env=False)
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
    assert httpx.get(stored.url + image, trust_env=False).status_code == 403
    signed = str(browser.get(image).url)
    assert signed.startswith(bucket[0]) and "X-Amz-Expires=43200" in signed, "it ends within half a day"
    assert httpx.get(signed.split("?")[0], trust_env=False).status_code in (400, 403)


def test_all_outputs_come_as_one_zip_through_us(stored, job):
    browser = stored.editor("ada")
    answer = browser.get(f"/jobs/{job}/outputs.zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
    assert {"clip ü - transcode.mp4", "clip ü - audio.mp3", "HLS/index.m3u8"} <= set(names), names


def test_a_playlist_names_signed_segments(stored, job):
    stages = {stage["name"]: stage for stage in look(stored.editor("ada"), job)["stages"]}
    playlist = httpx.get(stages["hls"]["output"]["url"], trust_env=False)
    assert playlist.headers["content-type"] == "application/vnd.apple.mpegurl"
    named = [
        urljoin(str(playlist.url), line) for line in playlist.text.splitlines() if line and line[0] != "#"
    ]
    inner = [httpx.get(each, trust_env=False).text for each in named]
    segments = [line for text in inner for line in text.splitlines() if line and line[0] != "#"]
    assert segments and all(httpx.get(each, trust_env=False).status_code == 200 for each in segments)


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
