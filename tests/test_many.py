"""Very many jobs: which index answers which question, what is counted no further, and pages that go on."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.http import QueryDict
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jobs import gauges
from jobs.dashboard import bulk, counting, figures, history, job_list, keyset, polling, searching
from jobs.dashboard.job_list import JobList
from jobs.models import Event, Job, SavedView, Stage, Turn
from jobs.state import JobState, Source
from tests.support.recorded import job, text

pytestmark = pytest.mark.django_db


def listed(person, query="", order="", at=0) -> str:
    """How SQLite finds a page of a list, begun at a number of rows."""
    found = searching.in_tab(searching.search(person, QueryDict(query)), QueryDict(query).get("tab", ""))
    with CaptureQueriesContext(connection) as seen:
        keyset.read_part(found, (*searching.ORDERS[order], "id"), slice(at, at + 26))
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {seen.captured_queries[0]['sql']}")
        return "\n".join(step for *_, step in cursor.fetchall())


ALONE = "USING COVERING INDEX"  # no row is read of those that are passed over


@pytest.mark.parametrize(
    ("query", "order", "index"),
    [
        ("", "", f"{ALONE} jobs_by_time"),
        ("", "title", f"{ALONE} jobs_by_title"),
        ("state=failed", "", f"{ALONE} jobs_by_state"),
        ("tab=attention", "", f"{ALONE} jobs_by_state"),
        ("pipeline=previews", "", f"{ALONE} jobs_of_pipeline (pipeline=?)"),
        ("pipeline=previews&state=failed", "", f"{ALONE} jobs_of_pipeline_by_state"),
        ("owner=ada", "", f"{ALONE} jobs_of_owner (owner_id=?)"),
        ("owner=ada&tab=done", "", f"{ALONE} jobs_of_owner_by_state"),
        ("owner=ada&pipeline=previews&tab=done", "", f"{ALONE} jobs_of_owner_by_state"),
        ("owner=ada", "title", f"{ALONE} jobs_of_owner_by_title (owner_id=?)"),
        ("why=damaged", "", f"{ALONE} stages_by_reason"),
        ("q=film", "", f"{ALONE} jobs_searched"),
        (f"batch={UUID(int=7)}&tab=done", "", "INDEX jobs_batchi_batch_i_5598f0_idx (batch_id=?)"),
    ],
)
@pytest.mark.parametrize("at", [0, 7000])
def test_a_page_of_everybodys_jobs_is_found_in_an_index(chief, editor, query, order, index, at):
    plan = listed(User.objects.get(username="chief"), query, order, at)
    assert index in plan and "SCAN jobs_job\n" not in f"{plan}\n", plan


def test_what_a_person_sees_is_found_by_their_own_jobs(editor):
    now = timezone.now()
    news = Job.objects.filter(owner=editor, finished_at__gt=now).order_by("finished_at")
    assert "jobs_of_owner_ended" in news.explain()
    waiting = Job.objects.filter(owner=editor, state__in=(JobState.QUEUED, JobState.RUNNING))
    assert "jobs_of_owner_by_state" in waiting.order_by().explain()
    assert f"{ALONE} jobs_of_owner (owner_id=?)" in listed(editor)
    assert f"{ALONE} jobs_of_owner_by_title" in listed(editor, order="title")


def test_what_works_for_each_job_finds_its_rows_by_an_index(editor):
    assert "jobs_on_source" in Job.objects.filter(source_name="sources/x").order_by().explain()
    done = Stage.objects.filter(name="ingest", state="succeeded").order_by("-pk")
    assert "stages_by_name" in done.explain()
    assert "stages_by_state" in Stage.objects.filter(state="running").order_by("-pk").explain()


def test_typical_times_are_read_by_their_jobs_and_not_by_all_that_ever_succeeded(editor):
    made = [job(editor, str(number)).pk for number in range(3)]
    with CaptureQueriesContext(connection) as seen:
        assert [*figures.typical_times(made)] == ["Ingest", "Thumbnails", "Audio", "Transcode"]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {seen.captured_queries[0]['sql']}")
        plan = [step for *_, step in cursor.fetchall()]
    assert len(plan) == 1 and "(job_id=?" in plan[0], plan


def test_the_people_page_finds_what_runs_by_its_state(chief, editor):
    Job.submit(editor, title="waits", pipeline="standard", source=Source(url="http://x/"))
    with CaptureQueriesContext(connection) as seen:
        assert "1 active job" in text(chief.get("/people/"))
    (asked,) = [sql for each in seen.captured_queries if 'FROM "jobs_job"' in (sql := each["sql"])]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {asked}")
        assert [row[-1] for row in cursor.fetchall()] == [
            "SEARCH jobs_job USING INDEX jobs_by_state (state=?)"
        ]


def test_the_counts_above_a_list_read_an_index_and_no_rows(chief, django_user_model):
    with CaptureQueriesContext(connection) as seen:
        counting.count_each(Job.objects.all(), searching.GROUPS)
        list(JobList.newest_of(Job.objects.matching("film")))
    counts, _, search = (query["sql"] for query in seen.captured_queries)
    for sql in (counts, search):
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
            plan = [step for *_, step in cursor.fetchall() if "state=?" in step or "jobs_searched" in step]
        by_rows = [step for step in plan if "COVERING INDEX" not in step]
        assert plan and not by_rows, plan


def test_metrics_count_the_jobs_that_ended_state_by_state_in_an_index(editor):
    job(editor, "clip")
    with CaptureQueriesContext(connection) as seen:
        assert sorted(gauges._ended()) == [("cancelled", 0), ("failed", 0), ("succeeded", 1)]
    counts = [each["sql"] for each in seen.captured_queries if "COUNT(" in each["sql"]]
    assert len(counts) == 3
    for sql in counts:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
            assert [row[-1] for row in cursor.fetchall()] == [
                f"SEARCH jobs_job {ALONE} jobs_by_state (state=?)"
            ]


@pytest.fixture
def few(monkeypatch):
    """A list that counts to ten, and of searches to six."""
    monkeypatch.setattr(counting, "MAX_COUNT", 10)
    monkeypatch.setattr(counting, "RECENT", 6)


@pytest.mark.parametrize("order", ["", "oldest", "title"])
def test_beyond_what_is_counted_the_pages_go_on_and_back(chief, editor, few, order):
    made = {str(job(editor, f"clip {number % 7}").pk) for number in range(130)}
    seen: list[list[str]] = []
    path = f"/?sort={order}"
    while path:
        page = chief.get(path).content.decode()
        seen.append(re.findall(r'name="job"\s+value="([^"]+)"', page))
        assert "All <b>10+</b>" in page and f"Page {len(seen)}</span>" in re.sub(r"\s+", " ", page)
        path = (re.search(r'href="([^"]+)" rel="next"', page) or [None, ""])[1].replace("&amp;", "&")
    assert [len(each) for each in seen] == [25] * 5 + [5]
    assert {pk for each in seen for pk in each} == made
    for before in reversed(seen[:-1]):
        path = re.search(r'href="([^"]+)" rel="prev"', page)[1].replace("&amp;", "&")
        page = chief.get(path).content.decode()
        assert re.findall(r'name="job"\s+value="([^"]+)"', page) == before
    assert 'rel="prev"' not in page


def test_a_page_of_no_place_in_the_list_is_the_first_one(chief, editor):
    job(editor, "clip")
    for query in ("after=x", "after=W10=", "before=WzEsIDJd", "after=", "page=7&after=é"):
        assert "clip" in text(chief.get(f"/?{query}")), query


def test_a_search_counts_the_newest_that_it_finds(chief, editor, few):
    for number in range(8):
        job(editor, f"film {number}", JobState.FAILED if number < 4 else JobState.SUCCEEDED)
    page = chief.get("/?q=film").content.decode()
    assert "All <b>6+</b>" in page and "Done <b>4+</b>" in page and "Needs attention <b>2+</b>" in page
    assert "Done <b>1</b>" in chief.get("/?q=film+7").content.decode()


def test_a_search_finds_an_owners_jobs_beside_titles(chief, editor, django_user_model):
    job(editor, "the clip of ada’s friend")
    job(editor, "another")
    job(django_user_model.objects.create_user("eve"), "hers")
    assert chief.get("/?q=ADA").content.decode().count('class="job"') == 2
    assert chief.get("/?q=friend").content.decode().count('class="job"') == 1


def test_a_day_is_the_readers_own(chief, editor, settings):
    settings.TIME_ZONE = "Europe/Berlin"
    zone = ZoneInfo("Europe/Berlin")
    with timezone.override(zone):
        made = job(editor, "late")
        late = timezone.datetime(2026, 10, 25, 23, 59, 59, tzinfo=zone)  # a day of 25 hours
        Job.objects.filter(pk=made.pk).update(created_at=late)
        for query, found in (
            ("from=2026-10-25&to=2026-10-25", 1),
            ("from=2026-10-26", 0),
            ("to=2026-10-24", 0),
        ):
            assert searching.search(made.owner, QueryDict(query)).count() == found, query
    for query in ("from=0001-01-01&to=9999-12-31", "to=9999-12-31"):
        assert searching.search(made.owner, QueryDict(query)).count() == 1


def test_each_job_of_the_last_days_stands_in_its_own_column(editor):
    today = timezone.localdate()
    starts = [searching.start_of(today - timedelta(days=back)) for back in range(6, -1, -1)]
    for at, start in enumerate(starts):
        for moment in (start, start + timedelta(hours=23)):
            Job.objects.filter(pk=job(editor, str(at)).pk).update(created_at=moment)
    found = Job.objects.annotate(day=figures.DayOf(starts)).values_list("title", "day")
    assert all(title == str(day) for title, day in found) and len(found) == 14


def test_the_chart_is_counted_once_a_minute_for_all_who_look_at_the_same(chief, editor, monkeypatch):
    job(editor, "clip")

    def charts(path: str) -> int:
        with CaptureQueriesContext(connection) as seen:
            assert chief.get(path).status_code == 200
        return sum('AS "day"' in each["sql"] for each in seen.captured_queries)

    assert [charts("/history/"), charts("/history/?page=2"), charts("/history/?tab=done")] == [1, 0, 1]
    later = time.time() + polling.MAX_AGE
    monkeypatch.setattr(polling.time, "time", lambda: later)
    assert charts("/history/") == 1


def test_what_is_more_than_is_counted_is_counted_again_after_a_minute(editor, monkeypatch):
    monkeypatch.setattr(counting, "MAX_COUNT", 2)
    for number in range(3):
        job(editor, f"clip {number}")

    def count(which: str = "all") -> tuple[str, int]:
        with CaptureQueriesContext(connection) as seen:
            counted = counting.count_each(Job.objects.all(), searching.GROUPS, which)
        return str(counted["done"]), seen.captured_queries[0]["sql"].count("COUNT(*)")

    groups = len(searching.GROUPS)
    assert count() == ("2+", groups)
    Job.objects.all().delete()
    assert count() == ("2+", groups - 1) and count("another search") == ("0", groups)
    later = time.monotonic() + counting.MORE_SECONDS + 1
    monkeypatch.setattr(counting.time, "monotonic", lambda: later)
    assert count() == ("0", groups)


@pytest.mark.parametrize("query", ["", "tab=attention"])
def test_a_page_of_a_search_is_searched_for_once(chief, editor, monkeypatch, query):
    monkeypatch.setattr(job_list, "RECENT", 4)
    monkeypatch.setattr(counting, "RECENT", 4)
    for number in range(6):
        job(editor, f"harbour {number}", state=JobState.FAILED)
    with CaptureQueriesContext(connection) as seen:
        page = JobList(chief_of(chief), QueryDict(f"q=harbour&{query}"), 2)
    assert [each.title for each in page.jobs] == ["harbour 5", "harbour 4"] and page.goes_on
    assert sum("LIKE" in each["sql"] and "jobs_job" in each["sql"] for each in seen.captured_queries) == 1
    found = [each.title for each in page.jobs]
    while page._older():
        page = JobList(chief_of(chief), QueryDict(page._older()[1:]), 2)
        found += [each.title for each in page.jobs]
    assert found == [f"harbour {number}" for number in range(5, -1, -1)]


def chief_of(browser):
    return User.objects.get(pk=browser.session["_auth_user_id"])


def test_the_chart_of_a_search_that_finds_very_many_shows_the_days_that_are_known(chief, editor, monkeypatch):
    monkeypatch.setattr(job_list, "RECENT", 4)
    monkeypatch.setattr(figures, "RECENT", 4)
    for back in (0, 0, 1, 2, 3, 9):
        moment = searching.start_of(timezone.localdate() - timedelta(days=back))
        Job.objects.filter(pk=job(editor, f"harbour {back}").pk).update(created_at=moment)
    shown = chief.get("/history/?q=harbour").context
    assert [len(day.bars) for day in shown["days"]] == [1, 1, 1] and shown["busiest"] == 2
    assert (shown["days"][0].x, shown["days"][0].width, shown["newest"], shown["ended"]) == (10, 80, 4, 4)
    whole = chief.get("/history/").context
    assert len(whole["days"]) == 30 and sum(len(day.bars) for day in whole["days"]) == 5


def test_the_export_reads_some_at_a_time_and_each_job_once(editor, django_assert_num_queries):
    made = [job(editor, f"clip {number}").pk for number in range(7)]
    Job.objects.filter(pk__in=made[:3]).update(created_at=timezone.now())  # at one moment
    with django_assert_num_queries(
        3 * 4 - 2
    ):  # jobs, owners, stages; nothing to ask of the last, empty block
        found = [each.pk for each in history.in_blocks(Job.objects.all(), 3)]
    assert len(found) == 7 and set(found) == set(made)


def test_the_export_finds_what_it_says_of_stages_by_their_jobs(editor):
    made = [job(editor, f"clip {number}", JobState.FAILED) for number in range(3)]
    made[0].stages.filter(name="audio").update(state="failed", error="Broken.")
    Stage.objects.create(job=made[1], position=9, name="check", label="Check", state="succeeded")
    with CaptureQueriesContext(connection) as seen:
        found = {
            each.pk: [stage.name for stage in each.stages.all()]
            for each in history.in_blocks(Job.objects.all())
        }
    assert [found[each.pk] for each in made] == [["audio"], ["check"], []]
    (asked,) = [sql for each in seen.captured_queries if "jobs_stage" in (sql := each["sql"])]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {asked}")
        plan = [step for *_, step in cursor.fetchall()]
    assert any("(job_id=?)" in step for step in plan) and not any("MULTI-INDEX" in step for step in plan), (
        plan
    )


def test_no_list_of_records_counts_or_orders_them_all(chief, editor):
    made = job(editor, "clip")
    Event.objects.create(job=made, kind="note", text="x")
    for path in ("job/", "job/?q=clip", "stage/", "stage/?q=clip", "event/", "event/?q=clip", "upload/"):
        with CaptureQueriesContext(connection) as seen:
            assert chief.get(f"/admin/jobs/{path}").status_code == 200
        for query in seen.captured_queries:
            sql = query["sql"]
            assert "COUNT(*)" not in sql or f"LIMIT {501 if 'q=' in path else 10001}" in sql, sql
            assert "DISTINCT" not in sql, sql
            assert "JOIN" not in sql or "FROM jobs_" not in sql.replace('"', ""), sql  # it sorts all of one
            if "ORDER BY" in sql and "LIMIT" in sql and "jobs_" in sql and "SELECT COUNT" not in sql:
                with connection.cursor() as cursor:
                    cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
                    plan = [row[-1] for row in cursor.fetchall()]
                assert "USE TEMP B-TREE FOR ORDER BY" not in plan, (path, sql, plan)


def test_the_records_of_a_job_are_found_by_its_names_or_its_id(chief, editor):
    made = job(editor, "a clip of its own")
    job(editor, "another")
    for asked in ("OF ITS own", str(made.pk)):
        for table, rows in (("job", 1), ("stage", 4), ("event", 1)):
            answer = chief.get(f"/admin/jobs/{table}/", {"q": asked})
            assert len(answer.context["cl"].result_list) == rows and "another" not in text(answer), table


def test_those_that_an_action_applies_to_come_first(editor, monkeypatch):
    monkeypatch.setattr(bulk, "MAX_JOBS", 3)
    for number in range(2):
        job(editor, f"ended {number}")
    Job.objects.filter(pk=job(editor, "waiting").pk).update(state=JobState.QUEUED)
    for number in range(2, 4):
        job(editor, f"ended {number}")
    assert bulk.select_jobs("cancel", Job.objects.all())[0].title == "waiting"
    assert len(bulk.select_jobs("cancel", Job.objects.all())) == 3


def failing(editor, count: int, start: int = 0) -> None:
    """So many jobs that failed for one reason, each a little later than the one before."""
    for number in range(start, start + count):
        made = job(editor, f"broken {number}", JobState.FAILED)
        made.stages.filter(name="ingest").update(state="failed", error_kind="damaged", error="Broken.")


def test_what_is_asked_of_very_many_reads_the_newest_and_no_plans(chief, editor, few, monkeypatch):
    monkeypatch.setattr(bulk, "MAX_JOBS", 6)
    failing(editor, 9)
    form = {"action": "retry", "matching": "why=damaged&tab=attention"}
    with CaptureQueriesContext(connection) as seen:
        page = text(chief.post("/jobs/bulk/", form))
    assert "Retry 6 jobs?" in page and "6+ jobs match. Only 6 can be changed at once" in page
    assert "broken 8" in page and "broken 3" in page and "broken 2" not in page
    asked = [each["sql"] for each in seen.captured_queries if '"error_kind"' in each["sql"]]
    assert len(asked) == 2 and all("DESC LIMIT 7)" in sql for sql in asked), (
        asked
    )  # a few more than are wanted
    assert not any('"jobs_job"."plan"' in each["sql"] for each in seen.captured_queries)


def test_where_the_newest_are_none_that_it_applies_to_older_ones_are_taken(chief, editor, few, monkeypatch):
    monkeypatch.setattr(bulk, "MAX_JOBS", 2)
    failing(editor, 2)
    failing(editor, 4, 2)
    Job.objects.exclude(title__in=("broken 0", "broken 1")).update(state=JobState.SUCCEEDED)
    page = text(chief.post("/jobs/bulk/", {"action": "retry", "matching": "why=damaged"}))
    assert "Retry 2 jobs?" in page and "broken 1" in page and "broken 0" in page and "broken 5" not in page


def test_more_than_is_counted_is_said_after_the_deed_too(chief, editor, few, monkeypatch):
    monkeypatch.setattr(bulk, "MAX_JOBS", 6)
    failing(editor, 8)
    form = {"action": "delete", "matching": "why=damaged"}
    answer = text(chief.post("/jobs/bulk/", {**form, "confirmed": "1"}, follow=True))
    assert "Deleted 6 jobs. More match; repeat to include them." in answer
    answer = text(chief.post("/jobs/bulk/", {**form, "confirmed": "1"}, follow=True))
    assert "Deleted 2 jobs." in answer and "match" not in answer.partition("Deleted 2 jobs.")[2][:40]


def test_the_page_of_a_pipeline_counts_its_jobs_no_further_than_it_says(chief, editor, few):
    for number in range(12):
        job(editor, f"clip {number}")
    assert re.search(r">\s*10\+\s+jobs</a>", chief.get("/pipelines/standard/").content.decode())


def test_what_is_few_is_not_counted_again_for_the_question(chief, editor):
    failing(editor, 2)
    with CaptureQueriesContext(connection) as seen:
        assert "Delete 2 jobs?" in text(
            chief.post("/jobs/bulk/", {"action": "delete", "matching": "q=broken"})
        )
    assert not any("COUNT(*)" in each["sql"] for each in seen.captured_queries)


def test_a_saved_view_of_a_reason_counts_the_newest_stages_alone(chief, editor, few):
    failing(editor, 9)
    SavedView.objects.create(owner=chief_of(chief), name="damaged", query="why=damaged")
    with CaptureQueriesContext(connection) as seen:
        page = chief.get("/").content.decode()
    assert re.search(r"damaged\s*<b>6\+</b>", page)
    counted = [sql for each in seen.captured_queries if "COUNT(*)" in (sql := each["sql"]) and "kind" in sql]
    assert len(counted) == 1 and "DESC LIMIT 7)" in counted[0], counted


def test_one_process_has_the_turn_until_it_is_overdue():
    mine, other, every = uuid4(), uuid4(), timedelta(seconds=5)

    def wait(seconds: float) -> None:
        Turn.objects.update(at=Turn.objects.get().at - timedelta(seconds=seconds))

    assert Turn.take("work", every, mine) and not Turn.take("work", every, other)
    assert not Turn.take("work", every, mine), "it has just been done"
    wait(6)
    assert not Turn.take("work", every, other) and Turn.take("work", every, mine)
    wait(11)
    assert Turn.take("work", every, other) and not Turn.take("work", every, mine)
    assert Turn.take("other work", every, mine)
    Turn.give_up("work", mine)
    assert not Turn.take("work", every, mine), "it is another’s to give up"
    Turn.give_up("work", other)
    assert Turn.take("work", every, mine)
