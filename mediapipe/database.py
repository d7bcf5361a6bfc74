"""The database for code that runs outside a request: connections, threads, outages. It knows no models."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from asgiref.sync import sync_to_async
from django.db import DatabaseError, InterfaceError, OperationalError, close_old_connections, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from mediapipe import home

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

# What the database raises while it is away, full or locked: the same call succeeds when it is back.
OUTAGES = (OperationalError, InterfaceError)
REACHED_WITHIN = 5  # seconds
NO_TABLE = ("no such table", "no such column", "UndefinedTable", "UndefinedColumn")
LACKS_TABLES = "The database lacks tables of this version. Run `manage.py migrate`; `up` does so by itself."
RETRY_EVERY = 2.0  # seconds until what is away is tried again
T = TypeVar("T")
log = logging.getLogger(__name__)


@contextmanager
def fresh_connections() -> Iterator[None]:
    """Around a use of the ORM in a long-lived thread, also as a decorator.

    Django does this around each request: a connection that has broken, or is too old, is replaced.
    """
    close_old_connections()
    try:
        yield
    finally:
        close_old_connections()


def give_up(pool: ConnectionPool) -> None:
    """For a pool that couldn't make a connection: where it has none left, who waits gets the error at once.

    The pool itself would let everybody wait as long as for a turn among very many.
    """
    import psycopg  # SQLite has no need of it, and it is a tenth of a process’ start

    with pool._lock:
        while pool._waiting and not pool._nconns:
            pool._waiting.popleft().fail(psycopg.OperationalError("the database can't be reached"))


def reach() -> None:
    """Connects to Postgres past the pool, which only says that it has waited. Raises as the database does."""
    if connection.vendor == "postgresql":
        import psycopg

        about = {**connection.get_connection_params(), "connect_timeout": REACHED_WITHIN}
        with connection.wrap_database_errors:
            psycopg.connect(**about).close()


@cache
def _migrations() -> set[tuple[str, str]]:
    return set(MigrationLoader(None).graph.nodes)


def missing_migrations() -> int:
    """How many of this version aren't applied; those of a newer one don't count. Raises DatabaseError."""
    return len(_migrations() - MigrationRecorder(connection).applied_migrations().keys())


def reason(error: BaseException) -> str:
    """The first line of what the database, or its driver, says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def sentence(error: BaseException) -> str:
    """What *error* means for the database as a whole, and what to do; "" where it is about something else."""
    if not isinstance(error, (DatabaseError, InterfaceError)):
        return ""
    if any(each in f"{error} {error.__cause__!r}" for each in NO_TABLE):
        return LACKS_TABLES
    if connection.vendor == "sqlite" and home.HOME not in Path(connection.settings_dict["NAME"]).parents:
        return (
            f"The database {connection.settings_dict['NAME']} can’t be used: {reason(error)}. Check"
            " DATABASE_URL, and that its folder can be written."
        )
    try:
        reach()
    except (DatabaseError, InterfaceError) as found:  # also one that the driver takes for a mistake
        return (
            f"The database can’t be reached: {reason(found)}. Check DATABASE_URL, and that the server runs."
        )
    return ""


async def in_thread(function: Callable[..., T], *args: Any, **fields: Any) -> T:
    """A call of the ORM, in a thread, with a fresh connection where the old one has gone."""
    return await sync_to_async(fresh_connections()(function), thread_sensitive=False)(*args, **fields)


def log_failure(to: logging.Logger, what: str, error: Exception) -> None:
    """Says that *what* failed: in a line where the database is away, which may be all night, else whole."""
    to.error("%s: %s", what, error, exc_info=None if isinstance(error, OUTAGES) else error)


async def persistently(function: Callable[..., T], *args: Any, **fields: Any) -> T:
    """in_thread(), again until the database is back: that costs the caller time, and nothing it has done."""
    warned = False
    while True:
        try:
            return await in_thread(function, *args, **fields)
        except OUTAGES as error:
            if not warned:
                log.warning("waiting for the database: %s", error)
            warned = True
        await asyncio.sleep(RETRY_EVERY)
