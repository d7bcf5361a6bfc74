"""The API and the commands that use it, against the running product: real HTTP, real Temporal."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.support.described import PLANNED, check_description
from tests.support.product import ROOT, Commands, until
from tests.support.tusclient import sound

pytestmark = [pytest.mark.whole, pytest.mark.usefixtures("api")]
ISSUE = """
from django.contrib.auth.models import User
from jobs.models import ApiToken
owner, _ = User.objects.get_or_create(username={name!r})
print(ApiToken.issue(owner, "test", ["submit", "read", "act"])[1])
"""


@pytest.fixture(scope="module")
def text(cloud):
    """A person's token."""
    return cloud.shell(ISSUE.format(name="ada"))


@pytest.fixture(scope="module")
def http(cloud, text):
    """A program that has it."""
    headers = {"Authorization": f"Bearer {text}"}
    with httpx.Client(base_url=cloud.url, headers=headers, timeout=90, trust_env=False) as client:
        yield client


class Line:
    """A connection to the product that breaks off after so many bytes, each number once."""

    def __init__(self, port: int, *breaks: int) -> None:
        self.port, self.breaks, self.broken = port, list(breaks), 0
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", self.port)) as far:
            back = threading.Thread(target=self._carry, args=(far, near, False), daemon=True)
            back.start()
            self._carry(near, far, True)
            back.join()

    def _carry(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        seen = 0
        with suppress(OSError):
            while block := source.recv(1 << 16):
                target.sendall(block)
                seen += len(block)
                if counted and self.breaks and seen > self.breaks[0]:
                    self.breaks.pop(0)
                    self.broken += 1
                    break
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def environment(tmp_path: Path, url: str, text: str) -> dict[str, str]:
    """Of a machine of its own, for commands against the installation at *url*."""
    own = {**os.environ, "MEDIAPIPE_HOME": str(tmp_path / "home"), "MEDIAPIPE_NO_VENV": "1"}
    return own | {"MEDIAPIPE_URL": url, "MEDIAPIPE_TOKEN": text, "NO_PROXY": "127.0.0.1"}


@pytest.fixture(scope="module")
def elsewhere(cloud, text, tmp_path_factory):
    """Commands on such a machine."""
    commands = Commands(environment(tmp_path_factory.mktemp("elsewhere"), cloud.url, text))
    yield commands.run
    commands.stop()


def test_a_file_is_sent_to_another_installation_over_a_line_that_breaks(
    cloud, text, http, elsewhere, tmp_path
):
    film = tmp_path / "tune.wav"
    film.write_bytes(sound(3_000_000))
    line = Line(cloud.port, 1_500_000, 2_000_000)
    submit = [sys.executable, "manage.py", "submit", str(film), "--title", "Tune", "--wait", "--json"]
    own = environment(tmp_path, line.url, text)
    done = subprocess.run(submit, cwd=ROOT, env=own, capture_output=True, text=True, timeout=150)
    line.server.close()
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert set(answer) == {"id", "workflow_id", "status", "url", "result"} and answer["status"] == "succeeded"
    assert line.broken == 2 and "looking where it stopped" in done.stderr and "100 %" in done.stderr
    job = http.get(f"/api/v1/jobs/{answer['id']}").json()
    assert job["title"] == "Tune" and job["result"] == answer["result"]
    there = elsewhere("status", answer["id"], "--json")
    here = cloud.command("status", answer["id"], "--json")
    assert json.loads(there.stdout) == json.loads(here.stdout)
    assert elsewhere("rename", answer["id"], "Another tune").stdout == "Renamed.\n"
    shared = elsewhere("share", answer["id"], "--days", "1")
    assert shared.returncode == 0, shared.stderr
    assert "Another tune" in httpx.get(shared.stdout.strip(), trust_env=False, timeout=60).text
    late = elsewhere("cancel", answer["id"])
    local = cloud.command("cancel", answer["id"])
    assert (
        (late.returncode, late.stderr)
        == (local.returncode, local.stderr)
        == (1, "This job is already done.\n")
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("submit", "http://127.0.0.1:1/a.mp4", "--owner", "x"), "leave --owner out"),
        (("submit", "https://example.com/a.mp4", "--pipeline", "nope"), "There is no pipeline"),
        (("status", "x"), "There is no job 'x'."),
        (("retry", "00000000-0000-0000-0000-000000000000"), "There is no job"),
    ],
)
def test_what_the_other_installation_refuses_ends_with_the_same_status_as_here(elsewhere, arguments, says):
    done = elsewhere(*arguments)
    assert done.returncode == 2 and says in done.stderr, done


def test_a_token_that_is_not_valid_and_half_a_setting_are_told_as_bad_usage(elsewhere, text):
    done = elsewhere("cancel", "00000000-0000-0000-0000-000000000000", MEDIAPIPE_TOKEN=text + "x")
    assert done.returncode == 2 and "isn’t valid" in done.stderr
    done = elsewhere("status", "x", MEDIAPIPE_TOKEN="")
    assert done.returncode == 2 and "MEDIAPIPE_TOKEN" in done.stderr


def test_the_requests_of_the_documents_curl_lines_work(cloud, text, tmp_path):
    (tmp_path / "film.wav").write_bytes(sound())
    page = (ROOT / "docs" / "api.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", page, re.S)
    script = "set -eu\n" + "\n".join(block for block in blocks if "curl" in block)
    environment = {**os.environ, "MEDIAPIPE_URL": cloud.url, "MEDIAPIPE_TOKEN": text, "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=170
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("HTTP/1.1 2") or '"version"' in done.stdout


def test_a_watcher_hears_of_a_change_while_it_waits(http, cloud):
    made = http.post("/api/v1/jobs", json={"url": "http://93.184.215.14/a.mp4"}).json()

    def over():
        job = http.get(f"/api/v1/jobs/{made['id']}", params={"wait": 20, "since": made["version"]}).json()
        made["version"] = job["version"]
        return job["status"] not in ("queued", "running")

    until(over, 120)


def test_the_api_answers_by_its_own_description(cloud, http, request):
    planned = 8 if request.config.option.all else PLANNED
    check_description(f"{cloud.url}/api/v1/openapi.json", http.headers, planned)
