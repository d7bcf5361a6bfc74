"""The code before a migration on today's tables: beside them while a new version comes, and gone back to."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import httpx
import pytest

from jobs.findings import Finding
from jobs.models import Job, Stage
from jobs.state import Attempt, Output
from tests.support.dashboard import settled
from tests.support.product import (
    CALM,
    ROOT,
    SIGNED_IN,
    Product,
    hashed_password,
    make_clip,
    token,
)

OF_NO_TABLE = {"AddIndex", "RemoveIndex", "RunPython", "Migration", "swappable_dependency"}


def git(*arguments: str) -> str:
    """What git prints; nothing where it can't tell."""
    return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True).stdout


def changes_of_tables() -> list[str]:
    """The commits that brought a migration which changes more than indexes, the newest first."""
    commits, found = (
        git("log", "--diff-filter=A", "--format=:%H", "--name-only", "--", "*/migrations/0*.py"),
        [],
    )
    for commit, *files in (block.split() for block in commits.split(":")[1:]):
        texts = [git("show", f"{commit}:{file}") for file in files]
        if set(re.findall(r"migrations\.(\w+)\b", " ".join(texts))) - OF_NO_TABLE:
            found.append(commit)
    return found


class Before(Product):
    """The product of the code before *commit*, by the environment that it asks for."""

    def __init__(self, home: Path, commit: str, folder: Path) -> None:
        if not (parent := git("rev-parse", "--verify", "--quiet", f"{commit}^").strip()):
            pytest.skip("This clone doesn’t have the history that the code of before is taken from.")
        folder.mkdir()
        archive = subprocess.run(["git", "-C", ROOT, "archive", parent], capture_output=True, check=True)
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        self.manage = [sys.executable, str(folder / "manage.py")]
        same = (folder / "requirements.txt").read_bytes() == (ROOT / "requirements.txt").read_bytes()
        own = {"MEDIAPIPE_NO_VENV": "1"} if same else {}
        super().__init__(
            home, PYTHONPATH=str(folder), **own
        )  # 0.1 looked for itself in the folder it was given in


@contextmanager
def started(product: Product):
    """A browser of somebody's, until the product is stopped, in which nothing went wrong."""
    product.start(prepared=False, patience=300)  # it may install what it needs
    try:
        code = SIGNED_IN.format(name="ada", staff=True, password=hashed_password())
        done = product.script("shell", "-c", code)
        assert done.returncode == 0, done.stderr
        with httpx.Client(base_url=product.url, trust_env=False, timeout=30) as browser:
            browser.cookies.set("sessionid", done.stdout.split()[-1], domain="127.0.0.1")
            yield browser
    finally:
        product.stop()
    assert "Traceback" not in product.log.read_text(), product.log.read_text()


def submit(browser: httpx.Client, clip: Path) -> str:
    """The id of a job by the form."""
    form = {"csrfmiddlewaretoken": token(browser.get("/jobs/new/")), "title": clip.stem}
    sent = browser.post("/jobs/new/", data=form, files={"file": (clip.name, clip.read_bytes())})
    return re.search(r"/jobs/([0-9a-f-]{36})/", sent.headers["location"])[1]


def all_succeed(browser: httpx.Client, jobs: list[str], *lists: str) -> None:
    """Each of them comes to its end, and every page has them."""
    for job in jobs:
        assert settled(browser, job)["status"] == "succeeded"
        page = browser.get(f"/jobs/{job}/")
        assert page.status_code == 200 and "<h1" in page.text
    for page in ("/", "/history/", *lists):
        answer = browser.get(page)
        assert answer.status_code == 200 and all(f"/jobs/{job}/" in answer.text for job in jobs), page


def jobs_while_tables_come(old: Product, new: Product, clip: Path) -> list[str]:
    """Two jobs of the old code: under its own tables the one begins, under today's both end."""
    with started(old) as browser:
        jobs = [submit(browser, clip)]
        migrated = new.script("migrate")
        assert migrated.returncode == 0, migrated.stderr
        jobs.append(submit(browser, clip))
        all_succeed(browser, jobs)
    return jobs


def one_more(product: Product, clip: Path, jobs: list[str], *lists: str) -> None:
    """Started, the product has all *jobs*, and makes another."""
    with started(product) as browser:
        all_succeed(browser, jobs, *lists)
        jobs.append(submit(browser, clip))
        all_succeed(browser, jobs)


@pytest.fixture
def clip(tmp_path):
    return make_clip(tmp_path / "film.mp4", 2, "320x180", *CALM)


@pytest.mark.whole
@pytest.mark.release
@pytest.mark.timeout(600)
@pytest.mark.parametrize("back", [1, 3])
def test_the_code_before_a_migration_works_on_beside_it_and_can_be_gone_back_to(back, clip, tmp_path):
    commits = [*changes_of_tables(), "", "", ""]  # a shallow clone has fewer
    old, new = Before(tmp_path / "home", commits[back - 1], tmp_path / "old"), Product(tmp_path / "home")
    jobs = jobs_while_tables_come(old, new, clip)
    for product in (new, old, new):
        one_more(product, clip, jobs, "/?q=film&sort=title")


@pytest.mark.whole
@pytest.mark.release
@pytest.mark.timeout(600)
def test_the_last_release_works_on_while_todays_tables_come(clip, tmp_path):
    first = git("log", "--diff-filter=A", "--format=%H", "--", "jobs/migrations/0002_*.py").strip()
    old, new = Before(tmp_path / "home", first, tmp_path / "old"), Product(tmp_path / "home")
    one_more(new, clip, jobs_while_tables_come(old, new, clip))


@pytest.mark.django_db
def test_what_a_newer_version_has_recorded_besides_is_left_out():
    more = {"of_a_newer_version": 1}
    finding = asdict(Finding(text="silence"))
    output = {**asdict(Output(name="a.mp4")), "source": {**asdict(Output()), **more}, **more}
    recorded = {**output, "findings": [{**finding, **more}]}
    attempts = [{**asdict(Attempt(1, 5.0)), **more}]
    stage = Stage(job=Job(), name="check", output=recorded, attempts=attempts)
    status = stage.status()
    assert status.output == Output(name="a.mp4", source=Output(), findings=[Finding(text="silence")])
    assert status.attempts == [Attempt(1, 5.0)]
