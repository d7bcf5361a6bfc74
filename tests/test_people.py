"""People: who may change whom, by every field of every form and every action, and links that let in once."""

from __future__ import annotations

import logging
import re
import threading
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from jobs import urls
from jobs.models import ApiToken
from jobs.models.destination import Destination
from jobs.records import site
from jobs.state import Source
from mediapipe.accounts import magic_link
from tests.support.recorded import job, text

pytestmark = pytest.mark.django_db
LONG = "a long enough secret"


@pytest.fixture
def boss(django_user_model):
    """An admin who is no superuser."""
    person = django_user_model.objects.create_user("boss")
    person.groups.add(Group.objects.get(name="Admins"))
    person.refresh_from_db()
    return person


def browser(person: User) -> Client:
    client = Client()
    client.force_login(person)
    return client


def link_on(answer) -> str:
    """The path of the link that a page shows."""
    return re.search(r'value="http://[^/"]+(/invited/[^"]+)"', answer.content.decode())[1]


def everybody() -> dict:
    """All that makes a person what they are."""
    return {
        person.username: (
            *(person.password, person.is_active, person.is_staff, person.is_superuser),
            *(tuple(person.groups.values_list("name", flat=True)), person.user_permissions.count()),
        )
        for person in User.objects.all()
    }


# Every field of Django's own forms about people, and of ours.
FIELDS = {
    **dict.fromkeys(("is_superuser", "is_staff", "is_active", "active", "_save", "usable_password"), "on"),
    **dict.fromkeys(("password", "password1", "password2", "new_password1", "new_password2"), LONG),
    **dict.fromkeys(("username", "name"), "mallory"),
    **{key: ["1", "2"] for key in ("groups", "user_permissions")},
    **dict.fromkeys(("action",), "delete_selected"),
    **dict.fromkeys(("post", "email"), "m@example.org"),
    **dict.fromkeys(("role",), "superuser"),
}


def acts(pk: int):
    """Every address where somebody might be changed."""
    yield "/people/"
    yield from (f"/people/{pk}/{act}/" for act in ("role", "active", "link"))
    yield "/password/"
    for model in ("auth/user", "auth/group", "auth/permission", "sessions/session", "accounts/session"):
        yield from (f"/admin/{model}/", f"/admin/{model}/add/")
        yield from (f"/admin/{model}/{pk}/{act}/" for act in ("change", "delete", "password", "history"))
    yield f"/admin/auth/user/{pk}/password/"
    yield "/admin/password_change/"


@pytest.mark.parametrize("role", ["anonymous", "editor", "boss", "deactivated", "chief"])
@pytest.mark.parametrize("of", ["chief", pytest.param("themselves", marks=pytest.mark.slow)])
def test_no_form_and_no_action_makes_a_superuser_or_touches_one_or_oneself(
    role, of, boss, chief, editor, django_user_model
):
    chief_row = User.objects.get(username="chief")
    gone = django_user_model.objects.create_user("gone", is_active=False)
    actor = {"editor": editor, "boss": boss, "deactivated": gone, "chief": chief_row}.get(role)
    client = browser(actor) if actor else Client()
    before = everybody()
    whom = actor if of == "themselves" and actor else chief_row
    for path in acts(whom.pk):
        more = (
            ()
            if path.startswith("/admin/")
            else ({"role": "admin", "name": "x y"}, {"active": "", "name": ""})
        )
        for ordered in ({}, *more):
            answer = client.post(path, {**FIELDS, "_selected_action": [whom.pk], **ordered})
            assert answer.status_code in (200, 302, 400, 403, 404), path
    assert everybody() == before


@pytest.mark.parametrize("role", ["anonymous", "editor", "deactivated"])
def test_who_is_no_admin_changes_nobody_and_sees_no_people(role, editor, boss, django_user_model):
    gone = django_user_model.objects.create_user("gone", is_active=False)
    other = django_user_model.objects.create_user("eve")
    client = {"editor": browser(editor), "deactivated": browser(gone), "anonymous": Client()}[role]
    before = everybody()
    for path in acts(other.pk):
        client.post(path, {**FIELDS, "role": "admin", "_selected_action": [other.pk]})
    assert everybody() == before
    seen = client.get("/people/")
    assert seen.status_code == (403 if role == "editor" else 302) and "boss" not in text(seen)


@pytest.mark.parametrize("role", ["anonymous", "editor", "boss", "chief"])
def test_what_belongs_to_one_person_is_changed_by_nobody_else_whatever_they_are(role, boss, chief, editor):
    """Every address with the number of a thing: tokens, destinations, what was sent there, sessions."""
    eve = User.objects.create_user("eve")
    token, _ = ApiToken.issue(eve, "laptop", ("read",))
    destination = Destination.objects.create(owner=eve, channel="mail", address="e@example.org", wants="done")
    browser(eve)
    client = {"editor": browser(editor), "boss": browser(boss), "chief": chief, "anonymous": Client()}[role]

    def hers() -> list:
        return [list(rows.values()) for rows in (eve.api_tokens, eve.destinations, eve.sessions)]

    before, tried = hers(), 0
    for pattern in urls.urlpatterns:
        if [*pattern.pattern.converters] == ["number"]:  # not of a job's or a pipeline's part
            number = token.pk if "token" in pattern.name else destination.pk
            path, tried = reverse(f"jobs:{pattern.name}", args=[number]), tried + 1
            for method in (client.get, client.post):
                answer = method(path, {**FIELDS, "wants": "failed", "address": "m@example.org"})
                assert answer.status_code in ({302} if role == "anonymous" else {404, 405}), path
    assert client.post(f"/account/sessions/{eve.sessions.get().mark}/end/").status_code in (302, 404)
    assert hers() == before and tried >= 6


@pytest.mark.parametrize("who", ["boss", "chief"])
def test_an_admin_gives_a_role_and_with_it_nothing_else(who, boss, chief, editor):
    editor.user_permissions.add(Permission.objects.first())
    client = browser(boss) if who == "boss" else chief
    assert "ada is an admin now." in text(
        client.post(f"/people/{editor.pk}/role/", {**FIELDS, "role": "admin"}, follow=True)
    )
    editor.refresh_from_db()
    assert (editor.is_staff, editor.is_superuser, editor.user_permissions.count()) == (True, False, 0)
    assert browser(editor).get("/people/").status_code == 200
    assert "ada is an editor now." in text(
        client.post(f"/people/{editor.pk}/role/", {"role": "editor"}, follow=True)
    )
    editor.refresh_from_db()
    assert not editor.is_staff and [group.name for group in editor.groups.all()] == ["Editors"]
    for role in ("superuser", "staff", "", "Admins"):
        answer = client.post(f"/people/{editor.pk}/role/", {"role": role})
        assert answer.status_code == 403 and "Choose a role" in text(answer)


def test_the_back_office_knows_no_people_and_nothing_in_it_can_be_changed(boss, chief):
    assert {model._meta.label for model in site._registry} == {
        "jobs.Job",
        "jobs.Stage",
        "jobs.Event",
        "jobs.Upload",
    }
    request = type("Request", (), {"user": User.objects.get(username="chief")})()
    for model in site._registry.values():
        for may in ("add", "change", "delete"):
            assert not getattr(model, f"has_{may}_permission")(request), (model, may)
    page = text(browser(boss).get("/admin/"))
    assert "Records" in page and "Django" not in page and "Users" not in page and "Axes" not in page


def test_the_back_office_speaks_as_the_dashboard_does(boss, editor):
    made = job(editor, "finished.mp4")
    client = browser(boss)
    page = text(client.get("/admin/jobs/job/"))
    assert "Done" in page and "Succeeded" not in page.split("finished.mp4")[1]
    assert page.strip().startswith("Jobs · mediapipe") and "Jobs History Pipelines People Upload" in page
    assert "Select job to view" not in page and not re.search(r"\d [ap]\.m\.", page)
    row = client.get(f"/admin/jobs/job/{made.pk}/change/")
    assert "State: Done" in text(row) and "Open the job’s page" in text(row) and "Succeeded" not in text(row)
    assert "records." in row.content.decode() and "favicon." in row.content.decode()
    assert client.get("/admin/login/")["Location"].startswith("/login/")
    assert "You don’t have access" in text(browser(editor).get("/admin/"))
    assert browser(editor).get("/admin/login/").status_code == 403


def test_an_admin_adds_somebody_who_comes_in_once_by_a_link_and_then_by_a_password(boss, client, caplog):
    caplog.set_level(logging.INFO, "mediapipe.accounts")
    admin = browser(boss)
    answer = admin.post("/people/", {"name": "maria", "role": "editor"})
    path = link_on(answer)
    assert "no-store" in answer["Cache-Control"] and "boss added the person maria: editor" in caplog.text
    assert "/invited/" not in admin.get("/people/").content.decode(), "shown once"
    for _ in range(2):  # whoever only looks uses nothing up
        assert "Welcome, maria" in text(client.get(path))
    short = client.post(path, {"new_password1": "short", "new_password2": "short"})
    assert short.status_code == 200 and "too short" in text(short)
    assert client.post(path, {"new_password1": LONG, "new_password2": LONG})["Location"] == "/"
    assert "maria" in text(client.get("/"))
    other = Client()
    assert "Ask an admin for a new one" in text(other.get(path, follow=True))
    assert other.post("/login/", {"username": "maria", "password": LONG})["Location"] == "/"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("", "letters, digits"),
        ("a b", "letters, digits"),
        ("x" * 151, "letters, digits"),
        ("ADA", "already somebody"),
        ("MediaPipe", "already somebody"),
        ("somebody", "already somebody"),
    ],
)
def test_a_name_that_cannot_be_is_refused_with_a_sentence(name, sentence, boss, editor):
    answer = browser(boss).post("/people/", {"name": name, "role": "editor"})
    assert answer.status_code == 400 and sentence in text(answer)
    assert User.objects.count() == 2


def test_a_new_link_voids_the_password_the_sessions_and_every_earlier_link(boss, editor, ada):
    admin = browser(boss)
    first, second = (link_on(admin.post(f"/people/{editor.pk}/link/")) for _ in range(2))
    assert ada.get("/").status_code == 302
    assert "Wrong username or password." in text(
        Client().post("/login/", {"username": "ada", "password": "correct horse battery"})
    )
    assert Client().get(first).status_code == 302 and Client().get(second).status_code == 200


def test_who_is_deactivated_is_out_at_once_and_comes_back_by_a_click(boss, editor, ada):
    admin = browser(boss)
    link = link_on(admin.post("/people/", {"name": "maria", "role": "editor"}))
    maria = User.objects.get(username="maria")
    for person in (editor, maria):
        assert "can’t sign in any more" in text(admin.post(f"/people/{person.pk}/active/", follow=True))
    assert ada.get("/").status_code == 302 and Client().get(link).status_code == 302
    assert "Reactivate" in text(admin.get("/people/"))
    assert admin.post(f"/people/{editor.pk}/link/").status_code == 403
    for person in (editor, maria):
        admin.post(f"/people/{person.pk}/active/", {"active": "1"})
    assert ada.get("/").status_code == 302, "a session from before stays over"
    assert Client().get(link).status_code == 302, "a link from before stays void"
    assert (
        Client().post("/login/", {"username": "ada", "password": "correct horse battery"}).status_code == 302
    )


def test_the_page_lists_who_may_come_in_as_what_and_with_how_many_jobs(
    boss, editor, chief, django_assert_max_num_queries
):
    from jobs.models import Job

    Job.submit(editor, title="w", pipeline="standard", source=Source(url="http://example.org/x"))
    job(editor)
    User.objects.bulk_create(User(username=f"p{at}") for at in range(50))
    admin = browser(boss)
    with django_assert_max_num_queries(7):
        page = text(admin.get("/people/"))
    assert re.search(r"ada Editor Hasn’t signed in yet · 1 active job Make an admin", page)
    assert re.search(r"boss Admin you Last seen just now · no active jobs", page)
    assert re.search(
        r"chief Superuser Last seen just now · no active jobs · changed on the server only", page
    )
    assert "People" in text(browser(boss).get("/")) and "People" not in text(browser(editor).get("/"))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["sign-in link", "invitation"])
def test_of_twelve_who_use_a_link_at_the_same_moment_one_comes_in(kind, django_user_model):
    person = django_user_model.objects.create_user("ada")
    path = magic_link.create("ada") if kind == "sign-in link" else magic_link.invite(person)
    start = threading.Barrier(12)
    inside = []

    def use() -> None:
        client = Client()
        start.wait()
        if kind == "sign-in link":
            client.get(path)
        else:
            client.post(path, {"new_password1": LONG, "new_password2": LONG})
        inside.append("_auth_user_id" in client.session)
        connection.close()

    threads = [threading.Thread(target=use) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(inside) == 12 and sum(inside) == 1


def test_last_seen_is_when_somebody_last_did_something_not_when_they_signed_in(chief, client, editor):
    client.force_login(editor)
    User.objects.filter(pk=editor.pk).update(last_login=timezone.now() - timedelta(days=40))
    assert "ada Editor Last seen just now" in text(chief.get("/people/"))
