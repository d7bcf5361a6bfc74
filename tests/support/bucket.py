"""A real S3 server, rclone's over a folder, that goes away and comes back as a test says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx

from tests.support.product import free_port, until

KEY, SECRET = "mediapipe", "a-secret-of-some-length"


class Bucket:
    """The server, with one bucket called `media`: its files lie in *folder*."""

    def __init__(self, root: Path, host: str = "127.0.0.1"):
        self.root = root
        self.folder = root / "media"
        self.folder.mkdir(parents=True)
        self.port = free_port()
        self.url = f"http://{host}:{self.port}"
        self.server: subprocess.Popen | None = None

    def start(self):
        rclone = str(Path(sys.executable).with_name("rclone"))
        address = ["--addr", self.url.removeprefix("http://"), "--auth-key", f"{KEY},{SECRET}"]
        quiet = {**os.environ, "RCLONE_CONFIG": str(self.root.parent / "none.conf")}
        self.server = subprocess.Popen(
            [rclone, "serve", "s3", *address, str(self.root)],
            env=quiet,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(self.answers)
        return self

    def answers(self):
        try:
            return httpx.get(self.url, trust_env=False)
        except httpx.HTTPError:
            return None

    def kill(self):
        if self.server:
            self.server.kill()
            self.server.wait()
            self.server = None
