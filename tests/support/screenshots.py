"""Takes the pictures of the README and of the docs: `.venv/bin/python -m tests.support.screenshots [FOLDER]`.

Not a test: it starts the product, makes jobs of every state, and photographs the pages.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.environment import SHARED
from tests.support.more_workers import more_workers
from tests.support.product import FFMPEG, ROOT, Product, make_broken, make_clip, token, until

# Five thousand jobs of the last month, in every state, with titles as people write them.
MANY = """
import random
from datetime import timedelta
from django.contrib.auth import get_user_model
from django.utils import timezone
from jobs.models import Job, Stage
from jobs.pipelines import PIPELINES
from jobs.state import JobState, StageState
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
for job in sorted(jobs, key=lambda job: job.created_at)[-600:]:
    for at, stage in enumerate(PIPELINES["standard"].stages):
        bad = job.state in ("failed", "attention") and stage.name == "transcode"
        rows.append(Stage(job=job, position=at, name=stage.name, label=stage.label, max_attempts=3,
            state=StageState.FAILED if bad else StageState.SUCCEEDED, started_at=job.started_at,
            error="The file is damaged." if bad else "",
            finished_at=job.started_at + timedelta(seconds=random.randint(1, 90))))
Stage.objects.bulk_create(rows, batch_size=500)
"""
# Maria looks after the installation: the group opens the back office.
ADMIN = """
from django.contrib.auth.models import Group, User
User.objects.get(username="maria").groups.add(Group.objects.get(name="Admins"))
"""
# A mistake of ours, and a database that is away.
UNREADABLE = "from jobs.models import Stage; Stage.objects.filter(job_id={!r}).update(attempts=[{{}}])"
AWAY = """
from django.db import connection
connection.cursor().execute("ALTER TABLE accounts_session RENAME TO away")
"""
BROWSER = os.environ.get("MEDIAPIPE_BROWSER", "/usr/bin/chromium-headless-shell")
PATIENCE = 180_000  # milliseconds for a page, on a machine that does much else
DRAWN = """() => document.readyState === 'complete'
    && [...document.images].every((each) => each.complete || each.loading === 'lazy')
    && [...document.querySelectorAll('video')].every((each) => each.readyState > 1)"""
SIZES = {"wide": {"width": 1280, "height": 860}, "narrow": {"width": 390, "height": 844}}


class Camera:
    """A browser that shoots a page in both schemes and both sizes."""

    def __init__(self, browser: Browser, product: Product, folder: Path) -> None:
        self.browser, self.product, self.folder = browser, product, folder
        self.people: dict[str, list] = {"": []}

    def meet(self, name: str, staff: bool = False) -> None:
        """Somebody who may look at pages from now on."""
        cookies = self.product.editor(name, staff=staff).cookies.items()
        self.people[name] = [{"name": n, "value": v, "url": self.product.url} for n, v in cookies]

    def shoot(self, name: str, path: str, full: bool = True, who: str = "maria", then=None) -> None:
        """Four pictures of *path*; *then* is what its visitor does there first."""
        for scheme in ("light", "dark"):
            for size, view in SIZES.items():
                context = self.browser.new_context(color_scheme=scheme, viewport=view, device_scale_factor=1)
                context.set_default_timeout(PATIENCE)
                context.add_cookies(self.people[who])
                page = context.new_page()
                page.goto(self.product.url + path)
                drawn(page)
                if then:
                    then(page)
                    drawn(page)
                page.screenshot(path=self.folder / f"{name}-{scheme}-{size}.png", full_page=full)
                context.close()


def drawn(page: Page) -> None:
    """Waits until all of a page is there, and what scripts do at once is done."""
    page.wait_for_load_state()
    page.wait_for_function(DRAWN)
    page.wait_for_timeout(500)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        product = Product(Path(home) / "home", MEDIAPIPE_WORKER_NAME="cutting-room-1").start()
        try:
            browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
            camera = Camera(browser, product, folder)
            camera.meet("maria", staff=True)
            camera.meet("ada")
            product.command("shell", "-v", "0", "-c", ADMIN)
            empty(camera)
            job = some(camera)
            fleet(camera)
            many(camera)
            errors(camera, job)
            browser.close()
        finally:
            product.stop()


def trailer(work: Path) -> Path:
    """A short film in a format of cameras: a real one where it is at hand."""
    real = SHARED / "media" / "dev" / "trailer_bbb.mp4"
    film = work / "trailer.mov"
    if not real.exists():
        return make_clip(film, 16)
    codecs = ["-c:v", "prores_ks", "-profile:v", "0", "-c:a", "pcm_s16le"]
    cut = ["-v", "error", "-y", "-ss", "25", "-i", str(real), "-t", "16", *codecs, str(film)]
    subprocess.run([FFMPEG, *cut], check=True)
    return film


def podcast(work: Path) -> Path:
    """Sound with a cover."""
    sound = ["-f", "lavfi", "-i", "aevalsrc=sin(880*t)*abs(sin(3*t))*0.4:d=40"]
    cover = ["-f", "lavfi", "-i", "gradients=s=600x600:c0=navy:c1=orange:d=1", "-frames:v", "1"]
    made = work / "podcast.mp3"
    subprocess.run(
        [FFMPEG, "-v", "error", "-y", *sound, *cover, "-c:v", "mjpeg", "-id3v2_version", "3", str(made)],
        check=True,
    )
    return made


def submit(product: Product, path: Path | str, title: str, *extra: str) -> str:
    """The id of a new job."""
    done = product.command("submit", str(path), "--title", title, "--owner", "maria", "--json", *extra)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)["id"]


def empty(camera: Camera) -> None:
    """What a new installation shows."""
    camera.shoot("login", "/login/", who="")
    camera.shoot("list-empty", "/")
    camera.shoot("nothing-failed", "/?tab=attention")
    camera.shoot("new", "/jobs/new/")
    camera.shoot("password", "/password/")
    camera.shoot("sessions", "/account/sessions/")
    camera.shoot("tokens", "/account/tokens/")
    camera.shoot("notifications", "/account/notifications/")
    camera.shoot("batch-new", "/batches/new/")
    camera.shoot("trash-empty", "/trash/")


def some(camera: Camera) -> str:
    """A job in each state, made by the product itself; answers with one that has ended."""
    product, shoot = camera.product, camera.shoot
    work = product.home.parent
    film = trailer(work)
    long = make_clip(work / "council meeting.mp4", 150, "1920x1080")
    done = submit(product, film, "Big Buck Bunny, trailer", "--pipeline", "previews", "--wait")
    stream = submit(product, film, "Trailer for the web player", "--pipeline", "streaming", "--wait")
    sound = submit(product, podcast(work), "Podcast, episode 12", "--wait")
    failed = submit(product, make_broken(work / "raw.mp4"), "Interview, raw cut", "--wait")
    retrying = submit(product, "http://127.0.0.1:9/archive/reel-7.mp4", "Archive reel 7")
    until(lambda: product.status(retrying)["stages"][0]["retry_at"], 90)
    shoot("job-retrying", f"/jobs/{retrying}/")
    cancelled = submit(product, long, "Council meeting")
    product.command("cancel", cancelled)
    running = submit(product, long, "Drone over the harbour, take 3")
    until(lambda: (product.status(running)["stages"][3]["progress"] or 0) > 8, 200)
    shoot("job-running", f"/jobs/{running}/")
    shoot("list", "/")
    shoot("list-filters", "/", full=False, then=lambda page: page.click("#filters summary"))
    shoot("list-ticked", "/", full=False, then=tick)
    shoot("confirm", "/", then=lambda page: (tick(page), page.click("button[value=delete]")))
    cancelling(camera, running)
    shoot("job-done", f"/jobs/{done}/")
    shoot("job-stream", f"/jobs/{stream}/")
    shoot("job-sound", f"/jobs/{sound}/")
    shoot("job-attention", f"/jobs/{failed}/")
    shoot("job-cancelled", f"/jobs/{cancelled}/")
    shoot("stage", f"/jobs/{done}/stages/transcode/")
    shoot("source", f"/jobs/{failed}/source/")
    shoot("share", f"/jobs/{done}/share/")
    link = product.command("share", done).stdout.split()[-1]
    shoot("handed-over", urlsplit(link).path, who="")
    shoot("record", f"/admin/jobs/job/{done}/change/")
    return cancelled


def tick(page) -> None:
    for number in (1, 4):
        page.press(f".job >> nth={number} >> input", "Space")  # on a phone a focus shows it


def cancelling(camera: Camera, job: str) -> None:
    """A cancel takes a second or two; with a worker that is held, as long as we look."""
    worker = camera.product.children()["worker"]
    os.kill(worker, signal.SIGSTOP)
    try:
        camera.product.command("cancel", job, "--reason", "wrong film")
        camera.shoot("job-cancelling", f"/jobs/{job}/")
        camera.shoot("list-cancelling", "/")
    finally:
        os.kill(worker, signal.SIGCONT)
    until(lambda: camera.product.status(job)["status"] == "cancelled", 60)


def fleet(camera: Camera) -> None:
    """Three workers, of which one is paused and finishes what it has, and a line."""
    product = camera.product
    titles = ("Harbour at dawn", "Council meeting", "Interview, camera 2", "Match of the day", "Weather, raw")
    with more_workers(product, "cutting-room-2", "cutting-room-3"):
        for at, title in enumerate(titles):
            film = make_clip(product.home.parent / f"{at}.mp4", 150 + at, "1920x1080")
            submit(product, film, title)
        page = product.editor("maria", staff=True)
        until(lambda: page.get("/fleet/status/").text.count('class="at"') == 3, 200)
        worker = re.search(r"/fleet/workers/(\d+)/pause/", page.get("/fleet/status/").text)[1]
        form = {"csrfmiddlewaretoken": token(page.get(f"/fleet/workers/{worker}/pause/"))}
        page.post(f"/fleet/workers/{worker}/pause/", data={**form, "why": "its disk is changed"})
        until(lambda: "finishes what it has" in page.get("/fleet/status/").text)
        camera.shoot("fleet", "/fleet/")


def many(camera: Camera) -> None:
    """Five thousand jobs, and what looks for one among them."""
    camera.product.command("shell", "-v", "0", "-c", MANY)
    shoot = camera.shoot
    shoot("list-full", "/", full=False)
    shoot("list-second", "/?page=2")
    shoot("list-filtered", "/?q=b-roll&sort=title&tab=done", full=False)
    shoot("no-match", "/?q=nothing-like-this")
    shoot("history", "/history/", full=False)
    shoot("history-ticked", "/history/", full=False, then=lambda page: page.check("[name=job] >> nth=1"))
    shoot("keys", "/", full=False, then=lambda page: page.keyboard.press("?"))
    shoot("people", "/people/")
    shoot("pipelines", "/pipelines/")
    shoot("pipeline", "/pipelines/standard/")
    shoot("pipeline-edit", "/pipelines/standard/edit/")
    shoot("fleet", "/fleet/")
    shoot("audit", "/audit/", full=False)
    shoot("admin", "/admin/")
    shoot("records", "/admin/jobs/job/", full=False)


def errors(camera: Camera, job: str) -> None:
    """Every page that says no, as it is served; *job* and the database are of no use afterwards."""
    product, shoot = camera.product, camera.shoot
    wrong = {"username": "grace", "password": "wrong"}

    def sign_in(page) -> None:
        for field, text in wrong.items():
            page.fill(f"[name={field}]", text)
        page.click("button.primary")

    def forget(page) -> None:
        page.context.clear_cookies()
        sign_in(page)

    def send_much(page) -> None:
        for field in ("old_password", "new_password1", "new_password2"):
            page.fill(f"[name={field}]", "wrong")
        page.evaluate("document.querySelector('[name=old_password]').value = 'x'.repeat(11 << 20)")
        page.click("main button.primary")

    shoot("error-400", "/?q=%00")
    shoot("error-403", "/history/", who="ada")
    shoot("error-403-csrf", "/login/", who="", then=forget)
    shoot("error-404", "/nothing-here")
    shoot("error-413", "/password/", then=send_much)
    shoot("login-wrong", "/login/", who="", then=sign_in)
    stranger = product.editor("grace")
    stranger.cookies.clear()
    stranger.timeout = PATIENCE / 1000
    for _ in range(10):
        form = token(stranger.get("/login/"))
        stranger.post("/login/", data=wrong | {"csrfmiddlewaretoken": form})
    shoot("locked", "/login/", who="", then=sign_in)
    product.command("shell", "-v", "0", "-c", UNREADABLE.format(job))
    shoot("error-500", f"/jobs/{job}/")
    product.command("shell", "-v", "0", "-c", AWAY)
    shoot("error-503", "/")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "screenshots")
