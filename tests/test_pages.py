"""The dashboard's pages and forms, as far as no browser is needed: who sees what, and clear sentences."""

from __future__ import annotations

import contextlib
import csv
import re
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.template.loader import render_to_string
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from jobs import gauges
from jobs.dashboard.job_page import JobPage
from jobs.dashboard.stage_view import StageView
from jobs.live import START_WORKER, Live
from jobs.models import Job, Stage
from jobs.state import JobState, Source, StageState, StageStatus
from jobs.waits import Wait
from mediapipe import disk, kernel
from mediapipe.urls import too_large
from tests.support.recorded import job, text
from tests.support.tusclient import sound

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_api")]
NOT_MEDIA = "This isn’t a video or audio file, so it wasn’t uploaded."


def test_the_json_of_a_job_has_the_urls_of_its_result_once_it_has_succeeded(ada, editor):
    done, failed = job(editor), job(editor, state=JobState.FAILED)
    Stage.objects.filter(name__in=("ingest", "audio")).update(output={"name": "outputs/a b.mp4"})
    Stage.objects.filter(name="transcode").update(output={"url": "https://cdn.example.com/c.mp4"})
    shown = {each.pk: ada.get(f"/jobs/{each.pk}/json/").json() for each in (done, failed)}
    result = shown[done.pk]["result"]
    ingested = shown[done.pk]["stages"][0]["output"]["url"]
    assert "/outputs/a%20b.mp4?" in ingested and ingested.startswith("http")
    assert list(result) == ["ingested_url", "thumbnail_url", "audio_url", "transcoded_url"]
    assert list(result.values()) == [ingested, None, ingested, "https://cdn.example.com/c.mp4"]
    assert shown[failed.pk]["result"] is None


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "Choose a file, or paste a link to one."),
        ({"url": "notaurl"}, "Paste one that begins with http:// or https://"),
        ({"url": "ftp://example.org/a.mp4"}, "ftp:// links aren’t accepted"),
        ({"url": "http://no-such-host.invalid/a.mp4"}, "Can’t find no-such-host.invalid"),
        ({"url": "http://127.0.0.1/a.mp4"}, "Can’t find 127.0.0.1 on the public internet"),
        ({"url": "http://u:p@example.org/"}, "user name or password"),
        ({"url": "http://exa mple.org/"}, "spaces"),
        ({"file": ("empty.mp4", b"")}, "This file is empty (0 bytes)."),
        ({"file": ("notes.mp4", b"these are notes\n" * 9)}, NOT_MEDIA),
        ({"file": ("a.mp4", b"x"), "url": "http://example.org/a.mp4"}, "not both"),
        ({"url": "http://example.org/a.mp4", "pipeline": "nope"}, "not one of the available choices"),
    ],
)
def test_bad_input_gets_a_sentence_and_makes_no_job(ada, fields, says, settings):
    if fields.get("url", "").startswith("http://example.org") and "file" in fields:
        settings.ALLOW_PRIVATE_SOURCES = True  # the name need not resolve for this rule
    data = {key: SimpleUploadedFile(*value) if key == "file" else value for key, value in fields.items()}
    answer = ada.post("/jobs/new/", data)
    assert answer.status_code == (422 if says == NOT_MEDIA else 400)
    assert says in text(answer) or "Can’t find " in text(answer)
    assert Job.objects.count() == 0


def test_a_form_that_is_sent_twice_is_one_job_and_sent_with_something_else_another(ada, settings):
    settings.ALLOW_PRIVATE_SOURCES = True
    page = ada.get("/").content.decode()
    assert 'type="hidden" name="idempotency_key"' in ada.get("/jobs/new/").content.decode()
    again = {"idempotency_key": re.search(r'name="idempotency_key" value="([0-9a-f-]{36})"', page)[1]}
    first, second = (ada.post("/jobs/new/", {"url": "http://127.0.0.1/a.mp4", **again}) for _ in range(2))
    assert first.status_code == 302 and first["Location"] == second["Location"]
    other = ada.post("/jobs/new/", {"url": "http://127.0.0.1/b.mp4", **again})
    assert other["Location"] != first["Location"] and Job.objects.count() == 2


def test_a_file_over_the_cap_is_refused_with_a_sentence(ada, settings):
    settings.MAX_UPLOAD_BYTES = 10
    answer = ada.post("/jobs/new/", {"file": SimpleUploadedFile("a.mp4", b"x" * 11)})
    assert answer.status_code == 413 and "too large" in text(answer) and Job.objects.count() == 0


def test_a_file_without_room_is_the_servers_fault_and_stands_in_its_log(ada, monkeypatch, caplog):
    monkeypatch.setattr(disk, "MEDIA_RESERVE", 1 << 60)
    with caplog.at_level("INFO"):
        answer = ada.post("/jobs/new/", {"file": SimpleUploadedFile("a.wav", sound())})
    assert answer.status_code == 507 and "enough free space" in text(answer) and Job.objects.count() == 0
    assert "a file of a form was refused (507): The server doesn’t have enough free space" in caplog.text


def test_the_forms_say_when_the_cloud_engine_cannot_fetch_an_upload(ada, settings):
    told = "Uploads can’t be processed until an admin sets a public address."
    assert not any(told in text(ada.get(path)) for path in ("/", "/jobs/new/"))
    settings.EMBEDDED_ENGINE, settings.PUBLIC_URL = False, ""
    assert all(told in text(ada.get(path)) for path in ("/", "/jobs/new/"))
    settings.PUBLIC_URL = "https://media.example.org"
    assert not any(told in text(ada.get(path)) for path in ("/", "/jobs/new/"))


def test_without_temporal_a_job_is_queued_and_says_why(ada):
    answer = ada.post("/jobs/new/", {"file": SimpleUploadedFile("a.wav", sound())}, follow=True)
    made = Job.objects.get()
    assert made.state == JobState.QUEUED and answer.redirect_chain[-1][0] == made.get_absolute_url()
    said = "Waiting for the workflow service. Starts automatically."
    assert [text(page).count(said) for page in (answer, ada.get("/"))] == [1, 1]


def test_a_queued_job_is_cancelled_without_temporal(ada, editor):
    waiting = Job.submit(editor, title="w", pipeline="standard", source=Source(url="http://example.org/x"))
    answer = ada.post(f"/jobs/{waiting.pk}/cancel/", follow=True)
    assert "Cancelled before it started" in text(answer)
    again = ada.post(f"/jobs/{waiting.pk}/cancel/", follow=True)
    assert "already cancelled" in text(again)


def test_a_retry_of_what_has_not_failed_is_explained(ada, editor):
    done = job(editor)
    answer = ada.post(f"/jobs/{done.pk}/stages/ingest/retry/", follow=True)
    assert "nothing to retry" in text(answer)
    assert ada.get(f"/jobs/{done.pk}/cancel/").status_code == 405


def test_a_job_is_renamed_and_deleted_on_its_own_page(ada, editor, django_user_model):
    done = job(editor, "take 7 final FINAL.mov")
    answer = ada.post(f"/jobs/{done.pk}/rename/", {"title": "  The minister,\tat last "}, follow=True)
    assert "Renamed." in text(answer) and Job.objects.get().title == "The minister, at last"
    assert "The minister, at last" in text(ada.get("/?q=MINISTER")), "it is found by what it is called now"
    event = done.events.get(kind="renamed")
    assert event.actor == "ada" and "take 7 final FINAL.mov" in event.text
    assert "Write a title." in text(ada.post(f"/jobs/{done.pk}/rename/", {"title": " "}, follow=True))
    stranger = Client()
    stranger.force_login(django_user_model.objects.create_user("eve"))
    assert stranger.post(f"/jobs/{done.pk}/rename/", {"title": "mine"}).status_code == 404
    page = ada.get(done.get_absolute_url()).content.decode()
    form = re.search(r'<form id="delete-form".*?</form>', page, re.S)[0]
    given = dict(re.findall(r'name="(action|job)" value="([^"]+)"', form))
    asked = ada.post("/jobs/bulk/", given)
    assert "Delete 1 job?" in text(asked) and Job.objects.exists()
    ada.post("/jobs/bulk/", {**given, "confirmed": "1"})
    assert not Job.objects.exists()


def test_a_fragment_that_has_not_changed_is_304_and_polling_ends_with_the_job(ada, editor):
    done = job(editor)
    first = ada.get(f"/jobs/{done.pk}/status/")
    assert first.status_code == 200 and "hx-trigger" not in first.content.decode()
    again = ada.get(f"/jobs/{done.pk}/status/", headers={"HX-PTag": first["HX-PTag"]})
    assert again.status_code == 304
    Job.submit(editor, title="w", pipeline="standard", source=Source(url="http://example.org/x"))
    rows = ada.get("/jobs/rows/")  # with a cancel button
    assert ada.get("/jobs/rows/", headers={"HX-PTag": rows["HX-PTag"]}).status_code == 304
    Job.objects.filter(pk=done.pk).update(title="another title")
    assert ada.get(f"/jobs/{done.pk}/status/", headers={"HX-PTag": first["HX-PTag"]}).status_code == 200


def test_what_has_ended_keeps_no_place_for_what_will_never_come(ada, editor):
    empty = job(editor, state=JobState.CANCELLED)
    empty.stages.update(state=StageState.CANCELLED, output=None)
    page = ada.get(empty.get_absolute_url()).content.decode()
    assert "Use as thumbnail" not in page and 'class="place"' not in page and 'class="sound"' not in page
    running = job(editor, state=JobState.RUNNING)
    running.stages.update(state=StageState.PENDING, output=None)
    page = ada.get(running.get_absolute_url()).content.decode()
    assert "Use as thumbnail" in page and 'class="place"' in page and 'class="sound"' in page
    assert '<span class="hint">Thumbnail</span>' in page, "it is one picture"


def test_a_player_has_the_room_that_its_film_or_its_sound_needs(ada, editor):
    def shown(made, **ingested) -> str:
        if ingested:
            output = {"name": "outputs/i.mp4", "kind": "video", "codecs_known": True, **ingested}
            made.stages.filter(name="ingest").update(state=StageState.SUCCEEDED, output=output)
        return re.sub(r"\s+", " ", ada.get(made.get_absolute_url()).content.decode())

    def running(name: str):
        made = job(editor, state=JobState.RUNNING)
        Job.objects.filter(pk=made.pk).update(source_filename=name)
        return made

    film = running("reel.mov")
    assert 'data-shape=""' in shown(film)
    assert 'data-shape=""' in shown(film, width=1920, height=1080, video_codec="h264")
    portrait = shown(film, width=1080, height=1920, video_codec="h264")
    assert 'data-shape="tall"' in portrait and '<video id="player"' in portrait
    sound = running("episode.mp3")
    assert 'data-shape="sound"' in shown(sound), "its name tells"
    for heard in (shown(sound, audio_codec="aac"), shown(running("from a recorder"), audio_codec="aac")):
        assert 'data-shape="sound"' in heard and "<video" not in heard
        assert heard.count("<audio") == 1 and heard.index("<audio") < heard.index(">Outputs<"), "in its place"


def test_a_hostile_title_is_only_text(ada, editor):
    job(editor, "<script>alert(1)</script>{{ 7|add:7 }}")
    page = ada.get("/").content.decode()
    assert "<script>alert" not in page and "&lt;script&gt;" in page
    title = re.findall(r"<h2 .*?</h2>", page, re.S)[0]
    assert "14" not in re.sub(r"<[^>]+>", "", title)  # an address may hold any number
    assert "{{ 7|add:7 }}" in title


def test_news_tell_once_what_has_finished(ada, editor):
    before = timezone.now() - timedelta(seconds=5)
    job(editor, "just done")
    answer = ada.get("/jobs/news/", {"since": before.isoformat()})
    assert "just done" in text(answer) and "hx-trigger" not in answer.content.decode()
    assert "just done" not in text(ada.get("/jobs/news/"))
    Job.submit(editor, title="w", pipeline="standard", source=Source(url="http://example.org/x"))
    before_any = ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00")
    for nonsense in ("nonsense", "2026-99-99T00:00:00", "2026-01-01T00:00:00", *before_any):
        assert "hx-trigger" in ada.get("/jobs/news/", {"since": nonsense}).content.decode()


def test_a_jobs_page_asks_for_news_of_other_jobs_only(ada, editor):
    since = {"since": (timezone.now() - timedelta(seconds=5)).isoformat()}
    done = job(editor, "just done")
    shown = Job.submit(editor, title="shown", pipeline="standard", source=Source(url="http://example.org/x"))
    assert f"/jobs/news/?but={shown.pk}" in ada.get(shown.get_absolute_url()).content.decode()
    told = ada.get("/jobs/news/", {"but": str(shown.pk), **since}).content.decode()
    assert "just done" in told and "hx-trigger" not in told, "nothing else is at work: no second poll"
    told = ada.get("/jobs/news/", {"but": str(done.pk), **since}).content.decode()
    assert "just done" not in told and f"&amp;but={done.pk}" in told, "its own page shows it"


SEEN = {"output": "transcode", "what": "silent", "look": True, "start": 192.0, "end": 220.0}
FOUND = [
    {**SEEN, "text": "silence 3:12 to 3:40"},
    {**SEEN, "text": "silence 3:12 to 3:40", "output": "ingest"},
    {**SEEN, "text": "loudness −31 LUFS, the source has −23", "start": None, "end": None},
    {**SEEN, "text": "VMAF 93 against the source", "look": False, "start": None, "end": None},
]


def checked(owner, found):
    made = job(owner, "checked", pipeline="checked")
    for name in ("ingest", "transcode"):
        made.stages.filter(name=name).update(output={"name": f"outputs/{name}.mp4", "kind": "video"})
    made.stages.filter(name="check").update(output={"name": "outputs/c.json", "findings": found})
    return made


def test_a_check_says_what_to_look_at_with_a_link_to_its_second(ada, chief, editor):
    made = checked(editor, FOUND)
    page = ada.get(made.get_absolute_url()).content.decode()
    assert "2 things to look at" in page
    links = dict(re.findall(r'<a class="link" href="([^"]+)" data-look="[\d.]+">([^<]+)</a>', page))
    (silent,) = [link for link, words in links.items() if words == "silence 3:12 to 3:40"]
    assert "/outputs/transcode.mp4" in silent and silent.endswith("#t=192,220")
    assert "Transcode, Ingest" in text(ada.get(made.get_absolute_url()))
    told = ada.get(f"/jobs/{made.pk}/json/").json()["stages"][-1]["output"]["findings"]
    assert told == FOUND
    lines = b"".join(_all(chief.get("/history/jobs.csv"))).decode()
    assert "2 things to look at: silence 3:12 to 3:40, loudness −31 LUFS" in lines


def test_a_check_that_finds_nothing_says_so(ada, chief, editor):
    made = checked(editor, FOUND[-1:])
    page = text(ada.get(made.get_absolute_url()))
    assert "Checked" in page and "to look at" not in page and "VMAF 93 against the source" in page
    assert ",Checked" in b"".join(_all(chief.get("/history/jobs.csv"))).decode()


def test_a_pipeline_says_beforehand_what_the_cloud_cant_do(ada, settings):
    for embedded in (True, False):
        settings.EMBEDDED_ENGINE = embedded
        for path in ("/", "/jobs/new/"):
            assert ("Standard + check (not with the cloud)" in text(ada.get(path))) is not embedded


def test_the_history_filters_counts_and_hands_out_a_table(chief, editor):
    job(editor, "=cmd|' /C calc'!A0")
    job(editor, "failed one", JobState.FAILED)
    page = text(chief.get("/history/"))
    assert "failed one" in page and "50%" in page
    assert "failed one" not in text(chief.get("/history/?state=succeeded"))
    assert chief.get("/history/?from=2026-99-99&page=x&owner=%25").status_code == 200
    answer = chief.get("/history/jobs.csv")
    lines = b"".join(_all(answer)).decode().splitlines()
    assert len(lines) == 3 and "'=cmd" in "".join(lines)


def test_a_jobs_page_tells_all_of_its_work_and_that_it_went_on_after_a_crash(ada, editor):
    made = job(editor)

    def attempts(name: str, *times: tuple[int, int, str]) -> None:
        told = [
            {"number": 1, "started_at": start, "finished_at": end, "outcome": outcome, "error": ""}
            for start, end, outcome in times
        ]
        made.stages.filter(name=name).update(attempts=told)

    attempts("ingest", (1000, 1010, "succeeded"))
    attempts("transcode", (1010, 1020, "lost"), (1020, 1030, "succeeded"))
    attempts("audio", (1010, 1015, "succeeded"))
    attempts("thumbnails", (90_000, 90_002, "succeeded"))  # made again the day after
    page = text(ada.get(made.get_absolute_url()))
    assert "Done in 32 s · survived 1 crash" in page.replace("\u00a0", " ")
    Job.objects.filter(pk=made.pk).update(state=JobState.QUEUED)
    page = text(ada.get(made.get_absolute_url()))
    assert "· the encoder was interrupted once, and went on by itself" in page and "survived" not in page


def test_typical_times_stand_in_the_order_of_the_pipeline(chief, editor):
    job(editor, pipeline="streaming")
    job(editor)
    page = text(chief.get("/history/")).split("Typical time per stage")[1]
    places = [page.index(label) for label in ("Ingest", "Thumbnails", "Audio", "Transcode", "HLS")]
    assert places == sorted(places)


def test_the_history_answers_in_a_sentence_and_what_it_names_is_a_link_that_keeps_the_filters(chief, editor):
    made = job(editor, "take 1")
    told = [{"number": 1, "started_at": 100.0, "finished_at": 105.0, "outcome": "succeeded", "error": ""}]
    made.stages.filter(name="audio").update(started_at=timezone.now() - timedelta(days=3), attempts=told)
    failed = job(editor, "take 2", JobState.FAILED)
    why = {"error_kind": "damaged", "error": "Damaged."}
    failed.stages.filter(name="ingest").update(state=StageState.FAILED, **why)
    answer = chief.get("/history/?q=take&owner=ada")
    page = answer.content.decode().replace("&amp;", "&")
    assert "1 of 2 done (50%)." in text(answer) and "1 failed : Damaged." in text(answer)
    day = timezone.localdate().isoformat()
    for bar in ("done", "attention"):
        assert f'href="/history/?q=take&owner=ada&from={day}&to={day}&tab={bar}"' in page
    why = "?q=take&owner=ada&tab=attention&why=damaged"
    assert f'href="/history/{why}"' in page and f'value="{why[1:]}"' in page
    assert "Audio 5.0 s" in text(answer), "the days of a wait are no work"


def test_the_history_says_why_jobs_failed_and_retries_those_of_one_reason(chief, editor):
    for title, kind, error in (
        ("one", "damaged", "This file is damaged."),
        ("two", "damaged", "This file is damaged."),
        ("three", "unreachable", "The encoder can’t be reached."),
    ):
        row = job(editor, title, JobState.FAILED)
        row.stages.filter(name="ingest").update(state=StageState.FAILED, error_kind=kind, error=error)
    page = text(chief.get("/history/"))
    assert "This file is damaged. Retry these 2" in page and "can’t be reached. Retry this one" in page
    found = text(chief.get("/history/?tab=attention&why=unreachable"))
    assert "Select three" in chief.get("/history/?tab=attention&why=unreachable").content.decode()
    assert "three" in found and "two" not in found
    posted = {"action": "retry", "matching": "&tab=attention&why=damaged", "from": "history"}
    asked = text(chief.post("/jobs/bulk/", posted))
    assert "Retry 2 jobs?" in asked and "one" in asked and "three" not in asked
    lines = b"".join(_all(chief.get("/history/jobs.csv?q=three"))).decode().splitlines()
    row = dict(zip(*csv.reader(lines), strict=True))
    assert row["title"] == "three" and row["error"] == "The encoder can’t be reached."


def test_the_pipeline_that_a_person_chose_is_there_again_and_is_theirs_alone(ada, chief):
    assert ada.post("/jobs/pipeline/?pipeline=streaming").status_code == 204
    for page in ("/", "/jobs/new/"):
        chosen = re.search(r'<option\s+value="(\w+)"[^>]*\bselected', ada.get(page).content.decode())
        assert chosen and chosen[1] == "streaming", page
    ada.post("/jobs/pipeline/?pipeline=no-such-thing")
    assert 'data-pipeline="streaming"' in ada.get("/password/").content.decode()
    key = next(key for key in ada.cookies if "pipeline" in key)
    chief.cookies[key] = ada.cookies[key].value
    assert 'data-pipeline="standard"' in chief.get("/password/").content.decode(), "the browser is shared"


def _all(answer):
    import asyncio

    async def parts():
        return [part async for part in answer.streaming_content]

    return asyncio.run(parts())


def test_every_answer_carries_the_policy(ada, client):
    for answer in (ada.get("/"), client.get("/login/"), client.get("/nothing-here"), client.get("/healthz")):
        policy = answer["Content-Security-Policy"]
        assert "default-src 'self'" in policy and "unsafe" not in policy
    page = ada.get("/").content.decode()
    assert not re.search(r"<[^>]+\son\w+=|<style|style=|<script>", page)
    for kind, bears in (("css", False), ("js", False), ("svg", True)):  # a picture may be opened by itself
        path = re.search(rf'"(/static/[^"]+\.{kind})"', page)[1]
        with contextlib.closing(ada.get(path)) as answer:
            assert ("Content-Security-Policy" in answer) == bears, path
    assert "Content-Security-Policy" in ada.get("/push-worker.js")


def test_no_cache_keeps_a_page_and_static_files_are_kept(ada, editor):
    pages = ("/", "/jobs/new/", "/jobs/news/", "/password/", job(editor).get_absolute_url(), "/nothing-here")
    for path in pages:
        assert "no-store" in ada.get(path)["Cache-Control"], path
    style = re.search(r'href="(/static/[^"]+\.css)"', ada.get("/").content.decode())[1]
    with contextlib.closing(ada.get(style)) as answer:
        assert "max-age" in answer["Cache-Control"]


def test_a_first_visit_is_small(ada, editor):
    import gzip

    from django.contrib.staticfiles.storage import staticfiles_storage

    for number in range(25):
        job(editor, f"a clip with a rather long title, as editors write them, {number}")
    ada.get("/")
    answer = ada.get("/", headers={"Accept-Encoding": "gzip"})
    assert answer["Content-Encoding"] == "gzip" and "clip with" in gzip.decompress(answer.content).decode()
    page = gzip.decompress(answer.content).decode()
    static = set(re.findall(r'/static/([^"#]+)', page)) - set(re.findall(r'data-\w+="/static/([^"]+)"', page))
    wire = len(answer.content)
    for name in static:
        ends = [end for end in ("", ".gz") if staticfiles_storage.exists(name + end)]
        wire += min(staticfiles_storage.size(name + end) for end in ends)
    assert wire < 60_000, f"{wire} bytes"


def test_pages_that_do_not_exist_look_like_ours(ada):
    answer = ada.get("/nothing-here")
    assert answer.status_code == 404 and "Page not found" in text(answer)
    answer = ada.get("/jobs/7a2d2b9e-7a0f-4b41-9d6c-0d6f0f8f0000/")
    assert answer.status_code == 404 and "you may not have access" in text(answer)


def test_a_page_that_says_no_keeps_the_way_on_for_who_has_signed_in(ada, editor, client):
    broken = job(editor)
    broken.stages.update(attempts=[{}])
    form = Client(enforce_csrf_checks=True, raise_request_exception=False)
    form.force_login(editor)
    answers = {
        400: ada.get("/?q=%00"),
        403: ada.get("/history/"),
        404: ada.get("/nothing-here"),
        500: form.get(broken.get_absolute_url()),
    }
    for status, answer in [*answers.items(), (403, form.post("/login/", {"username": "ada"}))]:
        assert answer.status_code == status
        assert "Jobs Upload ada Sign out" in text(answer), status
    for path in ("/nothing-here", "/?q=%00"):
        assert "Sign out" not in text(client.get(path)) and "mediapipe" in text(client.get(path))


def test_what_is_too_large_is_told_on_a_page_that_leads_on_and_from_which_one_can_sign_out(editor):
    ada = Client(enforce_csrf_checks=True)
    ada.force_login(editor)
    ada.get("/password/")
    cookies = "; ".join(f"{key}={morsel.value}" for key, morsel in ada.cookies.items())
    page = too_large(11 << 20, {"cookie": cookies})
    assert "That’s too large" in page and "The limit here is 11 MB." in page
    assert 'href="/">Jobs</a>' in re.sub(r"\s+>", ">", page) and ">ada</a>" in page
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1]
    assert ada.post("/logout/", {"csrfmiddlewaretoken": token}).status_code == 302
    assert "Sign out" not in too_large(11 << 20, {})


def test_a_database_that_is_away_is_told_in_plain_words(ada, settings, tmp_path):
    from django.db import connection

    connection.close()
    right = connection.settings_dict["NAME"]
    connection.settings_dict["NAME"] = tmp_path / "no such folder" / "db.sqlite3"
    try:
        browser = Client(raise_request_exception=False)
        browser.cookies["sessionid"] = "x" * 32
        answer = browser.get("/")
    finally:
        connection.close()
        connection.settings_dict["NAME"] = right
    assert answer.status_code == 503 and "We’ll be right back" in text(answer)


def test_what_machines_ask(client, chief, editor, monkeypatch):
    monkeypatch.setattr(gauges, "ENDED_SECONDS", 0.0)  # else what another test has asked counts for a minute
    job(editor)
    waits = job(editor, state=JobState.QUEUED)
    Job.objects.filter(pk=waits.pk).update(created_at=timezone.now() - timedelta(minutes=5))
    told = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(chief.get("/metrics").content.decode())
        for sample in family.samples
    }
    assert told["mediapipe_jobs", "succeeded"] == told["mediapipe_jobs", "queued"] == 1
    assert 300 <= told["mediapipe_oldest_wait_seconds", "queued"] < 330
    assert told["mediapipe_temporal_reachable",] == 0 and told["mediapipe_database_reachable",] == 1
    Job.objects.filter(pk=waits.pk).delete()
    again = chief.get("/metrics").content.decode()
    assert 'mediapipe_request_seconds_count{method="GET",status="200",view="jobs:metrics"}' in again
    ready = client.get("/readyz")
    assert ready.status_code == 503 and ready.json() == {
        "database": True,
        "temporal": False,
        "disk": True,
        "storage": True,
        "temporal_knows_jobs": True,
        "resource": "tasks",
        "sandbox": kernel.protection(),
    }
    assert {type(held) for held in kernel.protection().values()} == {bool}
    assert client.post("/hooks/ittybit/forged").status_code == 404
    assert client.get("/hooks/ittybit/forged").status_code == 405


def test_a_server_without_the_tables_of_its_version_is_not_ready(client, editor):
    recorder = MigrationRecorder(connection)
    last = recorder.migration_qs.filter(app="jobs").latest("name").name
    recorder.record_unapplied("jobs", last)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE jobs_job RENAME TO jobs_job_of_old")
        assert client.get("/readyz").json()["database"] is False, "and no page that says to come back"
        client.force_login(editor)
        cursor.execute("ALTER TABLE accounts_session RENAME TO accounts_session_of_old")
        assert client.get("/readyz").json()["database"] is False, "to who has signed in, too"
        assert client.get("/healthz").content == b"ok\n"
        cursor.execute("ALTER TABLE accounts_session_of_old RENAME TO accounts_session")
        cursor.execute("ALTER TABLE jobs_job_of_old RENAME TO jobs_job")
    recorder.record_applied("jobs", last)
    recorder.record_applied("jobs", "9999_of_a_newer_version")
    assert client.get("/readyz").json()["database"] is True


def test_only_an_admin_reads_how_to_start_an_encoder(editor):
    mine = job(editor)
    page = JobPage(mine, Live(mine.status(), remedy=START_WORKER))
    for staff in (True, False):
        context = {"job": mine, "page": page, "user": {"is_staff": staff}}
        shown = " ".join(render_to_string("jobs/_job_status.html", context).split())
        assert (f"No encoder is running. {START_WORKER}" in shown) is staff


def test_a_job_of_which_nothing_moves_is_never_said_to_run(editor):
    mine = job(editor, state=JobState.RUNNING)
    mine.stages.filter(name="ingest").update(state=StageState.RUNNING)
    for wait, says in ((Wait("Paused by an admin"), "Waiting"), (Wait("Downloading", busy=True), "Running")):
        page = JobPage(mine, Live(mine.status(), waits={"ingest": wait}))
        shown = render_to_string("jobs/_job_status.html", {"job": mine, "page": page, "user": editor})
        assert re.search(r'class="says notice"\s*>\s*(\w+)', shown)[1] == says
        (ingest, *_) = page.stages
        assert ingest.state_label == ("Waiting" if says == "Waiting" else "In progress")


def test_nothing_is_promised_of_an_encoder_before_a_cancel_has_shown_what_it_came_to(ada, editor):
    """An API may have no cancel: the receipt says what was stopped."""
    mine = job(editor, state=JobState.RUNNING)
    asked = ada.post("/jobs/bulk/", {"action": "cancel", "job": mine.pk})
    for page in (asked, ada.get("/")):
        shown = text(page)
        assert "The job stops; finished outputs are kept." in page.content.decode(), shown
        assert "ncoding" not in shown and "ncoder" not in shown


def test_what_to_do_about_a_failure_is_said_once():
    advice = "Convert it to H.264 and upload that."
    status = StageStatus("ingest", state=StageState.FAILED, error_kind="unsupported")
    assert StageView(status, None).next_step == advice
    status.error = f"The file uses a codec this engine can’t decode. {advice}"
    assert StageView(status, None).next_step == ""
