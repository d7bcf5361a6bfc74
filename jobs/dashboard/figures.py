"""The history's figures: the rate, why jobs failed, typical times, and a chart of jobs by day.

They are those of the newest jobs where very many match: what is so of a thousand is so of a million. It knows
the list of jobs and no request.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from statistics import median
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

from django.db.models import Count, Func, IntegerField
from django.utils import timezone

from jobs.dashboard import polling
from jobs.dashboard.counting import RECENT, Newest
from jobs.dashboard.formatting import duration
from jobs.dashboard.job_list import JobList
from jobs.dashboard.searching import ORDERS, TABS, in_tab, start_of
from jobs.models import JobQuerySet, Stage
from jobs.models.stage import Reason
from jobs.state import JobState, StageState

DAYS = 30
TYPICAL = 50  # jobs, of whose stages the typical time is taken
FAILED = TABS["attention"][1]
ENDED = (*TABS["done"][1], *FAILED)
CHART = 300  # units from side to side


class Figures(TypedDict):
    """How many jobs are done, and the median work of each stage."""

    done: int
    ended: int  # all but those that run or were cancelled, of the newest
    newest: int  # of how many jobs, where there are more
    rate: str
    medians: list[tuple[str, str, float]]  # label, duration, percent of the longest
    sampled: int  # of how many jobs the reasons are, where there are more in the tab


class Bar(NamedTuple):
    """Some of a day's jobs in the chart: where it lies, and where the jobs are listed."""

    kind: str  # for the style sheet
    y: str
    height: str
    url: str  # a query string
    label: str


class Day(NamedTuple):
    """A column of the chart: *x* and *width* in its units."""

    day: date
    bars: list[Bar]
    title: str
    x: float = 0
    width: float = 0


class Standing(NamedTuple):
    """What the figures know of a job that no search found."""

    pk: UUID
    state: str


def _newest(jobs: JobQuerySet) -> list[Standing]:
    """The newest of *jobs*; one more than RECENT where there are more."""
    rows = jobs.order_by(*ORDERS[""], "id").values_list(*Standing._fields)[: RECENT + 1]
    return [Standing(*row) for row in rows]


class Sample:
    """The newest jobs of a page's search and tab, by which it is described."""

    def __init__(self, page: JobList) -> None:
        self.page = page
        newest: Sequence[Standing | Newest] = page.newest if page.by_newest else _newest(page.matching)
        self.ended = [each for each in newest[:RECENT] if each.state in ENDED]
        self.more = len(newest) > RECENT
        self.found = (
            [each for each in page.newest if each.state in TABS[page.tab][1]] if page.by_newest else []
        )
        self.jobs = newest
        if page.by_newest:
            self.jobs = self.found
        elif page.tab:
            self.jobs = _newest(in_tab(page.matching, page.tab))
        self.is_part = len(self.jobs) > RECENT or (page.by_newest and self.more)
        self.jobs = self.jobs[:RECENT]

    def reasons(self) -> list[tuple[Reason, str]]:
        """Why they failed, and the query string of those that did for the same."""
        failed = [each.pk for each in self.jobs if each.state in FAILED]
        reasons = Stage.reasons(failed) if failed else []
        return [(reason, self.page.url_with(tab="attention", why=reason.kind)) for reason in reasons]

    def figures(self) -> Figures:
        """The success rate, and each stage’s median work with its share of the longest."""
        done = sum(each.state == JobState.SUCCEEDED for each in self.ended)
        ended = len(self.ended)
        medians = typical_times([each.pk for each in self.jobs[:TYPICAL]])
        longest = max([*medians.values(), 0.001])
        return {
            "done": done,
            "ended": ended,
            "newest": RECENT if self.more else 0,
            "rate": f"{done / ended * 100:.0f}%" if ended else "–",
            "medians": [(label, duration(each), each / longest * 100) for label, each in medians.items()],
            "sampled": RECENT if self.is_part else 0,
        }

    def per_day(self) -> tuple[int, list[Day]]:
        """The jobs of the busiest day, and the last DAYS as columns of a chart, CHART units wide and 60 high.

        Of a search that finds more than the sample: the days that it covers, maybe none.
        """
        today = timezone.localdate()
        days = [today - timedelta(days=DAYS - 1 - at) for at in range(DAYS)]
        if not self.page.by_newest:
            counts = self._counted(days)
        else:
            counts = {}
            for each in self.found[:RECENT]:
                of_day = counts.setdefault(timezone.localdate(each.created_at), {})
                of_day[each.state] = of_day.get(each.state, 0) + 1
            if self.is_part:
                oldest = self.page.newest[-1].created_at
                days = [day for day in days if start_of(day) > oldest]
        highest = max((sum(counts.get(day, {}).values()) for day in days), default=0) or 1
        width = CHART / max(1, len(days))
        search = self.page.url_with(**{"from": "", "to": "", "tab": ""})
        search += "&" if len(search) > 1 else ""
        columns = [_column(day, counts.get(day, {}), highest, search, self.page.tab) for day in days]
        return highest, [
            each._replace(x=round(at * width + width / 10, 1), width=round(width * 0.8, 1))
            for at, each in enumerate(columns)
        ]

    def _counted(self, days: list[date]) -> dict[date, dict[str, int]]:
        """How many jobs of each state each of the *days* has, as the database counted in the last minute."""
        starts = [start_of(day) for day in days]
        jobs = in_tab(self.page.matching, self.page.tab).order_by().filter(created_at__gte=starts[0])
        counts: dict[date, dict[str, int]] = {}
        # not of keys, which the index by time doesn't hold
        rows = jobs.annotate(day=DayOf(starts)).values_list("day", "state").annotate(jobs=Count("*"))
        which = "chart", self.page.selected, self.page.tab
        for at, state, count in polling.once(which, starts, lambda: list(rows)):
            counts.setdefault(days[at], {})[state] = count
        return counts


def typical_times(jobs: list[UUID]) -> dict[str, float]:
    """The median work of each stage of *jobs*, in seconds by its label, in the pipelines' order.

    Work is the attempt that succeeded, as far as it was reported: not the days in which a failed one waited.
    """
    seconds: dict[str, list[float]] = {}
    places: dict[str, int] = {}  # in the pipelines
    columns = "state", "label", "position", "started_at", "finished_at", "attempts"
    # by its state, or in an order, SQLite would look at all that have ever succeeded
    for state, label, place, start, end, attempts in (
        Stage.objects.filter(job__in=jobs).order_by().values_list(*columns)
    ):
        if state != StageState.SUCCEEDED or start is None or end is None:
            continue
        places[label] = min(place, places.get(label, place))
        last = attempts[-1] if attempts else {}
        if last.get("finished_at"):
            seconds.setdefault(label, []).append(last["finished_at"] - last["started_at"])
        else:
            seconds.setdefault(label, []).append((end - start).total_seconds())
    return {label: median(seconds[label]) for label in sorted(seconds, key=places.__getitem__)}


class DayOf(Func):
    """On which of the days that begin at *starts* a job was made, by halves, so that few are compared.

    As Django's Case and When it took the page 3 ms to write it down.
    """

    output_field = IntegerField()

    def __init__(self, starts: Sequence[datetime]) -> None:
        super().__init__("created_at")
        self.starts = starts

    def as_sql(self, compiler: Any, connection: Any, **_: Any) -> tuple[str, list[Any]]:  # type: ignore[override]
        """The choice as SQL, and its parameters."""
        column, _ = compiler.compile(self.source_expressions[0])
        starts = [connection.ops.adapt_datetimefield_value(each) for each in self.starts]

        def choice(first: int, end: int) -> tuple[str, list[Any]]:
            if end - first == 1:
                return str(first), []
            half = (first + end) // 2
            later, after = choice(half, end)
            earlier, before = choice(first, half)
            sql = f"CASE WHEN {column} >= %s THEN {later} ELSE {earlier} END"
            return sql, [starts[half], *after, *before]

        return choice(0, len(starts))


def _column(day: date, states: dict[str, int], highest: int, search: str, shown: str) -> Day:
    """One day's column: succeeded jobs at the bottom, failed ones on them, the rest on top; each a link.

    *search*: the beginning of its query string; *shown*: the tab that the page shows.
    """
    done = states.get(JobState.SUCCEEDED, 0)
    failed = sum(states.get(state, 0) for state in FAILED)
    total = sum(states.values())
    top = 60.0
    bars = []
    groups = (
        ("done", "done", "done", done),
        ("bad", "attention", "failed", failed),
        ("other", shown, "cancelled or running", total - done - failed),
    )
    for kind, tab, words, count in groups:
        height = count / highest * 60
        top -= height
        url = f"{search}from={day}&to={day}{tab and f'&tab={tab}'}"
        if count:
            bars.append(Bar(kind, f"{top:.1f}", f"{height:.1f}", url, f"{day:%d %b}: {count} {words}"))
    title = f"{day:%d %b}: {total} {'job' if total == 1 else 'jobs'}, {done} done, {failed} failed"
    return Day(day, bars, title)
