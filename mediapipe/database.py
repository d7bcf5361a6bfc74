"""Database connections of code that runs outside a request. It knows no models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import close_old_connections


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
