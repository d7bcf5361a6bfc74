"""The audit log: who did what, by whichever door, in entries that outlive what they are about."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jobs import control
from jobs.management.verbs import actor
from jobs.models import ApiToken, Job, Pipeline, Share
from jobs.state import JobState, Source
from mediapipe import storage
from mediapipe.accounts import audit, audited_settings
from mediapipe.accounts.audit import Act
from mediapipe.accounts.models import AppendOnly, AuditEntry
from tests.support.recorded import job, text

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_visits():
    audit._visits.clear()


def said(*names: str) -> list[tuple]:
    """The acts that were recorded, oldest first, with these columns."""
    return list(AuditEntry.objects.order_by("pk").values_list("act", *names))


def body(answer) -> str:
    async def parts() -> bytes:
        return b"".join([part async for part in answer.streaming_content])

    return asyncio.run(parts()).decode()


@pytest.fixture
def queued(editor):
    AuditEntry.objects.all()._raw_delete("default")
    return Job.submit(editor, title="film", pipeline="standard", source=Source(url="http://example.org/x"))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("door", ["page", "bulk", "api", "command", "admin"])
def test_a_verb_is_recorded_once_with_who_and_whence_by_every_door(door, ada, chief, queued):
    before = [("job.submit", "ada", "film")]
    _, secret = ApiToken.issue(queued.owner, "laptop", ["act"])
    if door == "page":
        ada.post(f"/jobs/{queued.pk}/cancel/", headers={"X-Request-ID": "request-1"})
    elif door == "bulk":
        ada.post("/jobs/bulk/", {"action": "cancel", "job": queued.pk, "confirmed": "1"})
    elif door == "api":
        sent = {"content_type": "application/json", "headers": {"Authorization": f"Bearer {secret}"}}
        Client().post(f"/api/v1/jobs/{queued.pk}/cancel", "{}", **sent)
    elif door == "command":
        async_to_sync(control.cancel)(queued, actor())  # the command ends its process
    else:
        chief.post("/admin/jobs/job/", {"action": "cancel", "_selected_action": [str(queued.pk)]})
    of_jobs = [line for line in said("actor", "name") if line[0].startswith("job.")]
    entry = AuditEntry.objects.get(act="job.cancel")
    assert of_jobs == [*before, ("job.cancel", entry.actor, "film")] and entry.key == str(queued.pk)
    assert {"admin": "chief", "command": entry.actor}.get(door, "ada") == entry.actor
    assert entry.token == ("laptop" if door == "api" else "")
    assert entry.network == ("" if door == "command" else "127.0.0.1")
    assert entry.request == "request-1" if door == "page" else bool(entry.request) == (door != "command")


def test_what_is_refused_is_not_recorded_and_what_is_asked_twice_is_recorded_once(ada, editor):
    done = job(editor)
    ada.post(f"/jobs/{done.pk}/cancel/")
    running = job(editor, state=JobState.RUNNING, workflow_started_at=timezone.now())
    for _ in range(2):
        ada.post(f"/jobs/{running.pk}/cancel/", {"reason": "wrong film"})
    assert [line for line in said("text") if line[0] == "job.cancel"] == [("job.cancel", "wrong film")]


def test_an_entry_outlives_its_job_and_its_person(ada, editor):
    gone = job(editor, "harbour.mov")
    ada.post("/jobs/bulk/", {"action": "delete", "job": gone.pk, "confirmed": "1"})
    assert ("job.delete", "ada", "harbour.mov", str(gone.pk)) in said("actor", "name", "key")
    Job.with_trash.all().delete()
    editor.delete()
    assert ("job.delete", "ada", "harbour.mov", str(gone.pk)) in said("actor", "name", "key")


def test_coming_in_and_failing_to_are_recorded_and_no_name_that_may_be_a_password(client, editor):
    editor.set_password("a long enough secret")
    editor.save()
    for name, password in (("ada", "wrong"), ("my secret", "x"), ("ada", "a long enough secret")):
        client.post("/login/", {"username": name, "password": password})
    client.post("/logout/")
    assert said("actor") == [
        ("person.sign_in_failed", "ada"),
        ("person.sign_in_failed", "somebody"),
        ("person.sign_in", "ada"),
        ("person.sign_out", "ada"),
    ]
    assert not AuditEntry.objects.filter(text__contains="secret").exists()


def test_people_tokens_pipelines_and_links_are_recorded(ada, chief, editor):
    done = job(editor)
    chief.post("/people/", {"name": "eve", "role": "editor"})
    chief.post(f"/people/{editor.pk}/active/", {"active": ""})
    ada.post("/account/tokens/", {"name": "laptop", "scopes": ["read"], "days": "30"})
    editor.is_active = True
    editor.save()
    ada.force_login(editor)
    ada.post("/account/tokens/", {"name": "laptop", "scopes": ["read"], "days": "30"})
    ada.post(f"/account/tokens/{ApiToken.objects.get().pk}/revoke/")
    chief.post("/pipelines/previews/retire/")
    chief.post("/pipelines/previews/retire/", {"back": "1"})
    chief.post("/pipelines/previews/access/", {"audience": "admins"})
    share, token = Share.issue(done, "ada", 7)
    for _ in range(3):
        Client().get(f"/s/{token}/", headers={"Accept": "text/html"})
    share.refresh_from_db()
    assert share.opened == 3, "each visit is counted, and one entry tells of an hour's"
    ada.post(f"/jobs/{done.pk}/shares/{share.pk}/revoke/")
    acts = [act for (act,) in said() if act not in ("person.sign_in", "job.submit")]
    assert acts == [
        *("person.add", "person.deactivate", "token.make", "token.revoke"),
        *("pipeline.retire", "pipeline.offer", "pipeline.open", "share.make", "share.open", "share.revoke"),
    ]


@pytest.mark.django_db(transaction=True)
def test_whoever_fetches_by_a_copied_link_is_recorded_once_an_hour_for_a_folder_whatever_it_asks_for():
    names = ("outputs/t1.mp4", "outputs/t5/a.m4s", "outputs/t5/b.m4s")
    for name in names:
        path = storage.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"0123456789")
        for span in ("bytes=0-1", "bytes=2-5", ""):
            Client().get(storage.signed_path(name), headers={"Range": span})
    Client().get("/media/outputs/t1.mp4?signature=wrong")
    assert said("actor", "key") == [
        ("file.download", "somebody", "outputs/t1.mp4"),
        ("file.download", "somebody", "outputs/t5"),
    ]


def test_an_entry_can_be_neither_changed_nor_removed_by_code_nor_in_the_database(chief):
    audit.record(Act.RENAME, "ada", name="film")
    entry = AuditEntry.objects.get(act="job.rename")
    entry.actor = "eve"
    everything = AuditEntry.objects.all()
    for change in (entry.save, entry.delete, everything.delete, lambda: everything.update(actor="eve")):
        with pytest.raises(AppendOnly):
            change()
    audit.hold(using="default")
    audit.hold(using="default")
    for change in ("UPDATE accounts_auditentry SET actor = 'eve'", "DELETE FROM accounts_auditentry"):
        with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
            connection.cursor().execute(change)
    assert AuditEntry.objects.get(act="job.rename").actor == "ada"
    assert chief.get("/admin/accounts/auditentry/").status_code == 404


def test_admins_alone_read_it_a_page_at_a_time_and_by_what_they_look_for(ada, chief):
    for number in range(60):
        audit.record(Act.RENAME if number % 2 else Act.CANCEL, f"p{number % 3}", name=f"film {number}")
    assert ada.get("/audit/").status_code == 403 and ada.get("/audit/audit.csv").status_code == 403
    page = chief.get("/audit/")
    assert "film 59" in text(page) and "film 9 " not in text(page)
    assert "film 9 " in text(chief.get(f"/audit/{page.context['older']}"))
    found = text(chief.get("/audit/?act=job.cancel&actor=p0&about=film"))
    assert "film 54" in found and "film 57" not in found and "film 56" not in found
    assert "film 59" in text(chief.get(f"/audit/?from={timezone.localdate()}&to={timezone.localdate()}"))
    assert "Nothing was done" in text(chief.get("/audit/?to=2001-01-01"))
    for zone in ("UTC", "Asia/Tokyo"):  # whose first midnight is no moment of UTC
        with timezone.override(zone):
            for hostile in ("?before=x", "?before=9999999999999999999", "?to=9999-12-31", "?from=0001-01-01"):
                assert chief.get(f"/audit/{hostile}").status_code == 200


def test_days_are_found_by_the_order_of_the_log_also_where_clocks_disagree(chief, editor):
    day = timezone.localtime().replace(year=2026, month=3, day=10, hour=0, minute=0, second=0, microsecond=0)
    hours = [-30, -2, 0, 12, 11.8, 24.2, 23.9, 30]  # as they were added; two machines are minutes apart
    AuditEntry.objects.bulk_create(
        AuditEntry(at=day + timedelta(hours=at), act=Act.RENAME, actor="ada", name=f"film {at}")
        for at in hours
    )

    def found(query: str) -> list[str]:
        return [line.entry.name for line in chief.get(f"/audit/?act=job.rename&{query}").context["lines"]]

    assert found("from=2026-03-10&to=2026-03-10") == ["film 23.9", "film 11.8", "film 12", "film 0"]
    assert found("from=2026-03-11") == ["film 30", "film 24.2"]
    assert found("to=2026-03-09") == ["film -2", "film -30"]
    assert found("from=2027-01-01") == found("to=2020-01-01") == []
    with CaptureQueriesContext(connection) as seen:
        chief.get("/audit/?from=2026-03-10&to=2026-03-10")
    listed = next(each["sql"] for each in seen.captured_queries if "LIMIT 51" in each["sql"])
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {listed}")
        assert "USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)" in str(cursor.fetchall())


@pytest.mark.django_db(transaction=True)
def test_it_is_exported_whole_as_csv_and_json_and_by_a_command(chief, capsys):
    audit.record(Act.RENAME, "ada", key=7, name="=cmd()", text="Renamed from “a”\nto \x1b[31m")
    rows = list(csv.DictReader(io.StringIO(body(chief.get("/audit/audit.csv?act=job.rename")))))
    assert [(row["actor"], row["key"], row["name"]) for row in rows] == [("ada", "7", "'=cmd()")]
    lines = body(chief.get("/audit/audit.jsonl?act=job.rename")).splitlines()
    assert json.loads(lines[0])["name"] == "=cmd()"
    call_command("audit", "--act=job.rename", "--since=2020-01-01", "--json")
    assert capsys.readouterr().out.splitlines() == lines
    call_command("audit", f"--until={(timezone.now() - timedelta(days=1)).isoformat()}")
    assert capsys.readouterr().out == ""
    call_command("audit", "--about=7")
    line = capsys.readouterr().out
    assert "ada renamed the job “=cmd()” (7)" in line and "\x1b" not in line and line.count("\n") == 1


def test_a_setting_that_changes_is_recorded_once_and_a_secret_never_shown():
    given = {"MEDIAPIPE_HOLD_DAYS": "7", "MEDIAPIPE_SECRET_KEY": "s3cret", "HOME": "/root"}
    audited_settings.note(given)
    audited_settings.note(given)
    audited_settings.note({"MEDIAPIPE_HOLD_DAYS": "9", "MEDIAPIPE_SECRET_KEY": "0ther"})
    audited_settings.note({"MEDIAPIPE_SECRET_KEY": "0ther"})
    found = list(AuditEntry.objects.order_by("pk").values_list("name", "text"))
    assert [name.removeprefix("MEDIAPIPE_") for name, _ in found] == [
        *("HOLD_DAYS", "SECRET_KEY", "HOLD_DAYS", "SECRET_KEY", "HOLD_DAYS")
    ]
    assert [value for name, value in found if name == "MEDIAPIPE_HOLD_DAYS"] == ["7", "9", "unset"]
    assert "s3cret" not in str(found) and "0ther" not in str(found)


def test_pipelines_of_the_code_are_nobodys_act():
    Pipeline.objects.all().delete()
    from jobs.models.pipeline import keep_in_step

    keep_in_step()
    assert not said()


@pytest.mark.django_db
@pytest.mark.parametrize("typed", ["ärmel", "Ärmel", "ÄRMEL", "zoë ä", "ZOË Ä"])
@pytest.mark.parametrize("name", ["Zoë Ärmel", "zoë ärmel", "ZOË ÄRMEL"])
def test_a_name_is_found_however_its_letters_are_written_in_a_database_that_folds_ascii_alone(typed, name):
    """Such as SQLite, and Postgres in the locale C."""
    audit.record(Act.RENAME, "ada", key=7, name=name)
    audit.record(Act.RENAME, "ada", key=8, name="Armel")
    assert [entry.key for entry in audit.Query(about=typed).entries()] == ["7"]
