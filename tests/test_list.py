"""The list of jobs: what a query string asks for, what is done to many at once, and how fast."""

from __future__ import annotations

import re
import sqlite3
from datetime import timedelta

import pytest
from django.db import connection
from django.http import QueryDict
from django.test import Client
from django.utils import timezone

from jobs.dashboard import bulk
from jobs.dashboard.job_list import JobList
from jobs.live import TEMPORAL_UNAVAILABLE, Live
from jobs.models import Job, Stage
from jobs.state import JobState, Source
from tests.support.recorded import job, text

pytestmark = pytest.mark.django_db


def test_tabs_search_order_and_pages_are_in_the_url(ada, editor):
    for number in range(30):
        job(editor, f"clip {number:02}", JobState.CANCELLED if number % 3 == 0 else JobState.SUCCEEDED)
    page = ada.get("/")
    assert re.search(r"All <b>30</b>", page.content.decode()) and "Page 1 of 2" in text(page)
    assert page.content.decode().count('class="job"') == 25
    assert ada.get("/?page=2").content.decode().count('class="job"') == 5
    assert ada.get("/?page=99999&sort=zzz&tab=zzz").status_code == 200
    assert ada.get("/?tab=cancelled").content.decode().count('class="job"') == 10
    found = ada.get("/?q=clip+07")
    assert found.content.decode().count('class="job"') == 1
    assert "No jobs match your search" in text(ada.get("/?q=nothing-like-it"))
    titles = re.findall(r"<h2 [^>]*><a [^>]*>([^<]+)", ada.get("/?sort=title").content.decode())
    assert titles == sorted(titles)


@pytest.mark.parametrize(
    ("title", "asked"),
    [
        ("ÜBERSICHT Straße.mp4", "übersicht strasse"),
        ("Cafe\u0301 Zürich", "CAFÉ"),
        ("Café Zürich", "cafe\u0301 ZU\u0308RICH"),
        ("ﬁnal №2", "final no2"),
        ("می\u200cخواهم", "میخواهم"),
        ("100%_done", "100%_D"),
        ("İstanbul ışık", "istanbul IŞIK"),
        ("ISTANBUL IŞIK", "İstanbul ışık"),
        ("ΟΔΥΣΣΕΥΣ", "οδυσσευς"),
        ("ＦＵＬＬ\u3000ｗｉｄｔｈ", "full width"),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af", "한글"),
    ],
)
def test_a_search_finds_other_cases_and_other_forms_of_the_same_letters(ada, editor, title, asked):
    job(editor, title)
    job(editor, "another")
    assert ada.get("/", {"q": asked}).content.decode().count('class="job"') == 1


def test_many_jobs_are_cancelled_at_once_and_the_rest_is_told(ada, editor, django_user_model):
    waiting = [
        Job.submit(editor, title=str(n), pipeline="standard", source=Source(url="http://example.org/x"))
        for n in range(3)
    ]
    done = job(editor)
    other = Job.submit(
        django_user_model.objects.create_user("eve"),
        title="e",
        pipeline="standard",
        source=Source(url="http://x/"),
    )
    ids = [str(each.pk) for each in [*waiting, done, other]]
    asked = ada.post("/jobs/bulk/", {"action": "cancel", "job": [*ids, "nonsense"]})
    assert "Cancel 4 jobs?" in text(asked)
    answer = ada.post("/jobs/bulk/", {"action": "cancel", "job": ids, "confirmed": "1"}, follow=True)
    assert "Cancelling 3 jobs. 1 had already ended." in text(answer)
    other.refresh_from_db()
    assert other.state == JobState.QUEUED
    assert "Choose an action: cancel, retry, add or delete." in text(
        ada.post("/jobs/bulk/", {"action": "explode"}, follow=True)
    )


def test_all_that_match_are_deleted_with_their_media_and_active_ones_are_skipped(ada, editor, settings):
    settings.TRASH_DAYS = 0
    from mediapipe import storage

    gone = [job(editor, f"old {n}") for n in range(30)]
    kept = job(editor, "another")
    Job.submit(editor, title="old but active", pipeline="standard", source=Source(url="http://example.org/x"))
    for name in ("sources/x.mp4", "outputs/old.mp4"):
        storage.path(name).parent.mkdir(parents=True, exist_ok=True)
        storage.path(name).write_bytes(b"x")
    Stage.objects.filter(job=gone[0], name="ingest").update(output={"name": "outputs/old.mp4"})
    form = {"action": "delete", "matching": "q=old"}
    assert "Delete 31 jobs?" in text(ada.post("/jobs/bulk/", form)) and Job.objects.count() == 32
    answer = ada.post("/jobs/bulk/", {**form, "confirmed": "1"}, follow=True)
    assert "Deleted 30 jobs. 1 is still running; cancel it first." in text(answer)
    assert set(Job.objects.values_list("title", flat=True)) == {kept.title, "old but active"}
    assert not storage.path("outputs/old.mp4").exists()
    assert storage.path("sources/x.mp4").exists(), "another job still works on it"


def test_each_filter_that_is_set_stands_beside_the_search_and_goes_at_a_click(chief, editor):
    job(editor)
    page = chief.get("/?q=film&owner=ada&state=failed").content.decode().replace("&amp;", "&")
    assert "Owner: ada" in page and 'href="/?q=film&state=failed"' in page
    assert "State: Failed" in page and 'href="/?q=film&owner=ada"' in page
    history = chief.get("/history/?why=damaged&tab=attention").content.decode()
    assert "Reason: damaged" in history and 'href="/history/?tab=attention"' in history


def test_a_view_is_saved_shown_and_forgotten_by_its_owner_alone(ada, chief, editor):
    job(editor)
    ada.post("/jobs/views/", {"name": "My films", "query": "q=film&sort=title"})
    page = ada.get("/").content.decode()
    assert "My films" in page and 'href="/?q=film&amp;sort=title"' in page
    assert "My films" not in text(chief.get("/"))
    chief.post("/jobs/views/", {"forget": "My films"})
    assert "My films" in text(ada.get("/"))
    ada.post("/jobs/views/", {"forget": "My films"})
    assert "My films" not in text(ada.get("/"))
    assert "Enter a name." in text(ada.post("/jobs/views/", {"query": "q=x"}, follow=True))


def test_a_saved_view_is_a_tab_with_its_count_and_is_marked_where_it_is_shown(ada, chief, editor):
    for title in ("film 1", "film 2", "other"):
        job(editor, title)
    ada.post("/jobs/views/", {"name": "Films", "query": "q=film&sort=oldest"})
    elsewhere = ada.get("/").content.decode()
    assert re.search(r">Films\s+<b>2</b>", elsewhere) and elsewhere.count('aria-current="true"') == 1
    job(editor, "film 3")
    here = ada.get("/?sort=oldest&q=film").content.decode()
    assert re.search(r'aria-current="true"\s*>Films\s+<b>3</b>', here) and "Delete view" in here
    assert here.count('aria-current="true"') == 1
    chief.post("/jobs/views/", {"name": "Hers", "query": "owner=ada", "from": "history"})
    history = chief.get("/history/").content.decode()
    assert re.search(r'href="/history/\?owner=ada"\s*>Hers\s+<b>4</b>', history)


def test_what_failed_has_a_tab_of_its_own_and_needs_attention_as_well(ada, editor):
    for state in (JobState.FAILED, JobState.FAILED, JobState.SUCCEEDED):
        job(editor, "film", state)
    page = ada.get("/?tab=failed").content.decode()
    assert "Failed <b>2</b>" in page and page.count('class="job"') == 2
    assert "Needs attention <b>2</b>" in page and "All <b>3</b>" in page


def test_staff_choose_an_owner_among_the_people_and_editors_see_no_names(ada, chief, editor):
    job(editor)
    assert '<option value="ada">' in chief.get("/").content.decode()
    assert '<option value="ada">' in chief.get("/history/").content.decode()
    assert "owners" not in ada.get("/").content.decode()


def test_a_tab_alone_is_no_view_to_save(ada, editor):
    job(editor)
    assert "Save view as" not in text(ada.get("/?tab=done"))
    assert "Save view as" in text(ada.get("/?tab=done&sort=title"))


def test_filters_narrow_the_list(chief, editor, django_user_model):
    job(editor, "ours")
    job(django_user_model.objects.create_user("eve"), "hers")
    assert "hers" not in text(chief.get("/?owner=ada")) and "ours" in text(chief.get("/?owner=ada"))
    assert "ours" not in text(chief.get("/?from=2099-01-01"))
    assert "ours" in text(chief.get("/?from=2020-01-01&pipeline=standard"))
    assert "ours" not in text(chief.get("/?pipeline=streaming"))


def test_bulk_tells_jobs_that_could_not_be_reached_from_jobs_that_had_ended(ada, editor):
    running = [
        Job.submit(editor, title=str(n), pipeline="standard", source=Source(url="http://x/")) for n in "ab"
    ]
    for each in running:
        each.mark_started()  # and Temporal is away
    ids = [str(each.pk) for each in [*running, job(editor)]]
    form = {"action": "cancel", "job": ids, "confirmed": "1"}
    answer = text(ada.post("/jobs/bulk/", form, follow=True))
    assert (
        "Nothing was cancelled. 1 had already ended. 2 got no answer. The workflow service can’t be reached"
        in answer
    )
    assert "Your cancel takes effect when it’s back." in answer


def test_bulk_gives_up_where_temporal_is_away_and_says_what_was_not_tried(ada, editor, monkeypatch):
    monkeypatch.setattr(bulk, "MAX_UNANSWERED", 2)
    monkeypatch.setattr(bulk, "CONCURRENCY", 1)
    for n in range(5):
        Job.submit(editor, title=str(n), pipeline="standard", source=Source(url="http://x/")).mark_started()
    answer = ada.post("/jobs/bulk/", {"action": "cancel", "matching": "tab=", "confirmed": "1"}, follow=True)
    assert "2 got no answer" in text(answer) and "3 were left alone." in text(answer)


@pytest.mark.django_db(transaction=True)
def test_a_database_that_is_locked_ends_what_bulk_does_with_how_far_it_came(ada, editor):
    path = connection.settings_dict["NAME"]
    waiting = [
        Job.submit(editor, title=str(n), pipeline="standard", source=Source(url="http://x/")) for n in "ab"
    ]
    ended = job(editor)
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout=100")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        ids = [str(each.pk) for each in [*waiting, ended]]
        answer = ada.post("/jobs/bulk/", {"action": "cancel", "job": ids, "confirmed": "1"})
    finally:
        other.execute("ROLLBACK")
        other.close()
        connection.close()
    assert answer.status_code == 503
    said = "Nothing was cancelled. 1 had already ended. 2 got no answer. The database can’t be reached."
    assert said in text(answer)


def test_what_has_come_since_the_question_was_asked_is_not_part_of_the_answer(ada, editor):
    asked = job(editor, "old")
    page = ada.post("/jobs/bulk/", {"action": "delete", "matching": "tab="}).content.decode()
    fields = dict(re.findall(r'name="(action|confirmed|matching|shown)"\s+value="([^"]*)"', page))
    assert fields["shown"] == str(asked.pk)
    late = job(editor, "new")
    assert "Deleted 1 job. 1 more match" in text(ada.post("/jobs/bulk/", fields, follow=True))
    assert list(Job.objects.all()) == [late]


def test_more_than_bulk_takes_at_once_is_done_in_turns_and_said_before_and_after(ada, editor, monkeypatch):
    monkeypatch.setattr(bulk, "MAX_JOBS", 4)
    for n in range(5):
        job(editor, f"done {n}")
    active = Job.submit(editor, title="newer", pipeline="standard", source=Source(url="http://x/"))
    form = {"action": "delete", "matching": "tab="}
    asked = text(ada.post("/jobs/bulk/", form))
    assert "Delete 4 jobs?" in asked and "6 jobs match. Only 4 can be changed at once" in asked
    answer = text(ada.post("/jobs/bulk/", {**form, "confirmed": "1"}, follow=True))
    assert "Deleted 4 jobs. 2 more match; repeat to include them." in answer
    assert "Deleted 1 job. 1 is still running; cancel it first." in text(
        ada.post("/jobs/bulk/", {**form, "confirmed": "1"}, follow=True)
    )
    assert list(Job.objects.all()) == [active], "what can be deleted comes first"


def test_a_jobs_page_leads_to_those_beside_it_in_the_list(ada, chief, editor, django_user_model):
    job(editor, "oldest")
    middle = job(editor, "middle")
    job(django_user_model.objects.create_user("eve"), "hers")
    page = ada.get(middle.get_absolute_url()).content.decode()
    assert 'title="oldest"' in page and "Newer" not in page
    assert 'title="hers"' in chief.get(middle.get_absolute_url()).content.decode()


def test_newer_and_older_stay_within_the_search_from_which_one_came(ada, editor):
    first, _, failed, last = (
        job(editor, title, state)
        for title, state in (
            ("harbour, take 1", JobState.SUCCEEDED),
            ("council", JobState.SUCCEEDED),
            ("harbour, take 2", JobState.FAILED),
            ("harbour, take 3", JobState.SUCCEEDED),
        )
    )
    for made, side, query, leads_to in (
        (last, "older", "?q=harbour", failed),
        (last, "older", "?q=harbour&tab=done&page=2", first),
        (first, "newer", "?q=harbour&tab=done", last),
        (first, "newer", "?tab=failed", failed),
    ):
        answer = ada.get(f"{made.get_absolute_url()}{side}/{query}")
        assert answer["Location"] == leads_to.get_absolute_url(), (side, query)
    answer = ada.get(f"{first.get_absolute_url()}older/?q=harbour", follow=True)
    assert "No older job is in your search." in text(answer) and "harbour, take 1" in text(answer)


def test_the_list_is_alarmed_by_most_of_its_jobs_and_not_by_one(editor):
    for number in range(3):
        job(editor, f"take {number}", JobState.RUNNING)
    page = JobList(editor, QueryDict())
    for unanswered, says in ((1, ""), (2, TEMPORAL_UNAVAILABLE)):
        said = [TEMPORAL_UNAVAILABLE] * unanswered + [""] * (3 - unanswered)
        page.live = {
            each.pk: Live(each.status(), banner=text) for each, text in zip(page.jobs, said, strict=True)
        }
        assert page.context("/")["banner"] == says


def test_nothing_ticked_is_said(ada):
    assert "Select at least one job first." in text(ada.post("/jobs/bulk/", {"action": "retry"}, follow=True))


HOSTILE = (
    *("page=999999999999", "page=-1", "page=0", "page=%00", "page=1e3", "page=" + "9" * 5000, "page=٣"),
    *("q=%00", "q=" + "x" * 6000, "q=%25%27%22%3B--", "q=a&q=b", "q=%F0%9F%8E%AC", "q=%E2%80%AE"),
    *("from=2026-99-99", "from=0000-00-00", "to=nonsense", "from=9999-12-31&to=0001-01-01", "from=%00"),
    *("tab=zzz", "tab=%00", "sort=-pk;drop", "state=zzz", "pipeline=zzz", "owner=%00", "owner=" + "x" * 999),
    *("tab=done&tab=running", "page=2&page=3", "x=" + "&x=" * 500),
)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        *(
            pytest.param(path, marks=pytest.mark.slow)
            for path in ("/jobs/rows/", "/history/", "/history/jobs.csv")
        ),
    ],
)
def test_a_hostile_query_is_only_a_query(chief, editor, path):
    job(editor)
    for query in HOSTILE:
        refused = "%00" in query  # no text holds a NUL
        assert chief.get(f"{path}?{query}").status_code == (400 if refused else 200), query
        answer = chief.post("/jobs/bulk/", {"action": "retry", "matching": query, "query": query})
        assert answer.status_code in (200, 302), query


TITLES = (
    "x" * 300,
    "Donaudampfschiff" * 18,
    "مقابلة مع رئيس البلدية",
    "\u202egpj.exe",
    "🎬" * 50,
    "<img src=x onerror=alert(1)>",
    '"><script>alert(1)</script>',
    "{% csrf_token %}{{ request }}",
)


@pytest.mark.slow
def test_any_title_is_only_text_on_every_page(chief, editor):
    for title in TITLES:
        made = job(editor, title, JobState.FAILED)
        news = "/jobs/news/?since=2020-01-01T00:00:00Z"
        for path in ("/", "/history/", made.get_absolute_url(), "/admin/jobs/job/", news):
            page = chief.get(path).content.decode()
            assert "<script>alert" not in page and "<img src=x" not in page, (path, title)
        form = {"action": "delete", "job": [str(made.pk)]}
        assert "<script>alert" not in chief.post("/jobs/bulk/", form).content.decode()
        assert chief.get(f"{made.get_absolute_url()}json/").json()["title"] == title


@pytest.fixture
def many(editor):
    """Five thousand ended jobs, each with its stages."""
    now = timezone.now()
    jobs = [
        Job(owner=editor, title=f"clip {n:04}", state=("succeeded", "failed")[n % 9 == 0], run=1,
            created_at=now - timedelta(minutes=n), started_at=now, finished_at=now, source_size=n)
        for n in range(5000)
    ]  # fmt: skip
    Job.objects.bulk_create(jobs, batch_size=500)
    own = [field.column for field in Stage._meta.local_fields if field.column not in ("id", "job_id")]
    for at, name in enumerate(("ingest", "thumbnails", "audio", "transcode")):
        first = Stage(
            job=jobs[0], position=at, name=name, label=name.title(), state="succeeded", max_attempts=3
        )
        first.save()
        with connection.cursor() as cursor:  # twenty thousand, as the database copies them
            cursor.execute(
                f"INSERT INTO jobs_stage (job_id, {', '.join(own)}) "
                f"SELECT job.id, {', '.join(f'stage.{column}' for column in own)} "
                "FROM jobs_job job, jobs_stage stage WHERE stage.id = %s AND job.id <> stage.job_id",
                [first.pk],
            )


@pytest.mark.slow
def test_five_thousand_jobs_are_paged_by_an_index_and_few_questions(
    ada, chief, many, django_assert_max_num_queries
):
    ada.get("/jobs/new/")  # notes that the session is used, once a minute
    for path in ("/", "/?page=200", "/?tab=attention", "/?tab=done&page=150"):
        with django_assert_max_num_queries(9):
            assert ada.get(path).status_code == 200
    assert chief.get("/history/").status_code == 200
    for user, found in (("editor", Job.objects.filter(owner__username="ada")), ("staff", Job.objects.all())):
        for jobs in (found, found.filter(state__in=("failed", "attention"))):
            plan = jobs.order_by("-created_at", "pk")[:25].explain()
            assert "SCAN jobs_job\n" not in plan + "\n", f"{user}: {plan}"


def test_a_poll_of_an_unchanged_list_asks_five_questions_and_draws_nothing(
    ada, editor, django_assert_num_queries
):
    for number in range(30):
        job(editor, f"clip {number}", JobState.SUCCEEDED)
    tag = ada.get("/jobs/rows/")["HX-PTag"]
    with django_assert_num_queries(5):  # session, person, counts, rows, views
        assert ada.get("/jobs/rows/", headers={"HX-PTag": tag}).status_code == 304


def test_a_list_shows_each_change_at_its_next_poll(ada, editor):
    made = job(editor, "before", JobState.CANCELLED)

    def poll() -> str:
        nonlocal tag
        answer = ada.get("/jobs/rows/", headers={"HX-PTag": tag})
        tag = answer.headers.get("HX-PTag", tag)
        return text(answer) if answer.status_code == 200 else "unchanged"

    tag = ""
    assert "before" in poll() and poll() == "unchanged"
    Job.objects.filter(pk=made.pk).update(title="after")
    assert "after" in poll() and poll() == "unchanged"
    assert made.start_again("ada") and "Queued" in poll()
    Job.objects.filter(pk=made.pk).update(note="Waiting for Temporal.")
    assert "Waiting for Temporal." in poll() and poll() == "unchanged"
    made.refresh_from_db()
    assert made.cancel_unstarted("ada") and "Cancelled" in poll()
    ada.post("/jobs/views/", {"name": "Mine", "query": "q=x"})
    assert "Mine" in poll() and poll() == "unchanged"
    made.refresh_from_db()
    assert made.remove() and "Try the example" in poll()


def test_who_watches_with_others_gets_their_rendering_and_a_token_of_their_own(editor, django_user_model):
    made = job(editor, state=JobState.FAILED)
    for name in ("chief", "vera"):
        client = Client(enforce_csrf_checks=True)
        client.force_login(django_user_model.objects.create_user(name, is_staff=True))
        for part in (f"/jobs/{made.pk}/status/", "/jobs/rows/"):
            assert "csrfmiddlewaretoken" not in client.get(part).content.decode(), "a polled part is shared"
        page = client.get(f"/jobs/{made.pk}/").content.decode()
        tokens = set(re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page))
        assert len(tokens) == 1
        form = {"csrfmiddlewaretoken": tokens.pop(), "action": "retry", "job": str(made.pk)}
        assert client.post("/jobs/bulk/", form).status_code == 200, f"{name}'s token is not accepted"


def test_the_buttons_of_a_polled_part_have_their_forms_with_a_token_on_the_page(ada, chief, editor):
    failed = job(editor, state=JobState.FAILED)
    ada.post("/jobs/views/", {"name": "Mine", "query": "q=x"})
    for browser, path, least in (
        (ada, "/?q=film", {"action", "bulk", "save-view-form"}),
        (ada, failed.get_absolute_url(), {"action"}),
        (chief, "/history/", {"bulk"}),
    ):
        page = browser.get(path).content.decode()
        used = set(re.findall(r'\bform="([\w-]+)"', page))
        forms = dict(re.findall(r'<form id="([\w-]+)"[^>]*>(.*?)</form>', page, re.S))
        assert least <= used <= set(forms)
        assert all("csrfmiddlewaretoken" in forms[name] for name in used)


def test_a_row_offers_what_can_be_done_with_its_job(ada, editor):
    done = job(editor, "done")
    menu = ada.get("/").content.decode()
    assert f'href="/jobs/{done.pk}/rename/"' in menu and f"action=delete&amp;job={done.pk}" in menu
    assert f'href="/jobs/{done.pk}/source/"' in menu and "Cancel…" not in menu
    done.delete()
    runs = Job.submit(editor, title="runs", pipeline="standard", source=Source(url="http://x/"))
    menu = ada.get("/").content.decode()
    assert f'formaction="/jobs/{runs.pk}/cancel/"' in menu and "Delete…" not in menu
    assert "Cancel and delete…" in menu and f"action=delete&amp;job={runs.pk}" in menu


def test_what_is_asked_by_a_link_is_only_a_question(ada, chief, editor, django_user_model):
    made = job(editor, "mine")
    asked = ada.get(f"/jobs/bulk/?action=delete&job={made.pk}&confirmed=1")
    assert "Delete 1 job?" in text(asked) and Job.objects.filter(pk=made.pk).exists()
    asked = ada.get(f"/jobs/{made.pk}/rename/")
    assert 'value="mine"' in asked.content.decode()
    hers = job(django_user_model.objects.create_user("eve"), "hers")
    assert ada.get(f"/jobs/{hers.pk}/rename/").status_code == 404
    assert "hers" not in text(ada.get(f"/jobs/bulk/?action=delete&job={hers.pk}", follow=True))


def test_a_long_title_keeps_its_end_in_a_row(ada, editor):
    job(editor, "demands 2026-11-24_CAM-A_interview_take_03_graded_master_v2.mov")
    assert ">demands 2026-1…\u200bmaster_v2.mov<" in ada.get("/").content.decode()


@pytest.mark.parametrize("state", [*JobState])
def test_the_bulk_bar_offers_what_applies_to_a_job_as_it_is(ada, editor, state):
    job(editor, state=state)
    page = ada.get("/").content.decode()
    offered = re.findall(r'value="(\w+)"\s+data-states="([^"]+)"', page)
    assert [action for action, _ in offered] == ["cancel", "retry", "add", "delete"]
    for action, states in offered:
        applies = Job.objects.filter(bulk.ACTIONS[action].applicable).exists()
        assert (state in states.split()) == applies
        assert f'data-{action}="{int(applies)}"' in page


def test_the_bulk_bar_counts_in_the_tab_that_is_shown(ada, editor):
    for state in (JobState.FAILED, JobState.FAILED, JobState.ATTENTION, JobState.SUCCEEDED):
        job(editor, state=state)
    assert 'data-retry="3"' in (page := ada.get("/").content.decode()) and 'data-delete="4"' in page
    assert 'data-retry="2"' in (page := ada.get("/?tab=failed").content.decode())
    assert 'data-cancel="0"' in page and 'data-delete="2"' in page


def test_what_another_pipeline_has_is_added_to_many_jobs_at_once(ada, editor):
    made = [job(editor, "a"), job(editor, "b"), job(editor, "c", JobState.ATTENTION)]
    form = {"action": "add", "job": [str(each.pk) for each in made]}
    asked = ada.post("/jobs/bulk/", form)
    assert "Add to 3 jobs?" in text(asked) and 'value="streaming"' in asked.content.decode()
    form |= {"confirmed": "1", "pipeline": "streaming"}
    answer = text(ada.post("/jobs/bulk/", form, follow=True))
    assert "Adding to 2 jobs. 1 is still running, or has all of it." in answer
    for each in made[:2]:
        each.refresh_from_db()
        assert each.state == JobState.QUEUED and each.stages.get(name="hls").state == "pending"
        assert each.stages.get(name="transcode").state == "succeeded"
    assert "Nothing was added." in text(ada.post("/jobs/bulk/", form | {"pipeline": "none"}, follow=True))


def test_a_job_is_offered_only_the_pipelines_that_have_what_it_lacks(ada, editor):
    made = job(editor)
    page = ada.get(f"/jobs/bulk/?action=add&job={made.pk}").content.decode()
    assert 'value="streaming"' in page and 'value="standard"' not in page


def test_a_wrong_link_is_said_under_its_field_on_the_list_and_a_right_one_stays_there(ada, settings):
    settings.ALLOW_PRIVATE_SOURCES = False
    fragment = {"HX-Request": "true"}
    wrong = ada.post("/jobs/new/", {"url": "http://127.0.0.1/a.mp4"}, headers=fragment)
    page = wrong.content.decode()
    assert wrong.status_code == 200 and "<html" not in page and 'value="http://127.0.0.1/a.mp4"' in page
    assert "Can’t find 127.0.0.1" in text(wrong) and 'aria-invalid="true"' in page
    assert ada.post("/jobs/new/", {"url": "http://127.0.0.1/a.mp4"}).status_code == 400
    settings.ALLOW_PRIVATE_SOURCES = True
    right = ada.post("/jobs/new/", {"url": "http://127.0.0.1/a.mp4"}, headers=fragment)
    assert right["HX-Trigger"] == "refresh" and "error" not in right.content.decode()
    assert Job.objects.get().source_url == "http://127.0.0.1/a.mp4"
