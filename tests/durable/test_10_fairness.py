"""10. One bad file blocks nobody, and a hundred uploads of one editor do not starve another's one."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack

import pytest

from jobs import temporal, workers
from mediapipe import cluster
from tests.dashboard import look, settled
from tests.product import make_clip, token, until

pytestmark = pytest.mark.anyio
UPLOADS = 100


@pytest.mark.parametrize("name", ["ada", "動" * 64, "ж" * 150, "😀" * 30, ""])
def test_every_name_has_a_turn_that_temporal_takes(name):
    key = cluster.turns(name).fairness_key
    assert key is not None and len(key.encode()) <= 64 and name.startswith(key)


async def test_stages_that_wait_for_hours_keep_nobody_from_starting_cancelling_or_being_recorded(dashboard):
    """All of a worker's places are taken by stages that wait for the engine."""
    dashboard.api.lives["video"], dashboard.api.can_cancel = ["processing"] * 9999, True
    async with AsyncExitStack() as stack:
        for worker in workers.build(dashboard.client, dashboard.engine, waiting=2):
            await stack.enter_async_context(worker)
        many = [await dashboard.submit() for _ in range(4)]
        for job in many:
            await dashboard.until(job, lambda j: j.stages.get(name="ingest").task_id)
        one = await dashboard.submit(pipeline="standard")
        one = await dashboard.until(one, lambda j: j.stages.get(name="ingest").task_id)
        dashboard.api.lives.clear()
        task = dashboard.asked(one, "ingest")[0]
        task["status"], task["left"] = "succeeded", []
        assert await temporal.hint(task["webhook_url"].rsplit("/", 1)[1])
        one = await dashboard.until(one, lambda j: j.stages.get(name="ingest").state == "succeeded")
        await asyncio.wait_for(temporal.cancel(one, "ada"), 5)
        one = await dashboard.ended(one, "cancelled")
        assert one.receipt.startswith("Cancelled after")
        for job in many:
            await dashboard.workflow(job).terminate()


@pytest.mark.whole
def test_a_hundred_uploads_of_one_editor_do_not_starve_another_and_a_bad_file_blocks_nobody(
    product, tmp_path
):
    clip = make_clip(tmp_path / "short.mkv", 3, "640x360", "-c:v", "mpeg4").read_bytes()
    greedy, modest = product.editor("greedy"), product.editor("modest")

    def post(browser, data: bytes) -> str:
        form = {"csrfmiddlewaretoken": browser.secret}
        answer = browser.post(
            "/jobs/new/", data=form, files={"file": ("clip.mkv", data)}, follow_redirects=False
        )
        return re.search(r"/jobs/([0-9a-f-]{36})/", answer.headers["location"])[1]

    for browser in (greedy, modest):
        browser.secret = token(browser.get("/jobs/new/"))
    tracks_alone = clip[: clip.index(bytes.fromhex("1f43b675"))]  # no cluster: it opens, and holds nothing
    bad = post(greedy, tracks_alone + b"this is no film\n" * 99)
    many = [post(greedy, clip) for _ in range(UPLOADS)]

    def finished() -> int:
        page = greedy.get("/?tab=done").text
        return int(re.search(r"Done\s*(?:<[^>]+>\s*)*(\d+)", page)[1])

    before = finished()
    one = post(modest, clip)
    assert settled(modest, one)["status"] == "succeeded"
    passed = finished() - before
    assert UPLOADS - before > 40, "there was no line to wait in"
    assert passed <= 6, f"{passed} of {UPLOADS - before} went before the one"  # they take turns
    assert look(greedy, bad)["status"] == "attention"
    form = {"csrfmiddlewaretoken": greedy.secret, "action": "cancel", "confirmed": "1", "job": many[8:]}
    greedy.post("/jobs/bulk/", data=form)
    for job in many[:8]:
        assert settled(greedy, job, 240)["status"] == "succeeded"
    until(lambda: not {look(greedy, job)["status"] for job in many} & {"queued", "running"}, 60)
