"""10. One bad file blocks nobody, and many uploads of one editor do not starve another's one."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from datetime import timedelta

import pytest
from temporalio.client import Client

from jobs import control, worker
from jobs.workflow import webhook
from mediapipe import temporal
from tests.support.dashboard import held_at_work, look, settled, signal_encoders
from tests.support.product import make_broken, make_clip, token, until

pytestmark = pytest.mark.anyio
MANY = 20  # for a release a hundred


@pytest.mark.parametrize("name", ["ada", "動" * 64, "ж" * 150, "😀" * 30, ""])
def test_every_name_has_a_turn_that_temporal_takes(name):
    for line in ("", "later"):
        key = temporal.fairness_key(name, line=line).fairness_key
        assert key is not None and len(key.encode()) <= 64
        assert name.startswith(key.removesuffix(f"/{line}"))


async def test_stages_that_wait_for_hours_keep_nobody_from_starting_cancelling_or_being_recorded(dashboard):
    """All of a worker's places are taken by stages that wait for the engine."""
    dashboard.api.lives["video"], dashboard.api.can_cancel = ["processing"] * 9999, True
    async with temporal.run_workers(worker.build(dashboard.client, dashboard.engine, max_stages=2)):
        many = [await dashboard.submit() for _ in range(4)]
        for job in many:
            await dashboard.until(job, lambda j: j.stages.get(name="ingest").task_id)
        one = await dashboard.submit(pipeline="standard")
        one = await dashboard.until(one, lambda j: j.stages.get(name="ingest").task_id)
        dashboard.api.lives.clear()
        task = dashboard.asked(one, "ingest")[0]
        task["status"], task["left"] = "succeeded", []
        assert await webhook.on_webhook(task["webhook_url"].rsplit("/", 1)[1])
        one = await dashboard.until(one, lambda j: j.stages.get(name="ingest").state == "succeeded")
        await asyncio.wait_for(control.cancel(one, "ada"), 5)
        one = await dashboard.ended(one, "cancelled")
        assert one.receipt.startswith("Cancelled. ")
        for job in many:
            await dashboard.workflow(job).terminate(rpc_timeout=timedelta(seconds=10))


def rows_of(product, asked: str) -> list[tuple]:
    with closing(sqlite3.connect(f"file:{product.home}/mediapipe.sqlite3?mode=ro", uri=True)) as rows:
        return rows.execute(asked).fetchall()


def ingests_in_line(product, job: str = "") -> int:
    """How many wait for an encode, of one job or of all; an encoder stands still from when this is asked."""
    signal_encoders(product, signal.SIGSTOP)
    asked = (
        "select json_extract(metadata, '$.job') from engine_enginetask"
        " where status = 'queued' and not copies and json_extract(metadata, '$.stage') = 'ingest'"
    )
    return sum(not job or owner == job for (owner,) in rows_of(product, asked))


async def queued_at(product, tasks: Iterable[str]) -> dict[str, str]:
    """When Temporal put each of these tasks of the engine into its queue, as the engine's rows write times.

    A busy machine takes seconds from where a task is asked for until it stands there, and nobody's turn is
    passed over meanwhile.
    """
    client = await Client.connect(json.loads((product.home / "addresses.json").read_text())["temporal"])
    found = {}
    for task in tasks:
        history = await client.get_workflow_handle(task).fetch_history()
        scheduled = [
            each for each in history.events if each.HasField("activity_task_scheduled_event_attributes")
        ]
        found[task] = str(scheduled[-1].event_time.ToDatetime())
    return found


def waited_for(product, job: str) -> dict[str, int]:
    """How many tasks of others its queue of the engine began, while each task of a job stood in it."""
    tasks = rows_of(
        product,
        "select id, json_extract(metadata, '$.job'), json_extract(metadata, '$.stage'),"
        " kind = 'video', started_at from engine_enginetask where started_at is not null",
    )
    own = {task: (stage, heavy, began) for task, owner, stage, heavy, began in tasks if owner == job}
    since = asyncio.run(queued_at(product, own))
    return {
        stage: sum(
            other != job and lane == heavy and since[task] < at < began for _, other, _, lane, at in tasks
        )
        for task, (stage, heavy, began) in own.items()
    }


@pytest.mark.whole
def test_many_uploads_of_one_editor_do_not_starve_another_and_a_bad_file_blocks_nobody(
    product, tmp_path, request
):
    more = 100 if request.config.option.all else MANY
    clip = make_clip(tmp_path / "short.mkv", 1, "320x180", "-c:v", "mpeg4").read_bytes()
    greedy, modest = product.editor("greedy"), product.editor("modest")

    def post(browser, data: bytes) -> str:
        form = {"csrfmiddlewaretoken": token(browser.get("/jobs/new/"))}
        answer = browser.post("/jobs/new/", data=form, files={"file": ("clip.mkv", data)})
        return re.search(r"/jobs/([0-9a-f-]{36})/", str(answer.url))[1]

    broken = make_broken(tmp_path / "broken.mp4").read_bytes()
    bad = post(greedy, broken)
    held = post(greedy, make_clip(tmp_path / "long.mkv", 12, "1280x720", "-c:v", "mpeg4").read_bytes())
    with held_at_work(product, greedy, held, "ingest"):  # else the first are done before the last is in line
        first = post(greedy, clip)
        code = (
            f"from jobs.models import Job; one = Job.objects.get(pk={first!r}); "
            "more = {'title': 'more', 'pipeline': 'standard', 'source': one.source}; "
            f"[Job.submit(one.owner, **more) for _ in range({more})]"
        )
        assert product.command("shell", "-v", "0", "-c", code).returncode == 0
        until(lambda: ingests_in_line(product) > more * 0.5, 120, every=0.05)  # they start by themselves
        one = post(modest, clip)
        until(lambda: ingests_in_line(product, one) == 1, 120)
    assert settled(modest, one)["status"] == "succeeded"
    assert running_now(greedy) > more * 0.4, "there was no line to wait in"
    waited = waited_for(product, one)
    assert set(waited) == {"ingest", "thumbnails", "audio", "transcode"}
    assert max(waited.values()) <= 4, f"they did not take turns: {waited}"
    assert look(greedy, bad)["status"] == "attention"
    assert settled(greedy, first)["status"] == "succeeded"
    page = greedy.get("/jobs/new/")
    form = {"csrfmiddlewaretoken": token(page), "action": "cancel", "confirmed": "1"}

    def all_cancelled() -> bool:  # again, as the page asks, where Temporal was too busy for some
        greedy.post("/jobs/bulk/", data={**form, "matching": "tab=running"}, timeout=120)
        return running_now(greedy) == 0

    until(all_cancelled, 120, every=5)


def running_now(browser) -> int:
    """How many jobs the list counts as running; not asked where they are listed, which asks each workflow."""
    return int(re.search(r"Running <b>(\d+)</b>", browser.get("/?tab=attention").text)[1])
