"""The trash: a deleted job is gone for everybody, comes back as it was, and ends for good after its days."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jobs import control
from jobs.closing import Closing
from jobs.dashboard import bulk
from jobs.fulfilling import Fulfilling, delete_some
from jobs.gauges import Gauges
from jobs.models import ApiToken, Batch, BatchItem, Job, Share, Stage, TrashedFile
from jobs.models.wish import CANCEL, DELETE_AT_END, Wish
from jobs.removal import deleting, orphans, trash
from jobs.state import JobState, Source
from mediapipe import storage
from mediapipe.accounts.models import AuditEntry
from tests.support.recorded import job, text

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def done(editor):
    """A job that is done, with a source and an output of its own."""
    made = job(editor, "harbour.mov", source_name="sources/a/harbour.mov")
    Stage.objects.filter(job=made, name="transcode").update(
        output={"name": "outputs/t4.mp4", "kind": "video", "format": "mp4"}
    )
    for name in ("sources/a/harbour.mov", "outputs/t4.mp4"):
        path = storage.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"0123456789")
    made.refresh_from_db()
    return made


def delete(browser, job, **more) -> str:
    form = {"action": "delete", "job": str(job.pk), "confirmed": "1", **more}
    return text(browser.post("/jobs/bulk/", form, follow=True))


def gone(browser, job) -> bool:
    """Whether nothing shows it to whoever may see it."""
    pages = [text(browser.get(path)) for path in ("/", "/?q=harbour", "/jobs/rows/", "/history/")]
    assert not any(job.title in page for page in pages)
    return all(browser.get(f"/jobs/{job.pk}/{path}").status_code == 404 for path in ("", "status/", "json/"))


@pytest.mark.parametrize("door", ["page", "api", "admin"])
def test_a_deleted_job_is_gone_by_every_door_and_restored_as_it_was(door, ada, chief, done):
    _, secret = ApiToken.issue(done.owner, "laptop", ["act", "read"])
    api = {"headers": {"Authorization": f"Bearer {secret}"}, "content_type": "application/json"}
    before = ada.get(f"/jobs/{done.pk}/json/").json()
    if door == "api":
        answer = ada.delete(f"/api/v1/jobs/{done.pk}", **api)
        assert answer.json() == {"message": "Deleted."}
    else:
        assert "Deleted 1 job." in delete(ada if door == "page" else chief, done)
    assert gone(chief, done) and ada.get("/api/v1/jobs", **api).json()["jobs"] == []
    samples = [each for metric in Gauges().collect() for each in metric.samples if "_jobs" in each.name]
    assert not any(each.value for each in samples)
    assert "harbour.mov" in text(ada.get("/trash/"))
    if door == "api":
        assert ada.post(f"/api/v1/jobs/{done.pk}/restore", "{}", **api).json() == {"message": "Restored."}
        assert ada.post(f"/api/v1/jobs/{done.pk}/restore", "{}", **api).status_code == 404
    else:
        page = text(ada.post(f"/trash/{done.pk}/restore/", follow=True))
        assert "Restored." in page and "harbour.mov" in page
    assert ada.get(f"/jobs/{done.pk}/json/").json() == before
    assert "The trash is empty" in text(ada.get("/trash/"))
    acts = AuditEntry.objects.order_by("pk").values_list("act", flat=True)
    assert list(acts)[-2:] == ["job.delete", "job.restore"]


def test_what_was_deleted_last_comes_back_by_undo_and_only_by_who_may_see_it(ada, chief, done, client):
    page = ada.post("/jobs/bulk/", {"action": "delete", "job": done.pk, "confirmed": "1"}, follow=True)
    assert 'action="/trash/undo/"' in page.content.decode()
    other = Client()
    other.force_login(chief_of(chief))
    assert "nothing to undo" in text(other.post("/trash/undo/", follow=True))
    assert Job.with_trash.get().trashed_at
    assert "Restored 1 job." in text(ada.post("/trash/undo/", follow=True))
    assert Job.objects.get() == done
    assert "nothing to undo" in text(ada.post("/trash/undo/", follow=True))


def test_many_deletes_ask_the_database_no_more_often_than_a_few_do(ada, editor):
    for name in ("one", "two", "three", "four", "five", "six"):
        shared = "sources/a/shared.mov" if name in ("one", "two") else f"sources/a/{name}.mov"
        job(editor, name, source_name=shared)
    jobs = list(Job.objects.all())
    with CaptureQueriesContext(connection) as few:
        assert str(bulk.apply("delete", jobs[:2], "ada")) == "Deleted 2 jobs."
    with CaptureQueriesContext(connection) as many:
        assert str(bulk.apply("delete", jobs[2:], "ada")) == "Deleted 4 jobs."
    assert len(many) <= len(few)
    assert AuditEntry.objects.filter(act="job.delete", actor="ada").count() == 6
    assert sorted(Job.with_trash.filter(events__kind="trashed").values_list("title", flat=True)) == sorted(
        each.title for each in jobs
    )
    hidden = set(TrashedFile.objects.filter(name__startswith="sources/").values_list("name", flat=True))
    assert hidden == {f"sources/a/{name}.mov" for name in ("three", "four", "five", "six")}


def chief_of(browser):
    from django.contrib.auth.models import User

    return User.objects.get(pk=browser.session["_auth_user_id"])


def test_its_links_stop_at_once_and_work_again_when_it_is_restored(ada, done):
    _, token = Share.issue(done, "ada", 7)
    paths = (f"/s/{token}/", f"/s/{token}/files/outputs/t4.mp4", storage.signed_path("outputs/t4.mp4"))
    paths += (storage.signed_path("sources/a/harbour.mov"),)
    assert [Client().get(path).status_code for path in paths] == [200, 200, 200, 200]
    delete(ada, done)
    assert [Client().get(path).status_code for path in paths] == [404, 404, 404, 404]
    assert ada.get(storage.page_link("outputs/t4.mp4", done.owner_id)).status_code == 404
    assert trash.take_out(done, "ada") and not TrashedFile.objects.exists()
    assert [Client().get(path).status_code for path in paths] == [200, 200, 200, 200]


def test_a_source_that_another_job_has_too_stays_linked_and_stays(ada, done, editor):
    other = job(editor, "other", source_name=done.source_name)
    delete(ada, done)
    assert Client().get(storage.signed_path(done.source_name)).status_code == 200
    async_to_sync(deleting.delete_for_good)(Job.with_trash.get(pk=done.pk), "ada")
    assert storage.exists(other.source_name) and not storage.exists("outputs/t4.mp4")


def test_while_it_lies_there_its_files_stay_and_nothing_acts_on_it(ada, done):
    delete(ada, done)
    assert not list(orphans.orphaned_files(before=timezone.now().timestamp() + 60))
    row = Job.with_trash.get()
    for verb, *more in ((control.retry, None), (control.cancel,), (deleting.delete,)):
        with pytest.raises(control.Refused, match="has been deleted"):
            async_to_sync(verb)(row, *more, "ada")
    assert not row.start_again("ada") and not trash.put_in([row], "ada")
    for act in ("retry", "cancel", "rename", "share"):
        assert ada.post(f"/jobs/{done.pk}/{act}/", {"title": "x"}).status_code == 404


def test_after_its_days_it_is_deleted_for_good_and_not_before(ada, done, settings):
    delete(ada, done)
    assert not trash.overdue()
    Job.with_trash.update(trashed_at=timezone.now() - timedelta(days=settings.TRASH_DAYS, seconds=1))
    assert asyncio.run(delete_some(list(trash.overdue()))) == 1
    assert not Job.with_trash.exists() and not storage.exists("outputs/t4.mp4")
    assert not storage.exists(done.source_name) and not TrashedFile.objects.exists()
    last = AuditEntry.objects.latest("pk")
    assert (last.act, last.actor, last.name) == ("job.delete_for_good", "the trash", "harbour.mov")


def test_a_person_deletes_it_for_good_at_once_and_nobody_else_can(ada, done, django_user_model):
    delete(ada, done)
    eve = Client()
    eve.force_login(django_user_model.objects.create_user("eve"))
    for act in ("restore", "delete"):
        assert eve.post(f"/trash/{done.pk}/{act}/").status_code == 404
    assert (
        "harbour" not in text(eve.get("/trash/")) and ada.get(f"/trash/{done.pk}/delete/").status_code == 405
    )
    assert "Deleted for good." in text(ada.post(f"/trash/{done.pk}/delete/", follow=True))
    assert not Job.with_trash.exists() and not storage.exists("outputs/t4.mp4")


def test_without_days_a_delete_is_for_good_as_it_says_before(ada, done, settings):
    settings.TRASH_DAYS = 0
    asked = text(ada.post("/jobs/bulk/", {"action": "delete", "job": done.pk}))
    assert "can’t be undone" in asked
    page = ada.post("/jobs/bulk/", {"action": "delete", "job": done.pk, "confirmed": "1"}, follow=True)
    assert "/trash/undo/" not in page.content.decode() and not Job.with_trash.exists()


def test_a_batch_counts_it_as_deleted_until_it_is_restored(ada, editor, done):
    batch = Batch.objects.create(owner=editor, title="many")
    item = BatchItem.objects.create(batch=batch, number=1, text="x", state="submitted", job=done)
    delete(ada, done)
    item = BatchItem.objects.get(pk=item.pk)
    assert batch.counts().deleted == 1 and item.says == "deleted"
    assert trash.take_out(done, "ada")
    assert batch.counts().done == 1 and BatchItem.objects.get(pk=item.pk).says == "done"


def test_a_running_job_is_not_put_there(ada, editor):
    running = Job.submit(editor, title="film", pipeline="standard", source=Source(url="http://example.org/x"))
    assert "still running; cancel it first" in delete(ada, running)
    async_to_sync(control.cancel)(running, "ada")
    assert "Deleted 1 job." in delete(ada, running) and trash.take_out(running, "ada")
    assert Job.objects.get().state == JobState.CANCELLED


@pytest.fixture
def at_work(editor):
    """A job whose workflow runs, in a Temporal that isn't reached."""
    made = job(editor, "wrong film", JobState.RUNNING, workflow_started_at=timezone.now())
    return Job.objects.get(pk=made.pk)


def ended(job: Job, state: JobState = JobState.CANCELLED) -> bool:
    """Its workflow takes the cancel, and ends; whether the next look at what people asked for changes it."""
    job.drop_wish(Wish(CANCEL, "ada"))
    Job.objects.filter(pk=job.pk).update(state=state, cancelling=False, finished_at=timezone.now())
    return async_to_sync(Fulfilling(Closing(None, None)).fulfil)(Job.objects.get(pk=job.pk))


@pytest.mark.parametrize("state", [JobState.CANCELLED, JobState.SUCCEEDED, JobState.FAILED])
@pytest.mark.parametrize("door", ["page", "api", "admin"])
def test_a_running_job_is_cancelled_and_put_there_when_it_has_ended_whichever_way(
    door, state, ada, chief, at_work
):
    _, secret = ApiToken.issue(at_work.owner, "laptop", ["act"])
    api = {"headers": {"Authorization": f"Bearer {secret}"}}
    path = f"/api/v1/jobs/{at_work.pk}"
    who, name = (chief, "chief") if door == "admin" else (ada, "ada")
    if door == "api":
        refused = ada.delete(path, **api)
        assert refused.status_code == 409 and "cancel it first" in refused.json()["detail"]
        assert not Job.objects.get().cancelling
        answer = ada.delete(f"{path}?cancel=true", **api)
        assert answer.status_code == 503 and answer.json()["detail"] == deleting.AT_ITS_END_LATER
    else:
        ticked = {"action": "delete", "_selected_action": [at_work.pk]}
        ask = {
            "admin": lambda: who.post("/admin/jobs/job/", ticked),
            "page": lambda: who.get(f"/jobs/bulk/?action=delete&job={at_work.pk}"),
        }
        asked = ask[door]()
        assert "Cancel and delete 1 job?" in text(asked)
        hidden = r'<input type="hidden" name="(\w+)" value="([^"]*)"'
        fields = dict(re.findall(hidden, asked.content.decode()))
        assert "1 got no answer. The workflow service" in text(who.post("/jobs/bulk/", fields, follow=True))
    row = Job.objects.get()
    assert row.cancelling and [wish.kind for wish in row.wishes] == ["delete_at_end", "cancel"]
    assert "wants it deleted" in text(ada.get(f"/jobs/{row.pk}/"))
    assert not async_to_sync(Fulfilling(Closing(None, None)).fulfil)(row) and Job.objects.exists()
    assert ended(row, state) and gone(chief, row) and "wrong film" in text(ada.get("/trash/"))
    acts = AuditEntry.objects.order_by("pk").values_list("act", "actor")
    assert [*acts][-2:] == [("job.cancel", name), ("job.delete", name)]
    assert trash.take_out(row, "ada") and Job.objects.get().state == state and not Job.objects.get().wishes


def test_a_job_that_was_not_started_is_cancelled_and_put_there_at_once(ada, editor):
    waiting = Job.submit(editor, title="film", pipeline="standard", source=Source(url="http://example.org/x"))
    assert "Deleted 1 job." in delete(ada, waiting, cancel="1")
    assert trash.jobs().get().state == JobState.CANCELLED
    claimed = Job.submit(editor, title="film", pipeline="standard", source=Source(url="http://example.org/x"))
    assert claimed.claim() and claimed.keep_wish(Wish(DELETE_AT_END, "ada"))
    assert claimed.cancel_unstarted("ada", unclaimed_for=timedelta()), "nobody has started it after all"
    assert ended(claimed) and trash.jobs().count() == 2


def test_of_many_the_question_offers_to_cancel_what_runs_and_only_then_it_is(ada, at_work, done):
    asked = ada.post("/jobs/bulk/", {"action": "delete", "job": [at_work.pk, done.pk]})
    assert "Delete 2 jobs?" in text(asked) and "Cancel the 1 that still runs, and delete it too" in text(
        asked
    )
    assert 'type="checkbox" name="cancel"' in asked.content.decode()
    both = {"action": "delete", "job": [at_work.pk, done.pk], "confirmed": "1"}
    told = text(ada.post("/jobs/bulk/", both, follow=True))
    assert "Deleted 1 job. 1 is still running; cancel it first." in told
    assert not Job.objects.get().cancelling


def test_without_days_a_cancelled_job_is_deleted_for_good_and_one_that_cannot_be_is_not_tried_for_ever(
    ada, at_work, settings, caplog
):
    settings.TRASH_DAYS = 0
    delete(ada, at_work, cancel="1")
    Job.objects.update(source_name="sources/../../outside")
    assert not ended(at_work)
    assert not Job.objects.get().wishes and "could not be deleted" in caplog.text
    Job.objects.update(source_name="", state=JobState.RUNNING)
    delete(ada, at_work, cancel="1")
    assert ended(at_work) and not Job.with_trash.exists()
