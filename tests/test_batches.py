"""Many sources at once: what is taken and what isn't, one job for each, and who hears of the end."""

from __future__ import annotations

import csv
import io
import json
import uuid

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone

from jobs import serialize
from jobs.batches import manifest, sources
from jobs.batches.activities import _finish
from jobs.batches.sources import Written
from jobs.models import Batch, BatchItem, Delivery, Destination, Job, Notice, Stage
from jobs.models.batch import AT_A_TIME
from jobs.notifications import activities, events, outbox
from jobs.pipelines import PIPELINES
from jobs.state import Source
from mediapipe import storage
from tests.support.bucket import KEY, SECRET, Bucket
from tests.test_api import Program, sentence
from tests.test_notifications import report, to_mail

pytestmark = pytest.mark.django_db
BATCHES = "/api/v1/batches"
PUBLIC = "https://93.184.215.14"


def links(many: int) -> list[Written]:
    return [Written(f"{PUBLIC}/take%20{number}.mp4") for number in range(many)]


def submitted(owner, many: int = 3, pk: uuid.UUID | None = None) -> Batch:
    items = sources.items_of(links(many), "standard", PIPELINES)
    return Batch.submit(owner, "March shoot", items, pk or uuid.uuid4())


def end(job: Job, state: str, **stages: str) -> None:
    """As its workflow tells of it."""
    Job.objects.filter(pk=job.pk).update(state="running", workflow_started_at=timezone.now())
    assert report(job, state, **stages)


# What people write


def test_lines_may_be_a_spreadsheets_cells():
    text = f"  {PUBLIC}/a.mp4\n\n{PUBLIC}/b.mp4\tThe title\tpreviews\r\n"
    assert sources.of_lines(text) == [
        Written(f"{PUBLIC}/a.mp4"),
        Written(f"{PUBLIC}/b.mp4", "The title", "previews"),
    ]


@pytest.mark.parametrize(
    "text, encoding",
    [
        ("Title,URL\nÄ,https://x/a\n", "utf-8"),
        ("\ufeffurl;pipeline;title\nhttps://x/a;;Ä\n", "utf-8"),
        ("url\ttitle\nhttps://x/a\tÄ\n", "utf-16"),
        ("https://x/a,Ä\n\n", "cp1252"),  # no head
    ],
)
def test_a_table_is_read_as_spreadsheets_save_it(text, encoding):
    assert sources.of_csv(text.encode(encoding)) == [Written("https://x/a", "Ä")]


def test_what_is_no_text_is_no_table():
    with pytest.raises(sources.NotAList, match="CSV"):
        sources.of_csv(b"PK\x03\x04\0\0")


def test_each_source_that_cannot_be_taken_says_why_and_keeps_no_other():
    written = [
        Written(f"{PUBLIC}/a.mp4"),
        Written("ftp://example.com/a.mp4"),
        Written("http://127.0.0.1/a.mp4"),
        Written(f"{PUBLIC}/a.mp4"),
        Written(f"{PUBLIC}/b.mp4", "", "nope"),
        Written(f"{PUBLIC}/{'x' * 4000}"),
        Written("nothing"),
        Written(f"{PUBLIC}/"),
    ]
    items = sources.items_of(written, "standard", PIPELINES)
    assert [item.state == "rejected" for item in items] == [False, *[True] * 6, False]
    says = [item.error for item in items]
    assert "http" in says[1] and "public internet" in says[2] and says[3] == "The same as line 1."
    assert "“nope”" in says[4] and "standard" in says[4] and "longer" in says[5] and "isn’t a link" in says[6]
    assert items[0].title == "a.mp4" and items[-1].title == "93.184.215.14"


def test_a_batch_has_an_end():
    with pytest.raises(sources.NotAList, match="5,000"):
        sources.items_of(links(5001), "standard", PIPELINES)
    with pytest.raises(sources.NotAList, match="no link"):
        sources.items_of([], "standard", PIPELINES)


# Rows


def test_a_batch_that_is_submitted_twice_is_one(editor):
    pk = uuid.uuid4()
    assert submitted(editor, pk=pk) == submitted(editor, pk=pk)
    assert BatchItem.objects.count() == 3


def test_an_item_is_one_job_however_often_it_is_submitted(editor):
    batch = submitted(editor)
    item = batch.items.first()
    assert item.submit() == item.submit()
    job = Job.objects.get()
    assert (job.title, job.source_url) == ("take 0.mp4", f"{PUBLIC}/take%200.mp4")
    assert job.batch_item == item and job.stages.count() == 4


def test_only_so_many_of_a_batch_are_under_way_and_those_that_wait_for_a_person_are_not(editor):
    batch = submitted(editor, AT_A_TIME + 5)
    first = [batch.due()[0].submit() for _ in range(AT_A_TIME)]
    assert batch.due() == [] and not batch.has_work
    end(first[0], "attention", ingest="failed")
    end(first[1], "succeeded")
    assert batch.has_work and len(batch.due()) == 1, "they begin one after the other, and never in a burst"
    assert batch.due()[0].number == AT_A_TIME + 1


def test_the_rest_is_cancelled_and_what_is_done_is_kept(editor):
    batch = submitted(editor)
    done, running = (item.submit() for item in batch.items.all()[:2])
    end(done, "succeeded")
    late = batch.items.last()
    assert batch.cancel("ada") and not batch.cancel("ada")
    assert late.submit() is None, "it was cancelled before it started"
    batch.refresh_from_db()
    assert list(batch.to_cancel()) == [running] and batch.due() == [] and not batch.finish()
    assert running.cancel_unstarted("ada") and batch.finish()
    assert batch.counts()._asdict() == dict.fromkeys(batch.counts()._fields, 0) | {"done": 1, "cancelled": 2}


def test_a_file_of_the_bucket_outlives_its_job(editor):
    path = storage.path("rushes/monday/a.mp4")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"film")
    items = [
        BatchItem(text=name, name=name, filename="a.mp4", pipeline="standard")
        for name in ["rushes/monday/a.mp4"]
    ]
    job = Batch.submit(editor, "rushes", items, uuid.uuid4()).items.get().submit()
    assert job.source == Source(name="rushes/monday/a.mp4", filename="a.mp4") and job.title == "a.mp4"
    job.cancel_unstarted("ada")
    assert Job.objects.get(pk=job.pk).remove() and path.exists()
    assert Batch.objects.get().counts().deleted == 1


# Who hears of it


def test_people_hear_of_a_batch_once_at_its_end_and_programs_of_each_job(editor, chief):
    mail = to_mail(editor)
    to_mail(User.objects.get(username="chief"), "done")  # of somebody else's
    hook = Destination.objects.create(
        owner=editor, channel="webhook", address=PUBLIC, wants="every", confirmed_at=timezone.now()
    )
    batch = submitted(editor)
    jobs = [item.submit() for item in batch.items.all()]
    end(jobs[0], "succeeded")
    end(jobs[1], "attention", ingest="failed")
    Stage.objects.filter(state="failed").update(error_kind="damaged")
    outbox.hand_out()
    assert not _finish(batch) and not mail.deliveries.exists()
    end(jobs[2], "succeeded")
    assert _finish(batch) and not _finish(batch)
    outbox.hand_out()
    delivery = mail.deliveries.get()
    assert Delivery.objects.exclude(channel="webhook").get() == delivery
    assert hook.deliveries.filter(notices__type=events.DONE).count() == 2
    message = activities.compose(delivery, mail)
    assert message.subject == "“March shoot” is over: 2 of 3 done, 1 needs you"
    assert "1 × The file is damaged." in message.text and message.url.endswith(f"/batches/{batch.pk}/")
    assert delivery in Delivery.of_job(jobs[0])
    report(jobs[1], "succeeded", 9, ingest="succeeded")  # retried by hand, later
    outbox.hand_out()
    assert mail.deliveries.count() == 2
    assert Notice.objects.filter(handled=False).count() == 0


# Pages


@pytest.fixture
def grace(client, django_user_model):
    client.force_login(django_user_model.objects.create_user("grace"))
    return client


def test_a_person_pastes_links_and_sees_what_was_not_taken(ada, editor):
    page = ada.get("/batches/new/")
    key = page.context["form"]["idempotency_key"].value()
    posted = {"idempotency_key": key, "links": f"{PUBLIC}/a.mp4\nhttp://127.0.0.1/b.mp4", "title": "Shoot"}
    first, second = ada.post("/batches/new/", posted), ada.post("/batches/new/", posted)
    assert first.status_code == 302 and first["Location"] == second["Location"]
    batch = Batch.objects.get()
    page = ada.get(first["Location"])
    assert "Can’t find 127.0.0.1" in page.content.decode() and page.context["page"].counts.waiting == 1
    again = ada.get(f"/batches/new/?from={batch.pk}")
    assert again.context["form"]["links"].value() == "http://127.0.0.1/b.mp4\t\tstandard"
    assert "Shoot" in ada.get("/batches/").content.decode()


@pytest.mark.parametrize(
    "posted, says",
    [
        ({}, "one of them"),
        ({"links": "https://x/a", "table": SimpleUploadedFile("a.csv", b"https://x/b")}, "one of them"),
        ({"table": SimpleUploadedFile("a.csv", b"\0\0\0")}, "CSV"),
        ({"table": SimpleUploadedFile("a.csv", b"x" * (5 << 20) + b"x")}, "5 MB"),
        ({"links": " \n "}, "one of them"),
        ({"links": "a\n" * 5001}, "5,000"),
        ({"folder": "sources/"}, "one of them"),  # it isn't there for editors
    ],
)
def test_a_batch_of_nothing_is_refused_with_a_sentence(ada, posted, says):
    answer = ada.post("/batches/new/", posted)
    assert answer.status_code == 400 and says in answer.content.decode()
    assert not Batch.objects.exists()


def test_a_table_names_titles_and_pipelines(ada):
    table = f"url,title,pipeline\n{PUBLIC}/a.mp4,One,\n{PUBLIC}/b.mp4,,previews\n"
    ada.post("/batches/new/", {"table": SimpleUploadedFile("a.csv", table.encode()), "pipeline": "standard"})
    rows = Batch.objects.get().items.values_list("title", "pipeline", "state")
    assert list(rows) == [("One", "standard", "waiting"), ("b.mp4", "previews", "waiting")]


def test_anothers_batch_is_404_and_an_admin_sees_all(ada, grace, chief, editor):
    batch = submitted(editor)
    path = f"/batches/{batch.pk}/"
    pages = ["", "status/", "manifest.csv", "manifest.json"]
    assert {grace.get(path + page).status_code for page in pages} == {404}
    assert {grace.post(path + verb).status_code for verb in ("retry/", "cancel/")} == {404}
    assert grace.get(f"/batches/new/?from={batch.pk}").status_code == 404
    assert "March" not in grace.get("/batches/").content.decode()
    assert {chief.get(path + page).status_code for page in pages} == {200}
    assert "March" in chief.get("/batches/").content.decode()
    item = batch.items.first()
    item.submit()
    assert grace.get("/", {"batch": str(batch.pk)}).context["total"] == "0"
    assert ada.get("/", {"batch": str(batch.pk)}).context["total"] == "1"


def test_the_manifest_says_of_each_source_what_became_of_it(editor):
    items = sources.items_of([*links(2), Written("=HYPERLINK(1)")], "standard", PIPELINES)
    batch = Batch.submit(editor, "March shoot", items, uuid.uuid4())
    job = batch.items.first().submit()
    end(job, "succeeded", ingest="succeeded")
    job.stages.filter(name="ingest").update(output={"name": "outputs/j/a.mp4"})
    rows = list(csv.DictReader(io.StringIO("".join(manifest.as_csv(batch)))))
    assert [row["state"] for row in rows] == ["done", "waiting", "rejected"]
    assert rows[0]["job"] == str(job.pk) and "/media/outputs/j/a.mp4?" in rows[0]["ingested_url"]
    assert rows[2]["source"] == "'=HYPERLINK(1)" and "isn’t a link" in rows[2]["reason"]
    told = json.loads("".join(manifest.as_json(batch, serialize.batch_summary(batch, batch.counts()))))
    assert told["id"] == str(batch.pk) and told["counts"]["done"] == 1 and told["total"] == 3
    assert [item["number"] for item in told["items"]] == [1, 2, 3]
    assert told["items"][0]["result"]["ingested_url"] == rows[0]["ingested_url"]


def test_failed_jobs_are_counted_by_their_reason(ada, editor):
    batch = submitted(editor)
    kinds = iter(["damaged", "damaged", "internal_error"])
    for item in batch.items.all():
        end(job := item.submit(), "attention", ingest="failed")
        job.stages.filter(name="ingest").update(error_kind=next(kinds))
    assert _finish(batch)
    page = ada.get(batch.get_absolute_url())
    assert [(reason.kind, reason.jobs) for reason in page.context["reasons"]] == [
        ("damaged", 2),
        ("internal_error", 1),
    ]
    assert batch.failed("damaged").count() == 2
    assert "3 of 3" in page.content.decode()


def test_an_admin_names_a_folder_of_the_bucket(chief, settings, tmp_path):
    bucket = Bucket(tmp_path / "s3").start()
    try:
        for name in (
            "rushes/a.mp4",
            "rushes/deep/b.mov",
            "rushes/notes.txt",
            "rushes2.mp4",
            "sources/x/c.mp4",
        ):
            path = bucket.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"film")
        settings.S3_BUCKET, settings.S3_ENDPOINT_URL, settings.S3_REGION = "media", bucket.url, "us-east-1"
        for word, value in (("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET)):
            pytest.MonkeyPatch().setenv(word, value)
        storage.s3.storage.cache_clear()
        assert "folder" in chief.get("/batches/new/").context["form"].fields
        assert chief.post("/batches/new/", {"folder": "sources/"}).status_code == 400
        assert chief.post("/batches/new/", {"folder": "/"}).status_code == 400
        assert chief.post("/batches/new/", {"folder": "rushes/"}).status_code == 302
        assert list(Batch.objects.get().items.values_list("name", "filename")) == [
            ("rushes/a.mp4", "a.mp4"),
            ("rushes/deep/b.mov", "b.mov"),
        ]
    finally:
        bucket.kill()
        storage.s3.storage.cache_clear()


# By the API


@pytest.fixture
def program(editor):
    return Program(editor, "submit", "read", "act")


def test_a_program_submits_a_batch_once_per_key_and_reads_what_was_not_taken(program, editor):
    body = {"sources": [{"url": f"{PUBLIC}/a.mp4", "title": "A"}, {"url": "ftp://x/b"}], "title": "March"}
    first = program.post(BATCHES, body, **{"Idempotency-Key": "k"})
    assert first.status_code == 201 and first["Location"] == f"{BATCHES}/{first.json()['id']}"
    told = first.json()
    assert told["counts"]["waiting"] == told["counts"]["rejected"] == 1 and told["status"] == "running"
    assert told["rejected"][0]["sources"] == 1 and "http" in told["rejected"][0]["sentence"]
    assert program.post(BATCHES, body, **{"Idempotency-Key": "k"}).status_code == 200
    other = {"sources": [{"url": f"{PUBLIC}/c.mp4"}]}
    assert "new key" in sentence(program.post(BATCHES, other, **{"Idempotency-Key": "k"}), 422)
    assert Batch.objects.count() == 1
    assert program.get(BATCHES).json() == {
        "batches": [{key: value for key, value in told.items() if key not in ("failed", "rejected")}],
        "next": None,
    }
    job = BatchItem.objects.get(number=1).submit()
    found = program.get("/api/v1/jobs", batch=told["id"]).json()["jobs"]
    assert [each["id"] for each in found] == [str(job.pk)]
    assert program.get(f"/batches/{told['id']}/manifest.csv").status_code == 200


def test_a_program_acts_on_its_own_batches_alone(program, editor, django_user_model):
    batch = submitted(editor)
    path = f"{BATCHES}/{batch.pk}"
    other = Program(django_user_model.objects.create_user("grace"), "submit", "read", "act")
    for answer in (other.get(path), other.post(f"{path}/cancel"), other.post(f"{path}/retry")):
        assert "isn’t yours" in sentence(answer, 404)
    assert other.get(f"/batches/{batch.pk}/manifest.json").status_code == 404
    assert Program(editor, "read").post(f"{path}/cancel").status_code == 403
    assert program.post(f"{path}/retry").json()["message"] == "Nothing was retried."
    assert "won’t start" in program.post(f"{path}/cancel").json()["message"]
    assert "over" in sentence(program.post(f"{path}/cancel"), 409)
    assert _finish(batch) and program.get(path, wait=5).json()["status"] == "cancelled"
