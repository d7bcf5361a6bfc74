"""Two machines on one: a product, and a worker of encodes that shares nothing with it but a bucket."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.bucket import KEY, SECRET, Bucket
from tests.support.product import MANAGE, Product


def of_bucket(bucket: Bucket) -> dict[str, str]:
    """The settings of a product whose files lie in a bucket."""
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "MEDIAPIPE_S3_REGION": "us-east-1"}
    return {"MEDIAPIPE_S3_BUCKET": "media", "MEDIAPIPE_S3_ENDPOINT_URL": bucket.url, **keys}


@contextmanager
def one_core() -> Iterator[None]:
    """What is started meanwhile has one core: shorter films have several pieces."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def second_machine(product: Product, home: Path) -> subprocess.Popen[bytes]:
    """A worker of encodes on the second core, with a home of its own."""
    addresses = json.loads((product.home / "addresses.json").read_text())
    own = {
        "MEDIAPIPE_HOME": str(home),
        "MEDIAPIPE_SECRET_KEY": (product.home / "secret_key").read_text().strip(),
        "MEDIAPIPE_ENGINE_KEY": (product.home / "engine_key").read_text().strip(),
        "MEDIAPIPE_LOCAL_URL": product.url,
        "DATABASE_URL": f"sqlite:///{product.home}/mediapipe.sqlite3",
        "TEMPORAL_ADDRESS": addresses["temporal"],
    }
    command = ["taskset", "-c", "1", *MANAGE, "worker", "--queue", "media-engine"]
    worker = subprocess.Popen(command, env={**product.environment, **own}, stdout=subprocess.PIPE)
    assert worker.stdout
    assert any(b"ready" in line for line in worker.stdout), "it has ended"
    return worker
