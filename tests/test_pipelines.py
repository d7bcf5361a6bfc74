"""Pipelines are versions in the database: who may use which, what a job keeps, and what makes a good one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobs import remaking
from jobs.management.commands.submit import Command, NotStartable
from jobs.models import ApiToken, Job, Pipeline
from jobs.models import pipeline as pipeline_rows
from jobs.models.pipeline import Audience, NotChangeable
from jobs.pipelines import PIPELINES
from jobs.state import Source
from tests.support.recorded import job, text

pytestmark = pytest.mark.django_db
URL = {"url": "https://8.8.8.8/a.mov"}


def saved(name: str = "previews", **changes) -> Pipeline:
    """The pipeline with another version of it in use."""
    pipeline = Pipeline.objects.get(name=name)
    pipeline.add_version(replace(PIPELINES[name], **changes), "grace", use=True)
    return pipeline


def test_the_pipelines_of_the_code_are_the_first_versions(editor):
    usable = Pipeline.usable_by(editor)
    assert {name: replace(each, version=0) for name, each in usable.items()} == PIPELINES
    assert {each.version for each in usable.values()} == {1}


def test_who_has_chosen_no_other_version_gets_the_codes_newest(monkeypatch, editor):
    edited = saved("streaming", label="Ours")
    for name in ("standard", "streaming"):
        monkeypatch.setitem(PIPELINES, name, replace(PIPELINES[name], description="As of today."))
    for _ in range(2):  # each migrate asks
        pipeline_rows.keep_in_step()
    usable = Pipeline.usable_by(editor)
    assert (usable["standard"].version, usable["standard"].description) == (2, "As of today.")
    assert usable["streaming"].label == "Ours"
    assert [each.number for each in edited.versions.all()] == [3, 2, 1]


def test_a_job_keeps_its_version_and_says_which(editor, ada):
    before = job(editor)
    saved("standard", label="Standard 2", stages=PIPELINES["standard"].stages[:2])
    after = job(editor)
    assert [len(each.plan) for each in (before, after)] == [4, 2]
    for each, says in ((before, "Standard, version 1"), (after, "Standard 2, version 2")):
        page = text(ada.get(each.get_absolute_url()))
        assert f"{says} ·" in page and f"Submitted: {says}" in page


@pytest.fixture
def boss(django_user_model):
    return django_user_model.objects.create_user("grace", is_staff=True)


def test_each_person_is_offered_what_is_open_to_them_and_nothing_else_is_taken(editor, chief, ada, boss):
    pipeline = Pipeline.objects.get(name="previews")
    for audience, people, hers in (
        (Audience.ADMINS, [], False),
        (Audience.NAMED, [], False),
        (Audience.NAMED, [editor.pk], True),
        (Audience.EVERYBODY, [], True),
    ):
        pipeline.open_to(audience, people)
        assert ("previews" in Pipeline.usable_by(editor)) == hers and "previews" in Pipeline.usable_by(boss)
    pipeline.open_to(Audience.ADMINS, [])
    assert "Web + previews" not in text(ada.get("/")) and "Web + previews" in text(chief.get("/"))
    refused = ada.post("/jobs/new/", {**URL, "pipeline": "previews"})
    assert refused.status_code == 400 and "Select a valid choice" in text(refused)
    with pytest.raises(KeyError):
        Job.submit(editor, title="a", pipeline="previews", source=Source(url=URL["url"]))
    ada.post("/jobs/pipeline/?pipeline=previews")
    assert 'data-pipeline="standard"' in ada.get("/jobs/new/").content.decode()


def test_a_program_is_offered_what_its_owner_may_use(editor, client):
    Pipeline.objects.get(name="previews").open_to(Audience.ADMINS, [])
    _, secret = ApiToken.issue(editor, "test", ["submit", "read"])
    bearer = {"Authorization": f"Bearer {secret}"}
    listed = client.get("/api/v1/pipelines", headers=bearer).json()["pipelines"]
    assert [each["name"] for each in listed] == ["standard", "streaming", "checked"]
    answer = client.post(
        "/api/v1/jobs", {**URL, "pipeline": "previews"}, content_type="application/json", headers=bearer
    )
    assert (
        answer.status_code == 422
        and "Choose one of: standard, streaming, checked." in answer.json()["detail"]
    )


def test_what_is_retired_gets_no_new_job_and_its_jobs_go_on(editor, ada):
    made = job(editor, pipeline="streaming")
    Pipeline.objects.get(name="streaming").retire(True)
    assert "streaming" not in Pipeline.usable_by(editor)
    assert "HLS" in text(ada.get(made.get_absolute_url())) and made.start_again("ada") is False
    assert remaking.make_again(made, "transcode", {"width": 640}, "ada")
    assert made.title in text(ada.get("/?pipeline=streaming"))
    Pipeline.objects.get(name="streaming").retire(False)
    assert "streaming" in Pipeline.usable_by(editor)


def test_what_a_job_gets_where_nothing_is_chosen_stays_open_to_everybody():
    standard = Pipeline.objects.get(name="standard")
    for act in (lambda: standard.retire(True), lambda: standard.open_to(Audience.ADMINS, [])):
        with pytest.raises(NotChangeable, match="everybody keeps it"):
            act()


def test_only_stages_of_pipelines_that_are_open_to_its_owner_are_added_to_a_job(editor):
    made = job(editor)
    assert {stage.name for stage in remaking.addable(made)} >= {"storyboard", "hls"}
    Pipeline.objects.get(name="previews").open_to(Audience.ADMINS, [])
    assert "storyboard" not in {stage.name for stage in remaking.addable(made)}


def test_the_command_names_what_the_jobs_owner_may_use(editor):
    Pipeline.objects.get(name="previews").open_to(Audience.ADMINS, [])
    with pytest.raises(NotStartable, match="Choose one of: standard, streaming, checked"):
        Command()._job({"pipeline": "previews", "owner": "ada", "source": URL["url"], "title": ""})
