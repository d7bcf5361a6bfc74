"""Fixtures: real Temporal servers, a job in the database, and where the shared media may be."""

from __future__ import annotations

import gc
import os
import shutil
import socket
import sys
import threading
import time
from importlib import import_module
from pathlib import Path

import httpx
import pytest
import respx
from django.core.management import call_command
from temporalio.testing import WorkflowEnvironment

from tests.support.environment import SHARED

BIN = Path(sys.executable).parent


def pytest_addoption(parser):
    """What only a person asks for."""
    parser.addoption("--save-histories", action="store_true", help="write tests/histories/ anew")


def pytest_collection_modifyitems(items):
    """The quick tests first, browsers last: Playwright keeps a loop running in the main thread."""
    items.sort(key=lambda item: ("whole" in item.keywords) + 2 * ("browser" in item.keywords))


@pytest.fixture(scope="session", autouse=True)
def _static_files():
    """Static files as they are served."""
    call_command("collectstatic", verbosity=0, interactive=False, skip_checks=True)


@pytest.fixture(scope="session")
def anyio_backend():
    """Async tests run on asyncio, by anyio's own plugin."""
    return "asyncio"


@pytest.fixture(scope="session")
async def skipping_env(anyio_backend):
    """Temporal's test server: a week passes in milliseconds. Cancels race in it: use dev_env for those."""
    env = await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=str(BIN / "temporal-test-server")
    )
    yield env
    await env.shutdown()


@pytest.fixture(scope="session")
async def dev_env(anyio_backend):
    """A real Temporal dev server, in memory."""
    env = await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(BIN / "temporal"),
        dev_server_extra_args=["--dynamic-config-value", "history.transferProcessorMaxPollRPS=1000"],
        dev_server_log_level="error",
    )
    yield env
    await env.shutdown()


@pytest.fixture(scope="session")
def product(tmp_path_factory):
    """The product, started once for all tests that use it whole."""
    from tests.support.product import Product

    running = Product(tmp_path_factory.mktemp("product") / "home").start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A maker of clips by FFmpeg: each name is made once."""
    from tests.support.engine import ffmpeg

    folder = tmp_path_factory.mktemp("made")

    def make(name: str, *arguments) -> Path:
        path = folder / name
        if not path.exists():
            ffmpeg(*arguments, path)
        return path

    return make


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
def _quick_passwords(settings):
    """Hashing that is made to be slow would be half the time of the quick tests."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def pytest_unconfigure(config):
    """The SDK's threads may crash a Python that ends at once (temporalio/sdk-python#300)."""
    gc.collect()
    time.sleep(0.4)
    home = os.environ["MEDIAPIPE_HOME"]
    if "mediapipe-test-" in home:
        shutil.rmtree(home, ignore_errors=True)


BROWSER = os.environ.get("MEDIAPIPE_BROWSER", "/usr/bin/chromium")


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args):
    if not BROWSER or (BROWSER != "playwright" and not Path(BROWSER).exists()):
        if os.environ.get("CI"):
            pytest.fail("There is no browser, and CI must have one.")
        pytest.skip("no browser")
    own = {} if BROWSER == "playwright" else {"executable_path": BROWSER}
    quiet = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
    return {**browser_type_launch_args, **own, "args": quiet}


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """A short film with sound."""
    from tests.support.product import make_clip

    real = SHARED / "media" / "dev" / "sample_iPod.m4v"
    return real if real.exists() else make_clip(tmp_path_factory.mktemp("clip") / "interview.mp4", 8)


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory):
    """A film that is at work for a while."""
    from tests.support.product import make_clip

    return make_clip(tmp_path_factory.mktemp("clip") / "council meeting.mp4", 60, "1920x1080")


@pytest.fixture(scope="session")
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
