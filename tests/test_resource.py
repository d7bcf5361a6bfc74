"""Which of Ittybit's two resources takes a task is found out by itself, and remembered."""

from __future__ import annotations

import json

import pytest
import respx

from jobs import engine
from jobs.ittybit.client import IttybitClient, open_http
from jobs.ittybit.replies import Broken, Missing, Rejected
from jobs.ittybit.resource import Resource
from jobs.requests import Cancellation
from tests.support.dashboard import URL

pytestmark = pytest.mark.anyio
API = "https://api.example.com"
CREATE = {"kind": "video", "input": "https://example.com/a.mov", "options": {}, "key": "media-1/ingest/1"}
WANTS_OBJECT = {"kind": "request_invalid", "message": "input must be an object"}
JOB = {"id": "job_1", "object": "job", "status": "queued"}


@pytest.fixture
def memory(tmp_path):
    return tmp_path / "resource.json"


@pytest.fixture
async def client(anyio_backend, memory):
    async with open_http(API, "secret") as http:
        yield IttybitClient(http, Resource("", memory, API))


@pytest.fixture
def remote():
    with respx.mock(base_url=API) as router:
        yield router


REFUSALS = [
    (400, WANTS_OBJECT),
    (422, {"detail": [{"loc": ["body", "input"], "msg": "Input should be a valid dictionary or object"}]}),
    (400, {"issues": [{"code": "invalid_type", "expected": "object", "path": ["input"]}]}),
    (400, {"kind": "request_invalid", "message": "Use /jobs for this"}),
    (404, {"kind": "not_found", "message": "Not found"}),
    (405, {"kind": "method_not_allowed", "message": "No"}),
]


@pytest.mark.parametrize(("status", "body"), REFUSALS, ids=range(len(REFUSALS)))
async def test_a_task_that_is_no_task_today_is_created_as_a_job_and_from_then_on_at_once(
    client, remote, memory, status, body
):
    tasks = remote.post("/tasks").respond(status, json=body)
    jobs = remote.post("/jobs").respond(201, json=JOB)
    remote.get("/jobs/job_1").respond(json={**JOB, "status": "processing"})
    assert (await client.create(**CREATE)).id == "job_1"
    sent = [route.calls.last.request for route in (tasks, jobs)]
    assert {request.headers["Idempotency-Key"] for request in sent} == {CREATE["key"]}
    assert sent[0].content == sent[1].content
    await client.create(**CREATE)
    restarted = IttybitClient(client.http, Resource("", memory, API))
    await restarted.create(**CREATE)
    assert (await restarted.read("job_1")).id == "job_1"
    assert (tasks.call_count, jobs.call_count) == (1, 3)


async def test_what_is_remembered_of_one_address_is_not_taken_for_another(client, remote, memory):
    memory.write_text(json.dumps({"api": "https://elsewhere.example.com", "resource": "jobs"}))
    remote.post("/tasks").respond(201, json={"id": "task_1", "status": "queued"})
    assert (await client.create(**CREATE)).id == "task_1"
    memory.write_text("half a li")
    assert Resource("", memory, API).name == "tasks"


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "width must be 2 to 7680"),
        (402, "input"),
        (401, "input"),
        (422, "Unknown quality"),
        (429, "No"),
    ],
)
async def test_a_refusal_of_something_else_is_sent_nowhere_else(client, remote, memory, status, message):
    remote.post("/tasks").respond(status, json={"kind": "k", "message": message})
    with pytest.raises(Exception, match=f"The engine answered {status}"):
        await client.create(**CREATE)
    assert not memory.exists()


async def test_where_neither_takes_it_the_first_one_says_why(client, remote, memory):
    remote.post("/tasks").respond(400, json=WANTS_OBJECT)
    remote.post("/jobs").respond(404, json={"kind": "not_found", "message": "No such path"})
    with pytest.raises(Rejected, match="input must be an object"):
        await client.create(**CREATE)
    assert not memory.exists()


async def test_a_key_without_money_on_the_right_resource_is_told_as_that(client, remote):
    remote.post("/tasks").respond(400, json=WANTS_OBJECT)
    remote.post("/jobs").respond(402, json={"kind": "payment_required", "message": "No credits"})
    with pytest.raises(Rejected, match="No credits"):
        await client.create(**CREATE)


async def test_a_resource_that_is_set_is_not_found_out(client, remote):
    client.resource = Resource("tasks")
    remote.post("/tasks").respond(400, json=WANTS_OBJECT)
    remote.get("/tasks/job_1").respond(404, json={})
    with pytest.raises(Rejected):
        await client.create(**CREATE)
    with pytest.raises(Missing):
        await client.read("job_1")


@pytest.mark.parametrize("status", [404, 405, 400])
async def test_a_task_is_read_and_cancelled_where_it_was_made_without_a_memory(client, remote, status):
    remote.get("/jobs/job_1").respond(json=JOB)
    remote.delete("/tasks/job_1").respond(status, json={})
    remote.delete("/jobs/job_1").respond(json={"cancelled": {"encoder_stopped": True}})
    assert await client.cancel("job_1") == Cancellation(encoder_stopped=True)
    assert client.resource.found == "jobs"
    assert (await client.read("job_1")).id == "job_1"


async def test_a_task_made_before_the_api_changed_is_still_found(client, remote):
    client.resource.remember("jobs")
    remote.get("/jobs/task_1").respond(404, json={})
    remote.get("/tasks/task_1").respond(json={"id": "task_1", "status": "succeeded"})
    assert (await client.read("task_1")).terminal
    assert client.resource.name == "jobs", "an old task changed what new ones are created as"


async def test_a_task_is_missing_only_where_both_say_so(client, remote):
    remote.get("/tasks/t").respond(404, json={"message": "No such task"})
    other = remote.get("/jobs/t").respond(500, json={})
    with pytest.raises(Broken):
        await client.read("t")
    for refusal in (404, 405, 403):
        other.respond(refusal, json={"message": "No such path"})
        with pytest.raises(Missing, match="No such task"):
            await client.read("t")


async def test_an_admin_is_told_in_a_line_what_answers_and_nothing_is_created(api, settings):
    settings.EMBEDDED_ENGINE, settings.ITTYBIT_RESOURCE = False, ""
    settings.ITTYBIT_API_URL, settings.ITTYBIT_API_KEY = api.url, "k"
    api.tasks.clear()
    api.documented = True
    good = f"Engine: the cloud at {api.url}. Key accepted. Resource: jobs"
    assert await engine.check() == (True, f"{good} (found out).")
    assert engine.resource().known == "jobs" and not api.tasks
    settings.ITTYBIT_RESOURCE = "jobs"
    assert await engine.check() == (True, f"{good} (set).")
    settings.ITTYBIT_RESOURCE = "tasks"
    assert (await engine.check())[0] is False
    settings.ITTYBIT_API_KEY = "wrong"
    assert await engine.check() == (
        False,
        f"Engine: the cloud at {api.url}. Key not accepted: set a valid ITTYBIT_API_KEY.",
    )
    settings.ITTYBIT_API_URL = "http://127.0.0.1:9"
    good, line = await engine.check()
    assert not good and line.endswith("The engine can’t be reached.")


@pytest.mark.whole
def test_the_cloud_as_documented_today_runs_a_job_with_default_settings(cloud, api):
    """Of the API only its address and its key are set."""
    api.documented = True
    done = cloud.command("submit", URL, "--wait", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)["result"]
    assert len(result) == 4 and all(result.values())
    checked = cloud.command("check-engine")
    assert checked.returncode == 0 and "Resource: jobs" in checked.stdout
