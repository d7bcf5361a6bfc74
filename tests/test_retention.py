"""What is no longer kept goes, of jobs that have ended alone; it is shown first, and said afterwards."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import replace
from datetime import timedelta
from io import StringIO

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.utils import timezone
from temporalio.client import ScheduleOverlapPolicy
from temporalio.testing import ActivityEnvironment
from temporalio.worker import Worker

from jobs import control, finished, remaking
from jobs.dashboard import fleet_pruned
from jobs.models import EarlierVersion, Event, Job, Pipeline, Removal, Stage
from jobs.models.removal import OUTPUTS, SOURCE, UNDER_WAY
from jobs.removal import prune_workflow, pruning, retention, trash
from jobs.state import ACTIVE, CONTROL, JobState, Source
from jobs.uploads import becoming
from mediapipe import storage
from mediapipe.accounts import audit
from mediapipe.accounts.audit import Act
from mediapipe.accounts.models import AuditEntry, Session, Tries
from mediapipe.engine.models import EngineTask
from tests.support.product import until_async
from tests.support.recorded import job, text

pytestmark = pytest.mark.django_db


def days_ago(count: float):
    return timezone.now() - timedelta(days=count)


@pytest.fixture
def keep(settings):
    """For how many days what is kept."""

    def set_days(**days: int) -> None:
        settings.KEEP_DAYS = {**dict.fromkeys(settings.KEEP_DAYS, 0), **days}

    set_days()
    return set_days


def put(name: str) -> str:
    path = storage.path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"0123456789")
    return name


@pytest.fixture
def old(editor):
    """A maker of jobs that ended 40 days ago, each with a source and an output."""

    def make(title="film", state=JobState.SUCCEEDED, source="", ended=40.0, **fields) -> Job:
        source = put(source or f"sources/{title}/film.mp4")
        made = job(editor, title, state, source_name=source, source_size=10, **fields)
        output = {"name": put(f"outputs/{made.pk}/t.mp4"), "kind": "video", "format": "mp4", "filesize": 10}
        Stage.objects.filter(job=made, name="transcode").update(output=output)
        Job.objects.filter(pk=made.pk).update(finished_at=days_ago(ended))
        return Job.objects.get(pk=made.pk)

    return make


def prune(*arguments: str) -> str:
    out = StringIO()
    call_command("prune", *arguments, stdout=out)
    return out.getvalue()


def going() -> dict[str, int]:
    return {
        each["what"]: each["count"]
        for each in json.loads(prune("--dry-run", "--json"))["going"]
        if each["count"]
    }


def test_nothing_that_anybody_sees_goes_by_default(old):
    old()
    old("broken", JobState.FAILED, ended=4000)
    assert going() == {}
    prune()
    assert not Removal.objects.exists() and Event.objects.exists()


@pytest.mark.parametrize(
    ("state", "what"),
    [
        (JobState.SUCCEEDED, "sources"),
        (JobState.FAILED, "failed_sources"),
        (JobState.CANCELLED, "failed_sources"),
    ],
)
def test_a_source_goes_after_its_days_and_the_page_says_so(state, what, old, keep, ada, chief):
    kept = old("young", state, ended=29)
    gone = old("old", state)
    keep(**{what: 30})
    assert going() == {what: 1}
    assert storage.exists(gone.source_name), "a dry run removes nothing"
    assert "(1, 10 B)" in prune() and "Removed" not in prune()
    assert storage.exists(kept.source_name) and not storage.exists(gone.source_name)
    gone.refresh_from_db()
    page = text(ada.get(f"/jobs/{gone.pk}/"))
    today = timezone.localtime().strftime("%-d %b %Y")
    assert f"The source was removed on {today} (kept 30 days)." in page and "Replace the source" in page
    assert [*ada.get(f"/jobs/{gone.pk}/json/").json()["removed"]] == ["source"]
    assert str(kept.pk) in chief.get("/pipelines/standard/").content.decode() or state != JobState.SUCCEEDED
    assert str(gone.pk) not in chief.get("/pipelines/standard/").content.decode(), "no try of what is gone"
    assert gone.events.filter(kind="source_removed", actor="mediapipe").count() == 1
    assert "was removed" not in text(ada.get(f"/jobs/{kept.pk}/"))
    assert storage.exists(f"outputs/{gone.pk}/t.mp4")
    assert going() == {}


def test_what_runs_is_held_or_has_something_to_do_yet_loses_nothing(old, keep):
    keep(sources=1, failed_sources=1, outputs=1, timelines=1)
    for state in ACTIVE:
        old(state.value, state)
    wanted = old("wanted")
    Job.objects.filter(pk=wanted.pk).update(kept_wishes=[{"kind": "delete", "actor": "ada"}])
    assert trash.put_in([old("deleted")], "ada")
    assert going() == {} and not prune().startswith("Removed")
    assert not Removal.objects.exists() and Event.objects.count() >= 5


def test_a_source_that_another_job_needs_too_stays_until_none_does(old, keep):
    keep(sources=30)
    first = old("first", source="sources/a/film.mp4")
    second = old("second", source="sources/a/film.mp4", ended=2)
    assert going() == {}
    prune()
    assert storage.exists("sources/a/film.mp4") and Job.objects.get(pk=first.pk).source_name
    Job.objects.filter(pk=second.pk).update(finished_at=days_ago(31))
    assert going() == {"sources": 1}
    prune()
    assert not storage.exists("sources/a/film.mp4")
    assert {*Job.objects.values_list("source_name", flat=True)} == {""}
    assert Removal.objects.filter(what=SOURCE, done=True).count() == 2


def test_whether_another_job_needs_a_source_is_asked_of_its_row_and_of_no_list_of_all_that_are_due(keep):
    keep(sources=30, failed_sources=30)
    plan = retention.with_old_source("sources").explain()
    assert "jobs_on_source" in plan and "LIST SUBQUERY" not in plan, plan


def test_what_was_not_uploaded_here_is_not_ours_to_remove(old, keep):
    keep(sources=30)
    old("from the bucket", source="archive/film.mp4")
    Job.objects.filter(pk=old("link").pk).update(source_name="", source_url="https://example.com/a.mp4")
    assert going() == {}


def test_a_pipeline_has_days_of_its_own(old, keep, chief, ada):
    keep(outputs=30)
    jobs = {name: old(name, pipeline=name) for name in ("standard", "previews", "streaming")}
    assert ada.post("/pipelines/previews/keeping/", {"outputs": "0"}).status_code == 403
    assert chief.post("/pipelines/previews/keeping/", {"outputs": "-1"}).status_code == 400
    assert chief.post("/pipelines/previews/keeping/", {"outputs": "0"}).status_code == 302
    chief.post("/pipelines/streaming/keeping/", {"outputs": "50", "sources": "10"})
    assert Pipeline.objects.get(name="streaming").keep_failed_sources is None
    page = text(chief.get("/pipelines/previews/"))
    assert "0 is for ever, empty is as the settings say: 30 days." in page
    assert list(AuditEntry.objects.filter(act=Act.KEEP).values_list("text", flat=True)) == [
        "sources 10 days, outputs 50 days",
        "outputs for ever",
    ]
    assert going() == {"sources": 1, "outputs": 1}
    table = prune("--dry-run")
    assert "30 days, previews for ever, streaming 50 days" in table
    prune()
    assert [bool(each.removals.filter(what=OUTPUTS)) for each in jobs.values()] == [True, False, False]


def test_outputs_go_with_those_of_earlier_versions_and_making_one_again_makes_all(old, keep, ada):
    keep(outputs=30)
    gone = old()
    EarlierVersion.objects.create(
        job=gone, stage="transcode", run=1, output={"name": put(f"outputs/{gone.pk}/e.mp4"), "filesize": 5}
    )
    put(f"outputs/{gone.pk}/of a try.mp4")
    shown = json.loads(prune("--json"))
    assert shown["removed"] == {"outputs": {"count": 1, "bytes": 15}}
    assert storage.exists(gone.source_name) and not list(storage.under(f"outputs/{gone.pk}"))
    assert not EarlierVersion.objects.exists()
    page = text(ada.get(f"/jobs/{gone.pk}/"))
    assert (
        "The outputs were removed on" in page and "Make one of them again, and all of them are made." in page
    )
    assert ada.get(f"/jobs/{gone.pk}/json/").json()["result"]["transcoded_url"] is None
    assert remaking.make_again(gone, "transcode", {"width": 640}, "ada")
    gone.refresh_from_db()
    assert {stage.state for stage in gone.stages.all()} == {"pending"}
    assert not gone.removals.exists() and not gone.workflow_input().carried


def test_without_its_source_a_job_says_what_to_do(old, keep, ada):
    keep(sources=30, failed_sources=30, outputs=30)
    done = old("done")
    failed = old("failed", JobState.FAILED)
    Stage.objects.filter(job=failed).update(state="failed")
    prune()
    for verb in (control.retry(failed, None, "ada"), finished.make_again(done, "transcode", {}, "ada")):

        async def refused(verb=verb) -> str:
            with pytest.raises(control.NotPossible) as error:
                await verb
            return str(error.value)

        said = async_to_sync(refused)()
        assert said.startswith("The source was removed on") and said.endswith("to run this job again.")
    assert Job.objects.get(pk=failed.pk).state == JobState.FAILED, "a refusal changes nothing"
    assert {stage.state for stage in done.stages.all()} == {"succeeded"}
    assert "Make one of them again" not in text(ada.get(f"/jobs/{done.pk}/"))
    done.refresh_from_db()
    assert remaking.replace_source(done, Source(name="sources/new.mp4", filename="new.mp4"), "ada")
    assert not done.removals.exists()


def test_a_stage_that_works_on_what_is_there_is_made_again_without_the_source(old, keep):
    keep(sources=30)
    done = old()
    prune()
    assert remaking.make_again(done, "transcode", {"width": 640}, "ada")
    assert done.stages.get(name="ingest").state == "succeeded"


@pytest.mark.parametrize("what", ["source", "outputs"])
def test_who_is_killed_in_between_is_followed_by_another_and_nothing_is_run_meanwhile(what, old, keep, ada):
    gone = old()
    if what == "source":
        keep(sources=30)
        retention.mark_source(gone.source_name)
    else:
        keep(outputs=30)
        retention.mark_outputs(gone)
    keep()  # whatever the settings say by then: it was said
    for verb in (
        finished.make_again(gone, "ingest", {}, "ada"),
        finished.replace_source(gone, Source(url="https://example.com/a.mp4"), "ada"),
    ):

        async def refused(verb=verb) -> None:
            with pytest.raises(control.NotPossible, match=UNDER_WAY.rstrip(".")):
                await verb

        async_to_sync(refused)()
    assert " (1, 10 B)." in prune()
    assert not storage.exists("sources/film/film.mp4" if what == "source" else f"outputs/{gone.pk}/t.mp4")
    assert Removal.objects.get().done and "Removed" not in prune()


def test_a_source_to_which_a_new_job_has_come_meanwhile_stays(old, keep):
    keep(sources=30)
    gone = old()
    retention.mark_source(gone.source_name)
    old("new", source=gone.source_name, ended=0)
    prune()
    assert storage.exists(gone.source_name) and not Removal.objects.exists()


def test_a_storage_that_is_away_ends_it_for_today_and_keeps_the_others_going(old, keep, chief):
    keep(sources=30, timelines=30)
    gone = old()
    path = storage.path(gone.source_name)
    path.unlink()
    path.mkdir()  # which can't be removed as a file is
    assert "Removed: jobs’ timelines (1)." in prune()
    assert not Removal.objects.get(what=SOURCE).done
    path.rmdir()
    assert "Removed: sources of jobs that are done (1, 10 B)" in prune()


def test_the_same_bytes_are_no_duplicate_of_a_job_whose_outputs_are_gone(old, keep, editor):
    keep(outputs=30)
    gone = old(source_sha256="d" * 64)
    file = becoming.File("film.mp4", 10, "d" * 64)
    assert becoming.job_of_bytes_here(editor, file, "standard") == (gone, True)
    prune()
    made, older = becoming.job_of_bytes_here(editor, file, "standard")
    assert not older and made.source_name == gone.source_name


def test_a_timeline_goes_and_the_page_says_until_when(old, keep, ada):
    keep(timelines=30)
    gone = old()
    assert going() == {"timelines": 1}
    prune()
    page = text(ada.get(f"/jobs/{gone.pk}/"))
    assert "The timeline until" in page and "(kept 30 days)" in page and "Submitted" not in page
    assert going() == {}


def test_what_nobody_can_see_goes_by_default(editor, ada, settings):
    Session.objects.update(expire_date=days_ago(0.1))
    ada.force_login(editor)
    Session.objects.create(session_key="a", session_data="", expire_date=days_ago(3))
    Tries.objects.create(key="old", since=days_ago(1))
    Tries.objects.create(key="new")
    AuditEntry.objects.create(act=Act.SIGN_IN, actor="ada", at=days_ago(9999))
    for name, days, status in (
        ("over", 91, "succeeded"),
        ("at work", 91, "processing"),
        ("new", 80, "failed"),
    ):
        when = days_ago(days)
        EngineTask.objects.create(
            pk=name, kind="video", input="x", status=status, created_at=when, finished_at=when
        )
    assert going() == {"tasks": 1, "sessions": 1, "tries": 1}
    settings.HOLD_DAYS = 120  # a job that waits so long may ask for its task again
    assert "121 days" in prune("--dry-run")
    settings.HOLD_DAYS = 7
    prune()
    assert set(EngineTask.objects.values_list("pk", flat=True)) == {"at work", "new"}
    assert Session.objects.count() == 1 and Tries.objects.count() == 1
    entries = AuditEntry.objects.order_by("pk")
    assert entries[0].act == "person.sign_in", "the audit log keeps all, unless it is told otherwise"
    told = entries.get(act=Act.PRUNE)
    assert told.actor.endswith("(command)")
    assert (
        told.text == "records of the engine’s tasks (1), ended sessions (1), counts of tries to sign in (1)"
    )


def test_the_audit_log_loses_old_entries_only_where_that_is_set_and_is_held_again(keep):
    keep(audit=365)
    AuditEntry.objects.create(act=Act.SIGN_IN, actor="ada", at=days_ago(366))
    AuditEntry.objects.create(act=Act.SIGN_IN, actor="eve", at=days_ago(364))
    audit.hold()
    try:
        assert going() == {"audit": 1}
        prune()
        left = AuditEntry.objects.order_by("pk").values_list("actor", flat=True)
        assert left[0] == "eve" and "ada" not in left
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            AuditEntry.objects.all()._raw_delete("default")
    finally:
        with connection.cursor() as cursor:
            for on in ("UPDATE", "DELETE"):
                cursor.execute(f"DROP TRIGGER {audit.NAME}_{on}")


def test_more_than_one_step_takes_all_of_them_in_bounded_steps(old, keep, monkeypatch):
    monkeypatch.setattr(retention, "AT_ONCE", 2)
    monkeypatch.setattr("mediapipe.old_rows.ROWS", 2)
    keep(sources=30, outputs=30, timelines=30)
    for number in range(5):
        old(f"film {number}")
        Session.objects.create(session_key=f"{number}", session_data="", expire_date=days_ago(3))
    assert json.loads(prune("--json"))["removed"] == {
        "sources": {"count": 5, "bytes": 50},
        "outputs": {"count": 5, "bytes": 50},
        "timelines": {"count": 5, "bytes": 0},
        "sessions": {"count": 5, "bytes": 0},
    }


@pytest.mark.anyio
@pytest.mark.django_db(transaction=True)
async def test_the_schedule_is_made_once_and_removes_what_is_due(dev_env, temporal_at, chief, monkeypatch):
    monkeypatch.setattr(fleet_pruned, "ANSWERS_FOR", 1e-6)
    temporal_at(dev_env.client.service_client.config.target_host)
    queue = f"prune-{uuid.uuid4()}"
    await Session.objects.acreate(session_key="a", session_data="", expire_date=days_ago(3))
    client = dev_env.client
    handle = client.get_schedule_handle(pruning.SCHEDULE)
    await pruning.schedule(client, "another queue")
    await handle.pause(note="for a reason")
    await pruning.schedule(client, queue)
    try:
        described = (await handle.describe()).schedule
        assert described.state.paused and described.state.note == "for a reason"
        assert described.action.task_queue == queue
        assert described.policy.overlap == ScheduleOverlapPolicy.SKIP
        worker = Worker(client, task_queue=queue, workflows=[prune_workflow.PruneWorkflow])
        activities = Worker(client, task_queue=queue + CONTROL, activities=[pruning.prune])
        async with worker, activities:
            await handle.trigger()

            async def ran():
                return (await handle.describe()).info.recent_actions

            found = (await until_async(ran))[0].action
            run = client.get_workflow_handle(found.workflow_id, run_id=found.first_execution_run_id)
            assert await run.result() == "ended sessions (1)"
        seen = text(await sync_to_async(chief.get)("/fleet/"))
        assert re.search(r"Removed [^:]+:\d\d : ended sessions \(1\)\. Its schedule is paused", seen), seen
        await handle.unpause()
        seen = text(await sync_to_async(chief.get)("/fleet/"))
        assert re.search(r"ended sessions \(1\)\. The next look is \d+ \w+, \d\d:", seen), seen
        assert not await Session.objects.filter(session_key="a").aexists()
        assert (await AuditEntry.objects.aget(act=Act.PRUNE)).actor == "mediapipe"
    finally:
        await handle.delete()


@pytest.mark.anyio
@pytest.mark.django_db(transaction=True)
async def test_a_worker_that_is_lost_at_its_last_word_is_followed_by_one_that_says_it_once():
    totals = {"sessions": [2, 0]}
    for run in ("first", "first", "second"):
        environment = ActivityEnvironment()
        environment.info = replace(environment.info, heartbeat_details=[totals], workflow_run_id=run)
        assert await environment.run(pruning.prune) == "ended sessions (2)"
    entries = [(entry.key, entry.text) async for entry in AuditEntry.objects.filter(act=Act.PRUNE)]
    assert entries == [("second", "ended sessions (2)"), ("first", "ended sessions (2)")]
