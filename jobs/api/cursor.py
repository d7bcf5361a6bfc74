"""Pages of the API's list: after the last job of a page comes the next, whatever is new meanwhile.

It knows an ordering and no filters.
"""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Q

from jobs.api.problems import ProblemError
from jobs.dashboard.job_list import parse_moment
from jobs.models import Job, JobQuerySet

MISSHAPEN = "This cursor isn’t one of this list’s: send “next” as you got it, with the same order."


def _values(job: Job, order: tuple[str, ...]) -> list[str]:
    """What the job is ordered by, as text."""
    values = [getattr(job, field.removeprefix("-")) for field in order]
    return [value.isoformat() if isinstance(value, datetime) else str(value) for value in values]


def _decode(text: str, order: tuple[str, ...]) -> list[Any]:
    """The values of a cursor. Raises ProblemError: it comes from a URL."""
    try:
        values = json.loads(base64.urlsafe_b64decode(text.encode("ascii")))
        if not isinstance(values, list) or len(values) != len(order):
            raise ValueError
        decoded: list[Any] = []
        for field, value in zip(order, values, strict=True):
            if not isinstance(value, str) or "\0" in value:
                raise ValueError
            name = field.removeprefix("-")
            parse: Any = {"created_at": parse_moment, "id": UUID}.get(name, str)
            decoded.append(parse(value))
    except (ValueError, RecursionError, OverflowError):
        raise ProblemError(422, MISSHAPEN) from None
    return decoded


def page(jobs: JobQuerySet, order: tuple[str, ...], cursor: str, limit: int) -> tuple[list[Job], str | None]:
    """*limit* jobs after *cursor*, and the cursor of the next page. Raises ProblemError."""
    order = (*order, "id")
    if cursor:
        values = _decode(cursor, order)
        after = Q()
        for at, field in enumerate(order):
            lookup = "lt" if field.startswith("-") else "gt"
            same = {name.removeprefix("-"): values[i] for i, name in enumerate(order[:at])}
            after |= Q(**same, **{f"{field.removeprefix('-')}__{lookup}": values[at]})
        jobs = jobs.filter(after)
    found = list(jobs.order_by(*order)[: limit + 1])
    if len(found) <= limit:
        return found, None
    text = json.dumps(_values(found[limit - 1], order)).encode()
    return found[:limit], base64.urlsafe_b64encode(text).decode()
