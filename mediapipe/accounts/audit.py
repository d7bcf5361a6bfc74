"""The audit log: who did what, when and from where. It is added to by record(), and never changed.

One call for each verb, where the verb is, whichever door it was asked by. An entry knows what it is about by
its name and key alone, as they were then. It knows no pages.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any, NamedTuple

from django.contrib.auth.models import User
from django.db import DatabaseError, connections, models, router, transaction
from django.db.models import Q
from django.http import HttpRequest
from structlog.contextvars import get_contextvars

from mediapipe.accounts.limits import network_of
from mediapipe.accounts.models import AuditEntries, AuditEntry
from mediapipe.recent import Recent

log = logging.getLogger(__name__)

SOMEBODY = "somebody"  # whose name isn't known here
PRODUCT = "mediapipe"  # what is done by itself
NOBODYS = (SOMEBODY, PRODUCT)  # names that no person gets: entries would say that somebody else did it
ORDER = timedelta(hours=1)  # by which clocks, or two who add at once, may be apart
VISIT = 3600.0  # seconds in which more of the same, from the same network, is the same visit
NAME = "audit_is_append_only"
FIELDS = ("id", "at", "actor", "token", "act", "key", "name", "text", "network", "request")


class Act(models.TextChoices):
    """What can be done, and its words between who did it and what it was done to."""

    SIGN_IN = "person.sign_in", "signed in"
    SIGN_IN_FAILED = "person.sign_in_failed", "failed to sign in"
    SIGN_OUT = "person.sign_out", "signed out"
    CHANGE_PASSWORD = "person.change_password", "changed their password"
    END_SESSION = "person.end_session", "ended sessions"
    ADD_PERSON = "person.add", "added the person"
    SET_ROLE = "person.set_role", "changed the role of"
    DEACTIVATE = "person.deactivate", "deactivated"
    REACTIVATE = "person.reactivate", "reactivated"
    NEW_LINK = "person.new_link", "made a sign-in link for"
    CONNECT = "person.connect", "connected the company account of"
    SUBMIT = "job.submit", "submitted the job"
    RETRY = "job.retry", "retried the job"
    RESTART = "job.restart", "restarted the job"
    FORCE_RESTART = "job.force_restart", "ended and restarted the job"
    CANCEL = "job.cancel", "cancelled the job"
    RENAME = "job.rename", "renamed the job"
    MAKE_AGAIN = "job.make_again", "made a stage again of the job"
    ADD_STAGE = "job.add_stage", "added a stage to the job"
    GO_BACK = "job.go_back", "went back to an earlier version in the job"
    REMOVE_VERSION = "job.remove_version", "removed an earlier version of the job"
    REPLACE_SOURCE = "job.replace_source", "replaced the source of the job"
    MOVE_FIRST = "job.move_first", "moved to the front the job"
    DELETE = "job.delete", "deleted the job"
    RESTORE = "job.restore", "restored the job"
    DELETE_FOR_GOOD = "job.delete_for_good", "deleted for good the job"
    SUBMIT_BATCH = "batch.submit", "submitted the batch"
    CANCEL_BATCH = "batch.cancel", "cancelled the batch"
    SHARE = "share.make", "made a link to the job"
    REVOKE_SHARE = "share.revoke", "revoked a link to the job"
    OPEN_SHARE = "share.open", "opened a link to the job"
    DOWNLOAD = "share.download", "downloaded by a link of the job"
    FETCH = "file.download", "fetched by a copied link"
    MAKE_TOKEN = "token.make", "made the API token"
    REVOKE_TOKEN = "token.revoke", "revoked the API token"
    SAVE_PIPELINE = "pipeline.save", "saved a version of the pipeline"
    USE_PIPELINE = "pipeline.use", "put a version into use of the pipeline"
    OPEN_PIPELINE = "pipeline.open", "said who may use the pipeline"
    RETIRE_PIPELINE = "pipeline.retire", "retired the pipeline"
    OFFER_PIPELINE = "pipeline.offer", "offered again the pipeline"
    KEEP = "pipeline.keep", "said for how long jobs keep what of the pipeline"
    PRUNE = "retention.prune", "removed what is no longer kept"
    PAUSE_LINE = "line.pause", "paused"
    RESUME_LINE = "line.resume", "resumed"
    PAUSE_WORKER = "worker.pause", "paused the worker"
    RESUME_WORKER = "worker.resume", "resumed the worker"
    CHANGE_SETTING = "setting.change", "started with another"


@dataclass
class Client:
    """Who asks at the moment: from which address, by which API token."""

    address: str = ""
    token: str = ""


_client: ContextVar[Client | None] = ContextVar("client", default=None)
_visits: Recent[tuple[str, ...], float] = Recent(10_000)  # when each visit was recorded (monotonic)


@contextmanager
def asked_by(request: HttpRequest) -> Iterator[None]:
    """While the request is answered, entries say where it came from."""
    given = _client.set(Client(str(request.META.get("REMOTE_ADDR", ""))))
    try:
        yield
    finally:
        _client.reset(given)


def by_token(name: str) -> None:
    """Entries of this request say that it was sent with the API token of that *name*."""
    if client := _client.get():
        client.token = name


def record(act: Act, actor: str, *, key: object = "", name: str = "", text: str = "") -> None:
    """Adds an entry, within the caller's transaction where there is one.

    *actor*: a user name, or who else acts. *key* and *name*: what it is done to. *text*: what else is to be
    said, such as a reason.
    """
    record_each(act, actor, [(key, name)], text=text)


def record_each(act: Act, actor: str, things: Iterable[tuple[object, str]], *, text: str = "") -> None:
    """record() for each of *things*, by their keys and names, in one statement."""
    client = _client.get() or Client()
    same = {
        "act": act.value,
        "actor": actor[:200] or SOMEBODY,
        "token": client.token[:60],
        "text": text[:2000],
        "network": network_of(client.address)[:60],
        "request": str(get_contextvars().get("request", ""))[:64],
    }
    AuditEntry.objects.bulk_create(
        AuditEntry(key=str(key)[:300], name=name[:300], **same) for key, name in things
    )


def record_visit(act: Act, *, key: object, name: str, text: str = "") -> None:
    """record() for who has no name here, once in an hour for each network, whatever else it asks for.

    A database that is away keeps nobody from what they came for.
    """
    client = _client.get() or Client()
    visit = (act.value, str(key), network_of(client.address))
    now = time.monotonic()
    last = _visits.get(visit)
    if last is not None and now - last < VISIT:
        return
    _visits[visit] = now
    try:
        with transaction.atomic():
            record(act, SOMEBODY, key=key, name=name, text=text)
    except DatabaseError as error:
        _visits.pop(visit, None)
        log.warning("a visit isn't in the audit log: %s", error)


class Query(NamedTuple):
    """Which entries are wanted; what is empty or None selects nothing. *about*: a key, or part of a name."""

    actor: str = ""
    act: str = ""
    about: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def entries(self) -> AuditEntries:
        """Those entries, the newest first."""
        about = reduce(or_, map(_named, _written(self.about)), Q(key=self.about)) if self.about else Q()
        given = {"actor": self.actor, "act": self.act, "at__gte": self.since, "at__lt": self.until}
        entries = AuditEntry.objects.filter(about, **{name: value for name, value in given.items() if value})
        # the log's own order, which is that of its pages, leads to a time in it
        if self.since and (last := _first("-at", at__lt=_apart(self.since, -ORDER))):
            entries = entries.filter(pk__gt=last)
        if self.until and (first := _first("at", at__gte=_apart(self.until, ORDER))):
            entries = entries.filter(pk__lt=first)
        return entries


def _written(text: str) -> set[str]:
    """*text* as names may have it: SQLite, and Postgres in the locale C, fold the letters of ASCII alone."""
    return {text} if text.isascii() else {text, text.lower(), text.upper(), text.title()}


def _named(text: str) -> Q:
    return Q(name__icontains=text)


def _apart(moment: datetime, later: timedelta) -> datetime:
    try:
        return moment + later
    except OverflowError:  # at the end of all calendars
        return moment


def _first(order: str, **which: datetime) -> int | None:
    return AuditEntry.objects.filter(**which).order_by(order).values_list("pk", flat=True).first()


def as_json(entry: AuditEntry) -> dict[str, Any]:
    """An entry for programs, under FIELDS."""
    return {**{name: getattr(entry, name) for name in FIELDS}, "at": entry.at.isoformat()}


def as_lines(entries: AuditEntries) -> Iterator[str]:
    """The entries as JSON, a line for each, the oldest first, however many there are."""
    for entry in entries.order_by("pk").iterator(chunk_size=500):
        yield json.dumps(as_json(entry), ensure_ascii=False) + "\n"


def words(act: str) -> str:
    """The words of an act; itself where another version knows it."""
    return Act(act).label if act in Act.values else act


def signed_in(request: HttpRequest, user: User, **kwargs: Any) -> None:
    """Django's signal: by a password or by a link."""
    record(Act.SIGN_IN, user.get_username(), key=user.pk)


def signed_out(user: User | None, **kwargs: Any) -> None:
    """Django's signal."""
    if user is not None:
        record(Act.SIGN_OUT, user.get_username(), key=user.pk)


def failed_to_sign_in(credentials: dict[str, Any], **kwargs: Any) -> None:
    """Django's signal. A name that is nobody's isn't kept: it may be a password in the wrong field."""
    given = str(credentials.get(User.USERNAME_FIELD, ""))
    known = User.objects.filter(**{User.USERNAME_FIELD: given}).first()
    if known:
        record(Act.SIGN_IN_FAILED, known.get_username(), key=known.pk)
    else:
        record(Act.SIGN_IN_FAILED, SOMEBODY, text="By a name that is nobody’s.")


ON_SQLITE = """CREATE TRIGGER IF NOT EXISTS {name}_{on} BEFORE {on} ON {table}
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"""
ON_POSTGRES = """CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$;
CREATE TRIGGER {name} BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()"""
HELD = {
    "sqlite": "SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND name = %s || '_DELETE'",
    "postgresql": "SELECT 1 FROM pg_trigger WHERE tgname = %s",
}


def hold(**kwargs: Any) -> None:
    """After each migrate: the database itself refuses to change or remove an entry."""
    connection = connections[kwargs.get("using") or router.db_for_write(AuditEntry)]
    table = AuditEntry._meta.db_table
    if table not in connection.introspection.table_names():
        return  # migrated to a time before it
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            for on in ("UPDATE", "DELETE"):
                cursor.execute(ON_SQLITE.format(name=NAME, on=on, table=table))
        elif connection.vendor == "postgresql":
            cursor.execute(HELD["postgresql"], [NAME])
            if not cursor.fetchone():
                cursor.execute(ON_POSTGRES.format(name=NAME, table=table))


@contextmanager
def changeable() -> Iterator[None]:
    """Within the caller's transaction, to remove what is kept no longer: nobody else changes it meanwhile."""
    name = router.db_for_write(AuditEntry)
    connection = connections[name]
    table = AuditEntry._meta.db_table
    is_sqlite = connection.vendor == "sqlite"
    with connection.cursor() as cursor:
        if not is_sqlite:  # first of all: two who held the trigger and wanted the table would wait for ever
            cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        cursor.execute(HELD[connection.vendor], [NAME])
        if held := cursor.fetchone():
            cursor.execute(f"DROP TRIGGER {NAME}_DELETE" if is_sqlite else f"DROP TRIGGER {NAME} ON {table}")
    yield
    if held:
        hold(using=name)
