"""Takes the pictures of the README and for looking at: `.venv/bin/python -m tests.screenshots [FOLDER]`.

Not a test: it starts the product, makes jobs of every state, and photographs the pages.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.conftest import SHARED
from tests.product import FFMPEG, ROOT, Product, make_broken, make_clip, until

# Five thousand jobs of the last month, in every state, with titles as people write them.
MANY = """
import random
from datetime import timedelta
from django.contrib.auth import get_user_model
from django.utils import timezone
from jobs.models import Job, Stage
from jobs.pipelines import JobState, PIPELINES, StageState
random.seed(3)
owners = [get_user_model().objects.get_or_create(username=n)[0] for n in ("maria", "ada", "小林", "grace")]
titles = ["夏祭りの花火 2026 完全版", "مقابلة مع رئيس البلدية", "Überwachungskamera Straße 7",
    "b-roll_0001.MOV",
    "A very long title that an editor once typed because the desk asked for all of the names in it, really",
    "Interview with the minister (raw, two cameras)", "Заседание совета", "🎬 trailer final FINAL v7"]
weights = {JobState.SUCCEEDED: 90, JobState.FAILED: 4, JobState.ATTENTION: 2, JobState.CANCELLED: 4}
now = timezone.now()
jobs = []
for n in range(5000):
    at = now - timedelta(minutes=random.random() ** 2 * 43000 + 20)
    state = random.choices(list(weights), weights.values())[0]
    jobs.append(Job(owner=random.choice(owners), title=random.choice(titles), state=state, created_at=at,
        started_at=at, finished_at=at + timedelta(seconds=random.randint(5, 900)),
        source_size=random.randint(10**6, 6 * 10**9)))
Job.objects.bulk_create(jobs, batch_size=500)
rows = []
for job in jobs[:600]:
    for at, stage in enumerate(PIPELINES["standard"].stages):
        bad = job.state in ("failed", "attention") and stage.name == "transcode"
        rows.append(Stage(job=job, position=at, name=stage.name, label=stage.label, max_attempts=3,
            state=StageState.FAILED if bad else StageState.SUCCEEDED, started_at=job.started_at,
            error="The file is damaged." if bad else "",
            finished_at=job.started_at + timedelta(seconds=random.randint(1, 90))))
Stage.objects.bulk_create(rows, batch_size=500)
"""
SIZES = {"wide": {"width": 1280, "height": 860}, "narrow": {"width": 390, "height": 844}}


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        product = Product(Path(home) / "home").start()
        try:
            photograph(product, folder)
        finally:
            product.stop()


def photograph(product: Product, folder: Path) -> None:
    work = product.home.parent
    real = SHARED / "media" / "dev"
    film = make_clip(work / "trailer.mp4", 16)
    if real.exists():
        cut = [
            "-v",
            "error",
            "-y",
            "-ss",
            "26",
            "-i",
            str(real / "trailer_bbb.mp4"),
            "-t",
            "16",
            "-c",
            "copy",
        ]
        subprocess.run([FFMPEG, *cut, str(film)], check=True)
    long = make_clip(work / "council meeting.mp4", 150, "1920x1080")
    make_broken(work / "raw.mp4")
    staff = product.editor("maria", staff=True)
    cookies = [{"name": n, "value": v, "url": product.url} for n, v in staff.cookies.items()]

    def submit(path: Path | str, *extra: str) -> str:
        done = product.command("submit", str(path), "--owner", "maria", "--json", *extra)
        return json.loads(done.stdout)["id"]

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])

        def shoot(name: str, path: str, full: bool = True, signed_in: bool = True) -> None:
            for scheme in ("light", "dark"):
                for size, view in SIZES.items():
                    context = browser.new_context(color_scheme=scheme, viewport=view, device_scale_factor=1)
                    if signed_in:
                        context.add_cookies(cookies)
                    page = context.new_page()
                    page.goto(product.url + path)
                    page.wait_for_timeout(800)
                    page.screenshot(path=folder / f"{name}-{scheme}-{size}.png", full_page=full)
                    context.close()

        def confirm(name: str) -> None:
            page = browser.new_context(viewport=SIZES["wide"]).new_page()
            page.context.add_cookies(cookies)
            page.goto(product.url)
            page.check(".job >> nth=0 >> input")
            page.check(".job >> nth=2 >> input")
            page.screenshot(path=folder / f"{name}-ticked.png")
            page.click("button[value=delete]")
            page.screenshot(path=folder / f"{name}.png")
            page.context.close()

        shoot("login", "/login/", signed_in=False)
        shoot("list-empty", "/")
        shoot("nothing-failed", "/?tab=attention")
        done = submit(film, "--title", "Big Buck Bunny, trailer", "--pipeline", "previews", "--wait")
        stream = submit(film, "--title", "Trailer for the web player", "--pipeline", "streaming", "--wait")
        failed = submit(work / "raw.mp4", "--title", "Interview, raw cut", "--wait")
        retrying = submit("http://127.0.0.1:9/archive/reel-7.mp4", "--title", "Archive reel 7")
        until(lambda: product.status(retrying)["stages"][0]["retry_at"], 90)
        shoot("job-retrying", f"/jobs/{retrying}/")
        cancelled = submit(long, "--title", "Council meeting")
        product.command("cancel", cancelled)
        running = submit(long, "--title", "Drone over the harbour, take 3")
        until(lambda: (product.status(running)["stages"][3]["progress"] or 0) > 8, 200)
        shoot("job-running", f"/jobs/{running}/")
        shoot("list", "/")
        shoot("job-done", f"/jobs/{done}/")
        shoot("job-stream", f"/jobs/{stream}/")
        shoot("job-attention", f"/jobs/{failed}/")
        shoot("job-cancelled", f"/jobs/{cancelled}/")
        shoot("new", "/jobs/new/")
        confirm("confirm")
        product.command("shell", "-v", "0", "-c", MANY)
        shoot("list-full", "/", full=False)
        shoot("list-filtered", "/?q=b-roll&sort=title&tab=done", full=False)
        shoot("no-match", "/?q=nothing-like-this")
        shoot("history", "/history/", full=False)
        shoot("admin", "/admin/jobs/job/", full=False)
        shoot("missing", "/nothing-here")
        product.command("cancel", running)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "screenshots")
