"""People: do what a script says, as browsers and shells do, and keep a diary of what they were told.

They know addresses and sentences. They judge nothing: that is done when all is quiet.
"""

from __future__ import annotations

import html
import json
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess

import httpx

from tests.chaos.facts import Answer
from tests.chaos.installation import Installation
from tests.chaos.script import CHIEF, PEOPLE, Act
from tests.support.product import make_clip, run_ffmpeg
from tests.support.tusclient import STREAM, TUS, encoded, sound

FILM = "http://127.0.0.1:9/film.mp4"  # fetched by nobody: the stand-in API takes any source
PATIENCE = 40.0  # seconds that somebody repeats a submission which is not answered
TOASTS = re.compile(
    r'<div class="toasts" role="status">((?:\s*<div class="notice".*?</div>)*)\s*</div>', re.S
)
NOTICE = re.compile(r'<div class="notice"[^>]*>\s*([^<]*?)\s*<')
ERROR = re.compile(r'class="error"[^>]*>\s*(.*?)\s*<', re.S)
SAID = (503, 507)  # a part that is away, a disk that is full: the page says so, and is right
VERBS = {"cancel": "cancel", "retry": "retry"}


def said(page: str) -> list[str]:
    """What a page answers to what was done before it. Raises ValueError where it has no place for that."""
    place = TOASTS.search(page)
    if place is None:
        raise ValueError("this page has no place for what was done")
    return [html.unescape(text) for text in NOTICE.findall(place[1])]


class People:
    """Signed in once; each act has a browser of its own, so that answers are not taken for one another's."""

    def __init__(self, installation: Installation, folder: Path) -> None:
        self.installation = installation
        self.folder = folder
        self.diary: list[Answer] = []
        self.jobs: dict[int, str] = {}  # by the number of their submission
        self.lock = threading.Lock()
        self.clip = make_clip(folder / "clip.mkv", 1, "320x240", "-c:v", "mpeg4")
        for name in (*PEOPLE, CHIEF):
            installation.product.editor(name, staff=name == CHIEF)
        self.cookies = {name: dict(jar) for name, jar in installation.product.people.items()}

    def run(self, acts: list[Act], began: float) -> None:
        """Until the last act is answered; *began* is the script's moment 0, by the monotonic clock."""
        running: list[Future] = []
        with ThreadPoolExecutor(40) as pool:
            for act in acts:
                time.sleep(max(0.0, began + act.at - time.monotonic()))
                running.append(pool.submit(self.do, act))
                if act.again:
                    person, verb = act.again
                    other = Act(act.at, person, verb, "web", act.targets[:1])
                    running.append(pool.submit(self.do, other))
        for done in running:
            done.result()

    def browser(self, answer: Answer) -> httpx.Client:
        """Of the person who asks, wherever the product is now; it notes every mistake of the product's."""

        def watch(reply: httpx.Response) -> None:
            if reply.status_code >= 500 and reply.status_code not in SAID:
                asked = f"{reply.request.method} {reply.request.url.path}"
                answer.errors.append(f"{asked} was answered with status {reply.status_code}")

        cookies = self.cookies[answer.person]
        headers = {"X-CSRFToken": cookies["csrftoken"]}
        given = {"cookies": cookies, "headers": headers, "event_hooks": {"response": [watch]}}
        url = self.installation.lines["browser"].url
        return httpx.Client(base_url=url, timeout=30, trust_env=False, **given)

    def do(self, act: Act) -> None:
        """One act; nothing where its job does not exist yet."""
        jobs = [self.jobs[number] for number in act.targets if number in self.jobs]
        if act.verb == "submit":
            title = f"job {act.targets[0]}"
            answer = Answer("submit", act.door, act.person, [], title=title, fate=act.fate)
            self.note(answer, lambda: getattr(self, f"submit_{act.door}")(act, answer))
            if answer.made:
                self.jobs[act.targets[0]] = answer.made
        elif jobs:
            answer = Answer(act.verb, act.door, act.person, jobs)
            by_command = act.door == "command" and act.verb in VERBS
            way = self.look if act.verb == "look" else self.by_command if by_command else self.press
            self.note(answer, lambda: way(answer))

    def note(self, answer: Answer, ask: Callable[[], None]) -> None:
        """Asks, and writes into the diary what came of it: maybe no answer at all."""
        answer.asked_at = time.time()
        try:
            ask()
        except (httpx.HTTPError, OSError, ValueError) as error:  # the last two: a command that was cut off
            answer.status, answer.sentences = 0, []
            answer.cut = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        answer.answered_at = answer.answered_at or time.time()
        with self.lock:
            self.diary.append(answer)

    # Submitting, by each door

    def submit_form(self, act: Act, answer: Answer) -> None:
        """The plain form with a file; sent again, the same form, until it is answered."""
        name, data = self.file(act)
        self.form(act, answer, {"files": {"file": (name, data)}})

    def submit_link(self, act: Act, answer: Answer) -> None:
        """The same form with a link."""
        self.form(act, answer, {}, url=f"{FILM}?fate={act.fate}")

    def form(self, act: Act, answer: Answer, files: dict, **fields: str) -> None:
        """Raises httpx.HTTPError where it stays unanswered."""
        data = {"title": answer.title, "idempotency_key": act.key, **fields}

        def send(browser: httpx.Client) -> bool:
            reply = browser.post("/jobs/new/", data=data, **files)
            answer.status = reply.status_code
            if reply.status_code == 302 and (
                found := re.search(r"/jobs/([0-9a-f-]{36})/", reply.headers["Location"])
            ):
                answer.made = found[1]
            answer.sentences = [] if answer.made else ERROR.findall(reply.text) or [reply.text[:200]]
            return answer.status < 500 and answer.status != 429

        self.patiently(answer, send)

    def submit_tus(self, act: Act, answer: Answer) -> None:
        """In two parts, and from where it stopped after every failure."""
        name, data = self.file(act)
        place: list[str] = []

        def send(browser: httpx.Client) -> bool:
            if not place:
                about = {**TUS, "Upload-Length": str(len(data)), "Upload-Metadata": encoded(filename=name)}
                reply = browser.post("/uploads/", headers=about)
                if reply.status_code != 201:
                    return self.refused(answer, reply)
                place.append(httpx.URL(reply.headers["Location"]).path)
            reply = browser.head(place[0], headers=TUS)
            while reply.is_success and not (job := reply.headers.get("Mediapipe-Job")):
                if "Mediapipe-Duplicate" in reply.headers:
                    return self.refused(answer, reply)
                at = int(reply.headers["Upload-Offset"])
                part = data[at : at + len(data) // 2 + 1]
                about = {**TUS, "Upload-Offset": str(at), "Content-Type": STREAM}
                reply = browser.patch(place[0], content=part, headers=about)
            if not reply.is_success:
                return self.refused(answer, reply)
            answer.status = reply.status_code
            answer.made = job.strip("/").rsplit("/", 1)[1]
            return True

        answer.title = name
        self.patiently(answer, send)

    @staticmethod
    def refused(answer: Answer, reply: httpx.Response) -> bool:
        """Notes a refusal; whether it is one for good."""
        answer.status, answer.sentences = reply.status_code, [reply.text[:200]]
        return reply.status_code in (400, 403, 404, 410, 413, 415, 422)

    def submit_command(self, act: Act, answer: Answer) -> None:
        """`manage.py submit` of a link, once: who runs it again asks for another job."""
        given = ["--title", answer.title, "--owner", act.person, "--json"]
        done = self.installation.command("submit", f"{FILM}?fate={act.fate}", *given)
        self.ended(answer, done, done.stderr.strip()[-200:])
        if done.returncode == 0:
            answer.made = json.loads(done.stdout)["id"]

    @staticmethod
    def ended(answer: Answer, done: CompletedProcess[str], said: str) -> None:
        """Notes how a command has ended."""
        answer.status, answer.sentences = (200 if done.returncode == 0 else 409), [said]
        if "Traceback" in done.stderr:
            answer.errors.append(f"the command ended with {done.stderr.strip().splitlines()[-1]}")

    def patiently(self, answer: Answer, send) -> None:
        """Sends until there is an answer that stands. Raises the last httpx.HTTPError after PATIENCE."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                with self.browser(answer) as browser:
                    if send(browser) or time.monotonic() > until:
                        return
            except httpx.HTTPError:
                if time.monotonic() > until:
                    raise
            time.sleep(0.5)

    def file(self, act: Act) -> tuple[str, bytes]:
        """A file that nobody has uploaded before: a film for the engine, or a sound for the stand-in."""
        number = act.targets[0]
        if act.fate != "real":
            return f"job {number}.wav", sound(2000)
        path = self.folder / f"job {number}.mkv"
        tag = f"title={self.folder.name} {number}"
        run_ffmpeg("-i", str(self.clip), "-c", "copy", "-metadata", tag, str(path))
        return path.name, path.read_bytes()

    # Doing something to jobs

    def press(self, answer: Answer) -> None:
        """A button of a job's page, or the list's bar for many jobs and for what only the bar can do."""
        job = answer.jobs[0]
        bulk = answer.door == "bulk" or answer.verb not in VERBS
        with self.browser(answer) as browser:
            if bulk:
                answer.door = "bulk"
                data = {"action": answer.verb, "job": answer.jobs, "confirmed": "1"}
                reply = browser.post("/jobs/bulk/", data=data)
            else:
                reply = browser.post(f"/jobs/{job}/{VERBS[answer.verb]}/", data={"next": "/"})
            answer.status, answer.answered_at = reply.status_code, time.time()
            cookies = browser.cookies
        if reply.status_code == 302:
            self.read_notice(answer, reply.headers["Location"], cookies)

    def read_notice(self, answer: Answer, place: str, cookies: httpx.Cookies) -> None:
        """The page after a button was pressed, reloaded until it is there: it says what was done."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                with self.browser(answer) as browser:
                    browser.cookies = cookies
                    page = browser.get(place)
            except httpx.HTTPError:
                answer.cut = True  # a notice is shown once: it may have gone with that page
            else:
                if page.status_code < 500:
                    answer.sentences = said(page.text)
                    answer.cut = answer.cut and not answer.sentences
                    return
            time.sleep(0.5)
        answer.cut = True

    def by_command(self, answer: Answer) -> None:
        """`manage.py cancel` or `retry`."""
        done = self.installation.command(answer.verb, answer.jobs[0])
        self.ended(answer, done, (done.stdout or done.stderr).strip())

    def look(self, answer: Answer) -> None:
        """Reloads the job's page and the list."""
        with self.browser(answer) as browser:
            for path in (f"/jobs/{answer.jobs[0]}/", f"/jobs/{answer.jobs[0]}/status/", "/"):
                answer.status = max(answer.status, browser.get(path).status_code)
