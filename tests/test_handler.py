"""The ASGI handler: views that await stay with Django's own, and no list of paths can forget one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import iscoroutinefunction
from django.http import HttpResponse
from django.urls import URLPattern, get_resolver, reverse
from django.urls.converters import IntConverter

from mediapipe.web import handler
from tests.support.product import ROOT

PK = uuid.UUID(int=7)
GIVEN = {"pk": PK, "person": 1, "number": 1, "name": "ingest", "mark": "0" * 16}
GIVEN |= {"token": "forged", "resource": "tasks", "task_id": "task_1"}


def own_patterns():
    """Every URL of the dashboard and of the installation, with its name; the back office awaits nothing."""
    for pattern in get_resolver().url_patterns:
        if isinstance(pattern, URLPattern):
            yield pattern, str(pattern.name)
        elif pattern.namespace == "jobs":
            for inner in pattern.url_patterns:
                yield inner, f"jobs:{inner.name}"


def test_a_view_is_awaited_if_and_only_if_it_is_a_coroutine_or_streams():
    seen = set()
    for pattern, name in own_patterns():
        known = pattern.pattern.converters.items()
        given = {key: 1 if isinstance(kind, IntConverter) else GIVEN[key] for key, kind in known}
        path = reverse(name, kwargs=given)
        view = pattern.callback
        assert handler.awaits(path) is (iscoroutinefunction(view) or hasattr(view, "streams")), path
        seen.add(handler.awaits(path))
    assert seen == {True, False}


def test_threads_that_are_busy_keep_the_loop_from_its_connections_for_a_moment_only():
    """In processor time, of which other programs take none: what ran before the loop had its turn."""
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            sum(range(200))

    handler.Handler()
    with ThreadPoolExecutor(8) as threads:
        for _ in range(8):
            threads.submit(busy)
        waits = []
        for _ in range(60):
            time.sleep(0.002)
            began = time.process_time()
            time.sleep(0)  # gives the interpreter away, and wants it back
            waits.append(time.process_time() - began)
        stop.set()
    assert sorted(waits)[30] < 0.01, waits


@pytest.mark.anyio
async def test_who_sends_hundreds_of_requests_at_once_waits_for_themselves_and_nobody_else_does():
    gate, begun = threading.Event(), []

    class Slow(handler.Handler):
        def answer(self, scope, body):
            body.close()
            begun.append(scope["client"][0])
            assert scope["client"][0] == "192.0.2.2" or gate.wait(30)
            return HttpResponse("ok")

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        pass

    slow = Slow()

    def ask(address: str) -> asyncio.Task:
        scope = {"type": "http", "path": "/healthz", "client": (address, 1)}
        return asyncio.create_task(slow(scope, receive, send))

    many = [ask("192.0.2.1") for _ in range(200)]
    try:
        async with asyncio.timeout(20):
            await ask("192.0.2.2")
        assert begun.count("192.0.2.1") <= handler.AT_ONCE < handler.THREADS
    finally:
        gate.set()
    await asyncio.gather(*many)
    assert begun.count("192.0.2.1") == 200 and not slow.turns, "each had its turn, and nothing is kept"


@pytest.mark.slow
def test_what_is_loaded_at_the_start_is_looked_through_by_no_collection():
    code = "import mediapipe.asgi, gc; print(gc.get_freeze_count() > 100_000, len(gc.get_objects()) < 5000)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "True True\n", done.stdout + done.stderr


@pytest.mark.parametrize(
    ("path", "awaited"),
    [
        *(("/uploads/", True), (f"/uploads/{PK}/", True), (f"/uploads/{PK}/run/", True)),
        *(("/media/outputs/x.mp4", True), ("/static/mediapipe.css", True), ("/readyz", True)),
        *(("/ittybit/tasks", True), ("/ittybit/jobs/job_1", False), ("/ittybit/probe", True)),
        *(("/hooks/ittybit/token", True), ("/history/jobs.csv", True)),
        *(("/", False), ("/jobs/new/", False), ("/jobs/rows/", False), ("/history/", False)),
        *(("/admin/jobs/job/", False), ("/login/", False), ("/healthz", False), ("/nothing/here", False)),
    ],
)
def test_bodies_files_and_clusters_are_awaited_and_pages_run_in_one_thread(path, awaited):
    assert handler.awaits(path) is awaited


def test_a_task_is_read_in_one_thread_and_cancelled_as_long_as_that_takes():
    assert [handler.awaits("/ittybit/tasks/task_1", method) for method in ("GET", "DELETE")] == [False, True]
