"""The stages' activities against a real HTTP server that misbehaves."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from jobs import activities, ittybit, messages
from jobs.activities import Activities, Watcher
from jobs.messages import KeepRequest, TaskRequest, TaskWatch
from jobs.pipelines import Output, Source
from mediapipe import files
from tests.faulty_api import FaultyApi

pytestmark = pytest.mark.anyio


@pytest.fixture
def api():
    with FaultyApi() as api:
        yield api


@pytest.fixture
async def doing(api, settings, anyio_backend):
    settings.EMBEDDED_ENGINE = False
    async with ittybit.connection(api.url, "secret") as http:
        yield Activities(ittybit.Client(http))


def request(**fields):
    return TaskRequest(
        "job", "ingest", "video", {}, Source(url="https://example.com/a"), "media-job/ingest/1", **fields
    )


async def watch(doing, task_id="task_1", **limits):
    """What awaiting the task comes to, and the heartbeats on the way."""
    env, beats = ActivityEnvironment(), []
    env.on_heartbeat = lambda *details: beats.append(details[0])
    return await env.run(Watcher(doing.client, TaskWatch(task_id, **limits)).result), beats


async def failure(doing, **limits):
    with pytest.raises(ApplicationError) as error:
        await watch(doing, **limits)
    return error.value


async def test_the_same_request_sent_twice_makes_one_task(doing, api):
    first = await ActivityEnvironment().run(doing.create_task, request())
    second = await ActivityEnvironment().run(doing.create_task, request())
    assert first == second == "task_1"
    assert len(api.tasks) == 1


async def test_a_reply_that_got_lost_is_asked_for_again_without_a_second_task(doing, api):
    await ActivityEnvironment().run(doing.create_task, request())
    api.faults = ["drop"]
    with pytest.raises(ApplicationError) as error:
        await ActivityEnvironment().run(doing.create_task, request())
    assert error.value.details[0].outage
    await ActivityEnvironment().run(doing.create_task, request())
    assert len(api.tasks) == 1


@pytest.mark.parametrize(
    "life", [["waiting", "queued", "processing", "succeeded"], ["new word", "completed"], ["ready"]]
)
async def test_a_task_is_awaited_through_every_status_until_it_is_over(doing, api, life):
    api.life = life
    await ActivityEnvironment().run(doing.create_task, request())
    output, _ = await watch(doing)
    assert output.url == f"{api.url}/files/task_1.mp4"


@pytest.mark.parametrize(
    "faults", [["503", "500", "502"], ["html"], ["drop", "drop"], ["nostatus"], ["envelope"]]
)
async def test_trouble_that_passes_is_outlived_and_told_in_the_heartbeats(doing, api, faults):
    await ActivityEnvironment().run(doing.create_task, request())
    api.faults = list(faults)
    output, beats = await watch(doing)
    assert output.url
    if faults != ["envelope"]:
        assert any(beat.trouble.startswith("The engine") for beat in beats)


async def test_a_rate_limit_is_waited_out_for_as_long_as_it_says(doing, api):
    await ActivityEnvironment().run(doing.create_task, request())
    api.faults = ["429 2"]
    output, beats = await watch(doing)
    assert output.url
    reads = [at for method, _, at in api.requests if method == "GET"]
    assert reads[1] - reads[0] >= 2
    assert any(beat.trouble and beat.next_at and beat.next_at - time.time() < 2 for beat in beats)


async def test_a_task_the_api_does_not_know_yet_is_given_time(doing, api):
    await ActivityEnvironment().run(doing.create_task, request())
    api.faults = ["404", "404"]
    output, _ = await watch(doing)
    assert output.url


async def test_a_rejected_key_fails_at_once_and_says_which_setting(doing, api):
    await ActivityEnvironment().run(doing.create_task, request())
    api.faults = ["401"]
    error = await failure(doing)
    assert error.details[0].permanent
    assert "Check ITTYBIT_API_KEY." in error.message


async def test_a_failed_task_says_why_and_wants_a_new_one(doing, api):
    api.life = ["processing", "failed"]
    await ActivityEnvironment().run(doing.create_task, request())
    error = await failure(doing)
    assert error.message == "The encoder crashed."
    assert error.details[0].task_over
    assert not error.details[0].permanent


async def test_success_without_an_output_is_looked_at_again_and_then_a_failure(doing, api):
    api.output = None
    await ActivityEnvironment().run(doing.create_task, request())
    error = await failure(doing)
    assert error.details[0].kind == "no_output"
    assert error.details[0].task_over
    assert sum(method == "GET" for method, _, _ in api.requests) >= 3


async def test_a_task_without_progress_is_stopped_and_named(doing, api):
    api.life, api.extra = ["processing"], {"progress": 40}
    await ActivityEnvironment().run(doing.create_task, request())
    error = await failure(doing, allowed=60, stall=0.5)
    assert error.details[0].kind == "stalled"
    assert error.details[0].stop
    assert "at 40 %" in error.message


async def test_a_task_that_progresses_is_never_stopped_by_the_stall_limit(doing, api):
    api.life, api.extra = ["processing"] * 9 + ["succeeded"], {}
    await ActivityEnvironment().run(doing.create_task, request())

    async def moving():
        for percent in range(0, 100, 2):
            api.extra = {"progress": percent}
            await asyncio.sleep(0.05)

    mover = asyncio.create_task(moving())
    output, beats = await watch(doing, allowed=60, stall=0.5)
    mover.cancel()
    assert output.url
    assert max(beat.progress for beat in beats) > 10


async def test_a_task_that_works_longer_than_allowed_is_stopped_but_its_time_in_the_queue_is_free(doing, api):
    api.life = ["queued"] * 8 + ["processing"]
    await ActivityEnvironment().run(doing.create_task, request())
    began = time.monotonic()
    error = await failure(doing, allowed=0.5, stall=60)
    assert error.details[0].kind == "timeout"
    assert time.monotonic() - began > 1.0


async def test_a_worker_that_shuts_down_hands_over_at_once(doing, api):
    api.life = ["processing"]
    await ActivityEnvironment().run(doing.create_task, request())
    env = ActivityEnvironment()
    task = asyncio.create_task(env.run(Watcher(doing.client, TaskWatch("task_1")).result))
    await asyncio.sleep(0.3)
    env.worker_shutdown()
    with pytest.raises(ApplicationError) as error:
        await asyncio.wait_for(task, 1)
    assert error.value.type == messages.HANDED_OVER


async def test_an_api_without_cancel_says_so_and_one_with_it_is_told(doing, api):
    await ActivityEnvironment().run(doing.create_task, request())
    assert not (await ActivityEnvironment().run(doing.cancel_task, "task_1")).supported
    api.can_cancel = True
    assert (await ActivityEnvironment().run(doing.cancel_task, "task_1")).encoder_stopped
    assert api.deleted == ["task_1"]


async def test_an_output_of_the_api_is_copied_to_our_storage(doing, api, settings):
    settings.ITTYBIT_API_URL = api.url
    output = Output(url=f"{api.url}/files/task_1.mp4", format="mp4")
    kept = await ActivityEnvironment().run(
        doing.keep_output, KeepRequest("job", "ingest", "ingest-1", output)
    )
    assert kept.name == "outputs/job/ingest-1.mp4"
    assert files.path(kept.name).read_bytes() == b"bytes of the output"
    assert kept.url == output.url


async def test_an_output_on_somebodys_private_network_is_not_fetched_and_its_own_link_has_to_do(doing, api):
    output = Output(url=f"{api.url}/files/task_1.mp4", format="mp4")
    env = ActivityEnvironment()
    env.info = replace(env.info, attempt=3)
    kept = await env.run(doing.keep_output, KeepRequest("job", "ingest", "ingest-1", output))
    assert kept.url == output.url and not kept.name
    assert "could not be copied" in kept.warnings[0] and not api.requests


def test_the_sources_url_is_ours_and_signed_for_the_embedded_engine(settings):
    settings.EMBEDDED_ENGINE = True
    url = activities.source_url(Source(name="sources/1/source.mp4", url="https://elsewhere/x.mp4"))
    assert files.name_of(url) == "sources/1/source.mp4"


def test_the_cloud_gets_the_apis_own_url_where_this_machine_cannot_be_reached(settings):
    settings.EMBEDDED_ENGINE, settings.PUBLIC_URL = False, ""
    source = Source(name="outputs/1.mp4", url="https://store.example.com/x.mp4")
    assert activities.source_url(source) == "https://store.example.com/x.mp4"
    settings.PUBLIC_URL = "https://me.example.com"
    assert activities.source_url(source).startswith("https://me.example.com/media/outputs/1.mp4?")


def test_a_hooks_address_is_different_for_each_task_and_cannot_be_guessed(settings):
    settings.EMBEDDED_ENGINE = True
    one, two = (activities.hook_url("job", "audio", f"audio-{n}") for n in (1, 2))
    assert one != two
    assert len(one.rsplit("/", 1)[1]) > 40
