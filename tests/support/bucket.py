"""A real S3 server, rclone's over a folder, that goes away and comes back as a test says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx

from tests.support.product import free_port, until

KEY, SECRET = "mediapipe", "a-secret-of-some-length"


class Bucket:
    """The server, with one bucket called `media`: its files lie in *folder*.

    *certificate*: its file and its key's, where it is to be asked by https.
    """

    def __init__(self, root: Path, host: str = "127.0.0.1", certificate: Sequence[str] = ()):
        self.root = root
        self.folder = root / "media"
        self.folder.mkdir(parents=True)
        self.port = free_port()
        self.url = f"{'https' if certificate else 'http'}://{host}:{self.port}"
        self.tls = [word for pair in zip(("--cert", "--key"), certificate, strict=False) for word in pair]
        self.server: subprocess.Popen | None = None

    def start(self):
        rclone = str(Path(sys.executable).with_name("rclone"))
        address = ["--addr", self.url.partition("://")[2], "--auth-key", f"{KEY},{SECRET}", *self.tls]
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
            return httpx.get(self.url, trust_env=False, verify=False)
        except httpx.HTTPError:
            return None

    def kill(self):
        if self.server:
            self.server.kill()
            self.server.wait()
            self.server = None
