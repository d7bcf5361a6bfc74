"""The whole product as a user runs it: `manage.py up` in its own folder, its commands, and signed-in clients.

It knows the product from outside only: processes, files, HTTP.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import httpx
import imageio_ffmpeg
from django.contrib.auth.hashers import PBKDF2PasswordHasher

from mediapipe import supervisor

ROOT = Path(__file__).resolve().parents[2]
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
CALM = ("-r", "10", "-g", "20")  # for a clip that is only scenery: its encodes cost less than half
LOOP = 4  # seconds of a long clip that are encoded
PASSWORD = "correct horse"  # of everybody
PATIENCE = 120.0  # seconds: with several tests on each of a slow machine's cores a process takes 40 to start
SIGNED_IN = """
from django.contrib.auth.models import User
from django.test import Client
known = dict(username={name!r}, is_staff={staff})
person, _ = User.objects.get_or_create(**known, defaults=dict(password={password!r}))
browser = Client()
browser.force_login(person)
print(browser.cookies["sessionid"].value)
"""
MANAGE = [sys.executable, str(ROOT / "manage.py")]
_given: set[int] = set()  # ports, by this process


@cache
def hashed_password() -> str:
    """As rows have it: what is hashed otherwise is hashed anew at a sign-in, which ends other sessions."""
    hasher = PBKDF2PasswordHasher()
    return hasher.encode(PASSWORD, hasher.salt())


def free_port() -> int:
    """A port that no outgoing connection of others is given before, or while, our server is away.

    Nobody in this run is given it again: a product listens there only when its start is nearly over.
    """
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    mine = supervisor.UNCLAIMED[number % 16 :: 16]
    while (port := random.choice(mine)) in _given or not supervisor.is_free(port):
        pass
    _given.add(port)
    return port


def make_clip(path: Path, seconds: float = 6, size: str = "1280x720", *extra: str) -> Path:
    """A moving test picture with a tone, as a camera would write it: each is encoded once in a run."""
    run = Path(os.environ.get("MEDIAPIPE_TEST_RUN") or tempfile.gettempdir())
    name = hashlib.sha256(repr((seconds, size, extra)).encode()).hexdigest()
    known = run / "clips" / f"{name}{path.suffix}"
    if not known.exists():
        known.parent.mkdir(exist_ok=True)
        encode_clip(new := known.with_stem(f"{name}-{os.getpid()}"), seconds, size, extra)
        new.rename(known)
    shutil.copyfile(known, path)
    return path


def encode_clip(path: Path, seconds: float, size: str, extra: Sequence[str]) -> None:
    """Encodes it anew; the picture of a long one is a short one's again and again, which costs no encode."""
    tone = ["-f", "lavfi", "-i", f"sine=frequency=440:duration={seconds}"]
    if seconds > 4 * LOOP:
        encode_clip(once := path.with_stem(f"{path.stem}-once"), LOOP, size, [*extra, "-an"])
        inputs = ["-stream_loop", "-1", "-i", str(once), *tone, "-t", str(seconds)]
        run_ffmpeg(*inputs, "-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "aac", str(path))
        once.unlink()
        return
    picture = ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate=25:duration={seconds}"]
    codec = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "50", "-c:a", "aac"]
    run_ffmpeg(*picture, *tone, *codec, *extra, str(path))


def run_ffmpeg(*arguments: str) -> None:
    """Raises CalledProcessError."""
    subprocess.run([FFMPEG, "-v", "error", "-y", *arguments], check=True)


def make_broken(path: Path) -> Path:
    """A film that opens, so that it is taken, and in which nothing can be decoded."""
    data = make_clip(path, 1, "320x240").read_bytes()
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    path.write_bytes(data[:start] + b"x" * (end - start) + data[end:])
    return path


def migrated(home: Path) -> Path:
    """A database with nothing but its tables: made once in a run, in *home*, for first starts."""
    home.mkdir(exist_ok=True)
    with open(home / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "done").exists():
            subprocess.run(
                [*MANAGE, "migrate", "-v", "0", "--skip-checks"],
                check=True,
                env={**os.environ, "MEDIAPIPE_HOME": str(home)},
            )
            (home / "done").touch()
    return home / "mediapipe.sqlite3"


class Commands:
    """Management commands without the second that a start takes (tests.support.forked)."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.process: subprocess.Popen[str] | None = None

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """One command, with *variables* in its environment; Django's settings don't change by them."""
        if not self.process:
            program = [sys.executable, "-m", "tests.support.forked"]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            self.process = subprocess.Popen(program, cwd=ROOT, env=self.environment, **pipes)
        self.process.stdin.write(json.dumps([arguments, variables]) + "\n")
        self.process.stdin.flush()
        try:
            answer = self.process.stdout.readline()
        except BaseException:  # the test's time is over: the next one must not take this answer for its own
            self.process.kill()
            self.stop()
            raise
        return subprocess.CompletedProcess(arguments, *json.loads(answer))

    def stop(self) -> None:
        """Ends the process that waits for them."""
        if self.process:
            self.process.communicate()
        self.process = None


class Product:
    """`up` with its own home and ports. *settings* are environment variables."""

    manage = MANAGE

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        own = {
            "MEDIAPIPE_HOME": str(home),
            "MEDIAPIPE_ALLOW_PRIVATE_SOURCES": "1",
            "MEDIAPIPE_HEARTBEAT_SECONDS": "3",  # a lost worker is noticed soon
        }
        ours = ("MEDIAPIPE_", "TEMPORAL_", "DJANGO_")
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
        inherited["PATH"] = f"{ROOT / '.venv' / 'bin'}:{inherited.get('PATH', '')}"
        self.environment = {**inherited, **own, **settings}
        self.clients: list[httpx.Client] = []
        self.people: dict[str, httpx.Cookies] = {}  # of who has signed in
        self.commands = Commands(self.environment)

    def start(self, prepared: bool = True, patience: float = 150) -> Product:
        """Returns when a browser can use it. *prepared*: it finds what any first start makes alike."""
        self.home.mkdir(exist_ok=True, parents=True)
        if prepared:
            self._prepare()
        self.log = self.home / "up.log"
        with open(self.log, "w") as out:
            command = [*self.manage, "up", "--port", str(self.port)]
            where = {"cwd": self.home, "env": self.environment}  # the folder it is given in means nothing
            self.process = subprocess.Popen(command, stdout=out, stderr=out, **where)
        deadline = time.monotonic() + patience
        try:
            while f"Ready: {self.url}" not in self.log.read_text():
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.1)
        except BaseException:  # what its fixture hasn't got it can't stop
            self.process.kill()
            self.process.wait()
            raise
        return self

    def _prepare(self) -> None:
        """Static files, where this run has gathered any, and an empty database with its tables."""
        run = Path(os.environ.get("MEDIAPIPE_TEST_RUN", ""))
        if (run / "static.stamp").exists():
            shutil.copytree(run / "static", self.home / "static", dirs_exist_ok=True)
            shutil.copy(run / "static.stamp", self.home)
        database = self.home / "mediapipe.sqlite3"
        if run.name and "DATABASE_URL" not in self.environment and not database.exists():
            shutil.copy(migrated(run / "migrated"), database)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Its exit status after that signal."""
        for client in self.clients:
            client.close()
        self.commands.stop()
        self.process.send_signal(number)
        return self.process.wait(timeout=PATIENCE)

    def children(self) -> dict[str, int]:
        """The pids of up's children, by what they are."""
        found = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
                command = (stat.parent / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
            if parent == self.process.pid:
                name = "worker" if " worker" in command else "web" if "uvicorn" in command else "temporal"
                found[name] = int(stat.parent.name)
        return found

    def kill(self, name: str) -> None:
        os.kill(self.children()[name], signal.SIGKILL)

    @contextmanager
    def without(self, name: str):
        """Its child *name* is killed and stays away, since `up`, which starts it again, stands still."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            self.kill(name)
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def script(
        self, *arguments: str, patience: float = 180, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        """A management command, as a script would call it: a new process, with *settings* of its own."""
        return subprocess.run(
            [*self.manage, *arguments],
            env={**self.environment, **settings},
            capture_output=True,
            text=True,
            timeout=patience,
        )

    def command(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """The same without the second that a start takes, and without settings of its own."""
        return self.commands.run(*arguments, **variables)

    def shell(self, code: str) -> str:
        """What Python code prints that runs inside the product."""
        done = self.command("shell", "-v", "0", "-c", code)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def editor(self, name: str = "ada", staff: bool = False) -> httpx.Client:
        """A signed-in person's browser without scripts. A password, which takes long to hash, is left out."""
        client = self._client(self.people.get(name))
        if name not in self.people:
            code = SIGNED_IN.format(name=name, staff=staff, password=hashed_password())
            client.cookies.set("sessionid", self.shell(code), domain="127.0.0.1")
            assert "Sign out" in client.get("/").text
            self.people[name] = httpx.Cookies(client.cookies)
        return client

    def sign_in(self, name: str) -> httpx.Client:
        """Another browser of somebody's who has one, signed in by the form."""
        client = self._client()
        form = {"username": name, "password": PASSWORD, "csrfmiddlewaretoken": token(client.get("/login/"))}
        answer = client.post("/login/", data=form)
        assert answer.status_code == 200 and "Sign out" in answer.text
        return client

    def _client(self, cookies: httpx.Cookies | None = None) -> httpx.Client:
        about = {"base_url": self.url, "follow_redirects": True, "timeout": 30, "trust_env": False}
        client = httpx.Client(cookies=cookies, **about)
        self.clients.append(client)
        return client

    def status(self, job: str) -> dict:
        """A job as `status --json` prints it."""
        done = self.command("status", job, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def token(page: httpx.Response) -> str:
    """The CSRF token of a page's form."""
    match = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert match, page.text[:500]
    return match[1]


def until(probe, patience: float = PATIENCE, every: float | None = None):
    """What *probe* returns once it is true, asked *every* so many seconds; else ever less often (_pauses)."""
    deadline = time.monotonic() + patience
    for pause in _pauses(every):
        if found := probe():
            return found
        assert time.monotonic() < deadline, f"not within {patience} s"
        time.sleep(pause)


async def until_async(probe, patience: float = PATIENCE, every: float | None = None, about=lambda: ""):
    """What *probe*, a coroutine function, returns once it is true; *about* says what there was instead."""
    deadline = time.monotonic() + patience
    for pause in _pauses(every):
        if found := await probe():
            return found
        assert time.monotonic() < deadline, f"not within {patience} s: {about()}"
        await asyncio.sleep(pause)


def _pauses(every: float | None) -> Iterator[float]:
    """Seconds between two questions: what comes soon is seen soon, and to wait for long costs little."""
    pause = 0.05
    while True:
        yield pause if every is None else every
        pause = min(0.8, pause * 1.2)
