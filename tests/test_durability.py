"""Kill anything, lose nothing: real processes killed and frozen, a real API that misbehaves."""

from __future__ import annotations

import json
import os
import re
import signal
import time

import httpx
import pytest
from temporalio.client import Client

from tests.faulty_api import FaultyApi
from tests.product import Product, make_broken, make_clip, token, until

pytestmark = pytest.mark.whole


# --- the embedded engine --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A film that ingest must encode, long enough to be interrupted twice."""
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    return make_clip(path, 25, "1920x1080", "-c:v", "mpeg4", "-q:v", "4")


def submit(product, source, *extra: str) -> str:
    done = product.command("submit", str(source), "--json", *extra)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["id"]


def look(browser, job: str) -> dict:
    return browser.get(f"/jobs/{job}/json/").json()


def stage(answer: dict, name: str) -> dict:
    return next(each for each in answer["stages"] if each["name"] == name)


def working(browser, job: str, name: str):
    """Waits until a stage is in the middle of its work."""
    until(lambda: (stage(look(browser, job), name)["progress"] or 0) > 3, 120)


def settled(browser, job: str, patience: float = 150) -> dict:
    return until(lambda: (now := look(browser, job))["status"] not in ("queued", "running") and now, patience)


def timeline(browser, job: str) -> str:
    page = browser.get(f"/jobs/{job}/").text
    return re.sub(r"<[^>]+>", " ", page[page.index('class="timeline"') :])


def tasks_of(product, job: str) -> list[str]:
    key = (product.home / "engine_key").read_text()
    answer = httpx.get(
        f"{product.url}/ittybit/tasks?limit=100", headers={"Authorization": f"Bearer {key}"}, trust_env=False
    )
    return sorted(task["metadata"]["stage"] for task in answer.json() if task["metadata"].get("job") == job)


def again(product, name: str, before: int) -> None:
    until(lambda: product.children().get(name, before) != before, 30)
    until(lambda: _answers(product), 30)


def _answers(product) -> bool:
    try:
        return httpx.get(f"{product.url}/readyz", trust_env=False, timeout=3).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize("victim", ["worker", "web", "temporal"])
def test_a_process_killed_during_ingest_and_again_during_transcode_costs_nothing(product, film, victim):
    browser = product.editor("grace", staff=True)
    job = submit(product, film)
    for name in ("ingest", "transcode"):
        working(browser, job, name)
        before = product.children()[victim]
        product.kill(victim)
        again(product, victim, before)
    done = settled(browser, job)
    assert done["status"] == "succeeded", json.dumps(done)
    assert tasks_of(product, job) == ["audio", "ingest", "thumbnails", "transcode"]
    ingest, transcode = stage(done, "ingest"), stage(done, "transcode")
    assert ingest["finished_at"] <= transcode["started_at"] or victim == "temporal"
    assert not list((product.home / "work").glob("*"))
    assert not list((product.home / "media").rglob("*.part"))
    for each in (ingest, transcode):
        assert each["max_attempts"] - each["attempt"] == 2, "a lost process burned an attempt"


def test_a_deploy_hands_the_work_over_at_once_and_burns_no_attempt(product, film):
    browser = product.editor("grace", staff=True)
    job = submit(product, film)
    working(browser, job, "ingest")
    before = product.children()["worker"]
    began = time.monotonic()
    os.kill(before, signal.SIGTERM)
    until(lambda: product.children().get("worker", before) != before, 15)
    until(lambda: (stage(look(browser, job), "ingest")["progress"] or 0) > 0, 20)
    assert time.monotonic() - began < 25, "it waited for a heartbeat timeout"
    done = settled(browser, job)
    assert done["status"] == "succeeded" and "handed over" in timeline(browser, job)
    assert stage(done, "ingest")["max_attempts"] - stage(done, "ingest")["attempt"] == 2


def frozen(product, name: str):
    """A process that neither answers nor dies, until the block ends."""

    class Frozen:
        def __enter__(self):
            self.pid = product.children()[name]
            os.kill(self.pid, signal.SIGSTOP)

        def __exit__(self, *problem):
            os.kill(self.pid, signal.SIGCONT)

    return Frozen()


def banner(browser, job: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", browser.get(f"/jobs/{job}/").text))


def test_stuck_is_a_diagnosis(product, film):
    browser = product.editor("grace", staff=True)
    first, second = submit(product, film), submit(product, film)
    working(browser, first, "ingest")
    until(lambda: "place 1 in the engine" in banner(browser, second).lower(), 20)
    with frozen(product, "worker"):
        until(lambda: "No worker answers" in banner(browser, first), 20)
        until(lambda: "has been silent for" in banner(browser, first), 30)
    with frozen(product, "temporal"):
        until(lambda: "Temporal cannot be reached" in banner(browser, first), 20)
        page = browser.get("/jobs/new/")
        answer = browser.post(
            "/jobs/new/",
            data={"csrfmiddlewaretoken": token(page)},
            files={"file": ("later.mkv", film.read_bytes())},
        )
        later = re.search(r"/jobs/([0-9a-f-]{36})/", str(answer.url))[1]
        assert "by itself" in banner(browser, later) and look(browser, later)["status"] == "queued"
    until(lambda: look(browser, later)["status"] == "running", 30)
    for job in (first, second, later):
        product.command("cancel", job)
        assert settled(browser, job, 30)["status"] == "cancelled"


def test_a_hundred_jobs_of_one_editor_do_not_starve_another_and_a_bad_file_blocks_nobody(product, tmp_path):
    clip = make_clip(tmp_path / "short.mkv", 3, "1280x720", "-c:v", "mpeg4").read_bytes()
    greedy, modest = product.editor("greedy"), product.editor("modest")

    def post(browser, data: bytes) -> str:
        page = browser.get("/jobs/new/")
        form = {"csrfmiddlewaretoken": token(page)}
        answer = browser.post("/jobs/new/", data=form, files={"file": ("clip.mkv", data)})
        return re.search(r"/jobs/([0-9a-f-]{36})/", str(answer.url))[1]

    bad = post(greedy, make_broken(tmp_path / "broken.mp4").read_bytes())
    many = [post(greedy, clip) for _ in range(12)]

    def finished() -> int:
        return [look(greedy, job)["status"] for job in many].count("succeeded")

    before = finished()
    one = post(modest, clip)
    assert settled(modest, one)["status"] == "succeeded"
    passed = finished() - before
    assert passed <= 5, (
        f"{passed} of {12 - before} went before the one"
    )  # they take turns; in line, it were all
    assert look(greedy, bad)["status"] == "attention"
    for job in many:
        assert settled(greedy, job, 240)["status"] == "succeeded"


# --- an API of somebody else's --------------------------------------------------------------------


@pytest.fixture(scope="module")
def api():
    with FaultyApi() as api:
        yield api


@pytest.fixture(scope="module")
def cloud(tmp_path_factory, api):
    """The product with that API for its engine."""
    made = Product(tmp_path_factory.mktemp("cloud") / "home", ITTYBIT_API_KEY="k", ITTYBIT_API_URL=api.url)
    made.environment["MEDIAPIPE_PUBLIC_URL"] = made.url
    running = made.start()
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def _behaving(api):
    api.faults, api.lives, api.can_cancel = [], {}, False
    api.life = ["queued", "processing", "succeeded"]
    api.error = {"kind": "internal_error", "message": "The encoder crashed."}


URL = "http://127.0.0.1:9/film.mp4"


def test_a_held_job_survives_everything_and_is_retried_in_place(cloud, api):
    browser = cloud.editor("grace", staff=True)
    api.lives["image"] = ["processing", "failed"]
    api.error = {"kind": "invalid_input", "message": "The picture is damaged."}
    job = submit(cloud, URL)
    now = settled(browser, job)
    assert now["status"] == "attention" and stage(now, "transcode")["state"] == "succeeded"
    assert "The picture is damaged." in banner(browser, job)
    before = cloud.children()
    for name in ("temporal", "worker", "web"):
        cloud.kill(name)
    for name in ("temporal", "worker", "web"):
        again(cloud, name, before[name])
    asked = len(api.tasks)
    api.lives["image"] = ["processing", "succeeded"]
    page = browser.get(f"/jobs/{job}/")
    form = {"csrfmiddlewaretoken": token(page), "reason": "new picture"}
    answers = [browser.post(f"/jobs/{job}/stages/thumbnails/retry/", data=form) for _ in range(2)]
    assert "Traceback" not in answers[1].text
    done = until(lambda: (n := look(browser, job))["status"] == "succeeded" and n, 40)
    assert len(api.tasks) == asked + 1, "a double click asked twice"
    assert stage(done, "thumbnails")["error"] is None
    assert "new picture" in timeline(browser, job) and "by grace" in timeline(browser, job)


def test_the_timeline_tells_of_a_lost_worker_and_of_who_went_on(cloud, api):
    browser = cloud.editor("grace", staff=True)
    api.lives["video"] = ["processing"] * 10_000
    job = submit(cloud, URL)
    until(lambda: stage(look(browser, job), "ingest")["task_id"], 30)
    cloud.kill("worker")
    until(lambda: "Ingest resumed on attempt 2" in timeline(browser, job), 45)
    assert "Worker lost during ingest" in timeline(browser, job)
    asked = [key for key in api.tasks if key.startswith(f"media-{job}/")]
    assert asked == [f"media-{job}/ingest/1"], "it was paid for twice"
    api.lives["video"] = ["succeeded"]
    api.tasks[asked[0]]["left"] = ["succeeded"]
    assert settled(browser, job)["status"] == "succeeded"


def test_a_worker_killed_while_waiting_for_a_retry_waits_no_longer_than_it_had_to(cloud, api):
    browser = cloud.editor("grace", staff=True)
    api.lives["audio"] = ["processing", "failed"]
    job = submit(cloud, URL)
    until(lambda: stage(look(browser, job), "audio")["retry_at"], 30)
    api.lives["audio"] = ["processing", "succeeded"]
    before = cloud.children()["worker"]
    cloud.kill("worker")
    again(cloud, "worker", before)
    assert settled(browser, job, 60)["status"] == "succeeded"
    keys = [key for key in api.tasks if key.startswith(f"media-{job}/audio/")]
    assert keys == [f"media-{job}/audio/1", f"media-{job}/audio/2"]


def test_a_cancel_against_an_api_without_cancel_says_so_and_twice_is_harmless(cloud, api):
    browser = cloud.editor("grace", staff=True)
    api.lives["video"] = ["processing"]
    job = submit(cloud, URL)
    until(lambda: stage(look(browser, job), "ingest")["task_id"], 30)
    form = {"csrfmiddlewaretoken": token(browser.get(f"/jobs/{job}/")), "reason": "wrong film"}
    first = browser.post(f"/jobs/{job}/cancel/", data=form)
    assert "Cancelling" in first.text or "Cancelled" in first.text
    browser.post(f"/jobs/{job}/cancel/", data=form)
    done = until(lambda: (n := look(browser, job))["status"] == "cancelled" and n, 15)
    assert "knows no cancel" in done["receipt"] and "wrong film" in timeline(browser, job)
    late = browser.post(f"/jobs/{job}/cancel/", data=form)
    assert "already ended" in late.text
    api.lives["video"] = ["processing", "succeeded"]
    answer = browser.post(f"/jobs/{job}/retry/", data=form)
    assert "started again" in answer.text
    assert settled(browser, job)["status"] == "succeeded"


def test_a_cancel_while_holding_and_during_a_retry_wait_ends_at_once(cloud, api):
    browser = cloud.editor("grace", staff=True)
    api.lives["audio"] = ["processing", "failed"]
    waiting = submit(cloud, URL)
    until(lambda: stage(look(browser, waiting), "audio")["retry_at"], 30)
    api.error = {"kind": "invalid_input", "message": "No."}
    holding = submit(cloud, URL)
    assert settled(browser, holding)["status"] == "attention"
    for job in (waiting, holding):
        assert cloud.command("cancel", job).returncode == 0
        done = until(lambda job=job: (n := look(browser, job))["status"] == "cancelled" and n, 10)
        assert "kept the output of" in done["receipt"]


async def _temporal(cloud) -> Client:
    return await Client.connect(json.loads((cloud.home / "addresses.json").read_text())["temporal"])


@pytest.mark.anyio
async def test_a_workflow_ended_or_forgotten_behind_our_back_is_settled_and_can_be_started_again(cloud, api):
    browser = cloud.editor("grace", staff=True)
    api.lives["audio"] = ["processing"]
    terminated, deleted = submit(cloud, URL), submit(cloud, URL)
    for job in (terminated, deleted):
        until(lambda job=job: stage(look(browser, job), "transcode")["state"] == "succeeded", 30)
    client = await _temporal(cloud)
    await client.get_workflow_handle(f"media-{terminated}").terminate("by hand")
    handle = client.get_workflow_handle(f"media-{deleted}")
    await handle.terminate()
    from temporalio.api.common.v1 import WorkflowExecution
    from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest

    await client.workflow_service.delete_workflow_execution(
        DeleteWorkflowExecutionRequest(
            namespace="default", workflow_execution=WorkflowExecution(workflow_id=f"media-{deleted}")
        )
    )
    api.lives["audio"] = ["processing", "succeeded"]
    for job, says in ((terminated, "ended in Temporal"), (deleted, "Temporal")):
        now = until(lambda job=job: (n := look(browser, job))["status"] == "failed" and n, 40)
        assert says in now["error"] and "Retry starts it again" in now["error"]
        asked = len(api.tasks)
        assert cloud.command("retry", job).returncode == 0
        done = settled(browser, job)
        assert done["status"] == "succeeded"
        assert len(api.tasks) == asked + 1, "finished outputs were not carried over"


def test_a_job_whose_process_died_between_commit_and_start_is_started_by_itself(cloud, api):
    code = (
        "from jobs.models import Job; from jobs.pipelines import Source; "
        "from django.contrib.auth import get_user_model as g; owner = g().objects.first(); "
        f"print(Job.submit(owner, title='t', pipeline='standard', source=Source(url={URL!r})).pk)"
    )
    job = cloud.command("shell", "-v", "0", "-c", code).stdout.strip()
    browser = cloud.editor("grace", staff=True)
    assert settled(browser, job, 60)["status"] == "succeeded"


def test_a_webhook_is_only_a_hint_and_spares_the_wait(cloud, api):
    browser = cloud.editor("grace", staff=True)
    api.lives["video"] = ["processing"] * 10_000
    job = submit(cloud, URL)
    task = until(
        lambda: next((t for k, t in api.tasks.items() if k.startswith(f"media-{job}/ingest")), None), 30
    )
    hook = task["webhook_url"]
    assert hook.startswith(f"{cloud.url}/hooks/ittybit/") and len(hook) > 100
    until(lambda: stage(look(browser, job), "ingest")["task_id"], 10)
    time.sleep(4)  # by now it is asked every few hundred milliseconds at most
    for body in (
        b"",
        b"{}",
        json.dumps({"id": task["id"], "status": "succeeded", "output": {"url": "http://evil/"}}).encode(),
    ):
        assert httpx.post(hook, content=body, trust_env=False).status_code == 200
    assert stage(look(browser, job), "ingest")["state"] == "running", "the body was believed"
    huge = httpx.post(hook, content=b"x" * (11 << 20), trust_env=False)
    assert huge.status_code == 413
    assert httpx.post(hook[:-3] + "abc", trust_env=False).status_code == 404
    api.lives["video"] = ["succeeded"]
    task["left"], task["status"] = [], "succeeded"
    assert httpx.post(hook, trust_env=False).status_code == 200
    until(lambda: stage(look(browser, job), "ingest")["state"] == "succeeded", 3)
    assert httpx.post(hook, trust_env=False).status_code == 200  # late and twice
    assert settled(browser, job)["status"] == "succeeded"


@pytest.mark.parametrize(
    ("faults", "says", "attempt"),
    [
        (["503", "500"], r"attempt 2 of 3 in \d+ s: The engine answered 503", 3),
        (["429 2"] * 4, r"asks the engine again in \d+ s", 1),  # patience is nobody's attempt
    ],
)
def test_an_api_that_refuses_is_told_on_the_page_and_outlived(cloud, api, faults, says, attempt):
    browser = cloud.editor("grace", staff=True)
    api.faults = list(faults)
    job = submit(cloud, URL)
    until(lambda: re.search(says, banner(browser, job), re.IGNORECASE), 30)
    done = settled(browser, job, 60)
    assert done["status"] == "succeeded", json.dumps(done)
    assert stage(done, "ingest")["attempt"] == attempt
    assert len([key for key in api.tasks if key.startswith(f"media-{job}/ingest")]) == 1
