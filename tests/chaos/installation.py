"""The product that is tried: `up`, a gateway before its API, a proxy on each line, its own disk."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from subprocess import CompletedProcess

from tests.chaos.gateway import Gateway
from tests.chaos.proxy import Proxy
from tests.support.product import Product, free_port

DISK = 800 << 20  # bytes of the media's own disk, of which the product leaves 512 MiB free
KEPT = ("MEDIAPIPE_VENV", "MEDIAPIPE_NO_VENV")


class Installation:
    """Everything that runs. Commands are given one at a time, and never while `up` stops and starts."""

    def __init__(self, folder: Path, own_disk: bool) -> None:
        self.stack = contextlib.ExitStack()
        self.one_at_a_time = threading.RLock()
        self.history_lost_at: list[float] = []
        self.log = ""  # of `up`, of all its starts
        self.gateway = self.stack.enter_context(Gateway(lambda: f"{self.lines['engine'].url}/ittybit"))
        self.lines = {
            name: self.stack.enter_context(Proxy(there))
            for name, there in {
                "temporal": self.temporal,
                "api": lambda: self.gateway.address,
                "engine": self.web,  # by which the product asks itself: probes, tasks of its own, webhooks
                "browser": self.web,
            }.items()
        }
        config = folder / "temporal.toml"
        config.write_text(f'[profile.default]\naddress = "127.0.0.1:{self.lines["temporal"].port}"\n')
        self.product = Product(
            folder / "home",
            ITTYBIT_API_URL=self.lines["api"].url,
            MEDIAPIPE_LOCAL_URL=self.lines["engine"].url,
            MEDIAPIPE_TRASH_DAYS="0",  # the judge looks for the files of what was deleted
            TEMPORAL_CONFIG_FILE=str(config),
            **{name: os.environ[name] for name in KEPT if name in os.environ},
        )
        self.media = self.product.home / "media"
        self.media.mkdir(parents=True)
        self.own_disk = own_disk and _mount(self.media)
        if self.own_disk:
            self.stack.callback(subprocess.run, ["umount", "--lazy", str(self.media)])

    def __enter__(self) -> Installation:
        try:
            self.product.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *problem) -> None:
        self.stop()
        self.stack.close()

    def temporal(self) -> tuple[str, int]:
        """Where the dev server itself listens. Raises OSError, KeyError, ValueError before it does."""
        host, _, port = json.loads((self.product.home / "addresses.json").read_text())["temporal"].partition(
            ":"
        )
        return host, int(port)

    def web(self) -> tuple[str, int]:
        """Where the web process listens now."""
        return "127.0.0.1", self.product.port

    def command(self, *arguments: str) -> CompletedProcess[str]:
        """A management command."""
        with self.one_at_a_time:
            return self.product.command(*arguments)

    def stop(self) -> None:
        """Stops `up` as a person would."""
        with self.one_at_a_time:
            process = getattr(self.product, "process", None)
            if process and process.poll() is None:
                self.product.stop()
                self.log += self.product.log.read_text()
            self.product.commands.stop()
            self.product.clients.clear()

    def move(self) -> None:
        """Another port, another address for itself and another key of the engine, as of the next start."""
        with self.one_at_a_time:
            self.stop()
            self.product.port = free_port()
            self.product.url = f"http://127.0.0.1:{self.product.port}"
            self.lines["engine"].move()
            self.product.environment["MEDIAPIPE_LOCAL_URL"] = self.lines["engine"].url
            self.product.environment["MEDIAPIPE_ENGINE_KEY"] = f"key-{time.time_ns():040}"
            self.product.start()

    def lose_history(self) -> None:
        """Temporal forgets everything while all is stopped."""
        with self.one_at_a_time:
            self.stop()
            for file in self.product.home.glob("temporal.sqlite3*"):
                file.unlink()
            self.history_lost_at.append(time.time())
            self.product.start()

    def pid(self, name: str) -> int:
        """Of one of `up`'s children, or of an encoder; 0 where there is none at the moment."""
        if name != "encoder":
            return self.product.children().get(name, 0)
        found = [pid for pid, command in processes(self.product.home) if "ffmpeg" in command]
        return found[0] if found else 0

    def send(self, name: str, number: int) -> int:
        """Sends a signal; the process's id, 0 where there was none."""
        pid = self.pid(name)
        with contextlib.suppress(ProcessLookupError):
            if pid:
                os.kill(pid, number)
                return pid
        return 0

    def freeze(self, name: str, seconds: float) -> None:
        """A process that neither answers nor dies for a time."""
        if pid := self.send(name, signal.SIGSTOP):
            time.sleep(seconds)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _mount(folder: Path) -> bool:
    """A small disk of its own there; False where this user may not mount one."""
    size = f"size={DISK}"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], capture_output=True)
    return done.returncode == 0


def processes(home: Path) -> list[tuple[int, str]]:
    """What runs for this home, by its command line or its environment: ids and command lines."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            environment = (folder / "environ").read_bytes().split(b"\0")
            mine = f"MEDIAPIPE_HOME={home}".encode() in environment or str(home) in command
            if mine and command and int(folder.name) != os.getpid():
                found.append((int(folder.name), command))
    return found
