"""The dashboard's own API: who may do what by which token, one job per key, errors that are sentences."""

from __future__ import annotations

import base64
import json
import re
import time
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from jobs.api.bearer import BURST, PER_SECOND, Allowance, allowance
from jobs.models import ApiToken, Job
from jobs.state import JobState, Source, StageState
from tests.support import tusclient

pytestmark = pytest.mark.django_db
JOBS = "/api/v1/jobs"
BODY = {"url": "https://93.184.215.14/interview.mp4", "title": "Interview"}


class Program:
    """What sends a token and JSON, and no cookie; CSRF is checked as in a browser."""

    def __init__(self, owner, *scopes: str, days: int | None = None):
        self.token, self.text = ApiToken.issue(owner, "test", list(scopes), days)
        self.headers = {"Authorization": f"Bearer {self.text}"}
        self.client = Client(enforce_csrf_checks=True, headers=self.headers)

    def get(self, path: str, **query):
        return self.client.get(path, query)

    def post(self, path: str, body: object = None, **headers):
        text = "" if body is None else json.dumps(body)
        return self.client.post(path, text, content_type="application/json", headers=headers)


@pytest.fixture
def program(editor):
    return Program(editor, "submit", "read", "act")


@pytest.fixture
def grace(django_user_model):
    return Program(django_user_model.objects.create_user("grace"), "submit", "read", "act")


@pytest.fixture
def job(editor):
    return Job.submit(editor, title="a", pipeline="standard", source=Source(url="https://example.com/a.mp4"))


def sentence(answer, status: int) -> str:
    """The detail of a problem, which is one with this status."""
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json"), (
        answer.content
    )
    problem = answer.json()
    assert problem["status"] == status and problem["title"] and problem["detail"].endswith((".", "json."))
    return problem["detail"]


def test_a_job_is_created_from_a_url_and_read_and_listed_in_the_same_shape(program):
    created = program.post(JOBS, BODY)
    assert created.status_code == 201, created.content
    one = program.get(created["Location"]).json()
    assert one["title"] == "Interview" and one["owner"] == "ada" and len(one["stages"]) == 4
    assert created.json() == one
    assert program.get(JOBS).json() == {"jobs": [one], "next": None}


def test_the_api_leaves_out_nothing_that_status_json_prints(program, job):
    from jobs import serialize

    whole = serialize.full(job, job.status())
    shown = program.get(f"{JOBS}/{job.pk}").json()
    assert set(shown) == {*whole, "note", "version"}
    assert set(shown["stages"][0]) == set(whole["stages"][0])


def test_a_result_has_the_four_urls(program, job):
    job.stages.filter(name="ingest").update(
        state=StageState.SUCCEEDED, output={"url": "https://example.com/o.mp4", "kind": "video"}
    )
    Job.objects.filter(pk=job.pk).update(state=JobState.SUCCEEDED)
    result = program.get(f"{JOBS}/{job.pk}").json()["result"]
    assert result == {
        "ingested_url": "https://example.com/o.mp4",
        "thumbnail_url": None,
        "audio_url": None,
        "transcoded_url": None,
    }


def test_the_same_key_twice_is_one_job_and_another_request_under_it_is_refused(program, grace):
    first = program.post(JOBS, BODY, **{"Idempotency-Key": "k1"})
    second = program.post(JOBS, BODY, **{"Idempotency-Key": "k1"})
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]
    other = program.post(JOBS, BODY | {"title": "Other"}, **{"Idempotency-Key": "k1"})
    assert "new key" in sentence(other, 422)
    assert grace.post(JOBS, BODY, **{"Idempotency-Key": "k1"}).status_code == 201, (
        "keys are each person's own"
    )
    assert program.post(JOBS, BODY).json()["id"] != program.post(JOBS, BODY).json()["id"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "one source"),
        ({"url": "ftp://example.com/a.mp4"}, "http"),
        ({"url": "http://127.0.0.1/a.mp4"}, "public internet"),
        (BODY | {"pipeline": "nope"}, "Choose one of: standard, "),
        (BODY | {"title": "a\0b"}, "“title”"),
        (BODY | {"colour": "red"}, "“colour”"),
        ([1], "“body”"),
    ],
)
def test_a_wrong_request_is_answered_by_a_sentence(program, body, says):
    assert says in sentence(program.post(JOBS, body), 422)
    assert not Job.objects.exists()


def test_what_is_no_json_or_no_address_or_no_method_of_the_api_is_a_problem_too(program, job):
    broken = program.client.post(JOBS, "{", content_type="application/json")
    assert "JSON" in sentence(broken, 400)
    for deep in ("[" * 16_000, '{"url":' * 4_000, "[" * 16_000 + "]" * 16_000):
        nested = program.client.post(JOBS, deep, content_type="application/json")
        assert sentence(nested, 400)
    sentence(Client().get("/api/v1/nothing"), 404)
    sentence(program.get(f"{JOBS}/7"), 404)
    sentence(program.post(f"{JOBS}/{job.pk}/stages/±/retry"), 404)
    refused = program.client.put(f"{JOBS}/{job.pk}")
    assert refused["Allow"] and sentence(refused, 405)


def test_a_form_is_no_json(program, job):
    for path in (f"{JOBS}/{job.pk}/retry", JOBS):
        assert "isn’t valid JSON" in sentence(program.client.post(path, {"reason": "a form"}), 400)


def test_another_persons_job_does_not_exist_and_staff_sees_all(program, grace, job, django_user_model):
    for path in ("", "/events"):
        sentence(grace.get(f"{JOBS}/{job.pk}{path}"), 404)
    for path in ("/retry", "/cancel", "/stages/ingest/retry", "/force-restart"):
        sentence(grace.post(f"{JOBS}/{job.pk}{path}"), 404)
    sentence(grace.client.delete(f"{JOBS}/{job.pk}"), 404)
    assert grace.get(f"/jobs/{job.pk}/json/").status_code == 404
    assert grace.get(JOBS).json()["jobs"] == []
    chief = Program(django_user_model.objects.create_superuser("chief"), "read")
    assert chief.get(JOBS).json()["jobs"][0]["id"] == str(job.pk)


def test_a_scope_is_what_a_token_may_do(editor, job):
    reader, submitter, actor = (Program(editor, scope) for scope in ("read", "submit", "act"))
    assert "“submit”" in sentence(reader.post(JOBS, BODY), 403)
    assert "“read”" in sentence(submitter.get(f"{JOBS}/{job.pk}"), 403)
    assert "“act”" in sentence(reader.post(f"{JOBS}/{job.pk}/cancel"), 403)
    assert "“read”" in sentence(submitter.get(f"/jobs/{job.pk}/json/"), 403)
    assert "“submit”" in sentence(tusclient.create(reader.client), 403)
    assert actor.post(f"{JOBS}/{job.pk}/cancel").json() == {"message": "Cancelled before it started."}


@pytest.mark.parametrize("end", ["revoked", "expired", "deactivated", "garbled", "missing"])
def test_a_token_that_is_not_valid_opens_no_door(program, job, end):
    if end == "revoked":
        program.token.delete()
    elif end == "expired":
        ApiToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    elif end == "deactivated":
        program.token.owner.is_active = False
        program.token.owner.save()
    headers = {"garbled": "Bearer mediapipe_x", "missing": "Basic YTpi"}
    program.client.headers = {}
    client = Client(
        enforce_csrf_checks=True, headers={"Authorization": headers.get(end, f"Bearer {program.text}")}
    )
    for answer in (client.get(JOBS), client.get(f"/jobs/{job.pk}/json/"), tusclient.create(client)):
        sentence(answer, 401)
        assert answer["WWW-Authenticate"].startswith("Bearer")


def test_a_session_opens_the_api_for_nobody_and_a_token_opens_no_page(ada, program, job):
    sentence(ada.get(JOBS), 401)
    assert program.get(f"/jobs/{job.pk}/").status_code == 302
    assert program.client.post(f"/jobs/{job.pk}/cancel/").status_code == 403  # CSRF: it is a page's form


def test_a_token_is_kept_as_its_hash_alone_and_notes_its_last_use(program):
    assert program.text.startswith("mediapipe_") and len(program.text) > 50
    row = ApiToken.objects.get()
    assert program.text not in str(row.__dict__) and row.last_used_at is None
    program.get(JOBS)
    used = ApiToken.objects.get().last_used_at
    program.get(JOBS)
    assert used and ApiToken.objects.get().last_used_at == used, "a write for each request"


def test_a_token_that_asks_too_often_is_told_when_to_come_back(program):
    bucket = Allowance()
    assert [bucket.take("1", 0.0) for _ in range(BURST + 1)] == [0] * BURST + [1]
    assert bucket.take("2", 0.0) == 0 and bucket.take("1", 1 / PER_SECOND) == 0
    while not allowance.take(program.token.digest, time.monotonic()):
        pass
    while (answer := program.get(JOBS)).status_code == 200:  # it fills while we ask
        while not allowance.take(program.token.digest, time.monotonic()):
            pass
    assert sentence(answer, 429) and int(answer["Retry-After"]) >= 1


def test_the_list_pages_by_a_cursor_that_new_jobs_do_not_move(program, editor):
    at = timezone.now()
    for number in range(5):
        job = Job.submit(
            editor, title=f"t{number}", pipeline="standard", source=Source(url="https://e.com/a")
        )
        Job.objects.filter(pk=job.pk).update(created_at=at - timedelta(minutes=number // 2))
    for order in ("", "oldest", "title"):
        seen, cursor = [], ""
        while cursor is not None:
            page = program.get(JOBS, limit=2, cursor=cursor, sort=order).json()
            seen += [each["title"] for each in page["jobs"]]
            cursor = page["next"]
            if order == "" and len(seen) == 2:
                Job.submit(editor, title="new", pipeline="standard", source=Source(url="https://e.com/a"))
        assert sorted(set(seen) - {"new"}) == ["t0", "t1", "t2", "t3", "t4"] and len(seen) == len(set(seen))
        assert ("new" in seen) == (order != "")


BEFORE_TIME = base64.urlsafe_b64encode(
    json.dumps(["0001-01-01T00:00:00+14:00", "6f1b3c52-6f0e-4f5e-8d5e-0d3c7f0f3a11"]).encode()
).decode()


@pytest.mark.parametrize(
    "cursor", ["x", "W10=", "WyJhIiwgImIiXQ==", "é", "WzEsIDJd", "bnVsbA==", BEFORE_TIME]
)
def test_a_cursor_of_somebodys_own_making_is_refused(program, cursor):
    sentence(program.get(JOBS, cursor=cursor), 422)


def test_the_list_takes_the_lists_own_filters(program, job, editor):
    Job.objects.filter(pk=job.pk).update(state=JobState.ATTENTION)
    Job.submit(editor, title="b", pipeline="standard", source=Source(url="https://example.com/b.mp4"))
    day = timezone.localdate().isoformat()
    for query, found in (
        ({"tab": "attention"}, ["a"]),
        ({"state": "queued"}, ["b"]),
        ({"q": "b"}, ["b"]),
        ({"from": day, "to": day}, ["b", "a"]),
        ({"to": "2001-01-01"}, []),
    ):
        assert [each["title"] for each in program.get(JOBS, **query).json()["jobs"]] == found, query
    assert "“limit”" in sentence(program.get(JOBS, limit=1000), 422)


def test_a_long_poll_answers_when_the_version_is_another_one_and_else_when_its_time_is_over(program, job):
    path = f"{JOBS}/{job.pk}"
    version = program.get(path).json()["version"]
    assert program.get(path, wait=1, since=version).json()["version"] == version
    Job.objects.filter(pk=job.pk).update(note="Waiting for the workflow service.")
    changed = program.get(path, wait=60, since=version).json()
    assert changed["version"] != version and changed["note"] == "Waiting for the workflow service."


def test_verbs_answer_with_the_pages_sentences(program, job):
    path = f"{JOBS}/{job.pk}"
    assert "hasn’t started" in sentence(program.post(f"{path}/retry"), 409)
    assert "still running" in sentence(program.client.delete(path), 409)
    assert program.post(f"{path}/cancel", {"reason": "wrong file"}).json()["message"]
    assert [each["kind"] for each in program.get(f"{path}/events").json()["events"]] == [
        "submitted",
        "cancelled",
    ]
    assert program.client.delete(path).json() == {"message": "Deleted."}
    sentence(program.get(path), 404)


@pytest.mark.usefixtures("own_api")
@pytest.mark.django_db(transaction=True)
def test_an_upload_by_a_token_becomes_the_job_that_is_asked_for(program, grace):
    about = {"Upload-Metadata": tusclient.encoded(filename="holiday.wav", job="later")}
    created = tusclient.create(program.client, **about)
    url = created["Location"]
    upload = url.strip("/").rpartition("/")[2]
    assert tusclient.head(grace.client, url).status_code == 404
    body = {"upload": upload, "title": "Tune", "pipeline": "standard"}
    assert "isn’t complete" in sentence(program.post(JOBS, body), 409)
    done = tusclient.patch(program.client, url, tusclient.DATA, 0)
    assert done.status_code == 204 and "Mediapipe-Job" not in done and not Job.objects.exists()
    assert tusclient.offset(program.client, url) == tusclient.LENGTH
    sentence(grace.post(JOBS, body), 404)
    first = program.post(JOBS, body, **{"Idempotency-Key": "k"})
    again = program.post(JOBS, body, **{"Idempotency-Key": "k"})
    assert (first.status_code, again.status_code) == (201, 200), first.content
    assert Job.objects.get().title == "Tune"


def test_the_description_wants_no_token_and_names_problems_as_what_they_are():
    described = Client().get("/api/v1/openapi.json").json()
    created = described["paths"]["/api/v1/jobs"]["post"]
    assert list(created["responses"]["422"]["content"]) == ["application/problem+json"]
    assert described["components"]["schemas"]["NewJob"]["examples"][0]["url"]
    assert "Retry-After" in created["responses"]["429"]["headers"]


def test_pipelines_say_what_a_job_may_be_submitted_with(program):
    found = program.get("/api/v1/pipelines").json()["pipelines"]
    assert [each["name"] for each in found if each["default"]] == ["standard"]


def made(browser, **fields) -> str:
    """The text of a token that a person makes on the page."""
    page = browser.post(
        "/account/tokens/", {"name": "Ingest script", "scopes": ["read"], "days": "30", **fields}
    )
    assert page.status_code == 200 and "no-store" in page["Cache-Control"]
    return re.search(r'value="(mediapipe_[\w-]{43})"', page.content.decode())[1]


def test_a_token_is_made_on_ones_own_page_shown_once_and_dead_when_it_is_revoked(ada, chief, editor):
    text = made(ada)
    row = ApiToken.objects.get()
    assert (row.owner, row.scopes) == (editor, "read") and 29 < (
        row.expires_at - timezone.now()
    ).days + 1 <= 30
    client = Client(headers={"Authorization": f"Bearer {text}"})
    assert client.get(JOBS).status_code == 200
    again = ada.get("/account/tokens/").content.decode()
    assert "Ingest script" in again and text not in again
    assert "Ingest script" not in chief.get("/account/tokens/").content.decode()
    assert chief.post(f"/account/tokens/{row.pk}/revoke/").status_code == 404
    assert "is revoked" in ada.post(f"/account/tokens/{row.pk}/revoke/", follow=True).content.decode()
    sentence(client.get(JOBS), 401)


def test_a_token_without_a_name_or_a_scope_is_not_made(ada):
    page = ada.post("/account/tokens/", {"name": "", "days": "30"})
    assert page.status_code == 400 and b"Choose at least one." in page.content
    assert not ApiToken.objects.exists()


def test_a_person_who_is_signed_out_finds_no_tokens_and_the_account_page_leads_to_them(ada):
    assert Client().get("/account/tokens/").status_code == 302
    assert b"/account/tokens/" in ada.get("/password/").content
