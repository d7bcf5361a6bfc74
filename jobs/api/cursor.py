"""Pages of the API's list: after the last job of a page comes the next, whatever is new meanwhile.

How a place in the list is found is decided in jobs.dashboard.keyset; here it becomes an answer.
"""

from __future__ import annotations

from jobs.api.problems import ProblemError
from jobs.dashboard.keyset import beyond, cursor_of, decode
from jobs.models import Job, JobQuerySet

MISSHAPEN = "This cursor isn’t one of this list’s: send “next” as you got it, with the same order."


def page(jobs: JobQuerySet, order: tuple[str, ...], cursor: str, limit: int) -> tuple[list[Job], str | None]:
    """*limit* jobs after *cursor*, and the cursor of the next page. Raises ProblemError."""
    order = (*order, "id")
    if cursor:
        try:
            jobs = beyond(jobs, order, decode(cursor, order))
        except ValueError:
            raise ProblemError(422, MISSHAPEN) from None
    found = list(jobs.order_by(*order)[: limit + 1])
    return found[:limit], cursor_of(found[limit - 1], order) if len(found) > limit else None
