"""What the activities send to the API, and how they store its outputs; tests/durable has what goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace

import pytest
from temporalio.testing import ActivityEnvironment

from jobs.ittybit.client import IttybitClient, open_http
from jobs.requests import HeartbeatDetails, KeepRequest, TaskWatch
from jobs.state import Output, Source
from jobs.workflow import activities
from jobs.workflow.activities import Activities
from jobs.workflow.watch import Watcher
from mediapipe import storage
from tests.support.faulty_api import FaultyApi
from tests.support.product import until_async
from tests.support.slow_site import SlowSite

pytestmark = pytest.mark.anyio


@pytest.fixture
def api():
    with FaultyApi() as api:
        yield api


@pytest.fixture
async def doing(api, anyio_backend):
    async with open_http(api.url, "secret") as http:
        yield Activities(IttybitClient(http))


async def test_an_output_of_the_api_is_copied_to_our_storage(doing, api, settings):
    settings.ITTYBIT_API_URL = api.url
    output = Output(url=f"{api.url}/files/task_1.mp4", format="mp4")
    copy = await ActivityEnvironment().run(
        doing.keep_output, KeepRequest("job", "ingest", "ingest-1", output)
    )
    assert copy.name == "outputs/job/ingest-1.mp4"
    assert storage.path(copy.name).read_bytes() == b"bytes of the output"
    assert copy.url == output.url


async def test_a_task_of_our_own_engine_that_was_just_asked_for_is_not_read_before_it_can_have_ended(
    doing, api, settings
):
    """Its end is told; what was asked for earlier, or by somebody before us, may have been told already."""
    for own, ago, is_young in ((True, 0, True), (True, 1, False), (False, 0, False)):
        settings.EMBEDDED_ENGINE = own
        watching = activities.watcher(doing.client, TaskWatch("task_1", asked_at=time.time() - ago))
        assert watching.is_young == is_young, (own, ago)
    assert not activities.watcher(doing.client, TaskWatch("task_1")).is_young
    api.life = ["processing"]
    for is_young in (True, False):
        watching = Watcher(doing.client, TaskWatch("task_1"), first_interval=3, is_young=is_young)
        running = asyncio.create_task(ActivityEnvironment().run(watching.result))
        await asyncio.sleep(0.3)
        if not is_young:
            await until_async(lambda: asyncio.sleep(0, api.requests))
        assert bool(api.requests) == (not is_young)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def test_a_task_with_many_before_it_is_read_more_rarely_where_its_end_is_told(doing, api):
    """So many reads of those that wait would take the time of those that are at work."""

    async def until_the_next(first_interval: float, position: int | None) -> float:
        watching = Watcher(doing.client, TaskWatch("task_1"), first_interval=first_interval)
        watching.details = HeartbeatDetails(queue_position=position)
        return ActivityEnvironment().run(watching._interval)

    told, asked = activities.NOTIFIED_INTERVAL, activities.INTERVAL
    assert await until_the_next(told, None) < 1.3 and await until_the_next(asked, 40) < 0.2
    assert 2.3 < await until_the_next(told, 6) < 3.7
    assert 7.9 < await until_the_next(told, 400) < 12.1, "a heartbeat would be missed"


async def test_an_output_on_somebodys_private_network_is_not_fetched_and_its_own_link_has_to_do(doing, api):
    output = Output(url=f"{api.url}/files/task_1.mp4", format="mp4")
    env = ActivityEnvironment()
    env.info = replace(env.info, attempt=3)
    copy = await env.run(doing.keep_output, KeepRequest("job", "ingest", "ingest-1", output))
    assert copy.url == output.url and not copy.name
    assert "couldn’t be copied" in copy.warnings[0] and not api.requests


async def test_a_copy_that_is_cancelled_leaves_no_part_of_it(doing, settings):
    settings.ALLOW_PRIVATE_SOURCES = True
    incoming = storage.path("incoming")
    with SlowSite(bytes(1 << 20)) as site:
        output = Output(url=f"{site.url}/drip/1.mp4", format="mp4")
        request = KeepRequest("job", "ingest", "ingest-1", output)
        copying = asyncio.create_task(ActivityEnvironment().run(doing.keep_output, request))
        while not any(each.stat().st_size for each in incoming.glob("download-*")):
            await asyncio.sleep(0.02)
        copying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await copying
        assert not list(incoming.iterdir())


async def test_what_a_task_had_finished_when_it_was_cancelled_is_removed(respx_mock, settings):
    """No stage takes it any more, so no row would ever name it."""
    path = storage.path("outputs/task_1.mp4")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"film")
    body = {
        "id": "task_1",
        "status": "succeeded",
        "output": {"url": storage.signed_url("outputs/task_1.mp4")},
    }
    respx_mock.delete("https://api.example.com/tasks/task_1").respond(json=body)
    async with open_http("https://api.example.com", "secret") as http:
        result = await ActivityEnvironment().run(Activities(IttybitClient(http)).cancel_task, "task_1")
    assert not result.encoder_stopped and not path.exists()


def test_the_sources_url_is_ours_and_signed_for_the_embedded_engine(settings):
    settings.EMBEDDED_ENGINE = True
    url = activities.input_url(Source(name="sources/1/source.mp4", url="https://elsewhere/x.mp4"))
    assert storage.name_of(url) == "sources/1/source.mp4"


def test_the_cloud_gets_the_apis_own_url_where_this_machine_cannot_be_reached(settings):
    settings.EMBEDDED_ENGINE, settings.PUBLIC_URL = False, ""
    source = Source(name="outputs/1.mp4", url="https://store.example.com/x.mp4")
    assert activities.input_url(source) == "https://store.example.com/x.mp4"
    settings.PUBLIC_URL = "https://me.example.com"
    assert activities.input_url(source).startswith("https://me.example.com/media/outputs/1.mp4?")
