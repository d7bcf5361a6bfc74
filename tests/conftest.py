"""Fixtures: real Temporal servers, the product as processes, clips, people and their browsers."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import sys
import threading
from contextlib import ExitStack
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import httpx
import pytest
import respx
from django.conf import settings
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from jobs.workflow import search_attributes
from mediapipe import temporal
from mediapipe.engine import pieces, worker
from mediapipe.engine.workflows import HEAVY_QUEUE, LIGHT_QUEUE, EngineTaskWorkflow
from mediapipe.management.dev_server import DYNAMIC_CONFIG
from mediapipe.storage import s3
from tests.support.bucket import KEY, SECRET, Bucket
from tests.support.environment import RUN
from tests.support.product import migrated

BIN = Path(sys.executable).parent


@pytest.fixture(scope="session", autouse=True)
def _static_files():
    """Static files as they are served: gathered once for all workers of a run."""
    from mediapipe.management.commands.web import collect_static

    with open(RUN / "static.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        collect_static()
    # Each of Django's test clients builds the middleware anew: without this, each reads every static file.
    settings.WHITENOISE_AUTOREFRESH = True


@pytest.fixture(scope="session")
def django_db_keepdb(django_db_modify_db_settings):
    """Each worker's database is a copy of one that has its tables: they are made once in a run."""
    shutil.copy(migrated(RUN / "migrated"), settings.DATABASES["default"]["TEST"]["NAME"])
    return True


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    """A database whose permissions, groups and pipelines are put back after each flush, not made anew.

    A flush empties the audit log too, which the database refuses otherwise.
    """
    from django.apps import apps
    from django.contrib.auth.models import Group, Permission
    from django.contrib.contenttypes.models import ContentType
    from django.db import connection
    from django.db.models.signals import post_migrate

    from jobs.models import Pipeline, PipelineVersion
    from mediapipe.accounts import audit

    tables = (ContentType, Permission, Group, Group.permissions.through, Pipeline, PipelineVersion)
    with django_db_blocker.unblock():
        kept = [(table, list(table.objects.all())) for table in tables]
        with connection.cursor() as cursor:
            for on in ("UPDATE", "DELETE"):
                cursor.execute(f"DROP TRIGGER {audit.NAME}_{on}")

    def put_back(**_):
        for table, rows in kept:
            table.objects.bulk_create(rows)

    post_migrate.receivers = []
    post_migrate.connect(put_back, sender=apps.get_app_config("auth"), weak=False)


@pytest.fixture(scope="session")
def anyio_backend():
    """Async tests run on asyncio, by anyio's own plugin."""
    return "asyncio"


@pytest.fixture(scope="session")
async def skipping_env(anyio_backend):
    """Temporal's test server: a week passes in milliseconds. Cancels race in it: use dev_env for those."""
    from tests.support.world import start_skipping

    env = await start_skipping()
    yield env
    await env.shutdown()


@pytest.fixture(scope="session")
async def dev_env(anyio_backend):
    """A real Temporal dev server, in memory, that knows our search attributes."""
    env = await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(BIN / "temporal"),
        dev_server_extra_args=list(DYNAMIC_CONFIG),
        search_attributes=search_attributes.KEYS,
        dev_server_log_level="error",
    )
    yield env
    await env.shutdown()


@pytest.fixture
def temporal_at():
    """Where this process looks for Temporal, until the test ends: after it nowhere, as before."""

    def move(address: str) -> None:
        os.environ["TEMPORAL_ADDRESS"] = address
        temporal._clients.clear()

    before = os.environ["TEMPORAL_ADDRESS"]
    yield move
    move(before)


@pytest.fixture(scope="session")
def product(tmp_path_factory):
    """The product, started once for all tests that use it whole."""
    from tests.support.product import Product, free_port

    metrics = f"127.0.0.1:{free_port()}"
    running = Product(tmp_path_factory.mktemp("product") / "home", MEDIAPIPE_METRICS_ADDRESS=metrics).start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def faulty():
    """The server behind `api`."""
    from tests.support.faulty_api import FaultyApi

    with FaultyApi() as api:
        yield api


@pytest.fixture(scope="session")
def unwatched():
    """Another one, of which no product asks anything beside a test."""
    from tests.support.faulty_api import FaultyApi

    with FaultyApi() as server:
        yield server


@pytest.fixture
def api(request):
    """An API of somebody else's that behaves, until a test says otherwise, and that only it asks.

    But for browsers' tests: what those script, and count, is a task's own.
    """
    from tests.support.dashboard import end_all

    watched = "cloud" in request.fixturenames
    server = request.getfixturevalue("faulty" if watched else "unwatched")
    server.behave()
    if watched and "browser" not in request.keywords:
        end_all(request.getfixturevalue("cloud"), server)
    return server


@pytest.fixture(scope="session")
def cloud(tmp_path_factory, faulty):
    """The product with that API for its engine: its jobs cost nothing and last as long as a test says."""
    from tests.support.product import Product

    home = tmp_path_factory.mktemp("cloud") / "home"
    cloud = Product(home, ITTYBIT_API_KEY="the-clouds-own-key", ITTYBIT_API_URL=faulty.url)
    cloud.environment["MEDIAPIPE_PUBLIC_URL"] = cloud.url
    yield cloud.start()
    cloud.stop()


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A maker of clips by FFmpeg: what was made of the same arguments, by whichever test, is there."""
    from tests.support.engine import ffmpeg

    folder = tmp_path_factory.mktemp("made")

    def make(name: str, *arguments) -> Path:
        path = folder / hashlib.sha256(repr(arguments).encode()).hexdigest()[:12] / name
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            ffmpeg(*arguments, path)
        return path

    return make


@pytest.fixture
def short_pieces(monkeypatch):
    """Pieces of two seconds, whatever the machine, and of a film of six already."""
    monkeypatch.setattr(pieces, "WORK", 0.001)
    monkeypatch.setattr(pieces, "MIN_PIECES", 3)


@pytest.fixture
async def engine_workers(dev_env, temporal_at):
    """A worker of each of the engine's queues of encodes; their client."""
    client = dev_env.client
    temporal_at(client.service_client.config.target_host)
    activities = [worker.run_task, worker.encode_piece, worker.join_pieces]
    heard = timedelta(milliseconds=500)
    one = {"activities": activities, "max_concurrent_activities": 1, "max_heartbeat_throttle_interval": heard}
    light = Worker(client, task_queue=LIGHT_QUEUE, **one)
    async with light, Worker(client, task_queue=HEAVY_QUEUE, workflows=[EngineTaskWorkflow], **one):
        yield client


@pytest.fixture
def bucket(settings, tmp_path, monkeypatch):
    """This process' storage: a bucket that isn't there yet."""

    def forget():
        for cached in (s3.storage.cache_clear, s3.base.cache_clear, s3._urls.clear):
            cached()

    bucket = Bucket(tmp_path / "s3")
    settings.S3_BUCKET, settings.S3_REGION, settings.S3_ENDPOINT_URL = "media", "us-east-1", bucket.url
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    forget()
    yield bucket
    bucket.kill()
    forget()


@pytest.fixture
def listener():
    """The port of a server that nothing may connect to, and who did."""
    seen: list[object] = []
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.2)
    stop = threading.Event()

    def listen() -> None:
        while not stop.is_set():
            try:
                connection, address = server.accept()
            except TimeoutError:
                continue
            seen.append(address)
            connection.close()

    thread = threading.Thread(target=listen)
    thread.start()
    yield server.getsockname()[1], seen
    stop.set()
    thread.join()
    server.close()


@pytest.fixture
def editor(django_user_model):
    """A person who is not staff."""
    return django_user_model.objects.create_user("ada", password="correct horse battery")


@pytest.fixture
def ada(editor):
    """Her browser."""
    from django.test import Client

    client = Client()
    client.force_login(editor)
    return client


@pytest.fixture
def chief(django_user_model):
    """The browser of somebody who may do everything."""
    from django.test import Client

    client = Client()
    client.force_login(django_user_model.objects.create_superuser("chief", "", "x"))
    return client


@pytest.fixture(autouse=True)
def _own_media(settings, tmp_path):
    """Each test has its own media and work folders."""
    settings.MEDIA_ROOT = tmp_path / "media"
    settings.WORK_ROOT = tmp_path / "work"


@pytest.fixture
def own_api(settings):
    """What is sent to this installation's own address is answered by its application, in this process."""
    inside = httpx.ASGITransport(import_module("mediapipe.asgi").application)

    async def answer(request: httpx.Request) -> httpx.Response:
        response = await inside.handle_async_request(request)
        return httpx.Response(response.status_code, headers=response.headers, content=await response.aread())

    with respx.mock(assert_all_called=False) as router:
        yield router.route(url__startswith=f"{settings.LOCAL_URL}/").mock(side_effect=answer)


@pytest.fixture(autouse=True)
def _counts_of_its_own(monkeypatch):
    """What an earlier test has counted, searched for or heard of Temporal just before counts for no other."""
    from jobs import reconcile
    from jobs.dashboard import counting, polling, saved_views
    from jobs.fleet import pausing
    from mediapipe.engine import queue

    monkeypatch.setattr("jobs.gauges.ENDED_SECONDS", 0.0)
    monkeypatch.setattr(polling, "MAX_AGE", 1e9)  # or a minute that ends in a test renders anew
    heard = (queue._described, queue._missed, queue._unpolled, pausing._held, reconcile._unknown)
    for known in (counting._newest, polling._made, saved_views._known, *heard):
        known.clear()


@pytest.fixture(autouse=True)
def _quick_passwords(settings):
    """Hashing that is made to be slow would be half the time of the quick tests."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


BROWSER = os.environ.get("MEDIAPIPE_BROWSER", "/usr/bin/chromium-headless-shell")


UNSAFE = "DJANGO_ALLOW_ASYNC_UNSAFE"
running = ExitStack()  # Playwright and its Chromium, while browser tests follow one another


@pytest.fixture(scope="module")
def browser():
    """A Chromium, for all browser tests that follow one another: to start it costs as much as a test."""
    if not BROWSER or (BROWSER != "playwright" and not Path(BROWSER).exists()):
        if os.environ.get("CI"):
            pytest.fail("There is no browser, and CI must have one.")
        pytest.skip("no browser")
    from playwright.sync_api import sync_playwright

    if not hasattr(running, "browser"):
        program = None if BROWSER == "playwright" else BROWSER
        quiet = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
        os.environ[UNSAFE] = "true"  # Playwright's loop runs in the thread that asks the database
        running.callback(os.environ.pop, UNSAFE, None)
        chromium = running.enter_context(sync_playwright()).chromium
        running.browser = chromium.launch(executable_path=program, args=quiet)
        running.callback(delattr, running, "browser")
        running.callback(running.browser.close)
    yield running.browser
    if not running.goes_on:  # what the session holds may need a loop of its own to end
        running.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    """Ends the browser before a test without one: until Playwright stops its loop runs in this thread."""
    running.goes_on = nextitem is not None and "browser" in nextitem.keywords
    try:
        return (yield)
    finally:
        if not running.goes_on:
            running.close()


@pytest.fixture
def context(browser):
    """A fresh profile of that browser."""
    from tests.support.browsing import PATIENCE

    context = browser.new_context(reduced_motion="reduce")  # what moves is drawn sixty times a second
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """A short film with sound."""
    from tests.support.product import make_clip

    return make_clip(tmp_path_factory.mktemp("clip") / "interview.mp4", 6, "640x360")


@pytest.fixture(scope="module")
def cookies(product):
    """An editor's, for a browser's context."""
    from tests.support.browsing import cookies_of

    return cookies_of(product, "maria")


@pytest.fixture
def page(context, cookies):
    """A signed-in editor's page; what the console or the policy complains about fails the test."""
    from tests.support.browsing import watched

    context.add_cookies(cookies)
    with watched(context.new_page()) as page:
        yield page
