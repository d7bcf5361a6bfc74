"""Every write to a job raises its version, which is what pages are cached by, and no look does."""

from __future__ import annotations

import inspect
import time

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models import Q
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jobs import live, pipelines
from jobs.models import Job, Stage
from jobs.models.job_row import JobRow
from jobs.models.wish import CANCEL, Wish
from jobs.state import EventRecord, JobState, PipelineStatus, Source, StageState, StageStatus

pytestmark = pytest.mark.django_db


def test_every_change_of_a_model_has_its_migration():
    call_command("makemigrations", "--check", "--dry-run")


def _save(job: Job) -> None:
    job.title = "another title"
    job.save()


def _save_a_field(job: Job) -> None:
    job.note = "another note"
    job.save(update_fields=["note"])


def _record(job: Job) -> None:
    stages = [StageStatus("ingest", "Ingest", state=StageState.RUNNING, attempt=1)]
    status = PipelineStatus(str(job.pk), JobState.RUNNING, seq=job.seq + 1, stages=stages)
    assert job.record(status, [EventRecord(1, 0.0, "started", "", "ada", "")], job.run)


def _kept(job: Job) -> Wish:
    wish = Wish(CANCEL, "ada")
    assert job.keep_wish(wish)
    return wish


# Each public method of Job, and how it is called so that it does its work.
VERBS = {
    "save": _save,
    "mark_started": Job.mark_started,
    "claim": Job.claim,
    "keep_wish": lambda job: job.keep_wish(Wish(CANCEL, "ada")),
    "drop_wish": lambda job: job.drop_wish(_kept(job)),
    "requeue": Job.requeue,
    "explain_wait": lambda job: job.explain_wait("Waiting for Temporal."),
    "add_event": lambda job: job.add_event("noted", text="a line"),
    "cancel_unstarted": lambda job: job.cancel_unstarted("ada"),
    "start_again": lambda job: job.start_again("ada"),
    "queue_again": lambda job: job.queue_again(Q()),
    "record": _record,
    "close": lambda job: job.close(JobState.FAILED, "ended in Temporal"),
}
LOOKS = {
    "get_absolute_url": Job.get_absolute_url,
    "workflow_input": Job.workflow_input,
    "status": Job.status,
    "locked": Job.locked,
    "workflow_id": lambda job: job.workflow_id,
    "active": lambda job: job.active,
    "source": lambda job: job.source,
    "wishes": lambda job: job.wishes,
    "being_deleted": lambda job: job.being_deleted,
    "columns_of": lambda job: Job.columns_of("a", pipelines.PIPELINES["standard"], Source()),
    "made_by": lambda job: job.made_by,
    "planned": lambda job: job.planned("ingest"),
    "found_by": lambda job: job.found_by(),
    "shares_source": lambda job: job.shares_source(),
    "working": lambda job: job.working,
    "named_by": lambda job: job.named_by(job.status()),
}
BEGIN_OR_END = {"submit", "submit_try", "remove"}  # there is no row before the one, and none after the other
BESIDE = {"recorded"}  # in the audit log, and not in its row


def _written(queries) -> set[str]:
    return {sql["sql"].split()[0] for sql in queries.captured_queries} & {"INSERT", "UPDATE", "DELETE"}


@pytest.fixture
def job(editor):
    return Job.submit(editor, title="a", pipeline="standard", source=Source(url="http://example.org/a.mp4"))


def test_each_method_of_a_job_is_a_verb_or_a_look():
    own = {
        name
        for name, value in {**vars(JobRow), **vars(Job)}.items()
        if not name.startswith("_")
        and (inspect.isroutine(value) or isinstance(value, (property, classmethod)))
        and getattr(value, "__module__", Job.__module__) in (Job.__module__, JobRow.__module__)
    }
    generated = {name for name in own if name.startswith("get_") and name not in LOOKS}
    assert own - generated == VERBS.keys() | LOOKS.keys() | BEGIN_OR_END | BESIDE


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_raises_the_version(job, name):
    if name == "start_again":
        Job.objects.filter(pk=job.pk).update(state=JobState.FAILED, finished_at=timezone.now())
    job.refresh_from_db()
    before = job.version
    with CaptureQueriesContext(connection) as queries:
        VERBS[name](job)
    assert _written(queries), "this verb changed nothing: call it so that it does"
    assert Job.objects.get(pk=job.pk).version > before


@pytest.mark.parametrize("name", LOOKS)
def test_no_look_raises_the_version(job, name):
    before = Job.objects.get(pk=job.pk).version
    with CaptureQueriesContext(connection) as queries:
        LOOKS[name](job)
    assert not _written(queries) and Job.objects.get(pk=job.pk).version == before


def test_a_version_that_somebody_else_has_raised_is_not_put_back(job):
    stale = Job.objects.get(pk=job.pk)
    for _ in range(3):
        job.explain_wait("Waiting.")
    for save in (_save, _save_a_field):
        before = Job.objects.get(pk=job.pk).version
        save(stale)
        assert stale.version == Job.objects.get(pk=job.pk).version == before + 1


def test_writes_to_many_jobs_raise_each_version(job):
    before = Job.objects.get(pk=job.pk).version
    job.title = "b"
    Job.objects.bulk_update([job], ["title"])
    Job.objects.update(title="c")
    assert Job.objects.get(pk=job.pk).version == before + 2


def test_a_repeated_report_changes_nothing(job):
    _record(job)
    job.refresh_from_db()
    status = PipelineStatus(str(job.pk), JobState.ATTENTION, seq=job.seq)
    assert not job.record(status, [], job.run)
    now = Job.objects.get(pk=job.pk)
    assert now.version == job.version and now.state == JobState.RUNNING
    assert Stage.objects.get(job=job, name="ingest").state == StageState.RUNNING


def test_a_report_writes_the_stages_that_have_changed_and_no_others(job):
    _record(job)
    job.refresh_from_db()
    ingest, *others = job.status().stages
    ingest.state, ingest.started_at = StageState.SUCCEEDED, 1.25
    status = PipelineStatus(str(job.pk), JobState.RUNNING, seq=job.seq + 1, stages=[ingest, *others])
    with CaptureQueriesContext(connection) as queries:
        assert job.record(status, [], job.run)
    assert sum('UPDATE "jobs_stage"' in sql["sql"] for sql in queries.captured_queries) == 1 < len(others)
    assert job.status().stages == status.stages


@pytest.mark.django_db(transaction=True)
def test_a_live_answer_has_a_new_version_when_it_changes_and_only_then(job, monkeypatch):
    monkeypatch.setattr(live, "CACHE_SECONDS", 0)  # each read asks, in vain: no Temporal is there
    job.mark_started()
    job.refresh_from_db()
    reader = live.LiveReader()
    first, again = reader.read(job), reader.read(job)
    assert not first.fresh and first.version > 0 and again.version == first.version
    _record(job)
    job.refresh_from_db()
    changed = reader.read(job)
    assert changed != first and changed.version > first.version
    reader.invalidate(job)
    assert reader.read(job).version not in (first.version, 0)


@pytest.mark.django_db(transaction=True)
def test_one_slow_answer_keeps_the_last_one_and_only_an_outage_is_told(job, monkeypatch):
    monkeypatch.setattr(live, "CACHE_SECONDS", 0)  # each read asks, in vain: no Temporal is there
    job.mark_started()
    job.refresh_from_db()
    reader = live.LiveReader()
    for seconds, told in ((1, False), (live.SLOW_SECONDS + 1, True)):
        answered = live.Live(job.status(), speeds={"ingest": 2.0}, version=7)
        reader._cache[job.pk] = time.monotonic() - seconds, answered
        reader._heard[job.pk] = time.monotonic() - seconds
        seen = reader.read(job)
        assert bool(seen.banner) is told and (seen == answered) is not told, seconds


def test_a_job_that_cannot_move_is_its_row_and_needs_no_version_of_its_own(job):
    job.cancel_unstarted("ada")
    job.refresh_from_db()
    assert live.LiveReader().read(job).version == 0
