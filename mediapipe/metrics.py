"""What this process counts for Prometheus, and the port on which a worker shows it.

It knows names, units and a port; what happens, and when, its callers know.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.request import urlopen
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)

# What is the same whoever is asked, such as rows: web servers show it, workers don't.
SHARED = CollectorRegistry(auto_describe=False)
MOMENTS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)  # seconds
WORK = (0.5, 1, 2, 5, 10, 30, 60, 180, 600, 1800, 7200, 28800)  # seconds
MOST_KINDS = 100  # of failures: an API of somebody else's names them

REQUESTS = Histogram(
    "mediapipe_request_seconds",
    "From a request to the head of its answer",
    ["method", "view", "status"],
    buckets=MOMENTS,
)
UPLOADED = Counter("mediapipe_uploaded_bytes", "Bytes of sources that were uploaded")
STORAGE_ERRORS = Counter("mediapipe_storage_errors", "Tries of the storage that failed")
STAGES = Histogram(
    "mediapipe_stage_seconds", "From a stage's start to its end", ["stage", "outcome"], buckets=WORK
)
FAILURES = Counter(
    "mediapipe_stage_failures", "Stages that have failed or wait for a person", ["stage", "kind"]
)
TASK_WAITS = Histogram(
    "mediapipe_task_wait_seconds", "From a task's creation to its start", ["kind"], buckets=WORK
)
TASKS = Histogram(
    "mediapipe_task_seconds", "From a task's start to its end", ["kind", "status"], buckets=WORK
)

_kinds: set[str] = set()


def count_failure(stage: str, kind: str) -> None:
    """Counts a stage that has failed by *kind*; kinds beyond MOST_KINDS are "other"."""
    if len(_kinds) < MOST_KINDS:
        _kinds.add(kind)
    FAILURES.labels(stage, kind if kind in _kinds else "other").inc()


def _read(url: str) -> bytes:
    with contextlib.suppress(OSError), urlopen(url, timeout=2) as reply:  # noqa: S310 - our own process
        return bytes(reply.read())
    return b""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = 5  # seconds for a request that doesn't come

    def log_message(self, *args: Any) -> None:
        """Nothing: it is asked all the time."""


@contextlib.contextmanager
def shown(host: str, port: int, also_at: str, is_ready: Callable[[], bool]) -> Iterator[None]:
    """Serves /metrics, /healthz and /readyz of a worker while the block runs.

    *also_at*: the URL of further metrics, in the same format. Raises OSError where it can't listen there.
    """

    def answer(asked: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        path = asked["PATH_INFO"]
        if path == "/metrics":
            start_response("200 OK", [("Content-Type", CONTENT_TYPE_LATEST)])
            return [generate_latest(REGISTRY), _read(also_at)]
        good = path == "/healthz" or (path == "/readyz" and is_ready())
        status = "200 OK" if good else "503 Service Unavailable" if path == "/readyz" else "404 Not Found"
        start_response(status, [("Content-Type", "text/plain")])
        return [b"ok\n" if good else status.partition(" ")[2].encode() + b"\n"]

    kind = _Server6 if ":" in host else _Server
    with make_server(host, port, answer, server_class=kind, handler_class=_Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True, name="metrics").start()
        try:
            yield
        finally:
            server.shutdown()
