"""17. Of a batch none is lost and none comes twice, whatever dies meanwhile, and it ends by itself."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async

from jobs.batches import sources, waking
from jobs.batches.sources import Written
from jobs.models import Batch, Job
from tests.support.dashboard import URL, kill_and_wait
from tests.support.product import token, until, until_async
from tests.support.tiers import further

pytestmark = pytest.mark.anyio


@pytest.fixture
async def batch(inside):
    """Three sources of Ada's, at a Temporal that hasn't heard of them."""
    items = sources.items_of(
        [Written(f"https://93.184.215.14/{number}.mp4") for number in range(3)], "standard", ["standard"]
    )
    made = await sync_to_async(Batch.submit)(inside.owner, "three", items, uuid.uuid4())
    yield made
    inside.jobs += [job async for job in Job.objects.filter(batch_item__batch=made)]


async def over(batch: Batch) -> Batch:
    """The row, once its workflow has ended it: it is woken as beside a worker."""

    async def look() -> Batch | None:
        await waking.run_once()
        return await Batch.objects.filter(pk=batch.pk).exclude(finished_at=None).afirst()

    return await until_async(look, every=0.3)


async def test_a_batch_whose_workflow_was_ended_by_hand_goes_on(inside, batch):
    inside.api.lives["video"] = ["processing"] * 9999
    assert await waking.run_once() == 1
    await until_async(lambda: sync_to_async(batch.jobs.exclude(workflow_started_at=None).count)())
    workflow = inside.client.get_workflow_handle(batch.workflow_id)
    await workflow.terminate(rpc_timeout=timedelta(seconds=10))
    inside.api.lives.clear()
    for task in inside.api.tasks.values():
        task["status"], task["left"] = "succeeded", []
    batch = await over(batch)
    assert (await sync_to_async(batch.counts)()).done == 3
    jobs = [job async for job in batch.jobs]
    assert [len(inside.asked(job)) for job in jobs] == [4, 4, 4]


async def test_the_rest_of_a_batch_is_cancelled_with_what_runs(inside, batch):
    inside.api.lives["video"], inside.api.can_cancel = ["processing"] * 9999, True
    await waking.run_once()
    await until_async(lambda: sync_to_async(batch.jobs.exclude(workflow_started_at=None).count)())
    assert await sync_to_async(batch.cancel)("ada")
    batch = await over(batch)
    counts = await sync_to_async(batch.counts)()
    assert (counts.cancelled, counts.total) == (3, 3)


@pytest.mark.timeout(300)
@pytest.mark.whole
@pytest.mark.release
def test_a_batch_of_twenty_survives_a_killed_worker(cloud, api):
    browser = cloud.editor("ada")
    before = set(api.tasks)
    lines = [f"{URL}?take={number}" for number in range(17)] + ["ftp://x/a.mp4", "nothing", f"{URL}?take=0"]
    form = {"links": "\n".join(lines), "title": "twenty", "csrfmiddlewaretoken": token(browser.get("/"))}
    page = browser.post("/batches/new/", data=form)
    path = page.url.path
    until(lambda: len(api.tasks) > len(before) + 12)
    kill_and_wait(cloud, "worker")

    def told() -> dict:
        return browser.get(f"{path}manifest.json").json()

    found = until(lambda: (now := told())["status"] == "finished" and now, 240, 1)
    counts = {name: many for name, many in found["counts"].items() if many}
    assert counts == {"done": 17, "rejected": 3}
    assert all(item["reason"] for item in found["items"][17:])
    assert len({item["job"] for item in found["items"]} - {None}) == 17
    assert len(set(api.tasks) - before) == 17 * 4, "each stage of each was asked for once"


@pytest.mark.whole
@pytest.mark.parametrize("elsewhere", [further(False), True])
def test_a_batch_is_submitted_by_a_command_here_and_elsewhere(cloud, api, tmp_path, elsewhere):
    cloud.editor("ada")
    table = tmp_path / "links.csv"
    table.write_text(f"title,url\nOne,{URL}?one\nTwo,nothing\n")
    environment = {}
    if elsewhere:
        issue = (
            "from django.contrib.auth.models import User; from jobs.models import ApiToken; "
            "print(ApiToken.issue(User.objects.get(username='ada'), 't', ['submit', 'read'])[1])"
        )
        environment = {"MEDIAPIPE_URL": cloud.url, "MEDIAPIPE_TOKEN": cloud.shell(issue)}
    whose = [] if elsewhere else ["--owner", "ada"]
    done = cloud.command("submit-batch", str(table), "--wait", "--json", *whose, **environment)
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    assert (told["owner"], told["counts"]["done"], told["counts"]["rejected"]) == ("ada", 1, 1)
    assert "1 of 2 sources wasn’t taken: " in done.stderr
    for lines, status, says in (
        (f"{URL}?three\n{URL}?three\n", 1, "1 of 2 sources wasn’t taken: The same as line 1."),
        ("nothing\nneither\n", 1, "No source was taken: "),
        (f"{URL}?four\n", 0, ""),
    ):
        (tmp_path / "links.txt").write_text(lines)
        sent = cloud.command("submit-batch", str(tmp_path / "links.txt"), *whose, **environment)
        assert sent.returncode == status and told["url"][:-37] in sent.stdout, sent.stderr
        assert says in sent.stderr and bool(says) == bool(sent.stderr), "a script stops where a line is lost"
    nothing = cloud.command("submit-batch", str(tmp_path / "none.txt"), **environment)
    assert nothing.returncode == 2 and "can’t be read" in nothing.stderr
