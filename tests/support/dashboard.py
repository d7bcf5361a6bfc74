"""What a person does and sees in the running product: submit, look, kill a process, read the timeline."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from uuid import UUID

import httpx

from tests.support.product import until

URL = "http://127.0.0.1:9/film.mp4"  # a source that only an API of somebody else's would fetch


def submit(product, source, *extra: str) -> str:
    done = product.command("submit", str(source), "--json", *extra)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["id"]


def look(browser, job: str) -> dict:
    return browser.get(f"/jobs/{job}/json/").json()


def stage(answer: dict, name: str) -> dict:
    return next(each for each in answer["stages"] if each["name"] == name)


def working(browser, job: str, name: str):
    """Waits until a stage is in the middle of its work."""
    until(lambda: (stage(look(browser, job), name)["progress"] or 0) > 3, 120)


def encoders(product) -> list[int]:
    """The pids of the product's encoders at work. Read here: on a busy machine pgrep starts too late."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            command = (process / "cmdline").read_bytes()
            if b"ffmpeg" in command and f"{product.home}/work".encode() in command:
                found.append(int(process.name))
    return found


def signal_encoders(product, number: int) -> None:
    """Sends a signal to each of them."""
    for pid in encoders(product):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@contextmanager
def held_at_work(product, browser, job: str, name: str):
    """A stage in the middle of its work, whose encoder stands still until the block ends.

    So a short film is long enough to be interrupted, on any machine: the encoder works for a moment at a
    time, and not at all while what it reported goes from the engine to the job's page.
    """

    def reported() -> bool:
        signal_encoders(product, signal.SIGSTOP)  # first of all: a short film is over before its row is read
        if not encoders(product):
            return False
        if _progress(product, job, name) is None:
            _work_a_little(product)
            return False
        # what FFmpeg has reported is written down within this time, on a busy machine too
        deadline = time.monotonic() + 2
        while (_progress(product, job, name) or 0) <= 3:
            if time.monotonic() > deadline:
                _work_a_little(product)
                return False
            time.sleep(0.05)
        return True

    try:
        try:
            until(reported, 120, 0.05)
        except AssertionError:
            seen = f"{look(browser, job)}, encoders {encoders(product)}"
            raise AssertionError(f"{name} was never held: {seen}") from None
        working(browser, job, name)
        yield
    finally:
        signal_encoders(product, signal.SIGCONT)


def _work_a_little(product, seconds: float = 0.1) -> None:
    """Lets the encoders go on until one has used so much of a processor, or 10 s are over.

    They yield to all other processes: on a busy machine they would get next to nothing in a fixed moment.
    """
    before = {pid: _processor_seconds(pid) for pid in encoders(product)}
    signal_encoders(product, signal.SIGCONT)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        used = [_processor_seconds(pid) - since for pid, since in before.items()]
        if any(each < 0 or each >= seconds for each in used):  # less than before: it has ended
            return
        time.sleep(0.01)


def _processor_seconds(pid: int) -> float:
    """What a process has used; -1 where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return -1.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _progress(product, job: str, name: str) -> float | None:
    """How far the engine is with a stage, 0 before it says so; None while it isn't at it.

    Asked of the engine's rows, many times a second: by HTTP and through Temporal it would cost an encode.
    """
    asked = (
        "select coalesce(progress, 0) from engine_enginetask where status = 'processing'"
        " and json_extract(metadata, '$.job') = ? and json_extract(metadata, '$.stage') = ?"
    )
    with closing(sqlite3.connect(f"file:{product.home}/mediapipe.sqlite3?mode=ro", uri=True)) as rows:
        found = rows.execute(asked, (job, name)).fetchone()
    return found and found[0]


def is_at_rest(product) -> bool:
    """Whether no job is about to begin, or at work."""
    with closing(sqlite3.connect(f"file:{product.home}/mediapipe.sqlite3?mode=ro", uri=True)) as rows:
        return not rows.execute("select 1 from jobs_job where state in ('queued', 'running')").fetchone()


def cancel_all(product) -> None:
    """Cancels what an earlier test has left, as one that fails does: the next one would stand in its line."""
    with closing(sqlite3.connect(f"file:{product.home}/mediapipe.sqlite3?mode=ro", uri=True)) as rows:
        left = rows.execute("select id from jobs_job where state in ('queued', 'running')").fetchall()
    for (job,) in left:
        product.command("cancel", str(UUID(job)))
    until(lambda: is_at_rest(product))


def end_all(product, api) -> None:
    """Ends what earlier tests have left at work: it would ask *api* beside the next one, and be counted."""

    def at_rest() -> bool:
        for task in api.tasks.values():
            if task["status"] in ("queued", "waiting", "processing"):
                task["left"] = ["succeeded"]
        return is_at_rest(product)

    until(at_rest)


def settled(browser, job: str, patience: float = 150) -> dict:
    return until(lambda: (now := look(browser, job))["status"] not in ("queued", "running") and now, patience)


def timeline(browser, job: str) -> str:
    page = browser.get(f"/jobs/{job}/").text
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page[page.index('class="timeline"') :]))


def banner(browser, job: str) -> str:
    """A job's page as text."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", browser.get(f"/jobs/{job}/").text))


def engine_tasks(product, job: str) -> list[dict]:
    """What the embedded engine was asked for by a job."""
    key = (product.home / "engine_key").read_text()
    answer = httpx.get(
        f"{product.url}/ittybit/tasks?limit=100",
        headers={"Authorization": f"Bearer {key}"},
        trust_env=False,
        timeout=60,
    )
    return [task for task in answer.json() if task["metadata"].get("job") == job]


def kill_and_wait(product, *names: str) -> None:
    """Kills processes at once, and waits until `up` has started each anew and the dashboard is ready."""
    before = product.children()
    for name in names:
        product.kill(name)
    until(lambda: all((now := product.children().get(name)) and now != before[name] for name in names))
    until(lambda: _answers(product))


def _answers(product) -> bool:
    try:
        return httpx.get(f"{product.url}/readyz", trust_env=False, timeout=3).status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def frozen(product, name: str):
    """A process that neither answers nor dies, until the block ends."""
    pid = product.children()[name]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
