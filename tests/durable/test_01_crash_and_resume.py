"""1. Kill anything at any moment: the job goes on, nothing is done or paid twice, nothing stays behind."""

from __future__ import annotations

import base64
import json
import re
import signal

import pytest
from temporalio.exceptions import ApplicationError

from jobs.state import HANDED_OVER, JobState
from tests.support.dashboard import (
    URL,
    banner,
    encoders,
    engine_tasks,
    held_at_work,
    kill_and_wait,
    look,
    settled,
    signal_encoders,
    stage,
    submit,
    timeline,
)
from tests.support.product import make_clip, token, until
from tests.support.world import World, running

whole = pytest.mark.whole
TUS = {"Tus-Resumable": "1.0.0"}


def nothing_half_made(product, job: str) -> None:
    """Every output is whole and belongs to a task that succeeded; no temporary file is left."""
    until(lambda: not list((product.home / "work").glob("*")))  # which goes once the end has been said
    until(lambda: not [each for each in (product.home / "media" / "incoming").glob("*") if each.is_file()])
    for task in engine_tasks(product, job):
        files = (product.home / "media" / "outputs").glob(f"{task['id']}*")
        made = [path for path in files if "-storyboard." not in path.name]  # which lies beside a thumbnail
        assert bool(made) == (task["status"] == "succeeded"), f"{task['status']} left {made}"
        if made:
            assert made[0].stat().st_size == task["output"]["filesize"]


@whole
@pytest.mark.parametrize(
    "victim", ["worker", *(pytest.param(each, marks=pytest.mark.release) for each in ("web", "temporal"))]
)
def test_a_process_killed_during_ingest_and_again_during_transcode_costs_nothing(product, film, victim):
    browser = product.editor("grace", staff=True)
    job = submit(product, film)
    seen = {}
    for name in ("ingest", "transcode"):
        with held_at_work(product, browser, job, name):
            seen = {each["name"]: each for each in look(browser, job)["stages"]}
            kill_and_wait(product, victim)
    done = settled(browser, job)
    assert done["status"] == "succeeded", json.dumps(done)
    tasks = engine_tasks(product, job)
    assert sorted(task["metadata"]["stage"] for task in tasks) == [
        *("audio", "ingest", "thumbnails", "transcode")
    ]
    ingest, transcode = stage(done, "ingest"), stage(done, "transcode")
    assert {key: ingest[key] for key in ("attempt", "task_id", "finished_at")} == {
        key: seen["ingest"][key] for key in ("attempt", "task_id", "finished_at")
    }, "a finished stage was run again"
    assert transcode["task_id"] == seen["transcode"]["task_id"], "it was asked for twice"
    nothing_half_made(product, job)
    for each in (ingest, transcode):
        assert each["max_attempts"] - each["attempt"] == 2, "a lost process burned an attempt"


@whole
@pytest.mark.release
def test_an_encoder_killed_alone_costs_one_attempt_and_says_so(product, film):
    browser = product.editor("grace", staff=True)
    job = submit(product, film)
    with held_at_work(product, browser, job, "ingest"):
        assert encoders(product), "no encoder was at work"
        signal_encoders(product, signal.SIGKILL)
    until(lambda: stage(look(browser, job), "ingest")["attempt"] == 2)
    told = re.search(r"Ingest failed on attempt 1: ([^.]+)\.", timeline(browser, job))
    assert told and "encoder" in told[1].lower()
    done = settled(browser, job)
    assert done["status"] == "succeeded", json.dumps(done)
    first, second = sorted(
        (task for task in engine_tasks(product, job) if task["metadata"]["stage"] == "ingest"),
        key=lambda task: task["created_at"],
    )
    assert (first["status"], second["status"]) == ("failed", "succeeded")
    nothing_half_made(product, job)


@whole
@pytest.mark.release
@pytest.mark.parametrize("victim", ["worker", "web"])
def test_a_process_killed_while_the_source_is_uploaded_loses_not_a_byte(product, tmp_path, victim):
    size = {"worker": "640x360", "web": "480x270"}[victim]  # the same bytes would be the same job
    data = make_clip(tmp_path / "clip.mp4", 2, size).read_bytes()
    browser = product.editor("grace", staff=True)
    browser.get("/jobs/new/")
    about = {**TUS, "X-CSRFToken": browser.cookies["csrftoken"], "Origin": product.url}
    name = base64.b64encode(f"clip {victim}.mp4".encode()).decode()
    sent = browser.post(
        "/uploads/",
        headers={**about, "Upload-Length": str(len(data)), "Upload-Metadata": f"filename {name}"},
    )
    assert sent.status_code == 201, sent.text
    where = sent.headers["location"]
    part = {**about, "Content-Type": "application/offset+octet-stream"}
    half = len(data) // 2
    browser.patch(where, content=data[:half], headers={**part, "Upload-Offset": "0"})
    kill_and_wait(product, victim)
    assert browser.head(where, headers=about).headers["upload-offset"] == str(half)
    rest = browser.patch(where, content=data[half:], headers={**part, "Upload-Offset": str(half)})
    assert rest.status_code in (200, 204), rest.text
    jobs = until(lambda: re.findall(r"/jobs/([0-9a-f-]{36})/", browser.get(f"/?q=clip+{victim}").text))
    done = settled(browser, jobs[0])
    assert done["status"] == "succeeded", json.dumps(done)
    nothing_half_made(product, jobs[0])


@whole
def test_a_held_job_survives_everything_and_is_retried_in_place(cloud, api):
    browser = cloud.editor("grace", staff=True)
    api.lives["image"] = ["processing", "failed"]
    api.error = {"kind": "invalid_input", "message": "The picture is damaged."}
    job = submit(cloud, URL)
    now = settled(browser, job)
    assert now["status"] == "attention" and stage(now, "transcode")["state"] == "succeeded"
    assert "The picture is damaged." in banner(browser, job)
    kill_and_wait(cloud, "temporal", "worker", "web")
    asked = len(api.asked(job))
    api.lives["image"] = ["processing", "succeeded"]
    page = browser.get(f"/jobs/{job}/")
    form = {"csrfmiddlewaretoken": token(page), "reason": "new picture"}
    answers = [browser.post(f"/jobs/{job}/stages/thumbnails/retry/", data=form) for _ in range(2)]
    assert "Traceback" not in answers[1].text
    done = until(lambda: (n := look(browser, job))["status"] == "succeeded" and n)
    assert len(api.asked(job)) == asked + 1, "a double click asked twice"
    assert stage(done, "thumbnails")["error"] is None
    assert "new picture" in timeline(browser, job) and "by grace" in timeline(browser, job)


@whole
def test_the_timeline_tells_when_a_worker_was_lost_and_when_another_went_on(cloud, api):
    browser = cloud.editor("grace", staff=True)
    api.lives["video"] = ["processing"] * 10_000
    job = submit(cloud, URL)
    until(lambda: stage(look(browser, job), "ingest")["task_id"])
    cloud.kill("worker")
    until(lambda: "Another worker took over Ingest (attempt 2)" in timeline(browser, job))
    clock = r"(\d\d:\d\d:\d\d) "
    told = re.search(
        clock
        + "A worker stopped during Ingest.*? "
        + clock
        + r"Another worker took over Ingest \(attempt 2\)",
        timeline(browser, job),
    )
    assert told and told[1] <= told[2]
    asked = api.asked(job)
    assert [task["key"] for task in asked] == [f"media-{job}/ingest/1"], "it was paid for twice"
    api.lives["video"] = ["succeeded"]
    asked[0]["left"] = ["succeeded"]
    assert settled(browser, job)["status"] == "succeeded"


@whole
def test_a_worker_killed_while_waiting_for_a_retry_waits_no_longer_than_it_had_to(cloud, api):
    browser = cloud.editor("grace", staff=True)
    api.lives["audio"] = ["processing", "failed"]
    job = submit(cloud, URL)
    until(lambda: stage(look(browser, job), "audio")["retry_at"])
    api.lives["audio"] = ["processing", "succeeded"]
    kill_and_wait(cloud, "worker")
    assert settled(browser, job, 60)["status"] == "succeeded"
    keys = [task["key"] for task in api.asked(job, "audio/")]
    assert keys == [f"media-{job}/audio/1", f"media-{job}/audio/2"]


@pytest.mark.anyio
async def test_a_crash_between_asking_for_a_task_and_noting_its_id_asks_with_the_same_key(skipping_env):
    """The activity that asked is lost with its worker: what it had asked for is found by its key."""
    lost = ApplicationError("gone", type=HANDED_OVER)
    world = World({"create transcode": [lost, lost]})
    async with running(skipping_env, world) as handle:
        status = await handle.result()
    assert status.state == JobState.SUCCEEDED
    assert world.keys("transcode") == ["transcode/1"] * 3
