"""Both keys are replaced while everything runs, in the rounds of docs/machines.md: no job is held by it."""

from __future__ import annotations

import subprocess
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from mediapipe.management.dev_server import DYNAMIC_CONFIG
from tests.support.dashboard import submit
from tests.support.product import MANAGE, ROOT, Product, free_port, make_clip, until

pytestmark = [pytest.mark.release, pytest.mark.whole, pytest.mark.timeout(600)]
KEYS = ("MEDIAPIPE_SECRET_KEY", "MEDIAPIPE_ENGINE_KEY")
OLD, NEW = (dict.fromkeys(KEYS, letter * 40) for letter in "on")
PARTS = {
    "pipeline": ("worker", "--queue", "media-pipeline"),  # first: its key is one that no web has yet
    "web": ("web",),
    "engine": ("worker", "--queue", "media-engine"),
}


def also(keys: dict[str, str]) -> dict[str, str]:
    """The same as fallbacks."""
    return {f"{name}_FALLBACKS": key for name, key in keys.items()}


class Installation:
    """Its parts, each a process that has keys of its own, and what their people use."""

    def __init__(self, home: Path, temporal: str) -> None:
        port = free_port()
        here = {"MEDIAPIPE_PORT": str(port), "MEDIAPIPE_LOCAL_URL": f"http://127.0.0.1:{port}"}
        self.product = Product(home, TEMPORAL_ADDRESS=temporal, **here)
        self.product.port, self.product.url = port, here["MEDIAPIPE_LOCAL_URL"]
        self.running: dict[str, subprocess.Popen] = {}
        home.mkdir()

    def start(self, name: str, keys: dict[str, str]) -> None:
        """Returns when it serves."""
        with open(log := self.product.home / f"{name}.log", "w") as out:
            command = [*MANAGE, *PARTS[name]]
            environment = {**self.product.environment, **keys}
            self.running[name] = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
        until(self.answers if name == "web" else lambda: "worker: ready" in log.read_text())

    def answers(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.product.url}/healthz", trust_env=False).status_code == 200
        return False

    def stop(self) -> None:
        for client in self.product.clients:
            client.close()
        self.product.commands.stop()
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            process.wait(60)


@pytest.fixture
def installation(tmp_path):
    port = free_port()
    command = [str(ROOT / ".venv" / "bin" / "temporal"), "server", "start-dev", "--headless"]
    quiet = ["--port", str(port), "--log-level", "error", *DYNAMIC_CONFIG]
    with ExitStack() as stack:
        temporal = stack.enter_context(subprocess.Popen([*command, *quiet], stdout=subprocess.DEVNULL))
        stack.callback(temporal.terminate)
        there = Installation(tmp_path / "home", f"127.0.0.1:{port}")
        stack.callback(there.stop)
        assert there.product.script("migrate", "-v", "0", **OLD).returncode == 0
        there.product.environment |= OLD
        for name in PARTS:
            there.start(name, OLD)
        yield there


def test_both_keys_are_replaced_by_rolling_restarts_and_no_job_is_held(installation, tmp_path):
    product = installation.product
    browser = product.editor("ada")
    clip = make_clip(tmp_path / "clip.mp4", 20, "640x360")
    jobs, over = [], threading.Event()
    most = 2  # jobs by now: as many more with each restart, however long a busy machine takes for it

    def people() -> None:
        while not over.wait(1):
            if len(jobs) < most:
                jobs.append(submit(product, clip, "--owner", "ada"))

    thread = threading.Thread(target=people)
    thread.start()
    try:
        for keys in (OLD | also(NEW), NEW | also(OLD), NEW):
            for name in PARTS:
                process = installation.running.pop(name)
                process.terminate()
                process.wait(60)
                installation.start(name, keys)
                most = len(jobs) + 3
                until(lambda wanted=most - 1: len(jobs) >= wanted)  # while the keys differ
                assert "Sign out" in browser.get("/").text, f"{name} has signed somebody out"
    finally:
        over.set()
        thread.join()
    over_now = ("succeeded", "failed", "attention", "cancelled")
    for job in jobs:
        done = until(lambda job=job: (now := product.status(job))["status"] in over_now and now, 240)
        assert done["status"] == "succeeded", done
        unused = [each["max_attempts"] - each["attempt"] for each in done["stages"]]
        assert unused == [2, 4, 2, 2], "a key that a part didn’t know has cost an attempt"
