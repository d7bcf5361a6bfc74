"""Signing in: tries are limited by name and network, nobody is locked out by somebody else."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import timedelta

import pytest
from django.contrib.auth.hashers import MD5PasswordHasher
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, RequestFactory
from django.utils import timezone

from mediapipe.accounts import limits
from mediapipe.accounts.models import Tries
from tests.support.recorded import text

pytestmark = pytest.mark.django_db
RIGHT = "correct horse battery"


def attempt(client: Client, address: str = "192.0.2.1", name: str = "ada", password: str = "wrong") -> int:
    """The status of a try from an address: 302 is in, 200 wrong, 429 too many."""
    return client.post("/login/", {"username": name, "password": password}, REMOTE_ADDR=address).status_code


def guess(address: str, name: str = "ada") -> None:
    """A wrong password, as the form has it checked, without its page: strangers come by the hundred."""
    asked = RequestFactory().post("/login/", REMOTE_ADDR=address)
    with suppress(limits.TooMany), limits.attempt(asked, name):
        pass


def test_a_name_is_tried_ten_times_from_a_network_and_says_when_again(client, editor):
    assert [attempt(client) for _ in range(11)] == [200] * 10 + [429]
    answer = client.post("/login/", {"username": "ada", "password": RIGHT}, REMOTE_ADDR="192.0.2.1")
    assert answer.status_code == 429 and "Try again in 15 minutes" in text(answer)
    assert answer["Retry-After"] == "900"
    Tries.objects.update(since=timezone.now() - timedelta(minutes=16))
    assert attempt(client, password=RIGHT) == 302


@pytest.mark.parametrize("name", ["ADA", " ada ", "ａｄａ"])
def test_another_way_to_write_a_name_is_no_other_name(name, client, editor):
    for _ in range(10):
        attempt(client)
    assert attempt(client, name=name) == 429


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("fe80::1%eth0", "fe80::2", True),
    ],
)
def test_a_network_is_an_ipv4_address_or_what_one_ipv6_customer_has(one, other, same, rf):
    one, other = (limits.network(rf.get("/", REMOTE_ADDR=address)) for address in (one, other))
    assert (one == other) is same


def test_strangers_elsewhere_lock_nobody_out(client, editor):
    for at in range(30):
        for _ in range(11):
            guess(f"198.51.100.{at}")
    assert attempt(client, "192.0.2.1", password=RIGHT) == 302


def test_strangers_at_the_same_address_dont_lock_out_a_browser_that_has_been_in_before(client, editor):
    assert attempt(client, password=RIGHT) == 302
    client.post("/logout/")
    for at in range(110):
        guess("192.0.2.1", f"nobody{at}" if at > 12 else "ada")
    assert attempt(Client(), password=RIGHT) == 429, "a browser that nobody knows waits"
    assert attempt(client, password=RIGHT) == 302
    client.post("/logout/")
    assert attempt(client, name="eve") == 429, "the mark is for ada alone"


def test_a_known_browser_is_limited_too_and_its_mark_cant_be_forged(client, editor):
    attempt(client, password=RIGHT)
    client.post("/logout/")
    assert [attempt(client) for _ in range(11)] == [200] * 10 + [429]
    forged = Client()
    for at in range(11):
        forged.cookies["known"] = client.cookies["known"].value[:-3] + f"{at:03}"
        last = attempt(forged)
    assert last == 429


@pytest.mark.slow
def test_ever_new_names_from_one_network_end_at_a_hundred_hashes_and_fill_no_table(client, editor):
    statuses = [attempt(client, name=f"name{at}") for at in range(130)]
    assert statuses == [200] * 100 + [429] * 30
    assert Tries.objects.count() == 101
    assert attempt(client, "203.0.113.9", password=RIGHT) == 302


@pytest.mark.slow
def test_who_gets_in_takes_back_what_was_counted(client, editor):
    for _ in range(30):
        for _ in range(3):
            attempt(client)
        assert attempt(Client(), password=RIGHT) == 302


def test_tries_of_long_ago_are_forgotten(client, editor):
    attempt(client)
    Tries.objects.update(since=timezone.now() - timedelta(hours=1))
    attempt(client, "192.0.2.99", name="eve")
    assert Tries.objects.count() == 2


class Counting(MD5PasswordHasher):
    """A hasher that knows how many hash at the same time."""

    algorithm = "counting"
    now = most = made = 0
    lock = threading.Lock()
    enough = threading.Event()

    def encode(self, password, salt):
        """Hashes while others may try to."""
        cls = type(self)
        with cls.lock:
            cls.now += 1
            cls.made += 1
            cls.most = max(cls.most, cls.now)
        cls.enough.wait(0.05)
        with cls.lock:
            cls.now -= 1
        return super().encode(password, salt)


@pytest.mark.django_db(transaction=True)
def test_at_most_two_passwords_are_hashed_at_once_and_a_rush_is_told_to_wait(settings):
    settings.PASSWORD_HASHERS = [f"{__name__}.Counting"]
    start = threading.Barrier(24)
    statuses = []

    def flood(at: int) -> None:
        start.wait()
        statuses.append(attempt(Client(), f"198.51.100.{at}", name=f"name{at}"))
        connection.close()

    threads = [threading.Thread(target=flood, args=(at,)) for at in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= Counting.most <= 2 and set(statuses) <= {200, 429} and 200 in statuses
    assert Counting.made <= statuses.count(200)


@pytest.mark.django_db(transaction=True)
def test_thirty_tries_at_the_same_moment_are_no_way_around_the_limit():
    User.objects.create_user("ada", password=RIGHT)
    start = threading.Barrier(30)
    statuses = []

    def guess() -> None:
        start.wait()
        statuses.append(attempt(Client()))
        connection.close()

    threads = [threading.Thread(target=guess) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses.count(200) <= 10 and set(statuses) <= {200, 429}


def test_the_old_password_is_guessed_no_faster_than_at_sign_in(ada):
    form = {"new_password1": "another long secret", "new_password2": "another long secret"}
    answers = [ada.post("/password/", {**form, "old_password": f"guess{at}"}) for at in range(12)]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429] * 2
    assert ada.post("/password/", {**form, "old_password": RIGHT}).status_code == 429


def test_a_changed_password_is_said_and_signs_out_the_other_browsers(client, ada):
    assert attempt(client, password=RIGHT) == 302
    short = {"old_password": RIGHT, "new_password1": "elevenchars", "new_password2": "elevenchars"}
    assert "at least 12 characters" in text(ada.post("/password/", short))
    new = {
        "old_password": RIGHT,
        "new_password1": "another long secret",
        "new_password2": "another long secret",
    }
    assert "Password changed. Other devices were signed out." in text(
        ada.post("/password/", new, follow=True)
    )
    assert client.get("/").status_code == 302 and ada.get("/").status_code == 200
