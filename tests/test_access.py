"""Who sees and does what: roles, owners, signing in, and the back office."""

from __future__ import annotations

import json

import pytest
from django.forms import model_to_dict
from django.test import Client
from django.urls import URLPattern, get_resolver, reverse
from django.utils import timezone

from jobs import records
from jobs.models import Event, Job, Stage, Upload
from jobs.state import JobState, Source
from tests.support.recorded import job, text

pytestmark = pytest.mark.django_db


def test_every_page_asks_to_sign_in_and_says_so_to_no_one_else(client):
    for path in ("/", "/jobs/new/", "/history/", "/jobs/7a2d2b9e-7a0f-4b41-9d6c-0d6f0f8f0000/"):
        answer = client.get(path)
        assert answer.status_code == 302 and answer["Location"].startswith("/login/")
    assert client.get("/healthz").status_code == 200
    assert client.get("/metrics").status_code == 403


def test_a_load_balancers_probe_is_answered_by_any_name_and_nothing_else_is(client):
    for host in ("10.0.0.7:8000", "rebound.evil.example", "a b"):
        answer = client.get("/healthz", headers={"Host": host})
        assert (answer.status_code, answer.content) == (200, b"ok\n")
        for path in ("/", "/login/", "/readyz", "/healthz/", "/healthz?x=y/../../login/"):
            status = client.get(path, headers={"Host": host}).status_code
            assert status == (200 if "?" in path else 400), path


def test_thousands_of_fields_are_refused_before_a_view_reads_them(client):
    fields = "&".join(f"a{number}=" for number in range(1001))
    form = client.post("/login/", fields, content_type="application/x-www-form-urlencoded")
    parts = "".join(f'--x\r\nContent-Disposition: form-data; name="a{n}"\r\n\r\n\r\n' for n in range(1001))
    multipart = client.post("/login/", parts + "--x--\r\n", content_type="multipart/form-data; boundary=x")
    for answer in (form, multipart, client.get(f"/login/?{fields}")):
        assert answer.status_code == 400 and "Traceback" not in text(answer)


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
    assert answer.status_code == 403 and "You don’t have access" in text(answer)


def test_a_form_without_its_token_says_that_nothing_was_changed(db):
    answer = Client(enforce_csrf_checks=True).post("/login/", {"username": "ada", "password": "x"})
    assert answer.status_code == 403 and "This page has expired Nothing was changed" in text(answer)


def test_who_joins_the_admins_is_staff_and_manages_people(client, editor):
    from django.contrib.auth.models import Group

    assert set(Group.objects.values_list("name", flat=True)) >= {"Editors", "Admins"}
    editor.groups.add(Group.objects.get(name="Admins"))
    client.force_login(editor)
    assert client.get("/history/").status_code == 200
    assert client.get("/people/").status_code == 200
    assert client.get("/admin/jobs/job/").status_code == 200
    editor.groups.clear()
    assert client.get("/history/").status_code == 403


def test_back_leads_only_to_our_own_pages(ada, editor):
    done = job(editor)
    for evil in ("https://evil.example/", "//evil.example/", "javascript:alert(1)", "/\\evil.example"):
        answer = ada.post(f"/jobs/{done.pk}/retry/", {"next": evil})
        assert answer["Location"] == done.get_absolute_url(), evil
    for odd in ("-1", "login", "/?q=x"):
        assert ada.post(f"/jobs/{done.pk}/retry/", {"next": odd})["Location"] == odd


def test_the_back_office_shows_and_does_not_edit(chief, editor):
    made = job(editor)
    for path in ("job", "stage", "event", "upload"):
        assert chief.get(f"/admin/jobs/{path}/?q=film").status_code == 200
    assert chief.get(f"/admin/jobs/job/{made.pk}/change/").status_code == 200
    assert chief.post(f"/admin/jobs/job/{made.pk}/change/", {"title": "x"}).status_code == 403
    assert chief.get("/admin/jobs/job/add/").status_code == 403
    form = {"action": "cancel", "_selected_action": [str(made.pk)]}
    assert "Nothing was cancelled. 1 had already ended." in text(
        chief.post("/admin/jobs/job/", form, follow=True)
    )


def test_a_sign_in_link_works_once(client, editor):
    from mediapipe.accounts import magic_link

    path = magic_link.create("ada")
    assert client.get(path)["Location"] == "/"
    assert client.get("/").status_code == 200
    other = Client()
    assert "expired or was already used" in text(other.get(path, follow=True))
    assert "expired or was already used" in text(other.get("/welcome/forged/", follow=True))


# What a stranger may ask for without having signed in, and why: the rest of the URLs leads to the login.
OPEN = {
    "login", "single_sign_on", "single_sign_on_back",
    "jobs:healthz", "jobs:readyz", "jobs:metrics",  # metrics has a key of its own
    "jobs:webhook", "media", "magic_link", "invited",  # their URLs are signed
    "jobs:shared", "jobs:shared_zip", "jobs:shared_file", "jobs:embedded",  # made for strangers
    "jobs:push_worker",  # a script, the same for everybody: a browser fetches it anew without a session
}  # fmt: skip
FOR_ADMINS = {"jobs:move_first"}  # no editor comes as far as the question whose job it is


def every_url(made: Job):
    """Each URL of the dashboard with its name; what it is about is *made*."""
    given = {"pk": made.pk, "person": 1, "number": 1, "worker": 1, "name": "ingest", "token": "forged"}
    given["mark"] = "forged"
    for pattern in get_resolver().url_patterns:
        for name, space in ((pattern, ""),) if isinstance(pattern, URLPattern) else each_of(pattern):
            kinds = name.pattern.converters
            yield space + str(name.name), reverse(space + str(name.name), kwargs={k: given[k] for k in kinds})


def each_of(resolver):
    if resolver.namespace != "jobs":
        return []  # the back office and the engine have their own doors, below and in the engine's tests
    return [(pattern, "jobs:") for pattern in resolver.url_patterns]


def test_every_url_leads_a_stranger_to_the_login_and_a_foreign_editor_nowhere(client, ada, django_user_model):
    hers = job(django_user_model.objects.create_user("eve"), "hers")
    seen = set()
    for name, path in every_url(hers):
        seen.add(name)
        for method in ("get", "post"):
            answer = getattr(client, method)(path)
            if name not in OPEN:
                assert answer.status_code in (302, 401, 405) or name.startswith("jobs:upload"), (name, method)
                if answer.status_code == 302:
                    assert answer["Location"].startswith("/login/"), (name, method)
            if f"{hers.pk}" in path and name not in OPEN:
                theirs = getattr(ada, method)(path, headers={"Tus-Resumable": "1.0.0"})
                refused = (403,) if name in FOR_ADMINS else (404, 405)
                assert theirs.status_code in refused, (name, method, theirs.status_code)
                assert "hers" not in theirs.content.decode()
    assert len(seen) > 20
    hers.refresh_from_db()
    assert hers.state == JobState.SUCCEEDED and client.get("/admin/").status_code == 302
    assert ada.get("/admin/jobs/job/").status_code == 403, "the back office is for staff"


def test_who_is_signed_out_or_is_staff_no_more_is_so_at_the_next_poll(client, editor, django_user_model):
    job(django_user_model.objects.create_user("eve"), "hers")
    editor.is_staff = True
    editor.save()
    client.force_login(editor)
    first = client.get("/jobs/rows/")
    assert "hers" in text(first)
    tag = {"HX-PTag": first["HX-PTag"]}
    django_user_model.objects.filter(pk=editor.pk).update(is_staff=False)
    again = client.get("/jobs/rows/", headers=tag)
    assert again.status_code == 200 and "hers" not in text(again)
    django_user_model.objects.filter(pk=editor.pk).update(is_active=False)
    assert client.get("/jobs/rows/", headers=tag).status_code == 302


def test_an_admin_retries_and_cancels_in_the_back_office_as_in_the_list(chief, editor):
    waiting = Job.submit(editor, title="w", pipeline="standard", source=Source(url="http://example.org/x"))
    failed = job(editor, "f", JobState.FAILED)
    page = chief.get("/admin/jobs/job/").content.decode()
    assert "Retry what failed" in page and '<option value="cancel">' in page
    form = {"action": "cancel", "_selected_action": [str(waiting.pk), str(failed.pk)]}
    assert "Cancelling 1 job. 1 had already ended." in text(chief.post("/admin/jobs/job/", form, follow=True))
    form = {"action": "retry", "_selected_action": [str(failed.pk)]}
    assert "Retrying 1 job." in text(chief.post("/admin/jobs/job/", form, follow=True))
    failed.refresh_from_db()
    assert failed.state == JobState.QUEUED and failed.run == 2


def test_an_admin_deletes_in_the_back_office_as_in_the_list_and_never_a_running_job(chief, editor):
    done, active = (
        job(editor, "done"),
        Job.submit(editor, title="active", pipeline="standard", source=Source(url="http://example.org/x")),
    )
    page = chief.get("/admin/jobs/job/").content.decode()
    assert '<option value="delete">' in page and "delete_selected" not in page
    assert chief.post(f"/admin/jobs/job/{done.pk}/delete/", {"post": "yes"}).status_code == 403
    ids = [str(done.pk), str(active.pk)]
    answer = chief.post("/admin/jobs/job/", {"action": "delete", "_selected_action": ids})
    assert "Delete 2 jobs?" in text(answer) and Job.objects.count() == 2
    confirmed = {"action": "delete", "job": ids, "confirmed": "1", "from": "history"}
    assert "Deleted 1 job. 1 is still running; cancel it first." in text(
        chief.post("/jobs/bulk/", confirmed, follow=True)
    )
    assert Job.objects.get().pk == active.pk


def test_no_door_of_the_back_office_deletes_a_running_job_or_changes_its_state(chief, editor):
    running = job(editor, "running", JobState.RUNNING)
    Upload.objects.create(owner=editor, filename="a.mp4", length=1, expires_at=timezone.now(), job=running)
    forms = {"post": "yes", "_save": "Save", "stages-0-DELETE": "on", **whole(running)}
    forms |= {f"{rows}-{count}_FORMS": 0 for rows in ("stages", "events") for count in ("TOTAL", "INITIAL")}
    forms |= {"stages-TOTAL_FORMS": 1, "stages-INITIAL_FORMS": 1, "stages-0-job": running.pk}
    forms |= {f"stages-0-{name}": value for name, value in whole(running.stages.first()).items()}
    before, seen = everything(), 0
    for model in (Job, Stage, Event, Upload):
        for pattern in records.site.get_model_admin(model).get_urls():
            kinds = pattern.pattern.converters
            row = model.objects.first().pk
            place = f"admin:{pattern.name}"
            path = reverse(place, kwargs=dict.fromkeys(kinds, row)) if pattern.name else f"/admin/{row}/"
            own = whole(model.objects.first())
            for action in ("delete", "delete_selected", "nothing"):
                chief.post(path, {**forms, **own, "action": action, "_selected_action": [row]})
            seen += 1
            assert everything() == before, path
    assert seen >= 4 * 5


def whole(row) -> dict[str, object]:
    """A valid form of all that may be written of a row; in it the job has succeeded."""
    given = {**model_to_dict(row), "id": row.pk, "state": "succeeded"}
    return {
        name: json.dumps(value) if isinstance(value, dict | list) else "" if value is None else value
        for name, value in given.items()
    }


def everything() -> list[tuple]:
    """Every column of every row about jobs."""
    return [
        row for model in (Job, Stage, Event, Upload) for row in model.objects.order_by("pk").values_list()
    ]


def test_only_an_admin_forces_a_restart_and_only_of_what_runs(ada, chief, editor):
    made = job(editor)
    assert ada.post(f"/jobs/{made.pk}/force-restart/").status_code == 404
    answer = chief.post(f"/jobs/{made.pk}/force-restart/", follow=True)
    assert "This job isn’t running, so there’s nothing to end." in text(answer)


@pytest.mark.parametrize("path", ["/?q=a%00b", "/?from=%00", "/login/?next=%00", "/history/?owner=%00"])
def test_a_query_with_a_nul_is_no_text_and_is_refused(chief, path):
    answer = chief.get(path)
    assert answer.status_code == 400 and "wrong with that request" in text(answer)


def test_a_form_with_a_nul_is_no_text_and_is_refused_before_anything_reads_it(ada, editor):
    made = job(editor)
    for fields in ({"reason": "a\0b"}, {"\0": "x"}, {"next": "/\0"}):
        assert ada.post(f"/jobs/{made.pk}/cancel/", fields).status_code == 400
    assert ada.post("/jobs/views/", {"name": "\0", "query": ""}).status_code == 400
    answer = ada.post("/ittybit/tasks?x=%00", "{}", content_type="application/json")
    assert (answer.status_code, answer.json()["kind"]) == (400, "request_invalid")


def test_a_poll_without_a_session_gets_no_sign_in_page_and_a_form_leads_back_to_its_page(client, db):
    answer = client.get("/jobs/rows/", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.content) == (401, b"")
    page = "http://testserver/?q=take"
    sent = client.post("/jobs/sample/", headers={"Referer": page})
    assert sent.status_code == 302 and sent["Location"].endswith("/login/?next=/%3Fq%3Dtake")
    abroad = client.post("/jobs/sample/", headers={"Referer": "http://example.org/x"})
    assert abroad["Location"].endswith("/login/?next=/jobs/sample/")
