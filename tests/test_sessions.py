"""Sessions: everybody sees their own and ends them, and one that isn't used ends by itself."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from mediapipe.accounts import sessions, visitor
from mediapipe.accounts.models import Session
from tests.support.recorded import text

pytestmark = pytest.mark.django_db
RIGHT = "correct horse battery"
PAGE = "/account/sessions/"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605 Version/18.0 Mobile Safari/604.1"
)


def browser(line: str = FIREFOX, address: str = "192.0.2.1", name: str = "ada") -> Client:
    """A browser that has signed in by the form."""
    client = Client(headers={"User-Agent": line}, REMOTE_ADDR=address)
    assert client.post("/login/", {"username": name, "password": RIGHT}).status_code == 302
    return client


def is_in(client: Client) -> bool:
    return client.get("/password/").status_code == 200


def marks(client: Client) -> list[str]:
    """What the buttons of the page would end."""
    return re.findall(r"/account/sessions/(\w{24})/end/", client.get(PAGE).content.decode())


def row(client: Client) -> Session:
    return Session.objects.get(session_key=client.session.session_key)


@pytest.fixture
def everywhere(editor):
    """Ada at her desk and on the road, and somebody else."""
    User.objects.create_user("eve", password=RIGHT)
    return browser(), browser(SAFARI, "2001:db8::7"), browser(name="eve", address="203.0.113.66")


def test_everybody_sees_their_own_sessions_where_they_are_and_which_is_this_one(everywhere):
    desk, road, eve = everywhere
    page = text(desk.get(PAGE))
    assert "Safari on iPhone 2001:db8::/64 · last seen" in page
    assert "Firefox on Linux This one 192.0.2.1 · last seen" in page
    assert page.count("This one") == 1 and "203.0.113.66" not in page
    assert "Safari on iPhone This one" in text(road.get(PAGE))
    assert len(marks(eve)) == 1 and desk.get(PAGE)["Cache-Control"].endswith("private")
    assert PAGE in desk.get("/password/").content.decode()
    for client in everywhere:
        assert client.session.session_key.encode() not in desk.get(PAGE).content, "a key lets somebody in"


def test_a_session_is_ended_by_its_owner_alone(everywhere):
    desk, road, eve = everywhere
    (other,) = set(marks(desk)) - {row(desk).mark}
    assert eve.post(f"{PAGE}{other}/end/").status_code == 404 and is_in(road)
    assert desk.get(f"{PAGE}{other}/end/").status_code == 405 and is_in(road)
    assert Client().post(f"{PAGE}{other}/end/").status_code == 302 and is_in(road)
    assert "That browser has to sign in again" in text(desk.post(f"{PAGE}{other}/end/", follow=True))
    assert [is_in(client) for client in everywhere] == [True, False, True]
    assert desk.post(f"{PAGE}{other}/end/").status_code == 404
    assert desk.post(f"{PAGE}{row(desk).mark}/end/")["Location"] == "/login/"
    assert [is_in(client) for client in everywhere] == [False, False, True]


def test_all_others_are_ended_at_once_and_nobody_elses(everywhere):
    desk = everywhere[0]
    third = browser()
    assert "2 other sessions were ended" in text(desk.post(f"{PAGE}others/end/", follow=True))
    assert [is_in(client) for client in (*everywhere, third)] == [True, False, True, False]
    assert "End all others" not in text(desk.get(PAGE))


def test_a_form_of_another_site_ends_nothing(everywhere):
    desk, road, _ = everywhere
    forged = Client(enforce_csrf_checks=True)
    forged.cookies = desk.cookies
    assert forged.post(f"{PAGE}others/end/").status_code == 403 and is_in(road)


def test_a_session_ends_when_it_isnt_used_and_polls_are_no_use(editor, settings, monkeypatch):
    settings.SESSION_IDLE = timedelta(hours=2)
    client = browser()
    session = row(client)
    assert timedelta(hours=1.9) < session.expire_date - timezone.now() <= timedelta(hours=2)
    soon = timezone.now() + timedelta(minutes=5)
    long_ago = timezone.now() - timedelta(hours=1)
    monkeypatch.setattr(sessions, "_noted", {})
    Session.objects.update(expire_date=soon, last_seen=long_ago)
    assert client.get("/jobs/news/", headers={"HX-Request": "true"}).status_code == 200
    assert row(client).expire_date == soon and row(client).last_seen == long_ago
    assert is_in(client)
    assert row(client).expire_date > timezone.now() + timedelta(hours=1.9)
    assert row(client).last_seen > long_ago
    Session.objects.update(expire_date=soon)
    assert is_in(client) and row(client).expire_date == soon, "written once a minute"
    cookie = f"sessionid={client.session.session_key}"
    assert visitor.signed_in(cookie) == editor
    Session.objects.update(expire_date=timezone.now())
    assert visitor.signed_in(cookie) is None and not is_in(client)


def test_a_session_ends_a_month_after_it_began_however_much_it_is_used(editor, monkeypatch):
    client = browser()
    data = client.session
    data[sessions.ABOUT] = {**data[sessions.ABOUT], "since": timezone.now().timestamp() - 29.9 * 24 * 3600}
    data.save()
    monkeypatch.setattr(sessions, "_noted", {})
    assert is_in(client)
    assert row(client).expire_date < timezone.now() + timedelta(hours=2.5)


def test_what_has_ended_is_not_listed_and_is_forgotten(everywhere):
    desk = everywhere[0]
    new = {f"new_password{n}": "another long secret" for n in (1, 2)}
    desk.post("/password/", {"old_password": RIGHT, **new})
    assert "Safari" not in text(desk.get(PAGE)) and "Firefox on Linux This one" in text(desk.get(PAGE))
    Session.objects.filter(browser__startswith="Safari").update(expire_date=timezone.now())
    browser(name="eve")
    assert not Session.objects.filter(browser__startswith="Safari").exists()


def test_a_real_address_is_listed_where_it_was_last_used(editor, monkeypatch):
    client = browser()
    monkeypatch.setattr(sessions, "_noted", {})
    client.get("/password/", REMOTE_ADDR="198.51.100.4")
    assert "198.51.100.4 · last seen" in text(client.get(PAGE))


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (FIREFOX, "Firefox on Linux"),
        (SAFARI, "Safari on iPhone"),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/140.0 Safari/537.36 Edg/140.0", "Edge on Windows"),
        ("Mozilla/5.0 (Linux; Android 15) Chrome/140.0 Mobile Safari/537.36", "Chrome on Android"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/18 Safari/605.1", "Safari on macOS"),
        ("python-httpx/0.28", "Python program"),
        ("<script>" * 5000, ""),
        ("", ""),
    ],
)
def test_a_browser_is_called_what_people_call_it(line, name):
    assert sessions.browser_name(line) == name
