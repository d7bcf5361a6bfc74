"""The log: what strangers send doesn't fill it, and what went wrong in us stands there whole."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import uuid
import warnings
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from structlog.contextvars import bound_contextvars, get_contextvars
from temporalio import activity, workflow
from temporalio.client import Client as Temporal
from temporalio.worker import Worker
from temporalio.worker._activity import _ActivityWorker

from mediapipe import at_work, log

pytestmark = pytest.mark.django_db
LONG = "/static/" + "a\r\nb" * 5000


@pytest.fixture
def written():
    """What goes to stderr, by the very filters of the settings."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    names = settings.LOGGING["handlers"]["stderr"]["filters"]
    assert [settings.LOGGING["filters"][name]["()"] for name in names] == ["mediapipe.log.Limits"]
    handler.addFilter(log.Limits())
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


def test_whatever_a_stranger_sends_is_a_short_line_without_a_traceback(written):
    client = Client()
    client.get(LONG)
    client.get("/", headers={"Host": "evil.example" * 2000})
    client.get("/", query_params={f"field{number}": "" for number in range(1500)})
    lines = written.getvalue().splitlines()
    assert len(lines) >= 3 and max(map(len, lines)) < 400, lines
    assert "Traceback" not in written.getvalue()


def test_only_so_many_a_minute_are_kept_and_what_was_left_out_is_said_and_an_error_of_ours_is_whole(written):
    filter_ = log.Limits()
    record = logging.LogRecord("django.security.csrf", logging.WARNING, "", 0, "no", (), None)
    kept = [filter_.filter(record) for _ in range(log.MAX_PER_MINUTE[log.REFUSED] + 7)]
    assert kept == [True] * log.MAX_PER_MINUTE[log.REFUSED] + [False] * 7
    record.created += 60
    assert filter_.filter(record) and record.getMessage() == "no (and 7 such lines before it)"
    try:
        raise LookupError("ours")
    except LookupError:
        logging.getLogger("django.request").error("broken", exc_info=True, extra={"status_code": 500})
    assert "Traceback" in written.getvalue() and "LookupError: ours" in written.getvalue()


def test_while_the_database_is_away_a_night_of_requests_writes_a_few_lines_a_minute(written):
    """Each request wrote ninety lines, and each try to reach it two."""
    try:
        raise LookupError("no connection")
    except LookupError:
        why = sys.exc_info()
    for number in range(200):
        for name, text, status, error in (
            ("psycopg.pool", "error connecting in 'pool-1'", 0, None),
            ("django.request", f"Service Unavailable: /jobs/{number}/", 503, why),
        ):
            record = logging.LogRecord(name, logging.ERROR, "", 0, text, (), error)
            record.created, record.status_code = 0.0, status
            logging.getLogger(name).handle(record)
    said = written.getvalue()
    assert len(said.splitlines()) < 30 and said.count("error connecting") == 6
    assert said.count("Service Unavailable: /jobs/") == 6
    assert said.count("LookupError: no connection") == 1, (
        "of the first it is said whole: it may be our mistake"
    )


@pytest.fixture
def formatted():
    """A logger of its own in the given form, and what it has written by now."""
    lines = io.StringIO()

    def begin(as_json: bool) -> logging.Logger:
        handler = logging.StreamHandler(lines)
        handler.setFormatter(log.formatter(as_json=as_json))
        logger = logging.Logger("jobs.example")
        logger.addHandler(handler)
        return logger

    return begin, lines


def test_a_line_for_people_says_when_and_whose_it_is_and_stays_one_line(formatted):
    begin, lines = formatted
    logger = begin(as_json=False)
    with bound_contextvars(job="0a1b", activity="ingest"):
        logger.warning("waits for %s", "stor\nage")
    when, line = lines.getvalue().split(" ", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", when)
    assert line == "WARNING jobs.example: waits for stor age [activity=ingest job=0a1b]\n"


def test_a_line_for_machines_is_a_json_object_with_its_traceback(formatted):
    begin, lines = formatted
    logger = begin(as_json=True)
    try:
        raise ValueError("ünïcode")
    except ValueError:
        with bound_contextvars(request="r1"):
            logger.exception("it broke")
    found = json.loads(lines.getvalue())
    assert {**found, "time": "", "exception": ""} == {
        "event": "it broke",
        "request": "r1",
        "level": "error",
        "logger": "jobs.example",
        "time": "",
        "exception": "",
    }
    assert "ValueError: ünïcode" in found["exception"] and found["time"].endswith("Z")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("a-proxys.id-1", True), ("short", False), ("two\nlines-long", False), ("x" * 65, False)],
)
def test_an_answer_carries_the_id_of_its_lines_and_a_proxys_only_where_it_is_one(client, sent, kept):
    answer = client.get("/healthz", headers={"X-Request-ID": sent})
    assert (answer["X-Request-ID"] == sent) is kept
    assert re.fullmatch(r"[\w.-]{8,64}", answer["X-Request-ID"])


def test_the_access_log_names_views_and_no_path_that_opens_something(client, caplog):
    with caplog.at_level("INFO", "mediapipe.web.requests"):
        client.get("/no/such/secret-path?token=s3cret")
        client.get("/healthz?token=s3cret")
    lines = [record.getMessage() for record in caplog.records if record.name == "mediapipe.web.requests"]
    assert [re.sub(r"\d+ ms", "1 ms", line) for line in lines] == [
        "GET ? 404 in 1 ms",
        "GET healthz 200 in 1 ms",
    ]


@workflow.defn(sandboxed=False)
class OneActivity:
    @workflow.run
    async def run(self) -> Any:
        return await workflow.execute_activity("ingest", start_to_close_timeout=timedelta(seconds=30))


@pytest.mark.anyio
async def test_a_line_of_an_activity_names_its_job(dev_env):
    @activity.defn(name="ingest")
    async def ingest() -> dict[str, Any]:
        return get_contextvars()

    config = dev_env.client.config()
    client = Temporal(**{**config, "interceptors": [at_work.Activities()]})
    queue, job = f"log-{uuid.uuid4()}", str(uuid.uuid4())
    async with Worker(client, task_queue=queue, activities=[ingest], workflows=[OneActivity]):
        found = await client.execute_workflow(OneActivity.run, id=f"media-{job}", task_queue=queue)
    assert found == {"job": job, "activity": "ingest", "attempt": 1}


def test_a_cancel_that_comes_when_its_activity_has_just_ended_is_no_line():
    """Several of a hundred jobs had one, in bytes, over two lines, without a time."""
    nothing_runs = SimpleNamespace(_running_activities={})
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        _ActivityWorker._handle_cancel_activity_task(nothing_runs, b"token", None)
        log.leave_out_late_cancels()
        _ActivityWorker._handle_cancel_activity_task(nothing_runs, b"another", None)
    assert len(said) == 1
