"""Another source for the same job: what it runs on, what becomes of what it had, and who may do it."""

from __future__ import annotations

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from jobs.models import ApiToken, Job, Stage, Upload
from jobs.models.wish import CANCEL, DELETE, Wish
from jobs.state import JobState, StageState
from mediapipe import storage
from mediapipe.accounts.models import AuditEntry
from tests.support.recorded import job, text
from tests.support.tusclient import DATA, create, encoded, head, sound

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_api")]
LINK = "https://93.184.215.14/better.mp4"


@pytest.fixture
def held(ada) -> Job:
    """A job of hers whose ingest has failed: it waits for her."""
    create(ada, name="broken.wav", data=DATA)
    made = Job.objects.get()
    Job.objects.filter(pk=made.pk).update(state=JobState.ATTENTION, workflow_started_at=timezone.now())
    made.stages.filter(name="ingest").update(
        state=StageState.FAILED, error="Most frames in this file are damaged.", error_kind="damaged"
    )
    return now(made)


def now(made: Job) -> Job:
    return Job.objects.get(pk=made.pk)


def states(made: Job) -> set[str]:
    return {str(stage.state) for stage in made.stages.all()}


def test_a_held_job_runs_again_on_a_file_under_its_own_address(ada, held):
    page = ada.get(held.get_absolute_url()).content.decode()
    assert "Replace the source" in page and "Try anyway" in page
    data = sound()
    answer = ada.post(f"/jobs/{held.pk}/source/", {"file": SimpleUploadedFile("better.wav", data)})
    assert answer["Location"] == held.get_absolute_url()
    row = now(held)
    assert (row.state, row.run, states(row)) == ("queued", 2, {"pending"})
    assert (row.source_filename, row.source_size, row.source_sha256) == ("better.wav", len(data), "")
    assert storage.path(row.source_name).read_bytes() == data and not storage.exists(held.source_name)
    event = row.events.get(kind="source_replaced")
    assert (event.actor, event.text) == ("ada", "Replaced the source “broken.wav” by “better.wav”")
    entry = AuditEntry.objects.get(act="job.replace_source")
    assert (entry.actor, entry.key, entry.text) == ("ada", str(held.pk), event.text)
    assert not Upload.objects.exists(), "the upload of the file that is gone"


def test_what_was_made_of_the_old_source_stays_as_earlier_versions(ada, editor):
    done = job(editor)
    Stage.objects.filter(job=done).update(output={"name": "outputs/old.bin"})
    ada.post(f"/jobs/{done.pk}/source/", {"url": LINK, "reason": "The final cut"})
    row = now(done)
    assert (row.source_url, row.source_name, states(row)) == (LINK, "", {"pending"})
    assert row.earlier_versions.count() == 4 and row.workflow_input().carried == {}
    assert "(“The final cut”)" in row.events.get(kind="source_replaced").text


@pytest.mark.parametrize(
    ("state", "wish", "says"),
    [
        (JobState.RUNNING, None, "This job is running."),
        (JobState.SUCCEEDED, DELETE, "This job is being deleted."),
        (JobState.ATTENTION, CANCEL, "This job is being cancelled."),
    ],
)
def test_a_job_that_works_or_is_at_its_end_keeps_its_source_and_no_file_stays(ada, editor, state, wish, says):
    made = job(editor, state=state, workflow_started_at=timezone.now())
    if wish:
        assert now(made).keep_wish(Wish(wish, "grace"))
    about = {"Upload-Metadata": encoded(filename="b.wav", replaces=str(made.pk))}
    assert says in create(ada, data=DATA, **about).content.decode()
    answer = ada.post(f"/jobs/{made.pk}/source/", {"file": SimpleUploadedFile("b.wav", DATA)}, follow=True)
    assert says in text(answer)
    assert now(made).source_name == "sources/x.mp4" and not list(storage.under("sources"))
    assert not Upload.objects.exists()


def test_an_upload_can_be_made_for_it_and_is_the_jobs_however_often_one_asks(ada, held):
    about = {"Upload-Metadata": encoded(filename="better.wav", replaces=str(held.pk))}
    sent = create(ada, data=(data := sound()), **about)
    assert sent["Mediapipe-Job"] == held.get_absolute_url()
    assert head(ada, sent["Location"])["Mediapipe-Job"] == held.get_absolute_url()
    row = now(held)
    assert (row.run, row.source_filename, row.source_size) == (2, "better.wav", len(data))
    assert row.source_sha256 and Job.objects.count() == 1 and row.upload.filename == "better.wav"
    assert create(ada, data=data)["Mediapipe-Duplicate"] == held.get_absolute_url()


def test_a_source_that_another_job_has_too_stays(ada, held):
    Job.submit(held.owner, title="b", pipeline="standard", source=held.source)
    ada.post(f"/jobs/{held.pk}/source/", {"url": LINK})
    assert now(held).source_url == LINK and storage.exists(held.source_name)


def test_nobody_replaces_the_source_of_anothers_job(held, django_user_model):
    eve = Client()
    eve.force_login(django_user_model.objects.create_user("eve"))
    assert eve.get(f"/jobs/{held.pk}/source/").status_code == 404
    assert eve.post(f"/jobs/{held.pk}/source/", {"url": LINK}).status_code == 404
    for name in (str(held.pk), "nonsense"):
        about = {"Upload-Metadata": encoded(filename="b.wav", replaces=name)}
        assert "is gone" in create(eve, data=sound(), **about).content.decode()
    assert now(held).source == held.source and len(list(storage.under("sources"))) == 1


def test_programs_replace_it_by_a_link_or_by_an_upload(editor, held):
    _, token = ApiToken.issue(editor, "a script", ["act", "submit"], 1)
    program = Client(headers={"Authorization": f"Bearer {token}"})

    def ask(**body):
        path = f"/api/v1/jobs/{held.pk}/source"
        answer = program.post(path, body, content_type="application/json")
        return answer.status_code, answer.json()

    assert ask()[0] == 422
    assert ask(url="ftp://nowhere/a")[0] == 422
    assert ask(url=LINK, reason="the other camera") == (
        200,
        {"message": "Starting on the new source. It begins as soon as the workflow service is back."},
    )
    Job.objects.filter(pk=held.pk).update(state=JobState.FAILED)
    later = {"Upload-Metadata": encoded(filename="c.wav", job="later")}
    upload = create(program, data=sound(), **later)["Location"].rstrip("/").rpartition("/")[2]
    assert ask(upload=upload)[0] == 200
    assert now(held).source_filename == "c.wav" and now(held).run == 3
    assert ask(upload=upload)[0] == 409, "it runs"
