"""Where the tests live: loaded by pytest before Django reads its settings (`-p` in pyproject.toml).

It knows nothing of the product but its environment variables. Under pytest-xdist each worker loads it once
more and inherits the environment: the run has one home, and each worker has its own within it.
"""

from __future__ import annotations

import gc
import os
import shutil
import socket
import tempfile
import time
from contextlib import suppress
from pathlib import Path

SHARED = Path(__file__).resolve().parents[3] / "shared"  # the media set, where it lies beside the repository
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
RUN = Path(os.environ["MEDIAPIPE_TEST_RUN"] if WORKER else tempfile.mkdtemp(prefix="mediapipe-test-"))
HOME = RUN / WORKER
if WORKER:
    HOME.mkdir()
    (RUN / "static").mkdir(exist_ok=True)
    for name in ("static", "static.stamp"):
        (HOME / name).symlink_to(RUN / name)

os.environ["MEDIAPIPE_TEST_RUN"] = str(RUN)
os.environ["MEDIAPIPE_HOME"] = str(HOME)
os.environ["TEMPORAL_ADDRESS"] = "127.0.0.1:1"  # nobody's: a test says which Temporal it means
for name in (
    "ITTYBIT_API_KEY",
    "ITTYBIT_API_URL",
    "MEDIAPIPE_PUBLIC_URL",
    "DATABASE_URL",
):
    os.environ.pop(name, None)

# What is loaded for the tests stays until the end: without this, each collection looks through all of it.
gc.disable()

# Temporal's server collects garbage in Go: seldom, while it lives for minutes alone.
os.environ.setdefault("GOGC", "400")

# Of two products that start at once both would find Temporal's usual ports free: here nobody does.
HELD = []
for port in (7233, 8233):
    if not WORKER:
        with suppress(OSError):
            HELD.append(socket.create_server(("127.0.0.1", port)))


def pytest_runtestloop():
    """From here on garbage is collected, among what the tests leave: seldom, there is memory enough."""
    gc.freeze()
    gc.set_threshold(10_000)
    gc.enable()


def pytest_unconfigure():
    """The SDK's threads may crash a Python that ends at once (temporalio/sdk-python#300)."""
    gc.collect()
    time.sleep(0.4)
    for server in HELD:
        server.close()
    if not WORKER:
        shutil.rmtree(RUN, ignore_errors=True)
