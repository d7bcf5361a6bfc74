"""Secrets stay where they are kept: after a run none is in a log, command line, page or Temporal history."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections import Counter
from itertools import count

import pytest

from tests.support.dashboard import URL, settled, submit
from tests.support.home import arguments, open_parts, processes, where
from tests.support.product import PASSWORD, make_clip, token

pytestmark = pytest.mark.whole
FIRST_LOOKS = 60  # three seconds of a process, and more where the machine is slow
# Where the product itself keeps them, and what runs into them on purpose.
KEPT = ("secret_key", "engine_key", "first_password", "sign_in_link", "mediapipe.sqlite3", "media", "work")


@pytest.fixture
def seen():
    """What the command lines of all processes were while the test ran."""
    lines: set[bytes] = set()
    looks: Counter[str] = Counter()  # at each process: one that is young twenty times a second, others once
    stop = threading.Event()

    def look() -> None:
        for number in count():
            if stop.wait(0.05):
                return
            due = [pid for pid in processes() if looks[pid] < FIRST_LOOKS or number % 20 == 0]
            looks.update(due)
            lines.update(map(arguments, due))

    thread = threading.Thread(target=look)
    thread.start()
    yield lines
    stop.set()
    thread.join()


def stored(home) -> dict[str, str]:
    """The secrets that the home keeps in files."""
    kept = {name: (home / name).read_text().strip() for name in KEPT[:3]}
    return {**kept, "sign-in link": (home / "sign_in_link").read_text().strip().rsplit("/", 2)[1]}


def hooks(home, job: str) -> dict[str, str]:
    """The tokens by which the engine tells of a job's tasks, and the sessions of who has signed in.

    Of this job alone: each is looked for in all of Temporal's database, and other tests leave hundreds.
    """
    with sqlite3.connect(f"file:{home}/mediapipe.sqlite3?mode=ro", uri=True) as rows:
        urls = [
            url
            for (url,) in rows.execute(
                "select webhook_url from engine_enginetask where json_extract(metadata, '$.job') = ?", [job]
            )
            if url and "/hooks/" in url
        ]
        keys = [key for (key,) in rows.execute("select session_key from accounts_session")]
    return {f"hook {n}": url.rstrip("/").rsplit("/", 1)[1] for n, url in enumerate(urls)} | {
        f"session {n}": key for n, key in enumerate(keys)
    }


def places(product, job: str, api_token: str) -> dict[str, bytes]:
    """Whatever people and programs of other users could come to read."""
    found = {"log": product.log.read_bytes()}
    for path in product.home.iterdir():
        if path.is_file() and not path.name.startswith(KEPT):
            found[path.name] = path.read_bytes()
    browser, staff = product.editor(), product.editor("root", staff=True)
    for page in ("", "jobs/new/", f"jobs/{job}/", f"jobs/{job}/json/", "account/tokens/", "password/"):
        found[page or "list"] = browser.get(f"/{page}").content
    for page in ("history/", "people/", f"jobs/{job}/", "admin/", "admin/jobs/job/", "readyz", "login/"):
        found[f"{page} for staff"] = staff.get(f"/{page}").content
    if api_token:
        bearer = {"Authorization": f"Bearer {api_token}"}
        found["api"] = browser.get(f"/api/v1/jobs/{job}", headers=bearer).content
    found["status"] = product.command("status", job).stdout.encode()
    return found


def test_no_secret_is_in_a_log_a_command_line_a_page_or_a_history(product, tmp_path, seen):
    browser = product.editor()
    form = {"name": "script", "scopes": ["read"], "days": "30"}
    form["csrfmiddlewaretoken"] = token(browser.get("/account/tokens/"))
    api_token = re.search(r'value="(mediapipe_[^"]+)"', browser.post("/account/tokens/", data=form).text)[1]
    clip = make_clip(tmp_path / "short.mp4", 2, "320x240")
    job = submit(product, clip, "--owner", "ada")
    assert settled(browser, job)["status"] == "succeeded"
    product.sign_in("ada")
    secrets = {
        **stored(product.home),
        **hooks(product.home, job),
        "API token": api_token,
        "password": PASSWORD,
    }
    assert {"hook 0", "session 0"} <= set(secrets) and all(map(len, secrets.values()))
    read = places(product, job, api_token)
    assert all(name in read for name in ("temporal.sqlite3", "temporal.sqlite3-wal", "addresses.json"))
    assert job.encode() in read["temporal.sqlite3"] + read["temporal.sqlite3-wal"], "histories are legible"
    assert any(b"ffmpeg" in line for line in list(seen)), "encoders were seen"
    assert not where(secrets, {**read, "command lines": b"\n".join(seen)})
    rows = {
        name: (product.home / name).read_bytes() for name in ("mediapipe.sqlite3", "mediapipe.sqlite3-wal")
    }
    written = {name: secrets[name] for name in (*KEPT[:3], "sign-in link", "API token", "password")}
    assert not where(written, rows), "of a secret that opens something the database has at most a digest"
    assert not open_parts(product.home)


def test_the_clouds_key_is_nowhere_but_in_what_it_is_sent(cloud, seen):
    key = cloud.environment["ITTYBIT_API_KEY"]
    browser = cloud.editor()
    job = submit(cloud, URL, "--owner", "ada")
    settled(browser, job)
    found = {**places(cloud, job, ""), "command lines": b"\n".join(seen)}
    rows = {path.name: path.read_bytes() for path in cloud.home.glob("mediapipe.sqlite3*")}
    assert not where({"key": key}, found | rows)
