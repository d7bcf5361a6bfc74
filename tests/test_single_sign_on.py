"""Signing in with a company account: who is let in as whom, and which lies aren't believed."""

from __future__ import annotations

import html
import re
from urllib.parse import unquote

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from joserfc.jwk import RSAKey

from mediapipe.accounts import magic_link, people, provider
from mediapipe.accounts.models import Identity
from mediapipe.accounts.people import Role
from tests.support.openid import CLIENT, Provider, shared_secret
from tests.support.recorded import text

pytestmark = pytest.mark.django_db
BEGIN = "/login/single-sign-on/"


@pytest.fixture(scope="module")
def server():
    server = Provider()
    yield server
    server.stop()


@pytest.fixture
def company(server, settings):
    """The company's provider, where `ada` signs in, and the settings for it."""
    server.person, server.userinfo = {"sub": "4711", "preferred_username": "ada"}, {}
    server.claims, server.header, server.key = {}, {"alg": "RS256", "kid": "one"}, None
    server.broken = ""
    server.asked.clear()
    provider._kept.clear()
    settings.OIDC_ISSUER, settings.OIDC_NAME = server.issuer, "Acme"
    settings.OIDC_CLIENT_ID, settings.OIDC_CLIENT_SECRET = CLIENT
    return server


def sign_in(company: Provider, client: Client | None = None, **asked: str):
    """The whole way, as a browser goes it: the answer at its end."""
    client = client or Client()
    begun = client.get(BEGIN, asked)
    if begun.status_code == 302 and begun["Location"].startswith("http"):
        begun = client.get(company.sign_in(begun["Location"]))
    return begun


def sentence(client: Client) -> str:
    """What the sign-in page says."""
    page = client.get("/login/", follow=True)
    return html.unescape(re.search(r'data-level="error">\s*(.+?)\s*<', page.content.decode())[1])


def refused(company: Provider, client: Client | None = None, **asked: str) -> str:
    client = client or Client()
    answer = sign_in(company, client, **asked)
    assert answer["Location"] == "/login/" and "_auth_user_id" not in client.session
    return sentence(client)


def test_who_comes_first_is_an_editor_without_a_password_and_stays_the_same_under_another_name(company):
    client = Client()
    assert sign_in(company, client, next="/upload/")["Location"] == "/upload/"
    ada = User.objects.get()
    assert client.session["_auth_user_id"] == str(ada.pk)
    assert (ada.username, people.role_of(ada), ada.has_usable_password()) == ("ada", Role.EDITOR, False)
    account = text(client.get("/password/"))
    assert "Your account" in account and "Change password" not in account
    company.person["preferred_username"] = "ada.lovelace"
    assert sign_in(company)["Location"] == "/"
    assert User.objects.get().username == "ada"


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"email": "grace@example.com"}, "grace"),
        ({"name": "Grace Hopper"}, "Grace-Hopper"),
        ({}, "4711"),
        ({"preferred_username": "\0/"}, "person"),
        ({"preferred_username": "x" * 400}, "x" * 150),
    ],
)
def test_a_name_is_what_the_provider_suggests_as_far_as_names_may_be(claims, name, company):
    company.person = {"sub": "4711", **claims}
    sign_in(company)
    assert User.objects.get().username == name


def test_a_name_that_is_taken_lets_nobody_in_and_a_link_of_an_admin_connects_the_two(company):
    ada = User.objects.create_user("Ada", password="correct horse battery")
    assert "There’s already somebody called ada here" in refused(company)
    assert not Identity.objects.exists()
    link = magic_link.invite(ada).split("/")[2]
    page = Client().get(f"/invited/{link}/")
    assert "Sign in with Acme" in text(page)
    client = Client()
    assert sign_in(company, client, link=link)["Location"] == "/"
    assert client.session["_auth_user_id"] == str(ada.pk)
    assert sign_in(company)["Location"] == "/", "from now on without the link"
    assert "expired or was already used" in refused(company, link=link)


def test_who_is_signed_in_connects_their_own_account_and_nobody_does_it_for_another(company):
    ada, eve = (User.objects.create_user(name) for name in ("Ada", "eve"))
    browser = Client()
    browser.force_login(ada)
    page = browser.get("/password/").content.decode()
    link = unquote(re.search(r"single-sign-on/\?link=([^\"&]+)", page)[1])
    other = Client()
    other.force_login(eve)
    sign_in(company, other, link=link)
    assert not Identity.objects.exists(), "a link that eve sends, or gets, connects nobody"
    sign_in(company, browser, link=link)
    assert Identity.objects.get().person == ada
    assert "You can sign in with Acme" in text(browser.get("/password/"))


@pytest.mark.parametrize("name", ["mediapipe", "Somebody"])
def test_nobody_gets_a_name_under_which_the_audit_log_has_what_no_person_does(name, company):
    company.person = {"sub": "4711", "preferred_username": name}
    assert f"There’s already somebody called {name} here" in refused(company)
    assert not User.objects.exists()


def test_an_account_that_is_somebodys_already_is_connected_with_nobody_else(company):
    sign_in(company)
    link = magic_link.invite(User.objects.create_user("grace")).split("/")[2]
    assert "You’re ada here already" in refused(company, link=link)


def test_who_is_deactivated_stays_out(company):
    sign_in(company)
    User.objects.update(is_active=False)
    assert refused(company) == "ada is deactivated here. Ask an admin."


@pytest.mark.parametrize(
    ("groups", "role"),
    [(["desk", "it"], Role.ADMIN), (["news"], Role.EDITOR), ("news", Role.EDITOR), ([7, "it"], Role.ADMIN)],
)
def test_groups_give_the_role_at_each_sign_in(groups, role, company, settings):
    settings.OIDC_ADMIN_GROUPS, settings.OIDC_EDITOR_GROUPS = ["it"], ["news"]
    company.person["groups"] = groups
    sign_in(company)
    assert people.role_of(User.objects.get()) is role
    company.person["groups"] = ["it"] if role is Role.EDITOR else ["news"]
    sign_in(company)
    assert people.role_of(User.objects.get()) is not role
    assert Group.objects.filter(user__isnull=False).count() == 1


@pytest.mark.parametrize("groups", [["desk"], [], None, {"it": 1}])
def test_who_is_in_none_of_the_groups_is_not_let_in(groups, company, settings):
    settings.OIDC_ADMIN_GROUPS, settings.OIDC_EDITOR_GROUPS = ["it"], ["news"]
    company.person["groups"] = groups
    assert "None of your groups at Acme may sign in here" in refused(company)
    assert not User.objects.exists()


def test_a_superuser_stays_one_whatever_the_groups_say(company, settings):
    root = User.objects.create_superuser("root")
    Identity.objects.create(issuer=company.issuer, subject="4711", person=root)
    settings.OIDC_ADMIN_GROUPS = ["it"]
    sign_in(company)
    root.refresh_from_db()
    assert people.role_of(root) is Role.SUPERUSER


def test_groups_that_only_userinfo_has_are_asked_for_there(company, settings):
    settings.OIDC_ADMIN_GROUPS = ["it"]
    company.userinfo = {"groups": ["it"]}
    sign_in(company)
    assert people.role_of(User.objects.get()) is Role.ADMIN
    company.userinfo = {"sub": "somebody else", "groups": ["it"]}
    sign_in(company)
    assert people.role_of(User.objects.get()) is Role.EDITOR


@pytest.mark.parametrize(
    "lie",
    [
        {"iss": "https://elsewhere.example"},
        {"aud": "another client"},
        {"aud": ["mediapipe", "other"], "azp": "other"},
        {"nonce": "of another sign-in"},
        {"nonce": None},
        {"exp": 1_500_000_000},
        {"exp": None},
        {"iat": None},
        {"sub": None},
        {"sub": "x" * 256},
        {"sub": "a\0b"},
        {"sub": 4711},
    ],
    ids=repr,
)
def test_a_token_that_is_not_for_us_or_not_of_now_is_not_believed(lie, company, caplog):
    company.claims = lie
    assert refused(company).startswith("Signing in with Acme doesn’t work at the moment.")
    assert "can’t be believed" in caplog.text and not User.objects.exists()


@pytest.mark.parametrize("how", ["stranger", "none", "secret"])
def test_a_token_that_another_has_signed_is_not_believed(how, company):
    if how == "stranger":
        company.key = RSAKey.generate_key(2048, {"kid": "one"})
    elif how == "secret":
        company.header, company.key = {"alg": "HS256", "kid": "one"}, shared_secret()
    else:
        company.header = {"alg": "none"}
    assert refused(company).startswith("Signing in with Acme doesn’t work")
    assert not User.objects.exists()


def test_new_keys_of_the_provider_are_fetched_when_a_token_has_one(company, monkeypatch):
    sign_in(company)
    monkeypatch.setattr(provider, "KEYS_ASKED_EVERY", 0)
    old = company.keys
    company.keys = [RSAKey.generate_key(2048, {"kid": "two", "use": "sig"})]
    company.header = {"alg": "RS256", "kid": "two"}
    try:
        assert sign_in(company)["Location"] == "/"
    finally:
        company.keys = old


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/token", "/keys"])
def test_a_provider_that_is_away_is_a_sentence_and_is_asked_again(path, company, caplog):
    company.broken = f"/realm{path}"
    assert "Try again in a minute or sign in with your password." in refused(company)
    assert "answered 502: no JSON" in caplog.text
    company.broken = ""
    assert sign_in(company)["Location"] == "/"


def test_a_provider_whose_json_is_nested_too_deeply_is_a_sentence_too(company, caplog, monkeypatch):
    company.broken = "/realm/token"
    monkeypatch.setattr(company, "page", "[" * 200_000)
    assert "Try again in a minute or sign in with your password." in refused(company)
    assert "answered 502: no JSON" in caplog.text
    company.broken = ""


def test_an_answer_counts_once_in_the_browser_that_began_and_from_that_provider(company):
    client = Client()
    begun = client.get(BEGIN)
    back = company.sign_in(begun["Location"])
    stranger = Client()
    assert stranger.get(back)["Location"] == "/login/" and "another browser" in sentence(stranger)
    assert client.get(f"{back}&iss=https://elsewhere.example")["Location"] == "/login/"
    assert "another browser" in sentence(client)
    assert client.get(back)["Location"] == "/login/", "its cookie is gone with the first answer"
    assert "_auth_user_id" not in client.session


def test_two_tabs_that_begin_together_both_come_back(company):
    client = Client()
    one, two = (client.get(BEGIN, {"next": page})["Location"] for page in ("/a/", "/b/"))
    assert client.get(company.sign_in(one))["Location"] == "/a/"
    assert client.get(company.sign_in(two))["Location"] == "/b/"


def test_what_the_provider_refuses_is_said_and_no_page_elsewhere_is_gone_to(company):
    client = Client()
    state = re.search("state=([^&]+)", client.get(BEGIN)["Location"])[1]
    client.get(f"{BEGIN}back/", {"state": state, "error": "access_denied<b>"})
    assert sentence(client) == "Acme didn’t sign you in: access_deniedb. Try again."
    assert sign_in(company, next="https://elsewhere.example/")["Location"] == "/"
    assert sign_in(company, next="//elsewhere.example/")["Location"] == "/"


def test_nobody_signs_in_with_a_password_where_that_is_off_but_by_the_link_of_the_command_line(
    company, settings, client
):
    settings.PASSWORD_SIGN_IN = False
    root = User.objects.create_superuser("root", password="correct horse battery")
    page = client.get("/login/").content.decode()
    assert "Sign in with Acme" in page and 'name="password"' not in page
    client.post("/login/", {"username": "root", "password": "correct horse battery"})
    assert sentence(client) == "You don’t sign in with a password here."
    link = magic_link.invite(User.objects.create_user("grace"))
    assert b"new_password1" not in client.get(link).content
    client.post(link, {"new_password1": "a long enough secret", "new_password2": "a long enough secret"})
    assert not User.objects.get(username="grace").has_usable_password()
    assert client.get(magic_link.create("root"))["Location"] == "/"
    assert client.session["_auth_user_id"] == str(root.pk)
    fields = {"old_password": "correct horse battery"}
    assert b"old_password" not in client.get("/password/").content
    client.post(
        "/password/", fields | dict.fromkeys(("new_password1", "new_password2"), "another long secret")
    )
    assert User.objects.get(username="root").check_password("correct horse battery")


def test_without_a_provider_nothing_of_it_is_there(client):
    assert client.get(BEGIN).status_code == client.get(f"{BEGIN}back/").status_code == 404
    assert "Sign in with" not in text(client.get("/login/"))
