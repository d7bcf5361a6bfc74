"""7. A webhook is a hint: it shortens the wait, and no caller can do harm with it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
from datetime import timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from django.core import signing

from jobs import control
from jobs.workflow import webhook
from tests.support.dashboard import URL, look, settled, stage, submit
from tests.support.product import make_clip, until

pytestmark = pytest.mark.anyio
whole = pytest.mark.whole


def test_a_hooks_address_is_different_for_each_task_and_cannot_be_guessed(settings):
    settings.EMBEDDED_ENGINE = True
    one, two = (webhook.webhook_url("job", "audio", f"audio-{n}") for n in (1, 2))
    assert one != two
    assert len(one.rsplit("/", 1)[1]) > 40


def token_of(task: dict) -> str:
    return task["webhook_url"].rsplit("/", 1)[1]


async def in_ingest(inside):
    """A job whose ingest has been at work for long enough to be looked at only now and then."""
    inside.api.lives["video"] = ["processing"] * 9999
    job = await inside.submit()
    job = await inside.until(job, lambda j: j.stages.get(name="ingest").task_id)
    return job, inside.asked(job, "ingest")[0]


def over(task: dict, status: str) -> None:
    task["status"], task["left"] = status, []


@pytest.mark.parametrize(
    "forged",
    ["", "x", "a:b:c", signing.dumps(["j", "ingest", "ingest-1"], salt="other")],
    ids=["empty", "a letter", "three parts", "another salt"],
)
async def test_a_forged_hook_is_not_known(dashboard, forged):
    assert not await webhook.on_webhook(forged)


async def test_a_hook_that_is_too_old_is_not_known(dashboard, monkeypatch, settings):
    settings.EMBEDDED_ENGINE = True
    token = webhook.webhook_url("job", "audio", "audio-1").rsplit("/", 1)[1]
    assert await webhook.on_webhook(token)
    monkeypatch.setattr(webhook, "LIFETIME", timedelta(seconds=-1))
    assert not await webhook.on_webhook(token)


async def test_an_early_hook_changes_nothing(inside):
    job, task = await in_ingest(inside)
    other = webhook.webhook_url(str(job.pk), "audio", "audio-1").rsplit("/", 1)[1]
    for token in (token_of(task), other):
        assert await webhook.on_webhook(token)
    await asyncio.sleep(0.3)
    await job.arefresh_from_db()
    assert (await job.stages.aget(name="ingest")).state == "running"


async def test_a_hook_ends_the_wait_and_late_and_twice_it_changes_nothing(inside):
    job, task = await in_ingest(inside)
    await asyncio.sleep(4)  # by now the poller looks every half second or so
    inside.api.lives.clear()
    over(task, "succeeded")
    began = time.monotonic()
    assert await webhook.on_webhook(token_of(task))
    await inside.until(job, lambda j: j.stages.get(name="ingest").state == "succeeded")
    assert time.monotonic() - began < 10
    for _ in range(3):
        assert await webhook.on_webhook(token_of(task))
    job = await inside.ended(job, "succeeded")
    assert await webhook.on_webhook(token_of(task))
    assert len(inside.asked(job)) == 4
    assert [s.attempt async for s in job.stages.all()] == [1, 1, 1, 1]


async def test_a_hook_of_a_failed_task_is_a_failed_attempt_with_its_sentence(inside):
    job, task = await in_ingest(inside)
    over(task, "failed")
    assert await webhook.on_webhook(token_of(task))
    job = await inside.until(job, lambda j: j.stages.get(name="ingest").retry_at)
    assert (await job.stages.aget(name="ingest")).error == "The encoder crashed."


async def test_a_hook_that_comes_before_the_output_is_named_leaves_it_to_the_poller(inside):
    """Some replies say it is done a moment before they name the output: no reason to pay twice."""
    job, task = await in_ingest(inside)
    inside.api.output = None
    over(task, "succeeded")
    assert await webhook.on_webhook(token_of(task))
    inside.api.output = "default"
    inside.api.lives.clear()
    job = await inside.ended(job, "succeeded")
    assert len(inside.asked(job, "ingest")) == 1


async def test_a_hook_of_an_earlier_run_says_nothing_about_this_one(inside):
    job, task = await in_ingest(inside)
    await control.cancel(job, "ada")
    job = await inside.ended(job, "cancelled")
    await control.retry(job, None, "ada")
    job = await inside.until(job, lambda j: j.stages.get(name="ingest").state == "running")
    await inside.until(job, lambda j: len(inside.asked(j, "ingest")) == 2)
    second = inside.asked(job, "ingest")[1]
    assert second["webhook_url"] != task["webhook_url"]
    over(second, "succeeded")
    began = asyncio.get_running_loop().time()
    assert await webhook.on_webhook(token_of(task))
    assert asyncio.get_running_loop().time() - began < 10
    inside.api.lives.clear()
    await inside.ended(job, "succeeded")


@whole
def test_a_webhook_is_only_a_hint_and_spares_the_wait(cloud, api):
    browser = cloud.editor("grace", staff=True)
    api.lives["video"] = ["processing"] * 10_000
    job = submit(cloud, URL)
    task = until(lambda: api.asked(job, "ingest"))[0]
    hook = task["webhook_url"]
    assert hook.startswith(f"{cloud.url}/hooks/ittybit/") and len(hook) > 100
    until(lambda: stage(look(browser, job), "ingest")["task_id"])
    for body in (
        b"",
        b"{}",
        json.dumps({"id": task["id"], "status": "succeeded", "output": {"url": "http://evil/"}}).encode(),
    ):
        assert httpx.post(hook, content=body, trust_env=False, timeout=60).status_code == 200
    assert stage(look(browser, job), "ingest")["state"] == "running", "the body was believed"
    huge = httpx.post(hook, content=b"x" * (11 << 20), trust_env=False, timeout=60)
    assert huge.status_code == 413
    assert httpx.post(hook[:-3] + "abc", trust_env=False, timeout=60).status_code == 404
    assert httpx.get(hook, trust_env=False, timeout=60).status_code == 405
    api.lives["video"] = ["succeeded"]
    over(task, "succeeded")
    assert httpx.post(hook, trust_env=False, timeout=60).status_code == 200
    until(lambda: stage(look(browser, job), "ingest")["state"] == "succeeded", 10)
    assert httpx.post(hook, trust_env=False, timeout=60).status_code == 200  # late and twice
    assert settled(browser, job)["status"] == "succeeded"


class Listener(SimpleHTTPRequestHandler):
    """Serves a folder, and remembers what it was told."""

    told: list[dict] = []

    def do_POST(self):
        self.told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *parts):
        pass


@whole
def test_the_embedded_engine_sends_it(product, tmp_path):
    """A task tells the address that it was asked with; a job's tasks keep the path of ours."""
    make_clip(tmp_path / "short.mp4", 1, "320x180")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Listener, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        where = f"http://127.0.0.1:{server.server_port}"
        key = (product.home / "engine_key").read_text()
        body = {"kind": "audio", "input": f"{where}/short.mp4", "webhook_url": f"{where}/hook"}
        asked = {"headers": {"Authorization": f"Bearer {key}"}, "trust_env": False}
        task = httpx.post(f"{product.url}/ittybit/tasks", json=body, **asked, timeout=60).json()
        until(lambda: Listener.told)
        server.shutdown()
    assert [(each["id"], each["status"]) for each in Listener.told] == [(task["id"], "succeeded")]
    job = submit(product, tmp_path / "short.mp4")
    assert settled(product.editor("grace", staff=True), job)["status"] == "succeeded"
    with sqlite3.connect(f"file:{product.home}/mediapipe.sqlite3?mode=ro", uri=True) as rows:
        found = rows.execute(
            "select webhook_url from engine_enginetask where metadata like ?", [f"%{job}%"]
        ).fetchall()
    rows.close()
    assert len(found) == 4 and all(url.startswith("/hooks/ittybit/") for (url,) in found)
