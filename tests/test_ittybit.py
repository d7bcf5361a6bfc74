"""The Ittybit client against every shape and every failure of the API that is documented."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from dataclasses import asdict
from datetime import UTC, datetime

import httpx
import pytest
import respx

from jobs.ittybit import replies
from jobs.ittybit.client import IttybitClient, may_have_created, open_http
from jobs.ittybit.replies import (
    Broken,
    Busy,
    IttybitError,
    Missing,
    Rejected,
    TaskState,
    Unavailable,
    Unreachable,
)
from jobs.ittybit.resource import Resource
from jobs.requests import Cancellation
from jobs.state import Output

pytestmark = pytest.mark.anyio
API = "https://api.example.com"
CREATE = {
    "kind": "video",
    "input": "https://example.com/a.mov",
    "options": {"width": 640},
    "key": "media-1/ingest/1",
}


@pytest.fixture
async def client(anyio_backend):
    async with open_http(API, "secret") as http:
        yield IttybitClient(http)


@pytest.fixture
def api():
    with respx.mock(base_url=API) as router:
        yield router


async def test_a_task_is_created_with_the_key_the_body_and_the_bearer(client, api):
    route = api.post("/tasks").respond(201, json={"id": "task_1", "status": "queued"})
    task = await client.create(**CREATE, metadata={"job": "1"}, webhook_url="https://me.example.com/hook")
    request = route.calls.last.request
    assert request.headers["Authorization"] == "Bearer secret"
    assert request.headers["Idempotency-Key"] == "media-1/ingest/1"
    assert json.loads(request.content) == {
        "input": "https://example.com/a.mov",
        "kind": "video",
        "options": {"width": 640},
        "metadata": {"job": "1"},
        "webhook_url": "https://me.example.com/hook",
    }
    assert (task.id, task.state) == ("task_1", TaskState.QUEUED)


@pytest.mark.parametrize("code", [200, 201, 202])
async def test_a_replayed_or_accepted_create_is_as_good_as_a_new_one(client, api, code):
    api.post("/tasks").respond(code, json={"id": "task_1", "status": "queued"})
    assert (await client.create(**CREATE)).id == "task_1"


async def test_the_jobs_resource_gets_the_same_body(api):
    route = api.post("/jobs").respond(201, json={"id": "job_1", "object": "job", "status": "queued"})
    api.get("/jobs/job_1").respond(json={"id": "job_1", "status": "processing"})
    async with open_http(API, "secret") as http:
        client = IttybitClient(http, Resource("jobs"))
        task = await client.create(**CREATE)
        assert (await client.read(task.id)).state == TaskState.PROCESSING
    assert json.loads(route.calls.last.request.content)["kind"] == "video"


@pytest.mark.parametrize(
    "status, state",
    [
        *((status, TaskState.QUEUED) for status in ("pending", "waiting", "validating", "queued")),
        *((status, TaskState.PROCESSING) for status in ("processing", "finishing", "never heard of")),
        *((status, TaskState.SUCCEEDED) for status in ("ready", "completed", "succeeded", "SUCCEEDED")),
        *((status, TaskState.FAILED) for status in ("failed", "error")),
        *((status, TaskState.CANCELLED) for status in ("cancelled", "canceled")),
    ],
)
def test_every_status_ever_documented_is_understood_and_any_other_means_still_working(status, state):
    assert replies.parse_task({"id": "t", "status": status}).state == state


@pytest.mark.parametrize(
    "fields",
    [
        {"output": {"url": "https://cdn/x.mp4"}},
        {"output": "https://cdn/x.mp4"},
        {"output": ["https://cdn/x.mp4"]},
        {"output": [{"url": "https://cdn/x.mp4"}]},
        {"outputs": [{"url": "https://cdn/x.mp4"}]},
        {"output_url": "https://cdn/x.mp4"},
        {"output": {"object": "file"}, "output_url": "https://cdn/x.mp4"},
    ],
)
@pytest.mark.parametrize("envelope", [False, True])
def test_an_output_is_found_in_every_shape(fields, envelope):
    body = {"id": "t", "status": "succeeded", **fields}
    task = replies.parse_task({"data": body, "meta": {}} if envelope else body)
    assert task.output
    assert task.output.url == "https://cdn/x.mp4"


@pytest.mark.parametrize("output", [None, "", {}, [], {"url": None}, {"url": 7}])
def test_success_without_a_url_has_no_output(output):
    assert replies.parse_task({"id": "t", "status": "succeeded", "output": output}).output is None


def test_the_facts_of_an_output_are_kept():
    about = {
        "url": "https://cdn/x.mp4",
        "kind": "video",
        "format": "mp4",
        "width": 1280,
        "height": 720,
        "duration": 12.5,
        "filesize": 1000,
        "codecs": {"video": "h264", "audio": None},
        "vtt_url": "https://cdn/x.vtt",
    }
    task = replies.parse_task({"id": "t", "status": "succeeded", "output": about, "warnings": ["cut off"]})
    assert task.output == Output(
        url="https://cdn/x.mp4",
        kind="video",
        format="mp4",
        width=1280,
        height=720,
        duration=12.5,
        filesize=1000,
        video_codec="h264",
        codecs_known=True,
        warnings=["cut off"],
        extras={"vtt": "https://cdn/x.vtt"},
    )
    assert task.output.has("audio") is False


@pytest.mark.parametrize("place", ["source", "tasks"])
def test_what_an_output_was_made_of_is_told_by_a_tasks_source_and_by_a_jobs_probe(place):
    film = {"url": "https://x/y.mov", "format": "mov", "width": 1920, "codecs": {"video": "prores"}}
    told = {"source": film} if place == "source" else {"tasks": [{"kind": "probe", "output": film}]}
    output = replies.parse_task({"id": "t", "status": "succeeded", "output": "https://cdn/x", **told}).output
    assert output and output.source
    assert output.source == Output(format="mov", width=1920, video_codec="prores", codecs_known=True)


@pytest.mark.parametrize("source", [None, "https://x/y", [], {}, {"codecs": None}, {"url": "https://x/y"}])
def test_a_source_of_which_nothing_is_told_has_no_facts(source):
    output = replies.parse_task({"id": "t", "status": "ready", "output": "u", "source": source}).output
    assert output and output.source is None


@pytest.mark.parametrize(
    "body, kind, message, permanent",
    [
        ({"error": {"kind": "no_audio", "message": "No sound."}}, "no_audio", "No sound.", True),
        ({"error": {"code": "internal_error", "message": "Oops"}}, "internal_error", "Oops", False),
        ({"error": "it broke"}, "", "it broke", False),
        ({"message": "it broke"}, "", "it broke", False),
        ({"error": None}, "", "The engine gave no reason.", False),
        (
            {
                "error": None,
                "tasks": [
                    {"status": "cancelled", "error": {"kind": "cancelled", "message": "A sibling failed"}},
                    {"status": "failed", "error": {"kind": "damaged", "message": "Cut off"}},
                ],
            },
            "damaged",
            "Cut off",
            True,
        ),
    ],
)
def test_a_failure_says_what_the_api_says_and_whether_it_would_repeat_itself(body, kind, message, permanent):
    task = replies.parse_task({"id": "t", "status": "failed", **body})
    assert (task.error_kind, task.error, task.permanent) == (kind, message, permanent)


CUT = "caf\u00e9 \ud83d"  # a text that was cut inside an emoji
HALVED = [
    {"status": "failed", "error": {"kind": "damaged", "message": CUT, "details": CUT}},
    {"status": "failed", "error": {"kind": f"no_audio{CUT}", "message": "x"}},
    {"status": "failed", "error": CUT},
    {"status": "succeeded", "output": {"url": f"https://cdn/{CUT}", f"{CUT}_url": CUT, "kind": CUT}},
    {"status": "succeeded", "output": "https://cdn/x", "warnings": [CUT], "waiting_for": CUT},
    {"status": CUT},
]


@pytest.mark.parametrize("body", HALVED)
def test_half_an_emoji_loses_no_reason_and_can_be_stored(body):
    read = replies.parse_task({"id": "t", **json.loads(json.dumps(body))})
    told = json.dumps(asdict(read), ensure_ascii=False)
    told.encode()
    assert "caf\u00e9 \ufffd" in told or read.state == TaskState.PROCESSING
    assert read.permanent == (body.get("error", {}) == HALVED[0]["error"])


def test_an_id_that_cannot_be_sent_back_is_no_id():
    with pytest.raises(Broken, match="no task id"):
        replies.parse_task({"id": CUT, "status": "queued"})


@pytest.mark.parametrize(
    "value, progress", [(None, None), (40, 40.0), (140, 100.0), (-3, 0.0), ("x", None), (True, None)]
)
def test_progress_is_a_percentage_or_nothing(value, progress):
    assert replies.parse_task({"id": "t", "status": "processing", "progress": value}).progress == progress


@pytest.mark.parametrize(
    "body", [[], "x", {}, {"id": "t"}, {"id": "", "status": "queued"}, {"status": "queued"}, None]
)
def test_a_reply_without_id_or_status_is_broken(body):
    with pytest.raises(Broken):
        replies.parse_task(body)


@pytest.mark.parametrize(
    "code, kind, permanent",
    [
        *((code, Rejected, True) for code in (400, 401, 402, 403, 405, 410, 422)),
        *((code, Unavailable, False) for code in (408, 425, 502, 503, 504)),
        (500, Broken, False),
        (404, Missing, False),
        (429, Busy, False),
    ],
)
async def test_each_refusal_is_sorted_into_worth_another_try_or_not(client, api, code, kind, permanent):
    api.get("/tasks/t").respond(code, json={"kind": "some_kind", "message": "Because of that"})
    with pytest.raises(kind) as error:
        await client.read("t")
    assert error.value.permanent is permanent
    assert error.value.outage == (kind in (Unavailable, Busy))
    assert f"The engine answered {code}: Because of that" in str(error.value)


async def test_a_missing_collection_is_a_wrong_setting_not_a_missing_task(client, api):
    api.post("/tasks").respond(404, json={"kind": "not_found", "message": "No such path"})
    with pytest.raises(Rejected, match=r"No such path\. Ask an admin to check the engine’s address\."):
        await client.create(**CREATE)


@pytest.mark.parametrize("code", [200, 500, 502])
async def test_a_web_page_instead_of_json_is_an_outage_and_its_html_is_not_shown(client, api, code):
    api.get("/tasks/t").respond(code, html="<html><h1>Bad gateway</h1></html>")
    with pytest.raises(Unavailable) as error:
        await client.read("t")
    assert "<" not in str(error.value)
    assert not error.value.permanent


@pytest.mark.parametrize("code", [200, 503])
@pytest.mark.parametrize(
    "body", ["[" * 200_000, '{"a":' * 200_000, "9" * 5000], ids=["lists", "maps", "digits"]
)
async def test_json_that_cannot_be_read_is_an_outage_too(client, api, body, code):
    api.get("/tasks/t").respond(code, text=body)
    with pytest.raises(Unavailable) as error:
        await client.read("t")
    assert not error.value.permanent


@pytest.mark.parametrize("body", [{"error": {"message": "Slow"}}, {"error": "Slow"}, {"message": "Slow"}])
async def test_old_shapes_of_an_error_are_read_too(client, api, body):
    api.get("/tasks/t").respond(503, json=body)
    with pytest.raises(Unavailable, match="The engine answered 503: Slow"):
        await client.read("t")


@pytest.mark.parametrize(
    "value, seconds",
    [
        ("12", 12.0),
        ("999999", 3600.0),
        ("Mon, 23 Nov 2026 10:00:30 GMT", 30.0),
        ("Mon, 23 Nov 2026 09:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        (None, None),
        ("-5", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value, seconds):
    assert replies.retry_after(value, datetime(2026, 11, 23, 10, tzinfo=UTC)) == seconds


async def test_a_rate_limit_says_when_to_come_back(client, api):
    api.get("/tasks/t").respond(429, json={"kind": "rate_limited"}, headers={"Retry-After": "7"})
    with pytest.raises(Busy) as error:
        await client.read("t")
    assert error.value.retry_after == 7


@pytest.mark.parametrize(
    "problem",
    [
        httpx.ConnectError("no"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("cut"),
        httpx.ReadError("reset"),
    ],
)
async def test_a_connection_that_fails_or_breaks_is_unreachable_and_worth_another_try(client, api, problem):
    api.get("/tasks/t").mock(side_effect=problem)
    with pytest.raises(Unreachable) as error:
        await client.read("t")
    assert not error.value.permanent


async def test_a_cancel_tells_what_it_came_to(client, api):
    api.delete("/tasks/t").respond(
        json={"id": "t", "status": "cancelled", "cancelled": {"encoder_stopped": True, "freed_bytes": 41}}
    )
    assert await client.cancel("t") == Cancellation(encoder_stopped=True, freed_bytes=41)


async def test_a_proxys_page_in_place_of_a_cancels_answer_is_an_outage_and_no_cancel(client, api):
    api.delete("/tasks/t").respond(200, html="<html>Welcome</html>")
    with pytest.raises(Unavailable, match="a page instead of JSON"):
        await client.cancel("t")
    api.delete("/tasks/t").respond(204)
    assert await client.cancel("t") == Cancellation()


@pytest.mark.parametrize("code", [404, 405, 501])
async def test_an_api_without_cancel_is_no_error(client, api, code):
    api.delete("/tasks/t").respond(code, json={"kind": "method_not_allowed", "message": "No"})
    assert not (await client.cancel("t")).supported


async def test_a_task_is_cancelled_by_the_key_of_its_request_where_the_api_knows_that(client, api):
    path = "/tasks/keys/media-1/ingest/1"
    api.delete(path).respond(json={"cancelled": {"encoder_stopped": True}})
    assert await client.cancel_of_key("media-1/ingest/1") == Cancellation(encoder_stopped=True)
    api.delete(path).respond(404, json={"kind": "not_found", "message": "No"})
    assert not (await client.cancel_of_key("media-1/ingest/1")).supported


@pytest.mark.parametrize(
    ("reply", "may_have"),
    [
        (httpx.ReadTimeout("late"), True),
        (httpx.RemoteProtocolError("cut"), True),
        (httpx.ConnectError("refused"), False),
        (httpx.Response(502, text="<html>"), True),
        (httpx.Response(500, json={"kind": "internal_error", "message": "Oops"}), True),
        (httpx.Response(503, json={"kind": "queue_unavailable"}, headers={"Retry-After": "2"}), False),
        (httpx.Response(429), False),
        (httpx.Response(400, json={"kind": "request_invalid", "message": "No"}), False),
    ],
    ids=repr,
)
async def test_only_a_request_whose_answer_was_lost_may_have_created_a_task(client, api, reply, may_have):
    api.post("/tasks").mock(side_effect=[reply, reply])
    with pytest.raises(IttybitError) as error:
        await client.create(**CREATE)
    assert may_have_created(error.value) is may_have


class KeepsConnections:
    """A server that answers each connection's first request, and hangs up in the middle of its next one.

    That is what a client meets whose server has been frozen. *works*: how many connections are answered.
    """

    def __init__(self, works: int = 99, status: str = "200 OK") -> None:
        self.works, self.status, self.seen = works, status, list[bytes]()

    async def __call__(self, reader, writer) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):  # a client that leaves a connection unused
            await self.answer(reader, writer)
        writer.transport.abort()

    async def answer(self, reader, writer) -> None:
        self.works -= 1
        body = b'{"id": "task_1", "status": "queued"}'
        for number in range(2):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int((re.search(rb"(?i)content-length: (\d+)", head) or [0, 0])[1])
            await reader.readexactly(length)
            self.seen.append(head)
            if number or self.works < 0:
                break
            status = self.status if len(self.seen) > 2 else "200 OK"
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


@contextlib.asynccontextmanager
async def behind(server: KeepsConnections):
    """A client of it."""
    async with await asyncio.start_server(server, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        async with open_http(f"http://127.0.0.1:{port}", "secret") as http:
            yield IttybitClient(http)


async def test_a_request_on_a_kept_connection_that_has_ended_is_sent_again_under_the_same_key():
    server = KeepsConnections()
    async with behind(server) as client:
        for _ in range(3):
            assert (await client.create(**CREATE)).id == "task_1"
    assert len(server.seen) == 5, "the second and the third were sent twice"
    assert all(b"idempotency-key: media-1/ingest/1" in head.lower() for head in server.seen)


@pytest.mark.parametrize("server", [KeepsConnections(1), KeepsConnections(status="401 Unauthorized")])
async def test_what_was_lost_may_have_created_a_task_whatever_becomes_of_the_second_request(server):
    async with behind(server) as client:
        await client.create(**CREATE)
        with pytest.raises(Unreachable) as error:
            await client.create(**CREATE)
    assert may_have_created(error.value) and len(server.seen) == 3
