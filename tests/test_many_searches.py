"""Searches among very many jobs: what is looked up once, what is found by its reason, in any order."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.http import QueryDict
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jobs.dashboard import counting, job_list, saved_views, searching
from jobs.dashboard.job_list import JobList
from jobs.models import Job, SavedView, Stage
from jobs.state import JobState, StageState
from tests.support.recorded import job

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Searches look at five jobs."""
    monkeypatch.setattr(counting, "RECENT", 5)
    monkeypatch.setattr(job_list, "RECENT", 5)


@pytest.fixture
def staff(chief) -> User:
    return User.objects.get(username="chief")


def titles(page: JobList) -> list[str]:
    return [each.title for each in page.jobs]


def failed(owner: User, title: str, kind: str = "damaged") -> Job:
    made = job(owner, title, JobState.FAILED)
    Stage.objects.filter(job=made, name="ingest").update(state=StageState.FAILED, error_kind=kind)
    return made


def test_what_failed_for_one_reason_is_found_by_its_newest_stages(editor, staff):
    for number in range(9):
        failed(editor, f"film {number}")
    failed(editor, "another", "stalled")
    with CaptureQueriesContext(connection) as seen:
        page = JobList(staff, QueryDict("why=damaged"), 3)
    assert titles(page) == ["film 8", "film 7", "film 6"] and str(page.total) == "5+"
    looked_at = [each["sql"] for each in seen.captured_queries if "error_kind" in each["sql"]]
    assert len(looked_at) == 1 and 'ORDER BY U0."id" DESC LIMIT 6' in looked_at[0], looked_at
    seen = titles(page)
    while page._older():
        page = JobList(staff, QueryDict(page._older()[1:]), 3)
        seen += titles(page)
    assert seen == [f"film {number}" for number in range(8, -1, -1)]


def test_looking_again_at_what_failed_for_one_reason_asks_which_of_them_still_did_and_for_newer_ones(
    editor, staff
):
    made = [failed(editor, f"film {number}") for number in range(9)]

    def look(query: str = "why=damaged") -> tuple[list[str], int]:
        with CaptureQueriesContext(connection) as seen:
            page = JobList(staff, QueryDict(query), 3)
        assert str(page.total) == "5+" and page.goes_on
        return titles(page), sum("LIMIT 6)" in each["sql"] for each in seen.captured_queries)

    assert look() == (["film 8", "film 7", "film 6"], 1)
    Stage.objects.filter(job=made[7]).update(error_kind="", state=StageState.PENDING)  # started again
    failed(editor, "newer")
    failed(editor, "another", "stalled")
    assert look() == (["newer", "film 8", "film 6"], 0)
    assert look("why=damaged&sort=oldest")[0] == ["film 0", "film 1", "film 2"]
    Stage.objects.filter(job__in=made[3:]).update(error_kind="", state=StageState.PENDING)
    assert look()[0] == ["newer", "film 2", "film 1"], "where few of them are left, all are looked at"


def test_what_failed_for_one_reason_in_a_pipeline_is_looked_for_since_others_did(editor, staff):
    for number in range(24):
        made = failed(editor, f"film {number}")
        Job.objects.filter(pk=made.pk).update(pipeline="previews" if number % 2 else "standard")

    def look(pipeline: str) -> tuple[list[str], list[bool]]:
        with CaptureQueriesContext(connection) as seen:
            page = JobList(staff, QueryDict(f"why=damaged&pipeline={pipeline}"), 3)
        asked = [sql for each in seen.captured_queries if "LIMIT 6" in (sql := each["sql"])]
        return titles(page), ['"jobs_job"."created_at" > ' in sql for sql in asked]

    assert look("previews") == (["film 23", "film 21", "film 19"], [True])
    Job.objects.filter(pipeline="standard", title__in=[f"film {n}" for n in range(8, 24)]).update(
        pipeline="streaming"
    )
    assert look("standard") == (["film 6", "film 4", "film 2"], [True, False]), "which are older"


def test_a_stage_that_was_added_later_leaves_its_job_in_its_place(editor, staff):
    old = job(editor, "old", JobState.SUCCEEDED)
    Job.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=9))
    for number in range(9):
        failed(editor, f"film {number}")
    Stage.objects.create(job=old, position=9, name="late", label="Late", state="failed", error_kind="damaged")
    assert titles(JobList(staff, QueryDict("why=damaged"), 5)) == [f"film {n}" for n in range(8, 3, -1)]


def test_who_sees_their_own_jobs_alone_finds_those_that_failed_among_newer_ones(editor, staff):
    mine = failed(editor, "mine")
    for number in range(9):
        failed(staff, f"film {number}")
    assert titles(JobList(editor, QueryDict("why=damaged"))) == [mine.title]
    assert titles(JobList(staff, QueryDict("why=damaged&owner=ada"))) == [mine.title]


@pytest.mark.parametrize("word", ["harbour", "ada"])
@pytest.mark.parametrize("whose", ["her own", "hers among all"])
def test_a_text_is_looked_for_in_a_persons_newest_jobs_first(editor, staff, monkeypatch, word, whose):
    monkeypatch.setattr(searching, "LOOKED_THROUGH", 7)
    job(editor, "quay")
    for number in range(9):
        job(editor, f"harbour {number}")
    job(staff, "harbour of another")
    person, narrowed = (editor, "") if whose == "her own" else (staff, "&owner=ada")
    with CaptureQueriesContext(connection) as seen:
        page = JobList(person, QueryDict(f"q={word}{narrowed}"), 3)
    assert titles(page) == ["harbour 8", "harbour 7", "harbour 6"] and str(page.total) == "5+"
    asked = [sql for each in seen.captured_queries if "LIMIT 6" in (sql := each["sql"])]
    assert len(asked) == 1 and "INSTR" in asked[0] and "LIKE" not in asked[0], asked
    assert titles(JobList(person, QueryDict(f"q=quay{narrowed}"), 3)) == ["quay"], "which is an older one"


@pytest.mark.parametrize("order", ["", "oldest", "title"])
@pytest.mark.parametrize("tab", ["", "done"])
def test_a_search_that_finds_few_is_searched_for_once_in_any_order(editor, staff, order, tab):
    for number in (3, 1, 2):
        job(editor, f"harbour {number}")
    job(editor, "harbour 4", JobState.FAILED)
    with CaptureQueriesContext(connection) as seen:
        page = JobList(staff, QueryDict(f"q=harbour&sort={order}&tab={tab}"))
    numbers = {"": [4, 2, 1, 3], "oldest": [3, 1, 2, 4], "title": [1, 2, 3, 4]}[order]
    assert titles(page) == [f"harbour {number}" for number in numbers if number != 4 or not tab]
    assert sum("LIKE" in each["sql"] and "jobs_job" in each["sql"] for each in seen.captured_queries) == 1


def test_looking_again_at_a_search_that_finds_very_many_asks_for_its_own_rows_alone(editor, staff):
    def look() -> tuple[list[str], int]:
        with CaptureQueriesContext(connection) as seen:
            page = JobList(staff, QueryDict("q=harbour"), 2)
        assert str(page.total) == "5+"
        return titles(page), sum("LIMIT 6" in each["sql"] for each in seen.captured_queries)

    for number in range(7):
        job(editor, f"harbour {number}")
    assert look() == (["harbour 6", "harbour 5"], 1)
    job(editor, "harbour 7")
    assert look() == (["harbour 7", "harbour 6"], 0)


def test_a_look_counts_some_of_the_saved_views_anew_and_in_the_end_all(editor, staff, monkeypatch):
    job(editor, "film")
    for number in range(5):
        SavedView.objects.create(
            owner=staff, name=f"view {number}", query=f"q=film&owner=ada&from=200{number}-01-01"
        )
    clock = [1000.0]
    monkeypatch.setattr(saved_views.time, "monotonic", lambda: clock[0])

    def look() -> list[str]:
        clock[0] += 1
        return [tab.jobs for tab in JobList(staff, QueryDict("")).saved_views]

    assert [look(), look()] == [["1", "", "", "", ""], ["1", "1", "", "", ""]]
    assert [look(), look(), look()][-1] == ["1"] * 5
    job(editor, "another film")
    assert look() == ["1"] * 5
    clock[0] += saved_views.SECONDS
    assert [look() for _ in range(5)] == [["2"] * done + ["1"] * (5 - done) for done in range(1, 6)]
