"""What a query string asks of the list: whose jobs, which of them, in which tab.

It knows a user and a query, and no page.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from typing import TypeVar
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.http import QueryDict
from django.utils import timezone
from django.utils.dateparse import parse_date

from jobs.dashboard import counting
from jobs.models import BatchItem, Job, JobQuerySet, Stage
from jobs.state import JobState

T = TypeVar("T")
FIRST_DAY = date(1970, 1, 1)
LAST_DAY = date(9000, 1, 1)
MAX_PEOPLE = 300  # people
LOOKED_THROUGH = 10_000  # of a person's jobs, for a text
FILTERS = ("q", "tab", "sort", "state", "pipeline", "owner", "from", "to", "why", "batch")
TABS = {
    "": ("All", tuple(JobState)),
    "running": ("Running", (JobState.QUEUED, JobState.RUNNING)),
    "attention": ("Needs attention", (JobState.ATTENTION, JobState.FAILED)),
    "failed": ("Failed", (JobState.FAILED,)),
    "done": ("Done", (JobState.SUCCEEDED,)),
    "cancelled": ("Cancelled", (JobState.CANCELLED,)),
}
CHOSEN = {  # filters that are a sheet's, as they stand beside the search
    "state": "State",
    "pipeline": "Pipeline",
    "owner": "Owner",
    "from": "From",
    "to": "To",
    "why": "Reason",
    "batch": "Batch",
}
SEARCHES = {"q", "why"}  # filters that no index combines with a state
GROUPS = {  # of which each job is in one, and each tab shows one or more
    "running": TABS["running"][1],
    "held": (JobState.ATTENTION,),
    "failed": TABS["failed"][1],
    "done": TABS["done"][1],
    "cancelled": TABS["cancelled"][1],
}
ORDERS = {"": ("-created_at",), "oldest": ("created_at",), "title": ("title", "-created_at")}


def parse_or_none(parse: Callable[[str], T], text: str) -> T | None:
    """*text* parsed, or None where *parse* raises ValueError: it comes from a URL."""
    try:
        return parse(text)
    except ValueError:
        return None


def start_of(day: date) -> datetime:
    """When a day begins here; what is before all clocks begins with them."""
    return timezone.make_aware(datetime.combine(max(day, FIRST_DAY), time.min))


def days_of(query: QueryDict) -> tuple[datetime | None, datetime | None]:
    """When the day `from` begins and the day `to` ends here; None where one is no day."""
    first, last = (parse_or_none(parse_date, query.get(name, "")) for name in ("from", "to"))
    since = start_of(min(first, LAST_DAY)) if first else None
    until = start_of(min(last, LAST_DAY) + timedelta(days=1)) if last else None
    return since, until


def owners(user: AbstractBaseUser | AnonymousUser) -> list[str]:
    """The people by whom *user* may narrow the list."""
    if not getattr(user, "is_staff", False):
        return []
    return list(get_user_model().objects.order_by("username").values_list("username", flat=True)[:MAX_PEOPLE])


def filters_of(query: QueryDict) -> dict[str, str]:
    """What of a query narrows the list or orders it."""
    return {key: str(query[key]) for key in FILTERS if query.get(key)}


def _why(query: QueryDict) -> str:
    return query.get("why", "").replace("\0", "")[:60]


def _owner(query: QueryDict) -> str:
    return query.get("owner", "").replace("\0", "")[:200]


def search(user: AbstractBaseUser | AnonymousUser, query: QueryDict, *, by_rows: bool = False) -> JobQuerySet:
    """The jobs that *user* may see and *query* selects; its tab is not applied. *by_rows*: see matching()."""
    jobs = Job.objects.visible_to(user)
    if text := query.get("q", "").replace("\0", "").strip()[:200]:
        jobs = jobs.matching(text, by_rows=by_rows)
    if (state := query.get("state", "")) in set(JobState):
        jobs = jobs.filter(state=state)
    if pipeline := query.get("pipeline", "").replace("\0", "")[:40]:
        jobs = jobs.filter(pipeline=pipeline)
    if owner := _owner(query):
        jobs = jobs.of_person(owner)
    if why := _why(query):
        jobs = jobs.filter(pk__in=Stage.failed_by(why))
    if batch := parse_or_none(UUID, query.get("batch", "")):
        jobs = jobs.filter(pk__in=BatchItem.objects.filter(batch=batch).values("job"))
    since, until = days_of(query)
    if since:
        jobs = jobs.filter(created_at__gte=since)
    if until:
        jobs = jobs.filter(created_at__lt=until)
    return jobs


def in_tab(jobs: JobQuerySet, tab: str) -> JobQuerySet:
    """The jobs of one tab; an unknown tab is All."""
    return jobs.filter(state__in=TABS[tab][1]) if tab in TABS and tab else jobs


def newest_for(user: AbstractBaseUser | AnonymousUser, query: QueryDict, newest: int) -> JobQuerySet | None:
    """Less than search() finds, among which its *newest* some are, if it has that many; None: look at all.

    Of all that failed for one reason they are found by their stages, the newest of which are of the newest
    jobs, but where one was added to its job later: so some more are looked at. Of a pipeline they are those
    since about the time since when three times as many have failed. A text is looked for in a person's newest
    jobs: by the index of texts Postgres looks at everybody's.
    """
    asked = filters_of(query).keys() - {"tab", "sort"}
    staff = getattr(user, "is_staff", False)
    if staff and "why" in asked and asked <= {"why", "pipeline"}:
        failed = Stage.failed_by(_why(query)).order_by("-pk")
        if asked == {"why"}:
            return Job.objects.filter(pk__in=failed[: newest + newest // 5])
        if found := Job.objects.filter(pk__in=failed[3 * newest : 3 * newest + 1]).only("created_at").first():
            return search(user, query).filter(created_at__gt=found.created_at)
    if "q" in asked and "why" not in asked and (not staff or "owner" in asked):
        theirs = Job.objects.visible_to(user)
        theirs = theirs.of_person(_owner(query)) if "owner" in asked else theirs
        moments = theirs.order_by("-created_at").values_list("created_at", flat=True)
        if since := moments[LOOKED_THROUGH : LOOKED_THROUGH + 1].first():
            return search(user, query, by_rows=True).filter(created_at__gt=since)
    return None


def neighbours(user: AbstractBaseUser, job: Job, query: QueryDict | None = None) -> dict[str, Job | None]:
    """The jobs before and after one, newest first, among those that *query* selects: by default all."""
    query = query or QueryDict()
    seen = in_tab(search(user, query), query.get("tab", "")).only("pk", "title")
    return {
        "newer": seen.filter(created_at__gt=job.created_at).order_by("created_at").first(),
        "older": seen.filter(created_at__lt=job.created_at).order_by("-created_at").first(),
    }


def still_failed(why: str, known: list[UUID]) -> JobQuerySet:
    """Which of the *known* jobs, and of as many that are the newest now, failed for this reason."""
    failed = Stage.failed_by(why).values_list("job", flat=True)
    newest = set(failed.order_by("-pk")[: len(known)])
    # by the reason the database looks at all that ever failed for it: seldom is one left to ask about
    older = set(failed.filter(job__in=set(known) - newest))
    return Job.objects.filter(pk__in=newest | older)


def count_found(
    user: AbstractBaseUser | AnonymousUser, query: QueryDict, most: int | None = None
) -> counting.Count:
    """How many jobs search() finds in the query's tab, up to *most*, or else as far as the list says it."""
    tab = query.get("tab", "")
    most = most or (counting.RECENT if filters_of(query).keys() & SEARCHES else None)
    if (newest := newest_for(user, query, counting.RECENT)) is not None:
        found = counting.count(in_tab(newest, tab), most)
        if found.more:
            return found
    return counting.count(in_tab(search(user, query), tab), most)
