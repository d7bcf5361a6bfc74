"""Polled fragments: never stale whatever field of a job changes, and 304 while nothing does."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.db import models
from django.utils import timezone

from jobs.dashboard import polling
from jobs.models import Job
from jobs.state import JobState
from tests.support.recorded import job

pytestmark = pytest.mark.django_db

# One that is in the trash has no page.
FIELDS = [f for f in Job._meta.concrete_fields if f.name not in ("id", "version", "trashed_at")]
PATHS = ("/jobs/rows/", "/jobs/{}/status/")


def another_value(field: models.Field, value: object) -> object:
    """A value of the field's type that isn't *value*."""
    if field.choices:
        return next(key for key, _ in field.choices if key != value)
    if isinstance(field, models.ForeignKey):
        return get_user_model().objects.create_user(uuid.uuid4().hex[:8]).pk
    if isinstance(field, models.BooleanField):
        return not value
    if isinstance(field, models.DateTimeField):
        return timezone.now() - timedelta(days=3)
    if isinstance(field, models.IntegerField):
        return int(value or 0) + 4_000_000
    if isinstance(field, models.JSONField):
        return []
    return f"another {field.name}"


def poll(browser, path: str, tag: str = "") -> tuple[str, str]:
    """The fragment's text ("" for a 304) and tag."""
    answer = browser.get(path, headers={"HX-PTag": tag})
    assert answer.status_code in (200, 304)
    return answer.content.decode(), answer.headers.get("HX-PTag", tag)


@pytest.mark.parametrize(
    "state",
    [
        JobState.FAILED,
        *(pytest.param(s, marks=pytest.mark.release) for s in (JobState.QUEUED, JobState.CANCELLED)),
    ],
)
@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_any_field_of_a_job_that_changes_is_shown_at_the_next_poll(chief, editor, field, state):
    made = job(editor, state=state, note="before")
    paths = [path.format(made.pk) for path in PATHS]
    before = {path: poll(chief, path) for path in paths}
    value = another_value(field, getattr(made, field.attname))
    Job.objects.filter(pk=made.pk).update(**{field.attname: value})
    after = {path: poll(chief, path, before[path][1]) for path in paths}
    polling._made.clear()
    for path in paths:
        _, tag = poll(chief, path)
        assert after[path][1] == tag, f"{path} is stale"
        assert (after[path][0] == "") == (tag == before[path][1])


def test_what_no_version_covers_is_shown_after_a_step_of_time(chief, editor, monkeypatch):
    made = job(editor)
    monkeypatch.setattr(polling, "MAX_AGE", 0.000001)
    for path in PATHS:
        text, tag = poll(chief, path.format(made.pk))
        assert "renamed" not in text and poll(chief, path.format(made.pk), tag)[0] == ""
    get_user_model().objects.filter(pk=editor.pk).update(username="renamed")
    for path in PATHS:
        assert "renamed" in poll(chief, path.format(made.pk), tag)[0]


def test_a_fragment_holds_nothing_of_another_reader(chief, ada, editor, monkeypatch):
    monkeypatch.setenv("TEMPORAL_UI_URL", "http://temporal.example.org")
    made = job(editor, state=JobState.FAILED)
    Job.objects.filter(pk=made.pk).update(workflow_started_at=timezone.now())
    for path in PATHS:
        path = path.format(made.pk)
        for_staff, _ = poll(chief, path)
        for_editor, _ = poll(ada, path)
        assert ("Open in Temporal" in for_staff) == path.endswith("/status/")
        assert "Open in Temporal" not in for_editor


def test_a_link_of_a_polled_list_leads_to_the_page_and_not_to_the_fragment(chief, editor):
    job(editor)
    for path in ("/?q=film", "/jobs/rows/?q=film"):
        assert '<a class="button" href="/">Clear' in chief.get(path).content.decode()
    assert '<a class="button" href="/history/">Clear' in chief.get("/history/?q=film").content.decode()


def test_what_has_not_changed_is_not_made_again():
    made = iter("abc")
    asked = [polling.once("a test's", version, lambda: next(made)) for version in (1, 1, 2, 2)]
    assert asked == ["a", "a", "b", "b"]
