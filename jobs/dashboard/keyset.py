"""Pages that begin after a row instead of at a number: as quick deep down as at the top, whatever is new.

A cursor is the text of what its row is ordered by. It knows an ordering and no filters.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db.models import Q

from jobs.models import Job, JobQuerySet


def parse_moment(text: str) -> datetime:
    """A moment with its zone, in UTC. Raises ValueError, also for one that no calendar of UTC has."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(text) from error


def cursor_of(job: Job, order: tuple[str, ...]) -> str:
    """The cursor of the job's place in *order*."""
    values = [getattr(job, field.removeprefix("-")) for field in order]
    texts = [value.isoformat() if isinstance(value, datetime) else str(value) for value in values]
    return base64.urlsafe_b64encode(json.dumps(texts).encode()).decode()


def decode(text: str, order: tuple[str, ...]) -> list[Any]:
    """The values of a cursor. Raises ValueError: it comes from a URL."""
    try:
        values = json.loads(base64.urlsafe_b64decode(text.encode("ascii")))
    except RecursionError as error:
        raise ValueError(text) from error
    if not isinstance(values, list) or len(values) != len(order):
        raise ValueError(text)
    decoded: list[Any] = []
    for field, value in zip(order, values, strict=True):
        if not isinstance(value, str) or "\0" in value:
            raise ValueError(text)
        parse: Any = {"created_at": parse_moment, "id": UUID}.get(field.removeprefix("-"), str)
        decoded.append(parse(value))
    return decoded


def beyond(
    jobs: JobQuerySet, order: tuple[str, ...], values: list[Any], *, back: bool = False
) -> JobQuerySet:
    """Those of *jobs* after the place of these *values* in *order*; with *back* those before it."""
    after = Q()
    for at, field in enumerate(order):
        same = {name.removeprefix("-"): values[i] for i, name in enumerate(order[:at])}
        after |= Q(**same, **{f"{field.removeprefix('-')}__{_side(field, back)}": values[at]})
    # said once more for the database, which finds no way in by the alternatives
    start = {f"{order[0].removeprefix('-')}__{_side(order[0], back)}e": values[0]}
    return jobs.filter(after, **start)


def _side(field: str, back: bool) -> str:
    return "lt" if field.startswith("-") != back else "gt"


def reversed_order(order: tuple[str, ...]) -> tuple[str, ...]:
    """The same, the last first."""
    return tuple(field[1:] if field.startswith("-") else f"-{field}" for field in order)


def read_part(jobs: JobQuerySet, order: tuple[str, ...], part: slice) -> list[Job]:
    """A part of *jobs* in *order*, as lists show them. Which they are an index says; no other row is read."""
    keys = jobs.order_by(*order).values("pk")[part]
    return list(Job.objects.filter(pk__in=keys).defer("plan", "searched").order_by(*order))
