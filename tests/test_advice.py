"""What a failed stage advises: a retry where one may help, and else who can do what."""

from __future__ import annotations

import ast
from pathlib import Path

import httpx
import pytest
from django.template.loader import render_to_string

from jobs.dashboard import advice
from jobs.dashboard.job_page import JobPage
from jobs.ittybit.replies import PERMANENT_KINDS, REFUSALS, IttybitError, Rejected, check_response
from jobs.live import Live
from jobs.models import Stage
from jobs.state import JobState
from mediapipe.engine import fetch
from mediapipe.engine.errors import FFMPEG_ERRORS
from tests.support.recorded import job

ROOT = Path(__file__).resolve().parents[1]
CALLS = ("TaskError", "Failure", "fail", "InvalidRequest")  # their first argument is a kind


def said(folder: str) -> set[str]:
    """The error kinds that the code of a folder names."""
    texts = [path.read_text() for path in (ROOT / folder).rglob("*.py")]
    calls = [
        node
        for text in texts
        if any(f"{name}(" in text for name in CALLS)  # each worker of a run reads this, and to parse costs
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)
    ]
    named = [call for call in calls if ast.unparse(call.func).rpartition(".")[2] in CALLS]
    return {str(call.args[0].value) for call in named if " " not in str(call.args[0].value)}


ENGINE = said("mediapipe") | {kind for _, kind, _ in FFMPEG_ERRORS} | set(fetch.ERROR_KINDS.values())
OURS = said("jobs/workflow") | {error.kind for error in (IttybitError, *IttybitError.__subclasses__())}
ADVISED = advice.SOURCE | advice.ADMIN | advice.RETRY_ADVICE
KINDS = sorted(PERMANENT_KINDS | ENGINE | OURS | set(REFUSALS.values()) | set(ADVISED))


def test_the_kinds_are_all_found():
    assert {"damaged", "no_space", "killed", "source_unreachable", "format_unsupported"} <= ENGINE
    assert {"stalled", "timeout", "no_output", "worker_lost", "busy", "refused", "unreachable"} <= OURS


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_error_has_its_own_advice_and_only_what_a_retry_may_help_is_to_be_retried(kind):
    known = [table for table in (advice.SOURCE, advice.ADMIN, advice.RETRY_ADVICE) if kind in table]
    assert len(known) == 1, "no advice, or two"
    editors, admins = advice.next_step(kind), advice.next_step(kind, admin=True)
    for told in (editors, admins):
        assert ("retry" in told.lower()) is (kind not in PERMANENT_KINDS), told
        assert told.endswith(".")
    assert "ITTYBIT" not in editors and "manage.py" not in editors
    assert "admin" not in admins.lower()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, {"kind": "token_invalid", "message": "Invalid API key"}, "token_invalid"),
        (401, {"message": "Unauthorized"}, "token_invalid"),
        (402, {"kind": "no_credits"}, "payment_required"),
        (403, {"kind": "project_required"}, "project_required"),
        (403, {}, "refused"),
        (400, {"kind": "invalid_input", "message": "input must be an object"}, "request_invalid"),
        (400, {"kind": "format_unsupported"}, "format_unsupported"),
        (422, {"detail": []}, "request_invalid"),
        (405, {}, "refused"),
    ],
)
def test_a_refused_request_is_never_blamed_on_the_file(status, body, kind):
    with pytest.raises(Rejected) as error:
        check_response(httpx.Response(status, json=body))
    assert error.value.kind == kind and error.value.permanent
    told = advice.next_step(kind).lower()
    assert "admin" in told and "retry" not in told and "upload" not in told


@pytest.mark.django_db
def test_an_admin_is_told_what_to_set_and_an_editor_whom_to_ask(editor):
    mine = job(editor, state=JobState.ATTENTION)
    failed = {
        "state": "failed",
        "error": "The engine answered 402: No credits.",
        "error_kind": "payment_required",
    }
    Stage.objects.filter(job=mine, name="ingest").update(**failed)
    page = JobPage(mine, Live(mine.status()))
    stage = page.stages[0]
    for staff in (True, False):
        context = {"job": mine, "page": page, "stage": stage, "user": {"is_staff": staff}}
        shown = " ".join(render_to_string("jobs/_error.html", context).split())
        assert ("Add credits to the Ittybit account" in shown) is staff
        assert ("Ask an admin to add credits" in shown) is not staff
