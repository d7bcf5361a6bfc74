"""The log: what strangers send doesn't fill it, and what went wrong in us stands there whole."""

from __future__ import annotations

import io
import logging

import pytest
from django.conf import settings
from django.test import Client

from mediapipe import log

pytestmark = pytest.mark.django_db
LONG = "/static/" + "a\r\nb" * 5000


@pytest.fixture
def written():
    """What goes to stderr, by the very filters of the settings."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    names = settings.LOGGING["handlers"]["stderr"]["filters"]
    assert [settings.LOGGING["filters"][name]["()"] for name in names] == ["mediapipe.log.Strangers"]
    handler.addFilter(log.Strangers())
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


def test_whatever_a_stranger_sends_is_a_short_line_without_a_traceback(written):
    client = Client()
    client.get(LONG)
    client.get("/", headers={"Host": "evil.example" * 2000})
    client.get("/", query_params={f"field{number}": "" for number in range(1500)})
    lines = written.getvalue().splitlines()
    assert len(lines) >= 3 and max(map(len, lines)) < 400, lines
    assert "Traceback" not in written.getvalue()


def test_only_so_many_a_minute_are_kept_and_what_was_left_out_is_said_and_an_error_of_ours_is_whole(written):
    filter_ = log.Strangers()
    record = logging.LogRecord("django.security.csrf", logging.WARNING, "", 0, "no", (), None)
    kept = [filter_.filter(record) for _ in range(log.MOST + 7)]
    assert kept == [True] * log.MOST + [False] * 7
    record.created += 60
    assert filter_.filter(record) and record.getMessage() == "no (and 7 such lines before it)"
    try:
        raise LookupError("ours")
    except LookupError:
        logging.getLogger("django.request").error("broken", exc_info=True, extra={"status_code": 500})
    assert "Traceback" in written.getvalue() and "LookupError: ours" in written.getvalue()
