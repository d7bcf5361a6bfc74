"""The whole product: real Temporal, real FFmpeg, real HTTP, from the form to outputs that probe right."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.dashboard import settled
from tests.support.home import open_parts
from tests.support.product import CALM, Product, make_broken, make_clip, token, until

pytestmark = pytest.mark.whole


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("clip") / "holiday ünïcode.mp4", 6, "1280x720", *CALM)


def probed(url: str) -> dict:
    answer = httpx.get(url, trust_env=False, timeout=60)
    assert answer.status_code == 200, url
    with av.open(io.BytesIO(answer.content)) as container:
        video = next((s for s in container.streams.video), None)
        audio = next((s for s in container.streams.audio), None)
        return {
            "format": container.format.name,
            "video": video and (video.codec_context.name, video.codec_context.width),
            "audio": audio and audio.codec_context.name,
            "type": answer.headers["content-type"],
            "duration": (container.duration or 0) / 1e6,
        }


def check_result(result: dict, seconds: float) -> None:
    ingested, thumbnail = probed(result["ingested_url"]), probed(result["thumbnail_url"])
    audio, transcoded = probed(result["audio_url"]), probed(result["transcoded_url"])
    assert "mp4" in ingested["format"] and ingested["video"] and ingested["audio"] == "aac"
    assert thumbnail["type"] == "image/webp" and thumbnail["video"] == ("webp", 640)
    assert audio["format"] == "mp3" and not audio["video"] and audio["audio"] in ("mp3", "mp3float")
    assert transcoded["video"] == ("h264", 1280) and transcoded["audio"] == "aac"
    for made in (ingested, audio, transcoded):
        assert abs(made["duration"] - seconds) < 0.5


def check_metrics(product):
    """The worker's own port counts what it has done, and its SDK's slots; none of it is a row's."""
    worker = f"http://{product.environment['MEDIAPIPE_METRICS_ADDRESS']}"
    for path, status in (("/healthz", 200), ("/readyz", 200), ("/metrics/", 404), ("/", 404)):
        assert httpx.get(worker + path, trust_env=False, timeout=60).status_code == status
    found = {
        (sample.name, sample.labels.get("stage") or sample.labels.get("kind")): sample.value
        for family in text_string_to_metric_families(
            httpx.get(f"{worker}/metrics", trust_env=False, timeout=60).text
        )
        for sample in family.samples
    }
    for stage in ("ingest", "thumbnails", "audio", "transcode"):
        assert found["mediapipe_stage_seconds_count", stage] >= 1
    assert (
        found["mediapipe_task_seconds_count", "video"]
        >= 1
        <= found["mediapipe_task_wait_seconds_count", "video"]
    )
    assert any(name == "temporal_worker_task_slots_available" for name, _ in found)
    assert not any(name == "mediapipe_jobs" for name, _ in found)


@pytest.mark.release
def test_a_file_posted_with_the_plain_form_becomes_four_outputs(product, clip):
    browser = product.editor()
    page = browser.get("/jobs/new/")
    with open(clip, "rb") as file:
        answer = browser.post(
            "/jobs/new/", data={"csrfmiddlewaretoken": token(page)}, files={"file": (clip.name, file)}
        )
    job = re.search(r"/jobs/([0-9a-f-]{36})/", str(answer.url))[1]
    done = settled(browser, job)
    assert done["status"] == "succeeded", done
    check_result(done["result"], 6)
    check_metrics(product)
    page = browser.get(f"/jobs/{job}/").text
    assert "<video" in page and "<audio" in page and "holiday ünïcode.mp4" in page


def test_a_url_submitted_by_a_script_prints_the_seeds_result(product, clip):
    serve = partial(SimpleHTTPRequestHandler, directory=str(clip.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/holiday%20%C3%BCn%C3%AFcode.mp4"
        done = product.script("submit", url, "--wait", "--json")
        server.shutdown()
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["status"] == "succeeded" and answer["workflow_id"] == f"media-{answer['id']}"
    check_result(answer["result"], 6)
    assert product.status(answer["id"])["status"] == "succeeded"
    again = product.command("cancel", answer["id"])
    assert again.returncode != 0 and "already done" in again.stderr


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.release), signal.SIGKILL])
def test_nothing_is_left_running_when_up_ends(tmp_path, number):
    (tmp_path / "home").mkdir()
    (tmp_path / "home").chmod(0o755)
    own = Product(tmp_path / "home").start(prepared=False)
    assert (tmp_path / "home" / "static" / "staticfiles.json").exists()
    children = own.children()
    assert set(children) == {"temporal", "worker", "web"}
    for pid in (own.process.pid, *children.values()):
        assert "Umask:\t0077" in Path(f"/proc/{pid}/status").read_text()
    assert not open_parts(own.home), "the files of every part are its user’s alone"
    code = own.stop(number)
    assert code == (0 if number == signal.SIGTERM else -signal.SIGKILL)

    def gone():
        return not any(map(_alive, children.values()))

    until(gone)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_an_installation_on_sqlite_loads_no_driver_of_postgres(product):
    assert product.shell("import sys; print('psycopg' in sys.modules)") == "False"


def test_a_taken_port_is_named_with_the_way_out(product):
    done = Product(product.home.parent / "other")
    done.port = product.port
    answer = done.script("up", "--port", str(product.port))
    assert answer.returncode != 0
    assert f"Port {product.port} is taken" in answer.stderr and "--port" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("/no/such/file.mp4", "There is no file"),
        pytest.param("ftp://example.org/a.mp4", "isn’t an http or https URL", marks=pytest.mark.release),
        ("http://no-such-host.invalid/a.mp4", "Can’t find no-such-host.invalid"),
        pytest.param(
            "http://user:secret@example.org/a.mp4", "user name or password", marks=pytest.mark.release
        ),
    ],
)
def test_a_source_that_cannot_be_used_is_bad_usage(product, source, says):
    done = product.command("submit", source)
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (
            b"these are notes, not a film\n" * 100,
            "notes.mp4: This isn’t a video or audio file, so it wasn’t uploaded.",
        ),
        (b"", "notes.mp4: This file is empty (0 bytes)."),
    ],
)
def test_a_file_that_is_no_media_is_refused_with_a_sentence(product, tmp_path, data, says):
    (tmp_path / "notes.mp4").write_bytes(data)
    done = product.command("submit", str(tmp_path / "notes.mp4"), "--wait", "--json")
    assert done.returncode == 2 and json.loads(done.stdout) == {"error": done.stderr.strip()}
    assert done.stderr.startswith(says) and done.stderr.count("\n") == 1


def test_a_film_that_opens_and_cannot_be_decoded_becomes_a_job_that_fails_with_a_sentence(product, tmp_path):
    done = product.command("submit", str(make_broken(tmp_path / "raw.mp4")), "--wait", "--json")
    answer = json.loads(done.stdout)
    assert done.returncode == 1 and answer["status"] == "attention"
    assert re.search("damaged|decoded|no readable video or audio", answer["error"]), answer


def test_static_files_are_gathered_again_only_after_a_change(settings, tmp_path):
    from mediapipe.management.commands.web import collect_static

    settings.HOME, settings.STATIC_ROOT = tmp_path, tmp_path / "static"
    (manifest := tmp_path / "static" / "staticfiles.json").parent.mkdir()
    sheet = settings.BASE_DIR / "static" / "mediapipe.css"
    collect_static()
    gathered = manifest.stat().st_mtime_ns
    collect_static()
    assert manifest.stat().st_mtime_ns == gathered
    os.utime(sheet)
    (cut_off := tmp_path / "static" / "upload.js").write_bytes(b"")  # by a full disk
    collect_static()
    assert manifest.stat().st_mtime_ns > gathered and cut_off.stat().st_size > 0
