"""Two webs, two workers, Postgres, a bucket, Temporal and nginx on machines of their own, as the docs say.

What docs/deploy and docs/machines.md say to type is typed, and the files that they give are used as they are.
"""

from __future__ import annotations

import importlib.util
import itertools
import re
import shutil
import signal
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from mediapipe.management.dev_server import DYNAMIC_CONFIG
from tests.support import namespaces
from tests.support.bucket import KEY, SECRET, Bucket
from tests.support.dashboard import look, settled, stage
from tests.support.namespaces import CHECKOUT, Machine, Unit, machines
from tests.support.postgres import postgres
from tests.support.product import CALM, ROOT, make_clip, token, until
from tests.support.tusclient import STREAM, TUS, encoded
from tests.test_deploy import DEPLOY, make_certificate

pytestmark = [pytest.mark.release, pytest.mark.whole, pytest.mark.timeout(900)]
NAME, PASSWORD = "media.example.org", "a long enough secret"
PROXY, STORE, TEMPORAL = "10.0.0.2", "10.0.0.3", "10.0.0.4"
WEBS = {"web1": "10.0.0.5", "web2": "10.0.0.6"}  # as in the docs
WORKERS = {"worker1": "10.0.0.7", "worker2": "10.0.0.8"}
ADDRESSES = {"proxy": PROXY, "store": STORE, "temporal": TEMPORAL, **WEBS, **WORKERS, "client": "10.0.0.100"}
INSTALLING = ROOT / "docs" / "deploy" / "README.md"
MACHINES = ROOT / "docs" / "machines.md"
# What a machine of ours has another way: the checkout is there, no systemd is, and nobody types a password.
STANDS_FOR = """
git() {{ :; }}
mkdir -p /etc/systemd/system
export DJANGO_SUPERUSER_USERNAME=chief DJANGO_SUPERUSER_EMAIL= DJANGO_SUPERUSER_PASSWORD='{password}'
"""


def blocks(page: Path, heading: str, language: str) -> list[str]:
    """What the section *heading* of a page of the docs gives to be typed, or to be put into a file."""
    section = page.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.S)


def is_made() -> bool:
    """Whether .venv holds what this checkout locks: nothing is to be installed here."""
    spec = importlib.util.spec_from_file_location("manage", ROOT / "manage.py")
    manage = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(manage)
    return manage.is_ready(manage.RUNTIME)


def environment(example: str, **settings: str) -> str:
    """The file of settings, in which the # is taken away from what is set."""
    for name, value in settings.items():
        example, found = re.subn(rf"^#{name}=.*$", f"{name}={value}", example, count=1, flags=re.M)
        assert found, f".env.example has no {name}"
    return example


class Installation:
    """All of it, and one who looks from outside."""

    def __init__(self, there: dict[str, Machine], logs: Path) -> None:
        self.there = there
        self.logs = logs
        self.running: dict[str, subprocess.Popen] = {}

    def unit(self, name: str) -> Unit:
        """Which one a machine runs."""
        return Unit(DEPLOY / "systemd" / f"mediapipe-{name.rstrip('12')}.service")

    def install(self, name: str, settings: str) -> None:
        """Types on a machine what the docs say for every one."""
        machine = self.there[name]
        script = blocks(INSTALLING, "Several machines, from nothing", "sh")[0]
        machine.run("sh", "-ec", STANDS_FOR.format(password=PASSWORD) + script, check=True)
        machine.write("/etc/mediapipe/environment", settings)
        assert machine.run("stat", "-c", "%a %G", "/etc/mediapipe/environment").stdout == "640 mediapipe\n"

    def begin(self) -> None:
        """Types on one web machine what is done once."""
        script = blocks(INSTALLING, "Several machines, from nothing", "sh")[1]
        script = script.replace("createsuperuser", "createsuperuser --noinput")
        typed = STANDS_FOR.format(password=PASSWORD) + "cd /opt/mediapipe\n" + script
        self.there["web1"].run("sh", "-ec", typed, check=True)

    def start(self, name: str) -> None:
        """As `systemctl start` does."""
        unit = self.unit(name)
        unit.prepare(self.there[name])
        self.running[name] = self.there[name].start(self.logs / f"{name}.log", *unit.command())

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Ends all processes of the service's user there."""
        self.there[name].run("pkill", f"-{int(number)}", "-u", "mediapipe")
        self.running.pop(name).wait(60)

    def said(self, name: str) -> str:
        return (self.logs / f"{name}.log").read_text()


@contextmanager
def around(there: dict[str, Machine], folder: Path):
    """Postgres, the bucket and Temporal: the settings that lead to them."""
    with ExitStack() as stack:
        hba = Path(stack.enter_context(TemporaryDirectory(dir="/tmp"))) / "hba.conf"
        hba.write_text("host all all 10.0.0.0/24 trust\nhost all all 127.0.0.1/32 trust\n")
        hba.parent.chmod(0o755)  # Postgres is nobody
        hba.chmod(0o644)
        with there["store"].network():
            server = stack.enter_context(postgres(listen_addresses="*", hba_file=str(hba)))
            bucket = Bucket(folder / "s3", STORE).start()
        stack.callback(bucket.kill)
        command = [f"{CHECKOUT}/.venv/bin/temporal", "server", "start-dev", "--headless"]
        command += ["--ip", "0.0.0.0", "--log-level", "error", *DYNAMIC_CONFIG]
        nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "env", "HOME=/tmp"]
        there["temporal"].start(folder / "temporal.log", *nobody, *command)
        yield {
            "TEMPORAL_ADDRESS": f"{TEMPORAL}:7233",
            "DATABASE_URL": server.url.replace("127.0.0.1", STORE),
            "MEDIAPIPE_S3_BUCKET": "media",
            "MEDIAPIPE_S3_ENDPOINT_URL": bucket.url,
            "MEDIAPIPE_S3_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }


def in_front(proxy: Machine, folder: Path) -> None:
    """nginx as the machine has it, with the docs' files."""
    certificate, key = make_certificate(folder, NAME)
    proxy.write("/etc/ssl/mediapipe/fullchain.pem", Path(certificate).read_text())
    proxy.write("/etc/ssl/mediapipe/key.pem", Path(key).read_text())
    (several,) = blocks(MACHINES, "Several web servers", "nginx")
    site = (DEPLOY / "nginx.conf").read_text()
    assert site.count("proxy_pass http://127.0.0.1:8000;") == 1
    site = site.replace("proxy_pass http://127.0.0.1:8000;", "proxy_pass http://mediapipe;")
    proxy.write("/etc/nginx/conf.d/mediapipe.conf", several + site)
    proxy.run("mkdir", "-p", "/var/log/nginx", "/var/lib/nginx", check=True)
    proxy.run("nginx", "-t", check=True)
    proxy.start(folder / "nginx.log", "nginx", "-g", "daemon off;")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    if reason := namespaces.missing():
        pytest.skip(reason)
    if not shutil.which("nginx", path="/usr/sbin:/usr/bin") or not shutil.which("openssl"):
        pytest.skip("nginx and openssl aren't both installed here")
    if not is_made():
        pytest.skip(".venv isn't this checkout's")
    folder = tmp_path_factory.mktemp("machines")
    with machines(folder, ADDRESSES) as there, around(there, folder) as settings:
        settings |= {
            "MEDIAPIPE_SECRET_KEY": "s" * 40,
            "MEDIAPIPE_ENGINE_KEY": "e" * 40,
            "MEDIAPIPE_PUBLIC_URL": f"https://{NAME}",
            "MEDIAPIPE_LOCAL_URL": f"http://{PROXY}:8000",
            "MEDIAPIPE_BEHIND_PROXY": PROXY,
            "MEDIAPIPE_HEARTBEAT_SECONDS": "10",  # less is missed on a busy machine without any outage
            "MEDIAPIPE_ALLOWED_HOSTS": ",".join(["localhost", "127.0.0.1", "[::1]", *WEBS.values()]),
        }
        written = environment((ROOT / ".env.example").read_text(), **settings)
        whole = Installation(there, folder)
        for name in (*WEBS, *WORKERS):
            whole.install(name, written)
        whole.begin()
        in_front(there["proxy"], folder)
        for name in (*WEBS, *WORKERS):
            whole.start(name)
        yield whole


@pytest.fixture
def browser(installed):
    """Somebody at a machine of their own, who has signed in."""
    here = installed.there["client"].network()
    about = {"headers": {"Host": NAME, "Referer": f"https://{NAME}/"}, "verify": False, "trust_env": False}
    with here, httpx.Client(base_url=f"https://{PROXY}", timeout=60, **about) as client:
        client.event_hooks["request"].append(
            lambda request: (
                request.extensions.update(sni_hostname=NAME) if request.url.host == PROXY else None
            )
        )
        until(lambda: _status(client, "/healthz") == 200, 120)
        page = client.get("/login/")
        form = {"username": "chief", "password": PASSWORD, "csrfmiddlewaretoken": token(page)}
        assert client.post("/login/", data=form).status_code == 302
        yield client


def _answer(browser: httpx.Client, job: str) -> dict | None:
    """The job as it is now; None where nobody answers."""
    answer = browser.get(f"/jobs/{job}/json/")
    assert answer.status_code in (200, 502, 503), answer.text
    return answer.json() if answer.status_code == 200 else None


def _status(client: httpx.Client, path: str) -> int:
    with suppress(httpx.HTTPError):
        return client.get(path).status_code
    return 0


def send(browser: httpx.Client, film: Path) -> str:
    """The id of the job of a film that is uploaded as the page does it: each part goes to another web."""
    data = film.read_bytes()
    secret = {"X-CSRFToken": token(browser.get("/jobs/new/"))}
    about = {
        "Upload-Length": str(len(data)),
        "Upload-Metadata": encoded(filename=film.name, pipeline="standard"),
    }
    made = browser.post("/uploads/", headers=TUS | secret | about)
    assert made.status_code == 201, made.text
    url, sent = made.headers["location"].replace(f"https://{NAME}", ""), 0
    for part in (data[: len(data) // 2], data[len(data) // 2 :]):
        headers = TUS | secret | {"Upload-Offset": str(sent), "Content-Type": STREAM}
        answer = browser.patch(url, headers=headers, content=part)
        assert answer.status_code == 204, answer.text
        sent += len(part)
    return answer.headers["mediapipe-job"].split("/")[2]


@contextmanager
def hardly_encoding(installed: Installation):
    """While the block lasts, encoders work for a second of ten: so long that none is taken for stalled."""
    over = threading.Event()

    def signal_all(name: str) -> None:
        for worker in WORKERS:
            installed.there[worker].run("pkill", f"-{name}", "ffmpeg")

    def hold() -> None:
        for second in itertools.count():
            signal_all("CONT" if second % 10 == 9 else "STOP")
            if over.wait(1):
                return signal_all("CONT")

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_jobs_are_made_while_webs_and_workers_are_lost_and_nothing_is_shared_but_the_bucket(
    installed, browser, tmp_path
):
    with httpx.Client(trust_env=False) as plain:
        moved = plain.get(f"http://{PROXY}/jobs/new/", headers={"Host": NAME})
        assert (moved.status_code, moved.headers["location"]) == (301, f"https://{NAME}/jobs/new/")
    first = send(browser, make_clip(tmp_path / "first.mp4", 6, "640x360", *CALM))
    done = settled(browser, first)
    assert done["status"] == "succeeded", done
    film = httpx.get(done["result"]["transcoded_url"], trust_env=False, timeout=60)
    assert film.status_code == 200 and film.content[4:8] == b"ftyp"
    assert {each["attempt"] for each in done["stages"]} == {1}
    with httpx.Client(trust_env=False) as prometheus:
        for address in WEBS.values():
            asked = prometheus.get(
                f"http://{address}:8000/metrics", headers={"Authorization": f"Bearer {'e' * 40}"}
            )
            assert asked.status_code == 200 and "mediapipe_jobs" in asked.text
    fleet = until(lambda: (seen := browser.get("/fleet/").text).count("worker") > 1 and seen)
    assert all(name in fleet for name in WORKERS)

    second = send(browser, make_clip(tmp_path / "second.mp4", 90, "1280x720"))
    until(lambda: (stage(look(browser, second), "transcode")["progress"] or 0) > 1, 120)
    with hardly_encoding(installed):  # a film that is not done before all this
        for name in WEBS:
            installed.kill(name)
        time.sleep(16)  # in which three attempts would be used up
        assert _status(browser, "/") == 502
        for name in WEBS:
            installed.start(name)
        until(lambda: _status(browser, "/") == 200, 120)
        now = until(lambda: _answer(browser, second))
        assert {each["attempt"] for each in now["stages"]} == {1}, f"an outage uses no attempt up: {now}"
        installed.kill("web2")
        until(lambda: _status(browser, "/") == 200, 60)
        at_work = until(lambda: [n for n in WORKERS if installed.there[n].run("pgrep", "ffmpeg").stdout])
        installed.kill(at_work[0])
    over = ("succeeded", "failed", "attention")
    done = until(lambda: (now := _answer(browser, second)) and now["status"] in over and now, 300)
    assert done["status"] == "succeeded", done

    for name in (*WEBS, *WORKERS):
        machine = installed.there[name]
        assert machine.run("stat", "-c", "%a %U", "/var/lib/mediapipe").stdout == "700 mediapipe\n"
        assert not machine.run("find", "/var/lib/mediapipe/media", "-type", "f").stdout
        assert "Traceback" not in installed.said(name), installed.said(name)
    script = blocks(INSTALLING, "One machine, from nothing", "sh")[-1]
    assert script.endswith("manage.py doctor\n")
    doctor = installed.there["web1"].run("sh", "-ec", f"cd {CHECKOUT}\n{script}")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
