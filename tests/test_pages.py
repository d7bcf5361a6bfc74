"""The dashboard's pages and forms, as far as no browser is needed: who sees what, and clear sentences."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from jobs.models import Job, Stage
from jobs.pipelines import JobState, Source, StageState

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ada(editor):
    client = Client()
    client.force_login(editor)
    return client


@pytest.fixture
def chief(django_user_model):
    client = Client()
    client.force_login(django_user_model.objects.create_superuser("chief", "", "x"))
    return client


def job(owner, title="film.mp4", state=JobState.SUCCEEDED, **fields) -> Job:
    made = Job.submit(
        owner, title=title, pipeline="standard", source=Source(name="sources/x.mp4", size=2_400_000)
    )
    now = timezone.now()
    Job.objects.filter(pk=made.pk).update(state=state, started_at=now, finished_at=now, **fields)
    Stage.objects.filter(job=made).update(
        state=StageState.SUCCEEDED if state == JobState.SUCCEEDED else StageState.PENDING,
        started_at=now - timedelta(seconds=4),
        finished_at=now,
    )
    made.refresh_from_db()
    return made


def text(answer) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


def test_every_page_asks_to_sign_in_and_says_so_to_no_one_else(client):
    for path in ("/", "/jobs/new/", "/history/", "/jobs/7a2d2b9e-7a0f-4b41-9d6c-0d6f0f8f0000/"):
        answer = client.get(path)
        assert answer.status_code == 302 and answer["Location"].startswith("/login/")
    assert client.get("/healthz").status_code == 200
    assert client.get("/metrics").status_code == 403


def test_an_editor_sees_own_jobs_and_staff_sees_all(ada, chief, editor, django_user_model):
    own = job(editor, "mine.mp4")
    other = job(django_user_model.objects.create_user("eve"), "hers.mp4")
    assert "mine.mp4" in text(ada.get("/")) and "hers.mp4" not in text(ada.get("/"))
    page = text(chief.get("/"))
    assert "mine.mp4" in page and "hers.mp4" in page
    assert ada.get(own.get_absolute_url()).status_code == 200
    for path in ("", "status/", "json/"):
        assert ada.get(f"/jobs/{other.pk}/{path}").status_code == 404
    for path in ("cancel/", "retry/", "stages/ingest/retry/"):
        assert ada.post(f"/jobs/{other.pk}/{path}").status_code == 404
    answer = ada.get("/history/")
    assert answer.status_code == 403 and "Not allowed" in text(answer)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "Choose a file, or paste the URL of one."),
        ({"url": "notaurl"}, "Paste a URL that begins with http:// or https://"),
        ({"url": "ftp://example.org/a.mp4"}, "ftp:// URLs are not accepted"),
        ({"url": "http://no-such-host.invalid/a.mp4"}, "cannot be found"),
        ({"url": "http://127.0.0.1/a.mp4"}, "on a private network"),
        ({"url": "http://u:p@example.org/"}, "user name or password"),
        ({"url": "http://exa mple.org/"}, "spaces"),
        ({"file": ("empty.mp4", b"")}, "empty"),
        ({"file": ("a.mp4", b"x"), "url": "http://example.org/a.mp4"}, "not both"),
        ({"url": "http://example.org/a.mp4", "pipeline": "nope"}, "not one of the available choices"),
    ],
)
def test_bad_input_gets_a_sentence_and_makes_no_job(ada, fields, says, settings):
    if fields.get("url", "").startswith("http://example.org") and "file" in fields:
        settings.ALLOW_PRIVATE_SOURCES = True  # the name need not resolve for this rule
    data = {key: SimpleUploadedFile(*value) if key == "file" else value for key, value in fields.items()}
    answer = ada.post("/jobs/new/", data)
    assert answer.status_code == 400
    assert says in text(answer) or "cannot be found" in text(answer)
    assert Job.objects.count() == 0


def test_a_file_over_the_cap_is_refused_with_a_sentence(ada, settings):
    settings.MAX_UPLOAD_BYTES = 10
    answer = ada.post("/jobs/new/", {"file": SimpleUploadedFile("a.mp4", b"x" * 11)})
    assert answer.status_code == 400 and "too large" in text(answer) and Job.objects.count() == 0


def test_without_temporal_a_job_is_queued_and_says_why(ada):
    answer = ada.post("/jobs/new/", {"file": SimpleUploadedFile("a.mp4", b"x" * 99)}, follow=True)
    made = Job.objects.get()
    assert made.state == JobState.QUEUED and answer.redirect_chain[-1][0] == made.get_absolute_url()
    assert "Temporal" in text(answer) and "by itself" in text(answer)


def test_a_queued_job_is_cancelled_without_temporal(ada, editor):
    waiting = Job.submit(editor, title="w", pipeline="standard", source=Source(url="http://example.org/x"))
    answer = ada.post(f"/jobs/{waiting.pk}/cancel/", follow=True)
    assert "Cancelled before it started" in text(answer)
    again = ada.post(f"/jobs/{waiting.pk}/cancel/", follow=True)
    assert "already ended" in text(again)


def test_a_retry_of_what_has_not_failed_is_explained(ada, editor):
    done = job(editor)
    answer = ada.post(f"/jobs/{done.pk}/stages/ingest/retry/", follow=True)
    assert "nothing to retry" in text(answer)
    assert ada.get(f"/jobs/{done.pk}/cancel/").status_code == 405


def test_a_fragment_that_has_not_changed_is_304_and_polling_ends_with_the_job(ada, editor):
    done = job(editor)
    first = ada.get(f"/jobs/{done.pk}/status/")
    assert first.status_code == 200 and "hx-trigger" not in first.content.decode()
    again = ada.get(f"/jobs/{done.pk}/status/", headers={"HX-PTag": first["HX-PTag"]})
    assert again.status_code == 304
    Job.submit(editor, title="w", pipeline="standard", source=Source(url="http://example.org/x"))
    rows = ada.get("/jobs/rows/")  # with a cancel button, and so with a token
    assert ada.get("/jobs/rows/", headers={"HX-PTag": rows["HX-PTag"]}).status_code == 304
    Job.objects.filter(pk=done.pk).update(title="another title")
    assert ada.get(f"/jobs/{done.pk}/status/", headers={"HX-PTag": first["HX-PTag"]}).status_code == 200


def test_tabs_search_order_and_pages_are_in_the_url(ada, editor):
    for number in range(30):
        job(editor, f"clip {number:02}", JobState.CANCELLED if number % 3 == 0 else JobState.SUCCEEDED)
    page = ada.get("/")
    assert re.search(r"All <b>30</b>", page.content.decode()) and "Page 1 of 2" in text(page)
    assert page.content.decode().count('class="job"') == 25
    assert ada.get("/?page=2").content.decode().count('class="job"') == 5
    assert ada.get("/?page=99999&sort=zzz&tab=zzz").status_code == 200
    assert ada.get("/?tab=cancelled").content.decode().count('class="job"') == 10
    found = ada.get("/?q=clip+07")
    assert found.content.decode().count('class="job"') == 1
    assert "No job matches" in text(ada.get("/?q=nothing-like-it"))
    titles = re.findall(r"<h2 [^>]*><a [^>]*>([^<]+)", ada.get("/?sort=title").content.decode())
    assert titles == sorted(titles)


def test_a_hostile_title_is_only_text(ada, editor):
    job(editor, "<script>alert(1)</script>{{ 7|add:7 }}")
    page = ada.get("/").content.decode()
    assert (
        "<script>alert" not in page
        and "&lt;script&gt;" in page
        and "14" not in re.findall(r"<h2 .*?</h2>", page, re.S)[0]
    )


def test_many_jobs_are_cancelled_at_once_and_the_rest_is_told(ada, editor, django_user_model):
    waiting = [
        Job.submit(editor, title=str(n), pipeline="standard", source=Source(url="http://example.org/x"))
        for n in range(3)
    ]
    done = job(editor)
    other = Job.submit(
        django_user_model.objects.create_user("eve"),
        title="e",
        pipeline="standard",
        source=Source(url="http://x/"),
    )
    ids = [str(each.pk) for each in [*waiting, done, other]]
    asked = ada.post("/jobs/bulk/", {"action": "cancel", "job": [*ids, "nonsense"]})
    assert "Cancel 4 jobs?" in text(asked)
    answer = ada.post("/jobs/bulk/", {"action": "cancel", "job": ids, "confirmed": "1"}, follow=True)
    assert "3 cancelled, 1 skipped: they had already ended" in text(answer)
    other.refresh_from_db()
    assert other.state == JobState.QUEUED
    assert "Choose what to do" in text(ada.post("/jobs/bulk/", {"action": "explode"}, follow=True))


def test_all_that_match_are_deleted_with_their_media_and_active_ones_are_skipped(ada, editor):
    from mediapipe import files

    gone = [job(editor, f"old {n}") for n in range(30)]
    kept = job(editor, "another")
    Job.submit(editor, title="old but active", pipeline="standard", source=Source(url="http://example.org/x"))
    for name in ("sources/x.mp4", "outputs/old.mp4"):
        files.path(name).parent.mkdir(parents=True, exist_ok=True)
        files.path(name).write_bytes(b"x")
    Stage.objects.filter(job=gone[0], name="ingest").update(output={"name": "outputs/old.mp4"})
    form = {"action": "delete", "matching": "q=old"}
    assert "Delete 31 jobs?" in text(ada.post("/jobs/bulk/", form)) and Job.objects.count() == 32
    answer = ada.post("/jobs/bulk/", {**form, "confirmed": "1"}, follow=True)
    assert "30 deleted, 1 skipped: they are still active" in text(answer)
    assert set(Job.objects.values_list("title", flat=True)) == {kept.title, "old but active"}
    assert not files.path("outputs/old.mp4").exists()
    assert files.path("sources/x.mp4").exists(), "another job still works on it"


def test_a_view_is_saved_shown_and_forgotten_by_its_owner_alone(ada, chief, editor):
    job(editor)
    ada.post("/jobs/views/", {"name": "My films", "query": "q=film&sort=title"})
    page = ada.get("/").content.decode()
    assert "My films" in page and 'href="/?q=film&amp;sort=title"' in page
    assert "My films" not in text(chief.get("/"))
    chief.post("/jobs/views/", {"forget": "My films"})
    assert "My films" in text(ada.get("/"))
    ada.post("/jobs/views/", {"forget": "My films"})
    assert "My films" not in text(ada.get("/"))
    assert "Give the view a name" in text(ada.post("/jobs/views/", {"query": "q=x"}, follow=True))


def test_filters_narrow_the_list(chief, editor, django_user_model):
    job(editor, "ours")
    job(django_user_model.objects.create_user("eve"), "hers")
    assert "hers" not in text(chief.get("/?owner=ada")) and "ours" in text(chief.get("/?owner=ada"))
    assert "ours" not in text(chief.get("/?from=2099-01-01"))
    assert "ours" in text(chief.get("/?from=2020-01-01&pipeline=standard"))
    assert "ours" not in text(chief.get("/?pipeline=streaming"))


def test_news_tell_once_what_has_finished(ada, editor):
    before = timezone.now() - timedelta(seconds=5)
    job(editor, "just done")
    answer = ada.get("/jobs/news/", {"since": before.isoformat()})
    assert "just done" in text(answer) and "hx-trigger" not in answer.content.decode()
    assert "just done" not in text(ada.get("/jobs/news/"))
    Job.submit(editor, title="w", pipeline="standard", source=Source(url="http://example.org/x"))
    for nonsense in ("nonsense", "2026-99-99T00:00:00", "2026-01-01T00:00:00"):
        assert "hx-trigger" in ada.get("/jobs/news/", {"since": nonsense}).content.decode()


def test_who_joins_the_admins_is_staff_and_manages_people(client, editor):
    from django.contrib.auth.models import Group

    assert set(Group.objects.values_list("name", flat=True)) >= {"Editors", "Admins"}
    editor.groups.add(Group.objects.get(name="Admins"))
    client.force_login(editor)
    assert client.get("/history/").status_code == 200
    assert client.get("/admin/auth/user/").status_code == 200
    assert client.get("/admin/jobs/job/").status_code == 200
    editor.groups.clear()
    assert client.get("/history/").status_code == 403


def test_back_leads_only_to_our_own_pages(ada, editor):
    done = job(editor)
    for evil in ("https://evil.example/", "//evil.example/", "javascript:alert(1)", "/\\evil.example"):
        answer = ada.post(f"/jobs/{done.pk}/retry/", {"next": evil})
        assert answer["Location"] == done.get_absolute_url(), evil


def test_the_history_filters_counts_and_hands_out_a_table(chief, editor):
    job(editor, "=cmd|' /C calc'!A0")
    job(editor, "failed one", JobState.FAILED)
    page = text(chief.get("/history/"))
    assert "failed one" in page and "50 %" in page
    assert "failed one" not in text(chief.get("/history/?state=succeeded"))
    assert chief.get("/history/?from=2026-99-99&page=x&owner=%00").status_code == 200
    answer = chief.get("/history/jobs.csv")
    lines = b"".join(_all(answer)).decode().splitlines()
    assert len(lines) == 3 and "'=cmd" in "".join(lines)


def _all(answer):
    import asyncio

    async def parts():
        return [part async for part in answer.streaming_content]

    return asyncio.run(parts())


def test_the_back_office_shows_and_does_not_edit(chief, editor):
    made = job(editor)
    for path in ("job", "stage", "event", "upload"):
        assert chief.get(f"/admin/jobs/{path}/?q=film").status_code == 200
    assert chief.get(f"/admin/jobs/job/{made.pk}/change/").status_code == 200
    assert chief.post(f"/admin/jobs/job/{made.pk}/change/", {"title": "x"}).status_code == 403
    assert chief.get("/admin/jobs/job/add/").status_code == 403
    form = {"action": "cancel", "_selected_action": [str(made.pk)]}
    assert "1 skipped: they had already ended" in text(chief.post("/admin/jobs/job/", form, follow=True))


def test_a_sign_in_link_works_once(client, editor):
    from jobs import welcome

    path = welcome.link("ada")
    assert client.get(path)["Location"] == "/"
    assert client.get("/").status_code == 200
    other = Client()
    assert "used or is too old" in text(other.get(path, follow=True))
    assert "used or is too old" in text(other.get("/welcome/forged/", follow=True))


def test_failed_sign_ins_are_limited(client, editor, settings):
    settings.AXES_FAILURE_LIMIT = 3
    for _ in range(3):
        answer = client.post("/login/", {"username": "ada", "password": "wrong"})
    assert "Too many" in text(answer) and answer.status_code in (403, 429)
    assert "Too many" in text(
        client.post("/login/", {"username": "ada", "password": "correct horse battery"})
    )


def test_every_answer_carries_the_policy(ada, client):
    for answer in (ada.get("/"), client.get("/login/"), client.get("/nothing-here"), client.get("/healthz")):
        policy = answer["Content-Security-Policy"]
        assert "default-src 'self'" in policy and "unsafe" not in policy
    page = ada.get("/").content.decode()
    assert not re.search(r"<[^>]+\son\w+=|<style|style=|<script>", page)


def test_a_first_visit_is_small(ada, editor):
    import gzip

    from django.contrib.staticfiles.storage import staticfiles_storage

    for number in range(25):
        job(editor, f"a clip with a rather long title, as editors write them, {number}")
    ada.get("/")
    answer = ada.get("/", headers={"Accept-Encoding": "gzip"})
    assert answer["Content-Encoding"] == "gzip" and "clip with" in gzip.decompress(answer.content).decode()
    page = gzip.decompress(answer.content).decode()
    static = set(re.findall(r'/static/([^"#]+)', page)) - set(re.findall(r'data-\w+="/static/([^"]+)"', page))
    wire = len(answer.content)
    for name in static:
        ends = [end for end in ("", ".gz") if staticfiles_storage.exists(name + end)]
        wire += min(staticfiles_storage.size(name + end) for end in ends)
    assert wire < 60_000, f"{wire} bytes"


def test_pages_that_do_not_exist_look_like_ours(ada):
    answer = ada.get("/nothing-here")
    assert answer.status_code == 404 and "There is nothing here" in text(answer)
    answer = ada.get("/jobs/7a2d2b9e-7a0f-4b41-9d6c-0d6f0f8f0000/")
    assert answer.status_code == 404 and "not yours" in text(answer)


def test_a_database_that_is_away_is_told_in_plain_words(ada, settings, tmp_path):
    from django.db import connection

    connection.close()
    right = connection.settings_dict["NAME"]
    connection.settings_dict["NAME"] = tmp_path / "no such folder" / "db.sqlite3"
    try:
        browser = Client(raise_request_exception=False)
        browser.cookies["sessionid"] = "x" * 32
        answer = browser.get("/")
    finally:
        connection.close()
        connection.settings_dict["NAME"] = right
    assert answer.status_code == 503 and "database cannot be reached" in text(answer)


def test_what_machines_ask(client, chief, editor):
    job(editor)
    assert 'mediapipe_jobs{state="succeeded"} 1' in chief.get("/metrics").content.decode()
    ready = client.get("/readyz")
    assert ready.status_code == 503 and ready.json() == {"database": True, "temporal": False, "disk": True}
    assert client.post("/hooks/ittybit/forged").status_code == 404
    assert client.get("/hooks/ittybit/forged").status_code == 405
