"""Pipelines are versions in the database: who may use which, what a job keeps, and what makes a good one."""

from __future__ import annotations

from dataclasses import asdict, replace
from html.parser import HTMLParser

import pytest

from jobs import remaking
from jobs.management.commands.submit import Command
from jobs.management.sources import Unusable
from jobs.models import ApiToken, Job, Pipeline
from jobs.models import pipeline as pipeline_rows
from jobs.models.pipeline import Audience, NotChangeable
from jobs.pipeline_rules import problems
from jobs.pipelines import CHECK, CLOUD_THEN_OWN, OWN, PIPELINES, STANDARD, PipelineDefinition, RetryPolicy
from jobs.state import Source
from jobs.uploads.sample_clip import SAMPLE_NAME
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
        pipeline.open_to(audience, people, "grace")
        assert ("previews" in Pipeline.usable_by(editor)) == hers and "previews" in Pipeline.usable_by(boss)
    pipeline.open_to(Audience.ADMINS, [], "grace")
    assert "Web + previews" not in text(ada.get("/")) and "Web + previews" in text(chief.get("/"))
    refused = ada.post("/jobs/new/", {**URL, "pipeline": "previews"})
    assert refused.status_code == 400 and "Select a valid choice" in text(refused)
    with pytest.raises(KeyError):
        Job.submit(editor, title="a", pipeline="previews", source=Source(url=URL["url"]))
    ada.post("/jobs/pipeline/?pipeline=previews")
    assert 'data-pipeline="standard"' in ada.get("/jobs/new/").content.decode()


def test_a_program_is_offered_what_its_owner_may_use(editor, client):
    Pipeline.objects.get(name="previews").open_to(Audience.ADMINS, [], "grace")
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
    Pipeline.objects.get(name="streaming").retire(True, "grace")
    assert "streaming" not in Pipeline.usable_by(editor)
    assert "HLS" in text(ada.get(made.get_absolute_url())) and made.start_again("ada") is False
    assert remaking.make_again(made, "transcode", {"width": 640}, "ada")
    assert made.title in text(ada.get("/?pipeline=streaming"))
    Pipeline.objects.get(name="streaming").retire(False, "grace")
    assert "streaming" in Pipeline.usable_by(editor)


def test_what_a_job_gets_where_nothing_is_chosen_stays_open_to_everybody():
    standard = Pipeline.objects.get(name="standard")
    for act in (
        lambda: standard.retire(True, "grace"),
        lambda: standard.open_to(Audience.ADMINS, [], "grace"),
    ):
        with pytest.raises(NotChangeable, match="everybody keeps it"):
            act()


def test_only_stages_of_pipelines_that_are_open_to_its_owner_are_added_to_a_job(editor):
    made = job(editor)
    assert {stage.name for stage in remaking.addable(made)} >= {"storyboard", "hls"}
    Pipeline.objects.get(name="previews").open_to(Audience.ADMINS, [], "grace")
    assert "storyboard" not in {stage.name for stage in remaking.addable(made)}


def test_the_command_names_what_the_jobs_owner_may_use(editor):
    Pipeline.objects.get(name="previews").open_to(Audience.ADMINS, [], "grace")
    with pytest.raises(Unusable, match="Choose one of: standard, streaming, checked"):
        Command()._job({"pipeline": "previews", "owner": "ada", "source": URL["url"], "title": ""})


def edited(at: int, stages=STANDARD, **changes) -> PipelineDefinition:
    """The standard pipeline with something else in the stage at that place."""
    return PipelineDefinition(
        "x",
        "X",
        "",
        tuple(replace(each, **changes) if at == number else each for number, each in enumerate(stages)),
    )


@pytest.mark.parametrize(
    ("pipeline", "stage", "field", "says"),
    [
        (PipelineDefinition("x", " ", "", STANDARD), None, "label", "Give the pipeline a name."),
        (PipelineDefinition("x", "X", "", ()), None, "stages", "1 to 20 stages"),
        (edited(3, label="audio"), 3, "label", "stage of this name above"),
        (edited(3, name="audio"), 3, "label", "here twice"),
        (edited(3, needs="gone"), 3, "needs", "isn’t there any more"),
        (edited(3, after=["gone"]), 3, "after", "isn’t there any more"),
        (edited(3, after=["transcode"]), 3, "after", "wait for itself"),
        (
            edited(0, after=["transcode"]),
            0,
            "after",
            "Ingest would wait for Transcode, and Transcode for Ingest.",
        ),
        (edited(1, after=["audio"]), 1, "after", "Audio stands below. Move it above Thumbnails."),
        (edited(3, needs="audio"), 3, "needs", "Transcode can’t be made of what Audio makes."),
        (edited(3, needs="thumbnails"), 3, "needs", "can’t be made of what Thumbnails makes"),
        (edited(0, optional=True), 0, "optional", "Thumbnails waits for this one"),
        (edited(3, options={"width": 1}), 3, "width", "Width must be a whole number from 2 to 7680"),
        (edited(3, options={"format": "webm", "codec": "h264"}), 3, "codec", "H264 doesn’t fit"),
        (edited(3, options={"colour": 1}), 3, "", "video has no option 'colour'"),
        (edited(3, retry=RetryPolicy(attempts=0)), 3, "attempts", "from 1 to 20"),
        (edited(3, retry=RetryPolicy(first_interval=-1)), 3, "first_interval", "from 0 to 3600 s"),
        (edited(3, retry=RetryPolicy(backoff=0.5)), 3, "backoff", "from 1 to 10"),
        (edited(3, timeout=1), 3, "timeout", "from 10 to 86400 s"),
        (edited(4, (*STANDARD, CHECK), looks_through=[]), 4, "looks_through", "Choose at least one"),
        (edited(4, (*STANDARD, CHECK), looks_through=["hls"]), 4, "looks_through", "has to stand above it"),
    ],
)
def test_what_would_fail_is_refused_with_a_sentence_at_its_field(pipeline, stage, field, says):
    found = [each for each in problems(pipeline) if (each.stage, each.field) == (stage, field)]
    assert len(found) == 1 and says.casefold() in found[0].sentence.casefold(), problems(pipeline)


def test_what_the_code_offers_breaks_no_rule_and_neither_does_a_transcode_that_comes_last():
    for pipeline in (*PIPELINES.values(), edited(3, after=["thumbnails", "audio"])):
        assert problems(pipeline) == []


class FormFields(HTMLParser):
    """What a browser sends of the form with the id `editor`, but for its buttons."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, list[str]] = {}
        self.inside = False
        self.select = ""

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "form":
            self.inside = given.get("id") == "editor"
        if not self.inside or "hidden" in attrs:
            return
        name, kind = given.get("name", ""), given.get("type")
        if tag == "select":
            self.select = name
            self.values[name] = []
        elif tag == "option" and ("selected" in given or not self.values[self.select]):
            self.values[self.select] = [given["value"]]
        elif tag == "input" and (kind != "checkbox" or "checked" in given):
            self.values.setdefault(name, []).append(given.get("value", "on" if kind == "checkbox" else ""))


def form(page) -> dict[str, list[str]]:
    """What a browser sends of the form as it stands."""
    fields = FormFields()
    fields.feed(page.content.decode())
    return fields.values


EDIT = "/pipelines/standard/edit/"


def test_the_form_saves_what_it_shows_as_the_same(chief):
    for name in PIPELINES:
        before = Pipeline.objects.get(name=name).version(1).definition
        path = f"/pipelines/{name}/edit/"
        assert chief.post(path, {**form(chief.get(path)), "act": "save"}).status_code == 302
        after = Pipeline.objects.get(name=name).version(2)
        assert (
            after.made_by == "chief" and replace(after.definition, version=1, stages=before.stages) == before
        )
        for one, other in zip(after.definition.stages, before.stages, strict=True):
            assert asdict(one) == asdict(other)


def test_an_admin_lets_the_transcode_come_last_and_tries_more_often(chief, editor):
    before = job(editor)
    sent = form(chief.get(EDIT)) | {
        "transcode-after": ["thumbnails", "audio"],
        "transcode-attempts": "7",
        "transcode-first_interval": "1.5",
        "transcode-label": "For the web",
        "transcode-width": "640",
    }
    assert chief.post(EDIT, {**sent, "act": "save"}).status_code == 302
    last = job(editor).planned("transcode")
    assert (last["after"], last["label"], last["options"]["width"]) == (
        ["thumbnails", "audio"],
        "For the web",
        640,
    )
    assert (last["retry"]["attempts"], last["retry"]["first_interval"]) == (7, 1.5)
    assert Job.objects.get(pk=before.pk).plan == before.plan and before.pipeline_version == 1
    page = text(chief.get("/pipelines/standard/"))
    assert (
        "after Thumbnails and Audio" in page and "7 attempts, first wait 1.5 s" in page and "by chief" in page
    )
    chief.post("/pipelines/standard/versions/1/use/")
    assert job(editor).pipeline_version == 1


def test_stages_are_added_moved_and_removed_by_buttons_that_judge_nothing(chief):
    sent = form(chief.get(EDIT))

    def press(act: str, **more) -> list[str]:
        nonlocal sent
        page = chief.post(EDIT, {**sent, "act": act, **more})
        assert page.status_code == 200 and 'class="error"' not in page.content.decode()
        sent = form(page)
        return sent["stage"]

    assert press("add", sort="transcode")[-1] == "transcode_2"
    assert press("up transcode_2") == ["ingest", "thumbnails", "audio", "transcode_2", "transcode"]
    assert press("remove transcode")[-1] == "transcode_2"
    assert press("remove ingest") == ["thumbnails", "audio", "transcode_2"]
    refused = chief.post(EDIT, {**sent, "act": "save"})
    assert refused.status_code == 400 and text(refused).count("isn’t there any more. Choose another.") == 3
    sent |= {f"{name}-needs": "" for name in sent["stage"]}
    assert chief.post(EDIT, {**sent, "act": "save"}).status_code == 302
    stages = Pipeline.objects.get(name="standard").version(2).definition.stages
    assert [stage.name for stage in stages] == ["thumbnails", "audio", "transcode"]


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("audio-needs", "transcode", "Transcode stands below"),
        ("transcode-width", "1", "Width must be a whole number"),
        ("thumbnails-start", "soon", "Write a time like"),
        ("audio-attempts", "many", "Enter a whole number"),
        ("audio-timeout", "1e999", "Enter a number"),
        ("audio-label", "", "This field is required"),
        ("stage", ["ingest", "<script>"], ""),
    ],
)
def test_a_form_that_is_wrong_saves_nothing_and_says_where(chief, field, value, says):
    answer = chief.post(EDIT, {**form(chief.get(EDIT)), field: value, "act": "save"})
    assert (answer.status_code == 400) == bool(says) and says in text(answer)
    if says:
        assert Pipeline.objects.get(name="standard").versions.count() == 1
    assert "<script>" not in answer.content.decode().replace("<script ", "")


def test_a_copy_is_an_admins_until_it_is_opened(chief, editor):
    chief.post("/pipelines/standard/copy/", {"label": "For TV"})
    assert "for-tv" not in Pipeline.usable_by(editor)
    answer = chief.post("/pipelines/standard/copy/", {"label": "For TV"})
    assert answer.status_code == 400 and "There’s a pipeline of this name." in text(answer)
    chief.post("/pipelines/for-tv/access/", {"audience": "named", "people": [editor.pk]})
    assert Pipeline.usable_by(editor)["for-tv"].label == "For TV"
    chief.post("/pipelines/for-tv/retire/")
    assert "for-tv" not in Pipeline.usable_by(editor) and "Retired" in text(chief.get("/pipelines/"))
    chief.post("/pipelines/for-tv/retire/", {"back": "1"})
    assert "for-tv" in Pipeline.usable_by(editor)
    chief.post("/pipelines/standard/retire/")
    assert "standard" in Pipeline.usable_by(editor)


def test_an_admin_chooses_who_makes_it_where_a_cloud_is_set(chief, editor, ada, settings):
    path = "/pipelines/checked/edit/"
    chief.post(path, {**form(chief.get(path)), "engine": CLOUD_THEN_OWN, "act": "save"})
    assert {stage.engine for stage in Pipeline.usable_by(editor)["checked"].stages} == {""}
    settings.EMBEDDED_ENGINE = False
    stages = Pipeline.usable_by(editor)["checked"].stages
    assert [stage.engine for stage in stages] == [CLOUD_THEN_OWN] * 4 + [OWN]  # the cloud knows no check
    assert not any(stage.unavailable for stage in stages)
    made = job(editor, pipeline="checked")
    made.stages.filter(name="transcode").update(engine=OWN)
    page = text(ada.get(made.get_absolute_url()))
    assert "· own engine" in page and "· cloud" in page


def test_pipelines_are_an_admins_matter(ada, client):
    for path in ("/pipelines/", "/pipelines/standard/", EDIT):
        assert ada.get(path).status_code == 403 and client.get(path).status_code == 302
    for act in ("access", "retire", "copy", "try", "versions/1/use"):
        assert ada.post(f"/pipelines/standard/{act}/").status_code == 403


def test_a_try_is_a_job_of_ten_seconds_by_a_version_that_nobody_else_gets(chief, editor):
    sent = form(chief.get(EDIT)) | {"ingest-start": "5", "transcode-width": "320", "act": "save and try"}
    page = chief.post(EDIT, sent, follow=True)
    tried = Job.objects.get(is_try=True)
    assert tried.pipeline_version == 2 and Pipeline.objects.get(name="standard").current == 1
    assert "Submitted: Standard, version 2 (a try on ten seconds)" in text(page)
    options = tried.planned("ingest")["options"]
    assert (options["start"], options["end"]) == (5, 15)
    assert tried.planned("transcode")["options"].get("end") is None and tried.source_name == SAMPLE_NAME
    assert job(editor).pipeline_version == 1


def test_a_try_takes_the_source_of_a_job_that_is_done_and_leaves_the_check_out(chief, editor):
    done = job(editor, title="Interview")
    assert "Interview" in text(chief.get("/pipelines/checked/"))
    chief.post("/pipelines/checked/try/", {"version": "1", "clip": str(done.pk)})
    tried = Job.objects.get(is_try=True)
    assert tried.source == done.source
    assert tried.planned("check")["unavailable"] == "a try is too short for it."
    assert chief.post("/pipelines/checked/try/", {"version": "7"}).status_code == 400
