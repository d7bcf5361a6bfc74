"""Who owns a job's state: each verb compares before it sets, and a wish is kept until it is taken."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest
from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.utils import timezone

from jobs import control, workflow_calls
from jobs.dashboard import bulk
from jobs.dashboard.job_page import JobPage
from jobs.live import Live
from jobs.models import Job
from jobs.models.wish import CANCEL, DELETE, FORCE_RESTART, RETRY, Wish
from jobs.requests import RetryRequest
from jobs.state import EventRecord, JobState, Output, PipelineStatus, Source, StageState, StageStatus
from jobs.workflow.media_pipeline import MediaPipeline
from mediapipe import storage, temporal

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


@pytest.fixture
def job(editor):
    return Job.submit(editor, title="a", pipeline="standard", source=Source(name="sources/o/a.mp4"))


def closed(job: Job, state: JobState = JobState.FAILED) -> Job:
    Job.objects.filter(pk=job.pk).update(state=state, workflow_started_at=timezone.now())
    job.refresh_from_db()
    return job


def now(job: Job) -> Job:
    return Job.objects.get(pk=job.pk)


def running(job: Job, seq: int, state: JobState = JobState.RUNNING) -> PipelineStatus:
    return PipelineStatus(str(job.pk), state, seq=seq)


def test_one_starter_has_the_claim_and_a_dead_one_loses_it_by_time(job):
    assert now(job).claim() and not now(job).claim()
    Job.objects.filter(pk=job.pk).update(claimed_at=timezone.now() - MINUTE)
    assert now(job).claim()


def test_a_job_that_was_cancelled_before_it_started_is_claimed_by_nobody_and_opened_by_nothing(job):
    starter = now(job)
    assert job.cancel_unstarted("ada")
    assert not starter.claim() and not starter.mark_started()
    late = [EventRecord(1, 0.0, "started", "", "", "Processing started")]
    assert not starter.record(running(job, 9), late, 1)
    assert now(job).state == JobState.CANCELLED and not job.events.filter(kind="started").exists()


def test_a_claimed_job_is_not_said_to_be_cancelled_before_it_started(job):
    assert now(job).claim() and not job.cancel_unstarted("ada")
    assert job.keep_wish(Wish(CANCEL, "ada"))
    Job.objects.filter(pk=job.pk).update(claimed_at=timezone.now() - MINUTE)
    assert not now(job).claim(), "a job whose cancel is wanted was started"
    assert not job.cancel_unstarted("ada"), "nobody has asked Temporal"
    assert job.cancel_unstarted("ada", unclaimed_for=MINUTE / 2)


def test_cancelling_a_restarted_job_before_it_starts_keeps_what_is_finished(job):
    job.stages.filter(name="ingest").update(state=StageState.SUCCEEDED)
    assert closed(job).start_again("ada")
    assert now(job).cancel_unstarted("ada")
    assert job.stages.get(name="ingest").state == StageState.SUCCEEDED


@pytest.mark.parametrize(
    ("said", "away"),
    [
        ("Failed client connect: `get_system_info` call error", True),
        ("<asyncio.locks.Lock object at 0x7f [locked]> is bound to a different event loop", True),
        ("Failed decoding arguments", False),
    ],
)
def test_what_cannot_be_decoded_is_told_from_a_temporal_that_is_away(said, away):
    assert temporal.is_unavailable(RuntimeError(said)) == away


def test_a_closed_row_is_final_for_its_run(job):
    job.mark_started()
    assert job.close(JobState.FAILED, "ended in Temporal")
    assert not job.record(running(job, 9), [], 1)
    assert now(job).state == JobState.FAILED


def test_the_end_of_a_workflow_that_was_reset_is_news_although_it_counts_from_an_earlier_number(job):
    job.mark_started()
    assert job.record(running(job, 40), [], 1) and not job.record(running(job, 12), [], 1)
    assert job.record(running(job, 25, JobState.SUCCEEDED), [], 1)
    assert now(job).state == JobState.SUCCEEDED


@pytest.mark.parametrize(("given", "becomes"), [("named", "Anna ✨.mp4"), ("My film", "My film")])
def test_a_link_without_a_title_is_called_what_its_server_calls_the_file(editor, ada, given, becomes):
    source = Source(url="https://example.org/named", filename="named")
    job = Job.submit(editor, title=given, pipeline="standard", source=source)
    job.mark_started()
    told = Output(url="https://x/", source=Output(filename="Anna ✨.mp4", codecs_known=True))
    status = replace(running(job, 2), stages=[StageStatus("ingest", output=told)])
    assert job.record(status, [], 1) and now(job).title == becomes
    assert ada.get("/", {"q": becomes.upper()}).content.decode().count('class="job"') == 1


def test_a_cancel_that_was_asked_for_stays_asked_for_until_the_job_has_ended(job):
    job.mark_started()
    assert job.keep_wish(Wish(CANCEL, "ada"))
    assert job.record(running(job, 5), [], 1) and now(job).cancelling
    assert job.record(running(job, 6, JobState.SUCCEEDED), [], 1) and not now(job).cancelling


def test_wishes_are_kept_once_and_a_cancel_puts_an_end_to_those_before_it(job):
    job.mark_started()
    retry = Wish(RETRY, "ada", key="retry-audio-1")
    for wish in (retry, Wish(RETRY, "grace", key="retry-audio-1"), Wish(RETRY, "ada", key="retry-all-3")):
        assert job.keep_wish(wish)
    assert [wish.key for wish in now(job).wishes] == ["retry-audio-1", "retry-all-3"]
    page = JobPage(now(job), Live(job.status()))
    assert page.wishes[0] == "ada’s retry is waiting. It starts as soon as it can."
    job.drop_wish(retry)
    assert [wish.key for wish in now(job).wishes] == ["retry-all-3"]
    assert job.keep_wish(Wish(FORCE_RESTART, "ada")) and job.keep_wish(Wish(CANCEL, "ada"))
    assert [wish.kind for wish in now(job).wishes] == [CANCEL]
    job.drop_wish(now(job).wishes[0])
    assert now(job).kept_wishes is None


def test_a_wish_that_another_version_has_kept_with_more_in_it_is_read():
    assert Wish.from_json({**Wish(RETRY, "ada", key="k").as_json(), "colour": "red"}).key == "k"


def test_a_job_that_was_started_again_meanwhile_is_not_deleted(job):
    selected = closed(job)
    assert now(job).start_again("grace")
    result = bulk.apply("delete", [selected], "ada")
    assert str(result) == "Nothing was deleted. 1 is still running; cancel it first."
    assert now(job).state == JobState.QUEUED and not now(job).wishes


def test_a_job_that_is_being_deleted_is_not_started_again(job):
    assert closed(job).keep_wish(Wish(DELETE, "ada"))
    assert not now(job).start_again("grace")
    with pytest.raises(control.Refused, match="This job is being deleted"):
        async_to_sync(control.retry)(now(job), None, "grace")
    assert not JobPage(now(job), None).can_retry
    assert str(bulk.apply("retry", [job], "ada")) == (
        "Nothing was retried. 1 can’t be changed. This job is being deleted."
    )


def test_a_copy_that_was_written_as_its_stage_was_cancelled_goes_with_the_job(job):
    copy = storage.path(f"outputs/{job.pk}/audio-2.mp4")
    copy.parent.mkdir(parents=True)
    copy.write_bytes(b"sound")
    assert closed(job).remove() and not copy.parent.exists()


def test_a_delete_that_was_killed_halfway_leaves_a_row_that_can_be_deleted(job):
    path = storage.path("sources/o/a.mp4")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    assert closed(job).keep_wish(Wish(DELETE, "ada"))
    path.unlink()  # and then the process was killed
    assert now(job).remove() and not Job.objects.filter(pk=job.pk).exists()


def test_who_deleted_a_job_is_in_the_log(job, caplog):
    name = job.pk  # which Django takes away with the row
    assert str(bulk.apply("delete", [closed(job)], "ada")) == "Deleted 1 job."
    assert f"job {name} (a) was deleted by ada" in caplog.text


def test_a_storage_that_does_not_answer_keeps_the_delete_in_the_row(job, settings):
    settings.TRASH_DAYS = 0
    path = storage.path("sources/o/a.mp4")
    (path / "inside").mkdir(parents=True)  # can't be unlinked
    result = bulk.apply("delete", [closed(job)], "ada")
    assert "Nothing was deleted. 1 got no answer. The storage can’t be reached." in str(result)
    assert [wish.kind for wish in now(job).wishes] == [DELETE]
    (path / "inside").rmdir()
    path.rmdir()


def test_a_delete_that_fails_for_another_reason_is_not_promised(job, settings):
    settings.TRASH_DAYS = 0
    Job.objects.filter(pk=job.pk).update(source_name="sources/../../outside")
    result = bulk.apply("delete", [closed(job)], "ada")
    assert "Nothing was deleted. 1 can’t be changed. This job couldn’t be deleted" in str(result)
    assert not now(job).wishes


@pytest.mark.parametrize(
    ("started", "status", "says"),
    [(False, 1, "This job isn’t running"), (True, 0, "Restarting within a few seconds.")],
)
@pytest.mark.django_db(transaction=True)
def test_the_command_forces_a_restart_as_the_button_does(job, monkeypatch, capfd, started, status, says):
    Job.objects.filter(pk=job.pk).update(workflow_started_at=timezone.now() if started else None)
    monkeypatch.setattr(os, "_exit", sys.exit)  # by which a command ends its process
    with pytest.raises(SystemExit) as end:
        call_command("retry", str(job.pk), "--force")
    told = capfd.readouterr()
    assert end.value.code == status and says in told.out + told.err
    assert [wish.kind for wish in now(job).wishes] == [FORCE_RESTART] * started


def test_a_workflow_that_rejects_a_retry_because_it_is_ending_is_told_from_one_that_has_nothing_to_retry():
    with pytest.raises(ValueError, match=workflow_calls.ENDING) as said:
        MediaPipeline._retry_is_possible(SimpleNamespace(ending=True), RetryRequest())
    assert isinstance(workflow_calls.rejection(said.value), workflow_calls.Ended)
    assert not isinstance(workflow_calls.rejection(ValueError("Audio hasn’t failed")), workflow_calls.Ended)


@pytest.mark.parametrize("action", ["retry", "cancel", "delete"])
def test_what_is_asked_for_a_job_that_somebody_else_has_just_deleted_is_answered(job, action):
    selected = now(closed(job))
    assert job.remove("grace")
    result = str(bulk.apply(action, [selected], "ada"))
    assert result.endswith("1 can’t be changed. This job has been deleted.")
    with pytest.raises(control.Refused, match="has been deleted"):
        async_to_sync(control.force_restart)(selected, "ada")
