"""A finished job is not the end: a stage is made again, what it was stays, and one can go back to it."""

from __future__ import annotations

import os
import sys

import pytest
from asgiref.sync import async_to_sync
from django.core.management import CommandError, call_command
from django.test import Client

from jobs import control, finished, reconcile, remaking
from jobs.models import ApiToken, EarlierVersion, Job, Stage
from jobs.models.wish import DELETE, Wish
from jobs.removal.orphans import orphaned_files
from jobs.state import JobState, StageState
from mediapipe import storage
from tests.support.recorded import job, text

pytestmark = pytest.mark.django_db(transaction=True)


def stored(name: str) -> str:
    path = storage.path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"media")
    return name


@pytest.fixture
def done(editor) -> Job:
    """A job of hers that is done, with its files."""
    made = job(editor)
    for stage in made.stages.all():
        output = {"name": stored(f"outputs/{stage.name}.bin"), "kind": stage.name}
        Stage.objects.filter(pk=stage.pk).update(output=output, task_id=f"task-{stage.name}", tries=1)
    stored("sources/x.mp4")
    return made


def now(done: Job) -> Job:
    return Job.objects.get(pk=done.pk)


def states(done: Job) -> dict[str, str]:
    return {stage.name: str(stage.state) for stage in done.stages.all()}


def plan(done: Job, name: str) -> dict:
    return remaking.options_of(now(done).plan, name)


def succeed(done: Job, output: str) -> None:
    """As the workflow leaves the row when what was to be made again is made."""
    pending = done.stages.exclude(state=StageState.SUCCEEDED)
    pending.update(state=StageState.SUCCEEDED, output={"name": stored(output)})
    Job.objects.filter(pk=done.pk).update(state=JobState.SUCCEEDED)


def fail(done: Job, state: JobState = JobState.CANCELLED) -> None:
    done.stages.exclude(state=StageState.SUCCEEDED).update(state=StageState.CANCELLED)
    Job.objects.filter(pk=done.pk).update(state=state)


def test_only_the_stage_and_what_needs_it_wait_for_their_turn_and_the_rest_is_carried_over(done):
    assert remaking.make_again(done, "transcode", {"width": 640}, "ada")
    row = now(done)
    assert (row.state, row.run) == ("queued", 2)
    assert states(done) == {
        **dict.fromkeys(("ingest", "thumbnails", "audio"), "succeeded"),
        "transcode": "pending",
    }
    given = row.workflow_input()
    assert sorted(given.carried) == ["audio", "ingest", "thumbnails"] and given.tries["transcode"] == 1
    assert given.carried["ingest"].task_id == "task-ingest"
    assert next(stage for stage in given.stages if stage.name == "transcode").options == {"width": 640}
    kept = EarlierVersion.objects.get()
    assert kept.parsed_output.name == "outputs/transcode.bin" and kept.options["width"] == 1280


def test_what_needs_the_stage_is_made_again_with_it(done):
    assert remaking.make_again(done, "ingest", {"format": "mp4"}, "ada")
    assert set(states(done).values()) == {"pending"}
    assert done.earlier_versions.count() == 4


def test_the_timeline_says_who_made_what_again_and_what_is_other(done, ada):
    ada.post(f"/jobs/{done.pk}/stages/transcode/", {"format": "mp4", "width": "640", "start": "1:02.5"})
    event = done.events.get(kind="made_again")
    assert event.actor == "ada" and event.stage == "transcode"
    for word in ("Making Transcode again: ", "width 640 px", "quality automatic", "start 1:02.5"):
        assert word in event.text
    assert plan(done, "transcode") == {"format": "mp4", "width": 640, "start": 62.5}


def test_the_form_has_the_options_of_the_engines_table_with_what_they_are_now(done, ada):
    page = ada.get(f"/jobs/{done.pk}/stages/transcode/").content.decode()
    for name in ("format", "codec", "width", "height", "quality", "bitrate", "fps", "start", "end"):
        assert f'name="{name}"' in page
    assert 'value="1280"' in page and '<option value="medium" selected>' in page
    sound = ada.get(f"/jobs/{done.pk}/stages/audio/").content.decode()
    assert 'name="bitrate"' in sound and 'name="width"' not in sound


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"width": "9"}, ""),
        ({"width": "wide"}, "Width must be pixels from 2 to 7680"),
        ({"quality": "best"}, "Select a valid choice"),
        ({"start": "soon"}, "Write a time like 12.5 or 1:02:03."),
        ({"start": "9", "end": "5"}, "End must be greater than start."),
        ({"codec": "vp9"}, "vp9 doesn’t fit mp4"),
        ({"bitrate": "5"}, "greater than or equal to 300"),
    ],
)
def test_what_the_engine_would_refuse_is_said_in_the_form_and_changes_nothing(done, ada, given, says):
    answer = ada.post(f"/jobs/{done.pk}/stages/transcode/", {"format": "mp4", **given})
    if says:
        assert answer.status_code == 400 and says in text(answer)
    assert (now(done).run == 1) == bool(says)


def test_a_job_that_runs_or_is_being_deleted_is_left_alone(done):
    Job.objects.filter(pk=done.pk).update(state=JobState.RUNNING)
    with pytest.raises(finished.NotPossible, match="This job is running"):
        async_to_sync(finished.make_again)(done, "transcode", {}, "ada")
    Job.objects.filter(pk=done.pk).update(state=JobState.SUCCEEDED)
    assert done.keep_wish(Wish(DELETE, "ada", run=1))
    with pytest.raises(control.Refused, match="being deleted"):
        async_to_sync(finished.make_again)(done, "transcode", {}, "ada")
    assert now(done).run == 1 and not EarlierVersion.objects.exists()


def test_two_who_press_at_once_make_it_again_once(done):
    read_before = [now(done) for _ in range(2)]
    assert [remaking.make_again(each, "audio", {}, "ada") for each in read_before] == [True, False]
    assert now(done).run == 2 and done.earlier_versions.count() == 1


def test_who_goes_back_has_both_versions_and_the_options_of_each(done):
    before = plan(done, "transcode")
    remaking.make_again(done, "transcode", {"width": 640}, "ada")
    succeed(done, "outputs/small.bin")
    number = done.earlier_versions.get().pk
    for _ in range(2):  # there, and back again
        assert remaking.go_back(now(done), number, "ada")
    assert plan(done, "transcode") == {"width": 640}
    assert remaking.go_back(now(done), number, "ada") and plan(done, "transcode") == before
    assert done.stages.get(name="transcode").output["name"] == "outputs/transcode.bin"
    assert done.earlier_versions.get().output["name"] == "outputs/small.bin"
    assert now(done).state == "succeeded" and now(done).run == 1 + 1


def test_what_was_replaced_together_goes_back_together(done):
    remaking.make_again(done, "ingest", {"format": "mp4", "end": 5}, "ada")
    succeed(done, "outputs/short.bin")
    first = done.earlier_versions.get(stage="ingest")
    assert remaking.go_back(now(done), first.pk, "ada")
    names = {stage.output["name"] for stage in done.stages.all()}
    assert names == {f"outputs/{name}.bin" for name in ("ingest", "thumbnails", "audio", "transcode")}
    assert {each.output["name"] for each in done.earlier_versions.all()} == {"outputs/short.bin"}


def test_a_job_whose_new_version_came_to_nothing_is_done_again_with_the_earlier_one(done):
    remaking.make_again(done, "thumbnails", {"format": "webp"}, "ada")
    fail(done)
    kept = done.earlier_versions.get()
    assert remaking.go_back(now(done), kept.pk, "ada")
    assert now(done).state == "succeeded" and set(states(done).values()) == {"succeeded"}
    assert not done.earlier_versions.exists(), "there is nothing to go back to from it"


def test_a_version_that_is_removed_is_gone_with_its_files(done, ada):
    remaking.make_again(done, "audio", {}, "ada")
    succeed(done, "outputs/again.bin")
    kept = done.earlier_versions.get()
    page = ada.get(f"/jobs/{done.pk}/stages/audio/")
    assert text(page).count("Earlier version") == 1
    answer = ada.post(f"/jobs/{done.pk}/versions/{kept.pk}/remove/", follow=True)
    assert "The earlier version was removed." in text(answer)
    assert not storage.exists("outputs/audio.bin") and storage.exists("outputs/again.bin")
    assert done.events.get(kind="version_removed").actor == "ada"
    again = ada.post(f"/jobs/{done.pk}/versions/{kept.pk}/remove/", follow=True)
    assert "This earlier version is gone" in text(again)


def test_a_removal_that_dies_between_its_steps_is_finished_by_a_round(done):
    remaking.make_again(done, "audio", {}, "ada")
    succeed(done, "outputs/again.bin")
    remaking.mark_removed(done, done.earlier_versions.get().pk, "ada")  # and then it is killed
    assert not remaking.go_back(now(done), done.earlier_versions.get().pk, "ada")
    unwanted = list(EarlierVersion.objects.filter(removed=True))
    assert async_to_sync(reconcile.delete_some)(unwanted) == 1
    assert not EarlierVersion.objects.exists() and not storage.exists("outputs/audio.bin")


def test_files_of_earlier_versions_belong_to_the_job_and_go_with_it(done):
    remaking.make_again(done, "audio", {}, "ada")
    succeed(done, "outputs/again.bin")
    stored("outputs/stray.bin")
    assert [name for name, _ in orphaned_files(before=2e10)] == ["outputs/stray.bin"]
    assert now(done).remove("ada")
    assert [name for name, _, _ in storage.under("outputs")] == ["outputs/stray.bin"]


def test_every_verb_of_a_stage_is_its_owners_alone(done, editor, django_user_model):
    remaking.make_again(done, "audio", {}, "ada")
    succeed(done, "outputs/again.bin")
    kept = done.earlier_versions.get()
    stranger = Client()
    stranger.force_login(django_user_model.objects.create_user("eve"))
    base = f"/jobs/{done.pk}"
    assert stranger.get(f"{base}/stages/audio/").status_code == 404
    for path in ("stages/audio/", f"versions/{kept.pk}/use/", f"versions/{kept.pk}/remove/"):
        assert stranger.post(f"{base}/{path}").status_code == 404
    other = job(editor)
    for verb in (remaking.go_back, remaking.mark_removed):
        assert not verb(other, kept.pk, "ada"), "a version of another job"
    assert now(done).run == 2 and done.earlier_versions.get() == kept


def test_the_json_tells_the_options_and_what_was_before(done, ada):
    remaking.make_again(done, "audio", {"format": "wav"}, "ada")
    succeed(done, "outputs/again.bin")
    told = {each["name"]: each for each in ada.get(f"/jobs/{done.pk}/json/").json()["stages"]}
    assert told["audio"]["options"] == {"format": "wav"} and told["ingest"]["earlier_versions"] == []
    before = told["audio"]["earlier_versions"][0]
    assert before["options"]["format"] == "mp3" and "/outputs/audio.bin?" in before["output"]["url"]


@pytest.mark.parametrize(
    ("shows", "begins", "start"), [("ingest", 3, 12.04), ("transcode", 3, 15.04), ("nonsense", 3, 12.04)]
)
def test_the_frame_that_the_player_shows_becomes_the_thumbnail(done, ada, shows, begins, start):
    """By its place in what the thumbnail is taken from: a version that begins later counts from there."""
    other = {"transcode": {"start": begins}}
    Job.objects.filter(pk=done.pk).update(plan=remaking.with_options(done.plan, other))
    answer = ada.post(f"/jobs/{done.pk}/thumbnail/", {"at": "0:12.04", "plays": shows}, follow=True)
    assert "Making Thumbnails again." in text(answer)
    assert plan(done, "thumbnails") == {
        "width": 640,
        "format": "webp",
        "start": start,
        "moment": "exact",
    }
    assert states(done)["thumbnails"] == "pending" and states(done)["ingest"] == "succeeded"


def test_a_cloud_is_not_asked_for_what_only_our_engine_knows(done, ada, settings):
    settings.EMBEDDED_ENGINE = False
    ada.post(f"/jobs/{done.pk}/thumbnail/", {"at": "3", "plays": "ingest"})
    assert plan(done, "thumbnails") == {"width": 640, "format": "webp", "start": 3}


def test_a_time_that_is_none_is_said_and_changes_nothing(done, ada):
    for at in ("", "soon", "1:2:3:4", "9" * 5000 + ":0:0", "9" * 400):
        answer = ada.post(f"/jobs/{done.pk}/thumbnail/", {"at": at, "plays": "ingest"}, follow=True)
        assert "Write a time like 12.5" in text(answer)
    assert now(done).run == 1


def test_a_stage_of_another_pipeline_is_added_once_and_made_with_what_is_finished(done, ada):
    assert "Add Storyboard Waveform Preview HLS Check" in text(ada.get(done.get_absolute_url()))
    for _ in range(2):
        answer = ada.post(f"/jobs/{done.pk}/stages/hls/add/", follow=True)
    assert "There’s no &#x27;hls&#x27; to add" in text(answer)
    given = now(done).workflow_input()
    assert [stage.name for stage in given.stages][-1] == "hls"
    assert states(done)["hls"] == "pending" and len(given.carried) == 4
    event = done.events.get(kind="stage_added")
    assert (event.actor, event.stage, event.text) == ("ada", "hls", "Adding HLS")
    assert not done.earlier_versions.exists()


def test_a_check_is_made_again_with_what_it_looks_through_and_not_by_itself(done, ada):
    ada.post(f"/jobs/{done.pk}/stages/check/add/")
    succeed(done, "outputs/found.json")
    page = ada.get(done.get_absolute_url()).content.decode()
    own = f"/jobs/{done.pk}/stages"
    assert f"{own}/audio/" in page and f"{own}/check/" not in page
    assert ada.get(f"{own}/check/").status_code == 404
    ada.post(f"{own}/audio/", {"format": "wav"})
    assert {name for name, state in states(done).items() if state == "pending"} == {"audio", "check"}


def test_what_a_job_has_and_what_nobody_offers_is_not_added(done):
    for name in ("transcode", "nonsense"):
        with pytest.raises(finished.NotPossible, match="to add: this job has it, or no pipeline offers it"):
            async_to_sync(finished.add_stage)(done, name, "ada")
    assert now(done).run == 1


def test_programs_do_the_same_by_the_api_with_a_token_that_may(done, editor):
    _, token = ApiToken.issue(editor, "a script", ["act", "read"], 1)
    program = Client(headers={"Authorization": f"Bearer {token}"})
    base = f"/api/v1/jobs/{done.pk}"

    def ask(path: str, body: object = None, **how) -> tuple[int, dict]:
        answer = program.post(f"{base}/{path}", body, content_type="application/json", **how)
        return answer.status_code, answer.json()

    status, told = ask("stages/transcode/make-again", {"options": {"width": "all"}})
    assert status == 409 and "width must be pixels" in told["detail"]
    given = {"options": {"width": 640, "quality": None}, "reason": "for phones"}
    assert ask("stages/transcode/make-again", given)[0] == 200
    assert plan(done, "transcode") == {"width": 640, "format": "mp4", "codec": "h264"}
    assert "(“for phones”)" in done.events.get(kind="made_again").text
    assert ask("stages/hls/add")[0] == 409, "it runs"
    succeed(done, "outputs/small.bin")
    kept = program.get(base).json()["stages"][3]["earlier_versions"][0]
    assert ask(f"versions/{kept['id']}/use")[0] == 200
    assert program.delete(f"{base}/versions/{kept['id']}").status_code == 200
    assert not storage.exists("outputs/small.bin") and storage.exists("outputs/transcode.bin")
    assert ask("stages/hls/add")[0] == 200 and states(done)["hls"] == "pending"
    succeed(done, "outputs/hls.bin")
    assert ask("rename", {"title": " "})[0] == 409 and ask("rename", {"title": ""})[0] == 422
    assert ask("rename", {"title": "Harbour"})[0] == 200 and now(done).title == "Harbour"
    assert ask("thumbnail", {"seconds": -1})[0] == 422
    assert ask("thumbnail", {"seconds": 12.04})[0] == 200 and plan(done, "thumbnails")["start"] == 12.04


def test_what_was_checked_is_checked_again_when_it_is_made_again(editor):
    made = job(editor, pipeline="checked")
    assert remaking.needing(made.plan, "transcode") == ["transcode", "check"]
    assert remaking.needing(made.plan, "thumbnails") == ["thumbnails"]
    assert not remaking.can_be_made_again(next(each for each in made.plan if each["name"] == "check"))


def test_no_verb_of_a_finished_job_asks_the_database_in_the_event_loop(done, editor):
    browser = Client()
    browser.force_login(editor)
    for path in (
        *("stages/preview/add", "stages/audio/add", "stages/ingest", "stages/nothing/retry", "thumbnail"),
        *("versions/7/use", "versions/7/remove", "retry", "cancel", "rename", "force-restart", "delete"),
        *("source", "share", "shares/7/revoke"),
    ):
        form = {"at": "1", "plays": "ingest", "width": "320", "title": "b", "days": "1", "url": "x"}
        answer = browser.post(f"/jobs/{done.pk}/{path}/", form)
        assert answer.status_code in (200, 302, 400, 403, 404), path


@pytest.mark.parametrize(
    ("command", "arguments", "status", "says"),
    [
        ("rename", ["Harbour"], 0, "Renamed."),
        ("rename", [" "], 1, "Write a title."),
        ("make-again", ["transcode", "width=640", "quality=", "codec=vp9", "format=webm"], 0, "Making Trans"),
        ("make-again", ["transcode", "width=all"], 1, "width must be pixels"),
        ("make-again", ["hls", "--add"], 0, "Adding HLS."),
        ("replace-source", ["https://93.184.215.14/b.mp4"], 0, "Starting on the new source."),
        ("replace-source", [__file__], 2, "isn’t a video or audio file"),
        ("share", ["--days", "2"], 0, "/s/"),
        ("share", ["--revoke", "7"], 1, "no such link"),
    ],
)
@pytest.mark.usefixtures("own_api")
def test_scripts_do_the_same_by_commands(done, monkeypatch, capfd, command, arguments, status, says):
    monkeypatch.setattr(os, "_exit", sys.exit)  # by which a command ends its process
    with pytest.raises((SystemExit, CommandError)) as end:
        call_command(command, str(done.pk), *arguments)
    told = capfd.readouterr()
    code = end.value.code if isinstance(end.value, SystemExit) else end.value.returncode
    assert code == status and says in told.out + told.err + str(end.value)
    if "quality=" in arguments:
        assert plan(done, "transcode") == {"width": 640, "codec": "vp9", "format": "webm"}
