"""Moments from Postgres: read quickly, and the same ones that Django’s own way has."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace

import psycopg
import pytest
from django.db.backends.postgresql.psycopg_any import get_adapters_template
from django.db.backends.signals import connection_created
from psycopg.adapt import AdaptersMap

from mediapipe.timestamps import Timestamps

OID = psycopg.adapters.types["timestamptz"].oid
FORMAT = psycopg.pq.Format.TEXT


def loader_of(vendor: str, zone=UTC) -> type:
    """By which a connection reads moments that Django has just made."""
    adapters = AdaptersMap(get_adapters_template(True, zone))
    made = SimpleNamespace(vendor=vendor, timezone=zone, connection=SimpleNamespace(adapters=adapters))
    connection_created.send(object, connection=made)
    return adapters.get_loader(OID, FORMAT)


@pytest.mark.parametrize(
    "text",
    [
        b"2026-11-29 07:44:39.123456+00",
        b"2026-11-29 07:44:39.1+00",
        b"2026-11-29 07:44:39.1234+00",
        b"2026-02-28 00:00:00+00",
        b"0001-01-01 00:00:00+00",
        b"9999-12-31 23:59:59.999999+00",
    ],
)
def test_a_moment_of_postgres_is_the_one_that_django_reads(text):
    theirs = get_adapters_template(True, UTC).get_loader(OID, FORMAT)
    for data in (text, bytearray(text), memoryview(text)):
        read = Timestamps(OID).load(data)
        assert read == theirs(OID).load(text) and read.tzinfo is UTC, text


def test_a_session_elsewhere_tells_the_same_moment():
    made = datetime(2026, 7, 1, 12, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert Timestamps(OID).load(b"2026-07-01 12:30:00+05:30") == made


@pytest.mark.parametrize("text", [b"infinity", b"0044-03-15 00:00:00+00 BC", b"12026-01-01 00:00:00+00"])
def test_what_no_calendar_has_is_refused_as_psycopg_does(text):
    with pytest.raises(psycopg.DataError):
        Timestamps(OID).load(text)


def test_every_connection_to_postgres_that_speaks_utc_reads_so():
    assert loader_of("postgresql") is Timestamps
    berlin = timezone(timedelta(hours=1))
    assert loader_of("postgresql", berlin) is not Timestamps and loader_of("sqlite") is not Timestamps
