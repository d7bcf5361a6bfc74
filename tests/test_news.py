"""News as toasts: one for many, none of what one did oneself, and of what needs somebody until it’s seen."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape

import pytest
from django.utils import timezone

from jobs.models import Job, Stage
from jobs.state import JobState, Source, StageState
from tests.support.recorded import job

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_api")]
NEWS = "/jobs/news/"


@pytest.fixture
def before():
    """A moment before all that happens, up to which a page knows."""
    return (timezone.now() - timedelta(seconds=5)).isoformat()


def toasts(answer) -> list[tuple[str, str]]:
    """What each toast says without its button, and where its link leads."""
    found = re.findall(r'<div\s+class="toast"(.*?)</p>', answer.content.decode(), re.S)
    words = [re.sub(r"\s+", " ", re.sub(r"^[^>]*>|<[^>]+>", "", each)).strip() for each in found]
    return list(zip(words, [re.search(r'href="([^"]+)"', each)[1] for each in found], strict=True))


def held(answer) -> list[str]:
    return re.findall(r'data-held="([^"]+)"', unescape(answer.content.decode()))


def next_poll(answer) -> str:
    return unescape(re.search(r'hx-get="([^"]+)"', answer.content.decode())[1])


def needing(owner, title: str, state: JobState = JobState.ATTENTION) -> Job:
    made = job(owner, title, state)
    Stage.objects.filter(job=made, name="transcode").update(state=StageState.FAILED)
    return made


def test_one_job_that_is_done_is_told_by_its_title(ada, editor, before):
    done = job(editor, "just done")
    told = ada.get(NEWS, {"since": before})
    assert toasts(told) == [("Done: just done", done.get_absolute_url())]
    assert not held(told), "it leaves by itself"


def test_many_jobs_that_are_done_are_one_toast_that_leads_to_all_of_them(ada, editor, before):
    for number in range(7):
        job(editor, f"clip {number}")
    assert toasts(ada.get(NEWS, {"since": before})) == [("7 jobs are done", "/?tab=done")]


def test_what_somebody_cancelled_themselves_is_no_news_to_them(ada, editor, before):
    running, queued, by_another = (
        job(editor, title, JobState.CANCELLED) for title in ("a", "b", "by another")
    )
    running.add_event("cancelling", actor="ada")
    running.add_event("cancelled")  # the workflow's own line has no actor
    queued.add_event("cancelled", actor="ada")
    by_another.add_event("cancelling", actor="ada")  # in an earlier run
    by_another.add_event("cancelling", actor="chief")
    told = toasts(ada.get(NEWS, {"since": before}))
    assert told == [("Cancelled: by another", by_another.get_absolute_url())]


def test_what_needs_somebody_leads_to_the_job_and_stays(ada, editor, before):
    waits = needing(editor, "waits")
    told = ada.get(NEWS, {"since": before})
    assert toasts(told) == [("Needs you: waits", waits.get_absolute_url())]
    assert held(told) == [before]


def test_many_that_need_somebody_are_one_toast_beside_what_is_done(ada, editor, before):
    needing(editor, "waits"), needing(editor, "failed", JobState.FAILED)
    done = job(editor, "fine")
    told = toasts(ada.get(NEWS, {"since": before}))
    assert told == [("2 jobs need you", "/?tab=attention"), ("Done: fine", done.get_absolute_url())]


def test_what_nobody_has_dismissed_is_told_again_on_the_next_page_until_it_needs_nobody(ada, editor, before):
    first = needing(editor, "first", JobState.FAILED)
    told = ada.get(NEWS, {"held": before})
    assert toasts(told) == [("Failed: first", first.get_absolute_url())]
    assert held(told) == [before], "and on the one after that"
    assert not toasts(ada.get(NEWS)), "it was dismissed"
    known = timezone.now().isoformat()
    assert not toasts(ada.get(NEWS, {"since": known, "held": before})), "this page shows it"
    needing(editor, "second")
    told = toasts(ada.get(NEWS, {"since": known, "held": before}))
    assert told == [("2 jobs need you", "/?tab=attention")], "in its place"
    Job.objects.filter(pk=first.pk).update(state=JobState.RUNNING, finished_at=None)
    assert [words for words, _ in toasts(ada.get(NEWS, {"held": before}))] == ["Needs you: second"]


def test_the_list_tells_what_needs_somebody_and_shows_itself_what_is_done(ada, editor, before):
    assert f'hx-get="{NEWS}?list"' in ada.get("/").content.decode()
    job(editor, "fine"), needing(editor, "waits")
    told = ada.get(NEWS, {"since": before, "list": ""})
    assert [words for words, _ in toasts(told)] == ["Needs you: waits"]
    assert 'hx-trigger="htmx:after:swap from:#job-rows"' in told.content.decode(), "nothing works: no poll"
    assert "&amp;list" in told.content.decode()


def test_an_end_that_is_recorded_late_is_told_all_the_same_and_once(ada, editor, before):
    Job.submit(editor, title="at work", pipeline="standard", source=Source(url="http://example.org/x"))
    asks = next_poll(ada.get(NEWS, {"since": before}))
    late = job(editor, "late")
    Job.objects.filter(pk=late.pk).update(finished_at=late.finished_at - timedelta(seconds=2))
    told = ada.get(asks)
    assert [words for words, _ in toasts(told)] == ["Done: late"]
    assert not toasts(ada.get(next_poll(told)))
