"""The engine's HTTP API as a client of Ittybit's sees it: over real HTTP, with real work behind it."""

from __future__ import annotations

import re
import signal
import time
from urllib.parse import urlsplit

import httpx
import ittybit
import pytest

from tests.support.dashboard import is_at_rest, signal_encoders, submit
from tests.support.described import PLANNED, check_description
from tests.support.product import CALM, PATIENCE, make_clip, until

pytestmark = pytest.mark.whole


@pytest.fixture(scope="module")
def api(product):
    key = (product.home / "engine_key").read_text()
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(
        base_url=f"{product.url}/ittybit", headers=headers, trust_env=False, timeout=30
    ) as client:
        yield client


@pytest.fixture(scope="module")
def source(product, tmp_path_factory):
    """A file URL that the engine may read: the ingested output of a job."""
    import json

    clip = make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 4, "1280x720", *CALM)
    done = product.command("submit", str(clip), "--wait", "--json")
    return json.loads(done.stdout)["result"]["ingested_url"]


@pytest.fixture
def alone(product):
    """No job of an earlier test asks for tasks of its own any more."""
    until(lambda: is_at_rest(product))


def finished(api, task: str, patience: float = 2 * PATIENCE) -> dict:
    """A task that is over: on a busy machine its encoder takes its time."""

    def look():
        answer = api.get(f"/tasks/{task}").json()
        return answer if answer["status"] not in ("queued", "processing") else None

    return until(look, patience)


def test_the_seeds_program_gets_its_four_urls(api, source):
    """What the TypeScript of the seed does, request by request."""

    def create_and_await(body: dict) -> dict:
        answer = api.post("/tasks", json=body)
        assert answer.is_success
        task = answer.json()
        while task["status"] in ("queued", "processing"):
            time.sleep(0.1)
            polled = api.get(f"/tasks/{task['id']}").json()
            task["status"], task["output"] = polled["status"], polled["output"]
        assert task["status"] == "succeeded"
        return task["output"]["url"]

    ingested = create_and_await(
        {"input": source, "kind": "video", "options": {"format": "mp4", "quality": "high"}}
    )
    urls = [
        ingested,
        create_and_await(
            {"input": ingested, "kind": "image", "options": {"width": 640, "format": "webp", "start": 2}}
        ),
        create_and_await(
            {"input": ingested, "kind": "audio", "options": {"format": "mp3", "quality": "high"}}
        ),
        create_and_await(
            {
                "input": ingested,
                "kind": "video",
                "options": {"width": 1280, "format": "mp4", "codec": "h264", "quality": "medium"},
            }
        ),
    ]
    for url in urls:
        assert httpx.head(url, trust_env=False, timeout=60).status_code == 200


def test_a_task_is_told_from_queued_to_succeeded(api, source):
    answer = api.post("/tasks", json={"kind": "audio", "input": source, "metadata": {"mine": "7"}})
    made = answer.json()
    assert answer.status_code == 201 and made["status"] == "queued" and made["metadata"] == {"mine": "7"}
    assert made["object"] == "task" and made["options"] == {} and made["output"] is None
    assert abs(made["created_at"] / 1000 - time.time()) < 30
    done = finished(api, made["id"])
    assert done["progress"] == 100 and done["error"] is None
    output = done["output"]
    assert output["format"] == "mp3" and output["kind"] == "audio" and abs(output["duration"] - 4) < 0.2
    assert output["filesize"] == len(httpx.get(output["url"], trust_env=False, timeout=60).content)
    assert done["created_at"] <= done["started_at"] <= done["finished_at"]


@pytest.mark.release
def test_progress_never_goes_back(api, product, tmp_path):
    """Of an encode that goes on a little between two looks, on any machine."""
    clip = make_clip(tmp_path / "long.mp4", 12, "1280x720")
    job = submit(product, clip)

    def ingested() -> str | None:
        listed = api.get("/tasks", params={"status": "succeeded", "kind": "video"}).json()
        mine = [task for task in listed if task["metadata"].get("job") == job]
        return next((task["output"]["url"] for task in mine if task["metadata"]["stage"] == "ingest"), None)

    body = {"kind": "video", "input": until(ingested), "options": {"quality": "very_high", "fps": 30}}
    until(lambda: product.status(job)["stages"][0]["state"] == "succeeded")  # else its output would go
    product.command("cancel", job)  # its own encode would only be in the way
    task = api.post("/tasks", json=body).json()["id"]
    seen = []
    while (now := api.get(f"/tasks/{task}").json())["status"] in ("queued", "processing"):
        seen.append(now["progress"])
        signal_encoders(product, signal.SIGCONT)
        time.sleep(0.2)
        signal_encoders(product, signal.SIGSTOP)
        time.sleep(0.4)  # FFmpeg reports every half second
    signal_encoders(product, signal.SIGCONT)
    known = [value for value in seen if value is not None]
    assert len(set(known)) > 2 and known == sorted(known) and known[0] >= 0 and known[-1] <= 100


def test_the_same_key_is_the_same_task(api, source):
    body = {"kind": "image", "input": source}
    headers = {"Idempotency-Key": f"k-{time.time()}"}
    first, second = (
        api.post("/tasks", json=body, headers=headers),
        api.post("/tasks", json=body, headers=headers),
    )
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]
    assert api.post("/tasks", json=body).json()["id"] != first.json()["id"]
    job = api.post("/jobs", json=body, headers=headers)
    assert job.status_code == 201 and job.json()["object"] == "job", "a task answered who asked for a job"


def test_a_task_is_cancelled_by_its_key_and_none_is_made_for_it(api, source):
    key = f"media-1/ingest/{time.time()}"
    body = {"kind": "video", "input": source, "options": {"quality": "very_high"}}
    assert api.delete(f"/tasks/keys/{key}").json() == {"cancelled": {}}
    made = api.post("/tasks", json=body, headers={"Idempotency-Key": key})
    assert made.status_code == 201
    assert "id" not in api.delete(f"/jobs/keys/{key}").json()
    gone = api.delete(f"/tasks/keys/{key}").json()
    assert (gone["id"], gone["status"]) == (made.json()["id"], "cancelled")


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        ({}, "request_invalid", "kind must be one of"),
        ({"kind": "video"}, "invalid_input", "input must be"),
        ({"kind": "video", "input": "ftp://x/y"}, "invalid_input", "http"),
        (
            {"kind": "video", "input": "http://x/y", "options": {"width": 1}},
            "request_invalid",
            "width must be",
        ),
        ({"kind": "video", "input": "http://x/y", "options": {"width": 10**400}}, "request_invalid", "width"),
        (
            {"kind": "video", "input": "http://x/y", "options": {"width": "640:-2,drawtext=x"}},
            "request_invalid",
            "w",
        ),
        ({"kind": "video", "input": "http://x/y", "options": {"nope": 1}}, "request_invalid", "no option"),
        (
            {"kind": "video", "input": "http://x/y", "options": {"codec": "vp9"}},
            "format_unsupported",
            "doesn’t fit",
        ),
        (
            {"kind": "image", "input": "http://x/y", "options": {"format": "bmp"}},
            "format_unsupported",
            "format",
        ),
        ({"kind": "animation", "input": "http://x/y"}, "request_invalid", "needs end"),
        (
            {"kind": "video", "input": "http://x/y", "options": {"start": 5, "end": 5}},
            "request_invalid",
            "greater",
        ),
        ([], "request_invalid", "JSON object"),
        ({"kind": "video", "input": "http://x/y", "output": "s3://b/k"}, "request_invalid", "support output"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(api, body, kind, says):
    answer = api.post("/tasks", json=body)
    assert answer.status_code == 400 and answer.json()["kind"] == kind and says in answer.json()["message"]


def test_keys_methods_and_paths_are_checked(api, product):
    bare = f"{product.url}/ittybit/tasks"
    assert httpx.get(bare, trust_env=False, timeout=60).json()["kind"] == "token_missing"
    wrong = httpx.get(bare, headers={"Authorization": "Bearer nonsense"}, trust_env=False, timeout=60)
    assert wrong.status_code == 401 and wrong.json()["kind"] == "token_invalid"
    answer = api.put("/tasks", json={})
    assert answer.status_code == 405 and answer.headers["Allow"] == "GET, POST"
    assert api.get("/tasks/task_nope").json() == {
        "kind": "task_not_found",
        "message": "There is no task with this id.",
    }
    assert api.get("/nothing").status_code == 404
    assert api.post("/tasks", content=b"{", headers={"Content-Type": "application/json"}).status_code == 400


@pytest.mark.usefixtures("alone")
def test_lists_are_filtered_and_paged(api, source):
    made = [api.post("/tasks", json={"kind": "image", "input": source}).json()["id"] for _ in range(3)]
    page = api.get("/tasks", params={"kind": "image", "limit": 2})
    assert [task["id"] for task in page.json()] == made[:0:-1] and page.headers["Has-More"] == "true"
    following = httpx.get(page.links["next"]["url"], headers=api.headers, trust_env=False, timeout=60)
    assert following.json()[0]["id"] == made[0]
    oldest = api.get("/tasks", params={"order": "asc", "after": made[0], "limit": 5}).json()
    assert [task["id"] for task in oldest][:2] == made[1:]
    for limit in ("0", "101", "00000101", "000001" + "9" * 5000, "²"):
        assert api.get("/tasks", params={"limit": limit}).status_code == 400
    assert api.get("/tasks", params={"status": "nonsense"}).status_code == 400
    pages = [api.get("/tasks", params={"kind": "image", "limit": 1, "page": at}) for at in (1, 2, 3)]
    assert [page.json()[0]["id"] for page in pages] == made[::-1]
    following = httpx.get(pages[0].links["next"]["url"], headers=api.headers, trust_env=False, timeout=60)
    assert [task["id"] for task in following.json()] == [task["id"] for task in pages[1].json()]
    for wrong in ({"page": 0}, {"page": 2, "after": made[0]}, {"folder": "x"}):
        assert api.get("/tasks", params=wrong).status_code == 400, wrong
    for task in made:
        finished(api, task)


def test_the_input_may_be_an_object_and_comes_back_as_one(api, source):
    made = api.post("/tasks", json={"kind": "image", "input": {"url": source}}).json()
    assert made["input"]["object"] == "external_file"
    assert urlsplit(made["input"]["url"]).path == urlsplit(source).path
    done = finished(api, made["id"])
    assert done["status"] == "succeeded" and done["input"]["object"] == "external_file"


@pytest.fixture
def vendor(product):
    """The vendor's own Python SDK, pointed at the engine; it is older than the API."""
    with httpx.Client(trust_env=False, timeout=60) as http:
        key = (product.home / "engine_key").read_text()
        yield ittybit.Ittybit(base_url=f"{product.url}/ittybit", api_key=key, httpx_client=http)


@pytest.mark.usefixtures("alone")
def test_the_vendors_own_sdk_works_unmodified(vendor, source):
    for given in (source, {"url": source}):
        made = vendor.tasks.create(request={"input": given, "kind": "image", "options": {"width": 64}})
        until(lambda made=made: vendor.tasks.get(made.id).status == "succeeded")
        assert (
            httpx.head(vendor.tasks.get(made.id).output["url"], trust_env=False, timeout=60).status_code
            == 200
        )
    pages = [[task.id for task in vendor.tasks.list(page=at, limit=1)] for at in (1, 2)]
    assert pages[0] == [made.id] and pages[1] != pages[0]


def test_what_the_vendors_own_sdk_sends_otherwise_is_refused_with_a_sentence(vendor, source):
    from ittybit.core.api_error import ApiError

    older = {"url": source, "kind": "video", "width": 640}
    for body in (older, {"input": source, "kind": "video", "quality": "high"}):
        with pytest.raises(ApiError) as refused:
            vendor.tasks.create(request=body)
        assert refused.value.status_code == 400
        assert re.search("called input here|belongs in options", refused.value.body["message"])


def test_jobs_are_the_same_under_their_newer_name(api, source):
    """With the current API's own shape: the output is a URL, and four tasks tell how it came about."""
    made = api.post("/jobs", json={"kind": "image", "input": source}).json()
    assert made["object"] == "job" and made["id"].startswith("job_") and made["output"] is None
    assert [part["status"] for part in made["tasks"]] == ["waiting"] * 4
    until(lambda: api.get(f"/jobs/{made['id']}").json()["status"] == "succeeded")
    done = api.get(f"/jobs/{made['id']}").json()
    assert httpx.head(done["output"], trust_env=False, timeout=60).headers["Content-Type"] == "image/jpeg"
    assert done["tasks"][2]["output"] == done["tasks"][3]["output"] and done["tasks"][2]["output"]["width"]
    assert {part["status"] for part in done["tasks"]} == {"succeeded"}
    assert made["id"] in [job["id"] for job in api.get("/jobs", params={"input": source}).json()]
    assert made["id"] not in [task["id"] for task in api.get("/tasks").json()]


@pytest.mark.parametrize(
    "body",
    [
        b'{"kind": "video", "input": "http://x/y", "options": {"start": NaN}}',
        b'{"kind": "video", "input": "http://x/y", "metadata": {"a": Infinity}}',
        b'{"kind": "video", "input": "http://x/y", "metadata": {"a": 1e999}}',
        b'{"kind": "video", "input": "http://x/y", "metadata": {"a": "\\u0000"}}',
        b'{"kind": "video", "input": "http://x/\\ud800"}',
        b'{"kind": "video", "input": "http://x/y", "options": {"fps": 1' + b"0" * 5000 + b"}}",
        b'{"a":' * 100_000,
        b"\xff\xfe{",
        b"",
    ],
    ids=range(9),
)
def test_a_body_that_is_no_json_is_told_so(api, body):
    answer = api.post("/tasks", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400 and answer.json()["kind"] in ("request_invalid", "invalid_input")


def test_a_failed_task_says_why_in_a_sentence(api, product):
    made = api.post("/tasks", json={"kind": "video", "input": f"{product.url}/login/"}).json()
    done = finished(api, made["id"])
    assert done["status"] == "failed" and done["output"] is None
    assert done["error"]["kind"] == "invalid_input" and "not to a media file" in done["error"]["message"]
    missing = api.post("/tasks", json={"kind": "video", "input": f"{product.url}/no-such.mp4"}).json()
    assert finished(api, missing["id"])["error"]["kind"] == "source_not_found"


@pytest.mark.release
def test_deleting_a_task_stops_it_and_deleting_again_is_harmless(api, product, tmp_path):
    clip = make_clip(tmp_path / "long.mp4", 60, "1920x1080", *CALM)
    job = submit(product, clip)

    def encoding():
        listed = api.get("/tasks", params={"status": "processing", "kind": "video"}).json()
        return next(
            (
                t
                for t in listed
                if t["metadata"].get("job") == job
                and t["metadata"]["stage"] == "transcode"
                and (t["progress"] or 0) > 1
            ),
            None,
        )

    task = until(encoding)
    answer = api.delete(f"/tasks/{task['id']}").json()
    assert answer["status"] == "cancelled" and answer["cancelled"]["encoder_stopped"]
    assert api.delete(f"/tasks/{task['id']}").json()["status"] == "cancelled"
    product.command("cancel", job)


def test_a_check_answers_with_findings_and_takes_files_of_this_installation_alone(api, source):
    good = {"kind": "check", "input": source, "options": {"outputs": {"web": source}}}
    done = finished(api, api.post("/tasks", json=good).json()["id"])
    found = done["output"]["findings"]
    assert done["output"]["kind"] == "check" and done["options"]["outputs"]["web"].startswith("http")
    assert {each["output"] for each in found} == {"web"} and not any(each["look"] for each in found)
    report = httpx.get(done["output"]["url"], trust_env=False, timeout=60).json()
    assert report["findings"] == found and report["outputs"]["web"]["quality"]["samples"]
    elsewhere = {**good, "options": {"outputs": {"web": "https://example.com/a.mp4"}}}
    failed = finished(api, api.post("/tasks", json=elsewhere).json()["id"])
    assert failed["error"]["kind"] == "source_refused"
    for wrong in ({}, {"web": "a.mp4"}, {"A web": source}, [source], {"web": source + "x"}):
        answer = api.post("/tasks", json={**good, "options": {"outputs": wrong}})
        assert answer.status_code == 400, wrong


def test_the_description_tells_the_truth(api, product, request):
    """Schemathesis asks what the description allows and forbids, and checks every answer against it."""
    planned = 8 if request.config.option.all else PLANNED
    check_description(f"{product.url}/ittybit/openapi.json", api.headers, planned)
