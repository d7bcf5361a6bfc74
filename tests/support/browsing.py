"""What the browser tests share: signed-in pages that tolerate no complaint, uploads, and a shelf of jobs."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import contextmanager
from itertools import count
from pathlib import Path

PATIENCE = 60_000  # ms: two busy cores are slow, and what never comes fails all the same
_numbers = count(1)

# A job in every state, with titles as people and their enemies write them; prints their ids.
SHELF = """
import json
from datetime import timedelta
from django.contrib.auth.models import User
from django.utils import timezone
from jobs.models import Job, Stage
from jobs.state import Source
owner = User.objects.get(username={owner!r})
titles = ["مقابلة مع رئيس البلدية", "<b>bold</b> & <script>alert(1)</script>", "夏祭りの花火 🎬",
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 3]
now, made = timezone.now(), dict()
for n in range({count}):
    state = ("succeeded", "failed", "cancelled", "succeeded")[n % 4]
    at = now - timedelta(hours=n + 1)
    title = titles[n // 4] if n // 4 < len(titles) else f"take {{n:03}}"
    job = Job.submit(owner, title=title, pipeline="standard",
        source=Source(url="http://127.0.0.1:9/a.mp4", filename=f"reel-{{n}}.mov", size=10**9))
    Job.objects.filter(pk=job.pk).update(state=state, created_at=at, started_at=at,
        finished_at=at + timedelta(seconds=90), receipt="Cancelled." if state == "cancelled" else "")
    for stage in job.stages.all():
        bad = state == "failed" and stage.name == "transcode"
        own = "failed" if bad else state.replace("failed", "succeeded")
        Stage.objects.filter(pk=stage.pk).update(state=own,
            started_at=at, finished_at=at + timedelta(seconds=20),
            error="The file is damaged." if bad else "",
            details="moov atom not found\\n" * 40 if bad else "", attempt=1,
            attempts=[dict(number=1, started_at=at.timestamp(), finished_at=at.timestamp() + 20,
                outcome="failed" if bad else "succeeded", error="")])
    made.setdefault(state, str(job.pk))
print(json.dumps(made))
"""


def cookies_of(product, name: str, staff: bool = False) -> list[dict]:
    """A person's cookies, as a browser's context takes them."""
    person = product.editor(name, staff=staff)
    return [{"name": key, "value": value, "url": product.url} for key, value in person.cookies.items()]


def shelf(product, owner: str, many: int) -> dict[str, str]:
    """So many ended jobs of *owner*; by state, the id of the newest."""
    done = product.command("shell", "-v", "0", "-c", SHELF.format(owner=owner, count=many))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def watched(page):
    """The page, on which neither the console nor the policy may have anything to complain of."""
    said: list[str] = []
    page.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.set_default_timeout(PATIENCE)
    yield page
    assert not said, said


def upload(page, product, file: Path) -> str:
    """Uploads bytes that nobody has uploaded before, under a title that no other job has: the title."""
    title = f"{file.stem} {os.getpid()}-{next(_numbers)}{file.suffix}"
    page.goto(product.url)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / title
        copy.write_bytes(file.read_bytes() + b"\0\0\0\x18free" + os.urandom(16))
        page.set_input_files("#upload-file", str(copy))
        page.wait_for_selector(f".job:has-text('{title}')")
        page.wait_for_selector(f".upload:has-text('{title}')", state="detached")
    return title


def open_job(page, title: str) -> None:
    page.click(f".job:has-text('{title}') h2 a")
    page.wait_for_selector("#job-status")


def wait_for_state(page, *states: str, patience: float = 120) -> None:
    choices = ",".join(f"#job-status[data-state={state}]" for state in states)
    page.wait_for_selector(choices, timeout=patience * 1000)


def wait_for_tab(page, icon: str, title: str) -> None:
    """Waits until the tab has that icon, and a title that begins so: both follow what the page shows."""
    page.wait_for_selector(f"link[rel=icon][href*='/{icon}.']", state="attached")
    page.wait_for_function("title => document.title.startsWith(title)", arg=title)


def polls(page, path: str) -> list[int]:
    """The statuses of what the page asks at *path*, from now on."""
    heard: list[int] = []
    page.on("response", lambda r: heard.append(r.status) if path in r.url else None)
    return heard


def choose(page, row: str, words: str) -> None:
    """Chooses what a row of the list has in its menu."""
    page.click(f"{row} >> [popovertarget]")
    page.click(f"{row} >> .items >> text={words}")


def say_yes(page) -> None:
    """To what is asked before work is stopped."""
    page.click("#confirm button[value=yes]")
