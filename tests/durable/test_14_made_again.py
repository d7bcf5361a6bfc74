"""14. A finished job is not the end: one stage is made again, whatever dies, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async

from jobs import control, finished, reconcile, remaking
from jobs.models import Job
from jobs.state import JobState, StageState
from tests.support.dashboard import (
    engine_tasks,
    held_at_work,
    kill_and_wait,
    look,
    settled,
    stage,
    submit,
    timeline,
)
from tests.support.product import CALM, make_broken, make_clip, until

whole = pytest.mark.whole


async def finished_job(inside, **fields) -> Job:
    return await inside.ended(await inside.submit(**fields), JobState.SUCCEEDED)


async def stages_of(job: Job) -> dict[str, dict]:
    return {
        each["name"]: each async for each in job.stages.values("name", "state", "task_id", "output", "tries")
    }


@pytest.mark.anyio
async def test_only_what_was_asked_for_and_what_needs_it_is_asked_of_the_engine(inside):
    job = await finished_job(inside, pipeline="streaming")
    before = await stages_of(job)
    told = await finished.make_again(job, "transcode", {"width": 640}, "ada", "smaller")
    assert told == "Making Transcode again."
    job = await inside.until(job, lambda j: j.run == 2 and j.state == JobState.SUCCEEDED)
    after = await stages_of(job)
    for name in ("ingest", "thumbnails", "audio"):
        assert after[name] == before[name] and len(inside.asked(job, f"{name}/")) == 1
    for name in ("transcode", "hls"):
        assert after[name]["task_id"] != before[name]["task_id"] and after[name]["tries"] == 2
        assert len(inside.asked(job, f"{name}/")) == 2
    assert inside.asked(job, "transcode/2")[0]["options"]["width"] == 640
    kept = {each.stage: each.output async for each in job.earlier_versions.all()}
    assert kept == {name: before[name]["output"] for name in ("transcode", "hls")}


@pytest.mark.anyio
async def test_who_dies_between_the_row_and_temporal_has_asked_all_the_same(inside):
    job = await finished_job(inside)
    assert await sync_to_async(remaking.make_again)(job, "audio", {"format": "wav"}, "ada")
    await Job.objects.filter(pk=job.pk).aupdate(created_at=job.created_at - reconcile.GRACE)
    await reconcile.run_once(inside.engine)
    job = await inside.until(job, lambda j: j.run == 2 and j.state == JobState.SUCCEEDED)
    assert len(inside.asked(job, "audio/")) == 2 and len(inside.asked(job, "ingest/")) == 1


@pytest.mark.anyio
async def test_a_cancelled_one_leaves_the_earlier_version_to_go_back_to(inside):
    job = await finished_job(inside)
    before = await stages_of(job)
    inside.api.lives["image"] = ["processing"]
    await finished.make_again(job, "thumbnails", {"width": 320}, "ada")
    job = await inside.until(job, lambda j: j.stages.get(name="thumbnails").task_id)
    await control.cancel(job, "ada")
    job = await inside.ended(job, JobState.CANCELLED)
    assert (await job.stages.aget(name="thumbnails")).state == StageState.CANCELLED
    kept = await job.earlier_versions.aget()
    await finished.go_back(job, kept.pk, "ada")
    after = await stages_of(job)
    assert after["thumbnails"]["output"] == before["thumbnails"]["output"]
    assert (await Job.objects.aget(pk=job.pk)).state == JobState.SUCCEEDED
    await finished.make_again(job, "thumbnails", {"width": 320}, "ada")
    inside.api.behave()
    await inside.until(job, lambda j: j.run == 3 and j.state == JobState.SUCCEEDED)


@pytest.mark.anyio
async def test_what_another_pipeline_has_is_made_of_what_is_finished(inside):
    job = await finished_job(inside)
    before = await stages_of(job)
    assert await finished.add_stage(job, "hls", "ada") == "Adding HLS."
    job = await inside.until(job, lambda j: j.run == 2 and j.state == JobState.SUCCEEDED)
    after = await stages_of(job)
    assert after.pop("hls")["state"] == StageState.SUCCEEDED and after == before
    assert len(inside.asked(job)) == 5 and len(inside.asked(job, "hls/")) == 1


@whole
@pytest.mark.release
def test_a_worker_killed_in_the_middle_of_it_changes_nothing(product, tmp_path):
    film = make_clip(tmp_path / "film.mkv", 40, "640x360", "-c:v", "mpeg4", *CALM)  # long enough to hold
    browser = product.editor("grace", staff=True)
    job = submit(product, film)
    done = settled(browser, job)
    assert done["status"] == "succeeded", json.dumps(done)
    where = f"/jobs/{job}/stages/transcode/"
    about = {"X-CSRFToken": browser.cookies["csrftoken"], "Origin": product.url}
    pressed = browser.post(
        where, data={"format": "mp4", "codec": "h264", "width": "480", "quality": "high"}, headers=about
    )
    assert pressed.status_code in (200, 302), pressed.text
    with held_at_work(product, browser, job, "transcode"):
        task = stage(look(browser, job), "transcode")["task_id"]
        kill_and_wait(product, "worker")
    remade = until(lambda: (now := look(browser, job))["status"] == "succeeded" and now, 150)
    assert stage(remade, "transcode")["task_id"] == task, "it was asked for twice"
    assert stage(remade, "transcode")["output"]["width"] == 480
    for name in ("ingest", "thumbnails", "audio"):
        assert stage(remade, name)["task_id"] == stage(done, name)["task_id"], f"{name} was made again, too"
    asked = sorted(each["metadata"]["stage"] for each in engine_tasks(product, job))
    assert asked == ["audio", "ingest", "thumbnails", "transcode", "transcode"]
    first = stage(remade, "transcode")["earlier_versions"][0]
    assert first["output"]["width"] == 640
    assert browser.get(first["output"]["url"]).status_code == 200, "what it was is still there"
    assert "Making Transcode again: width 480 px, quality high by grace" in timeline(browser, job)


def source_file(product, job: str) -> Path:
    """Where the file lies that a job works on."""
    name = product.shell(f"from jobs.models import Job; print(Job.objects.get(pk='{job}').source_name)")
    return product.home / "media" / name


@whole
@pytest.mark.release
@pytest.mark.parametrize("was", ["held", "done"])
def test_a_worker_killed_on_a_source_that_was_replaced_changes_nothing(product, tmp_path, was):
    make_first = make_broken if was == "held" else make_clip
    first = make_first(tmp_path / "first.mp4")
    film = make_clip(tmp_path / "better.mkv", 40, "640x360", "-c:v", "mpeg4", *CALM)  # long enough to hold
    browser = product.editor("grace", staff=True)
    job = submit(product, first)
    before, old = settled(browser, job), source_file(product, job)
    state = "attention" if was == "held" else "succeeded"
    assert old.exists() and before["status"] == state, json.dumps(before)
    about = {"X-CSRFToken": browser.cookies["csrftoken"], "Origin": product.url}
    pressed = browser.post(
        f"/jobs/{job}/source/", files={"file": ("better.mkv", film.read_bytes())}, headers=about
    )
    assert pressed.status_code == 200 and pressed.url.path == f"/jobs/{job}/", pressed.text
    with held_at_work(product, browser, job, "ingest"):
        task = stage(look(browser, job), "ingest")["task_id"]
        kill_and_wait(product, "worker")
    after = until(lambda: (now := look(browser, job))["status"] == "succeeded" and now, 150)
    assert stage(after, "ingest")["task_id"] == task, "it was asked for twice"
    assert [stage(after, name)["output"]["duration"] > 39 for name in ("audio", "transcode")] == [True] * 2
    asked = sorted(each["metadata"]["stage"] for each in engine_tasks(product, job))
    once = ["audio", "ingest", "thumbnails", "transcode"]
    assert asked == (sorted([*once, "ingest"]) if was == "held" else sorted([*once, *once]))
    for name in once:
        earlier = stage(after, name)["earlier_versions"]
        assert len(earlier) == (0 if was == "held" else 1), f"{name}: {earlier}"
        for each in earlier:
            assert browser.get(each["output"]["url"]).status_code == 200, f"the earlier {name} is gone"
    assert source_file(product, job).stat().st_size == film.stat().st_size and not old.exists()
    assert "Replaced the source “first.mp4” by “better.mkv” by grace" in timeline(browser, job)
