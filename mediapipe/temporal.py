"""Clients of Temporal, from TEMPORAL_* or for the dev server that `up` started, and how workers run.

It knows addresses and deadlines, and nothing of workflows.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    DescribeTaskQueueRequest,
    DescribeTaskQueueResponse,
)
from temporalio.client import Client
from temporalio.common import Priority
from temporalio.envconfig import ClientConfig
from temporalio.runtime import LoggingConfig, PrometheusConfig, Runtime, TelemetryConfig, TelemetryFilter
from temporalio.service import RetryConfig, RPCError, RPCStatusCode
from temporalio.worker import Worker

from mediapipe import tracing
from mediapipe.at_work import Activities
from mediapipe.payloads import DATA_CONVERTER

# While no server listens a call fails after 60 ms instead of 6 to 10 s: rpc_timeout alone doesn't bound it.
FAST_FAILURE = RetryConfig(initial_interval_millis=50, max_retries=2, max_elapsed_time_millis=1000)
RPC_TIMEOUT = timedelta(seconds=3)  # for one call of a request
POLL_INTERVAL = timedelta(seconds=70)  # a worker with a free slot polls at least this often
SHUTDOWN_TIMEOUT = 12.0  # seconds for workers to shut down: `up` kills after 15

ASK_AGAIN = 60.0  # seconds
# What a call raises while Temporal is away: ask is_unavailable(), since a RuntimeError may be anything.
UNAVAILABLE = (RPCError, RuntimeError, TimeoutError)
HANGS_UP = (
    "it hangs up: it wants TLS (TEMPORAL_TLS=1), or a client certificate (TEMPORAL_TLS_CLIENT_CERT_PATH)"
    " of an authority that it knows"
)
NOT_OURS = "it isn’t the one that `up` starts for this MEDIAPIPE_HOME: start `up`, or set TEMPORAL_ADDRESS"
# Why a connection fails, by the words of the SDK's transport.
REASONS = {
    "dns error": "its name can’t be found",
    "Connection refused": "nobody listens there",
    "UnknownIssuer": "its certificate is of an authority that isn’t known here: set "
    "TEMPORAL_TLS_SERVER_CA_CERT_PATH",
    "InvalidCertificate": "its certificate isn’t valid here, or ours (TEMPORAL_TLS_CLIENT_CERT_PATH) isn’t",
    "InvalidContentType": "it doesn’t speak TLS: unset TEMPORAL_TLS",
    NOT_OURS: NOT_OURS,
    "transport error": HANGS_UP,
    "connection closed": HANGS_UP,
}

NOWHERE = "127.0.0.1:1"  # where nobody listens

_clients: dict[tuple[int, str], Client] = {}  # by process and address
_ours: set[tuple[int, str]] = set()  # of those, whose Temporal may be worked on
_known_attributes: dict[tuple[str, str, frozenset[str]], tuple[bool, float]] = {}


def addresses_file() -> Path:
    """Where `up` writes what it started: a JSON object with `temporal`, `temporal_ui`, `web`."""
    return Path(settings.HOME) / "addresses.json"


def addresses() -> dict[str, str]:
    """The addresses that `up` has written; empty where it has not run."""
    try:
        written: dict[str, str] = json.loads(addresses_file().read_text())
    except (OSError, ValueError):
        return {}
    return written


def ui_url() -> str:
    """The URL of Temporal's own UI; "" where it is unknown."""
    return os.environ.get("TEMPORAL_UI_URL", "") or addresses().get("temporal_ui", "")


def _config() -> dict[str, Any]:
    target = addresses().get("temporal", "127.0.0.1:7233")
    return {"target_host": target, **ClientConfig.load_client_connect_config()}


def target() -> str:
    """The address of the Temporal that this process uses."""
    return str(_config()["target_host"])


def is_cluster() -> bool:
    """Whether TEMPORAL_ADDRESS, or the SDK's own file, names it; else it is what `up` starts."""
    return "target_host" in ClientConfig.load_client_connect_config()


def is_encrypted() -> bool:
    """Whether the connection is."""
    return bool(_config().get("tls"))


def workflow_url(workflow_id: str, run_id: str = "") -> str:
    """The URL of a workflow's page in Temporal's own UI; "" where that is unknown."""
    base = ui_url()
    run = f"/{run_id}" if run_id else ""
    return f"{base}/namespaces/{namespace()}/workflows/{workflow_id}{run}" if base else ""


async def client() -> Client:
    """The shared client of this process; it connects at its first call, which may raise RuntimeError.

    One lazy client works from any loop and thread. It must not cross a fork, hence the pid. Where what
    answers isn't Temporal of this home, its calls find nobody.
    """
    config = _config()  # read anew: where `up` has moved it stands there
    known = (os.getpid(), str(config["target_host"]))
    if (shared := _clients.get(known)) is None:
        shared = _clients[known] = await Client.connect(
            **config,
            lazy=True,
            retry_config=FAST_FAILURE,
            interceptors=tracing.interceptors(),
            data_converter=DATA_CONVERTER,
        )
    if known in _ours or is_cluster():
        _ours.add(known)
        return shared
    with contextlib.suppress(*UNAVAILABLE):
        async with asyncio.timeout(2):
            if await is_of_this_home(shared):
                _ours.add(known)
                return shared
    return await Client.connect(NOWHERE, lazy=True, retry_config=FAST_FAILURE)


def mark() -> str:
    """The name of a namespace that the dev server of this home has beside ours, and that of no other home.

    A copy of a home is another home.
    """
    home = Path(settings.HOME)
    return f"home-{hashlib.sha256(f'{home}:{home.stat().st_ino}'.encode()).hexdigest()[:16]}"


async def is_of_this_home(client: Client) -> bool:
    """Whether what answers is the dev server that `up` has started for this home. Raises as a call does."""
    request = DescribeNamespaceRequest(namespace=mark())
    try:
        await client.workflow_service.describe_namespace(request, timeout=RPC_TIMEOUT)
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True


def is_unavailable(error: Exception) -> bool:
    """Whether *error* says that Temporal doesn't answer.

    The SDK raises RuntimeError where it can't connect, or is just connecting for another event loop, and
    also for what it can't decode.
    """
    if isinstance(error, RuntimeError) and "decod" in str(error).lower():
        return False
    return isinstance(error, UNAVAILABLE)


def explain(error: BaseException) -> str:
    """Why Temporal can't be used, as the end of a sentence."""
    if isinstance(error, RPCError):
        if error.status in (RPCStatusCode.UNAUTHENTICATED, RPCStatusCode.PERMISSION_DENIED):
            return "it doesn’t take our key: set TEMPORAL_API_KEY"
        if error.status == RPCStatusCode.NOT_FOUND:
            return f"it has no namespace {namespace()}: set TEMPORAL_NAMESPACE, or make that one"
    known = (reason for words, reason in REASONS.items() if words in str(error))
    return next(known, "it doesn’t answer")


@cache  # once, however often a client is tried for: its port of metrics is taken by the first
def _set_runtime(metrics_at: str) -> None:
    # at WARN the SDK logs each activity that a webhook completed before its poller did
    errors_only = LoggingConfig(filter=TelemetryFilter(core_level="ERROR", other_level="ERROR"))
    metrics = PrometheusConfig(bind_address=metrics_at) if metrics_at else None
    telemetry = TelemetryConfig(logging=errors_only, metrics=metrics)
    Runtime.set_default(Runtime(telemetry=telemetry), error_if_already_set=False)


async def worker_client(metrics_at: str = "") -> Client:
    """A client for workers: connected, with the SDK's own retries. Raises RuntimeError or RPCError without.

    *metrics_at*: host:port where the SDK shows its own metrics.
    """
    _set_runtime(metrics_at)
    interceptors = [*tracing.interceptors(), Activities()]
    client = await Client.connect(**_config(), interceptors=interceptors, data_converter=DATA_CONVERTER)
    if not is_cluster() and not await is_of_this_home(client):
        raise RuntimeError(NOT_OURS)
    await check(client)
    return client


@contextlib.asynccontextmanager
async def run_workers(
    workers: Sequence[Worker], shutdown_timeout: float = SHUTDOWN_TIMEOUT
) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Runs *workers* for the block, yields their tasks, and shuts them down at its end.

    A worker that does not shut down in time is abandoned: it may wait forever for an activity's last
    completion (temporalio/sdk-rust#1537), and Temporal gives its work to another worker anyway.
    """
    running = [asyncio.create_task(worker.run()) for worker in workers]
    try:
        yield running
    finally:
        tasks = [*(asyncio.create_task(worker.shutdown()) for worker in workers), *running]
        await asyncio.wait(tasks, timeout=shutdown_timeout)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def knows_search_attributes(client: Client, names: Collection[str]) -> bool:
    """Whether the namespace has all of these; asked once, and once a minute while it hasn't.

    False too where Temporal doesn't let us ask. Raises RuntimeError while it is unavailable.
    """
    key = (client.service_client.config.target_host, client.namespace, frozenset(names))
    known, asked_at = _known_attributes.get(key, (False, -ASK_AGAIN))
    if known or time.monotonic() - asked_at < ASK_AGAIN:
        return known
    try:
        request = ListSearchAttributesRequest(namespace=client.namespace)
        found = await client.operator_service.list_search_attributes(request, timeout=RPC_TIMEOUT / 2)
    except RPCError as error:
        if error.status in (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED):
            return False  # not an answer
        known = False
    else:
        known = set(names) <= set(found.custom_attributes)
    _known_attributes[key] = (known, time.monotonic())
    return known


def fairness_key(owner: str, *, line: str = "", weight: float = 1) -> Priority:
    """A priority that gives each owner a fair share of a task queue.

    *line*: of which of the owner's lines of work, where there are several, each with turns of its own;
    *weight*: its turns for one of the others'. Temporal takes 64 bytes of a name.
    """
    suffix = f"/{line}" if line else ""  # no name of a person has a slash
    name = owner.encode()[: 64 - len(suffix)].decode(errors="ignore")
    return Priority(fairness_key=name + suffix, fairness_weight=weight)


def namespace() -> str:
    """Temporal's namespace, as the client uses it."""
    config: dict[str, Any] = dict(ClientConfig.load_client_connect_config())
    return str(config.get("namespace", "default"))


async def describe_queue(shared: Client, queue: str) -> DescribeTaskQueueResponse:
    """A task queue of activities, and who has polled it within minutes. Raises RPCError."""
    request = DescribeTaskQueueRequest(
        namespace=shared.namespace,
        task_queue=TaskQueue(name=queue),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        report_stats=True,
    )
    return await shared.workflow_service.describe_task_queue(request, timeout=RPC_TIMEOUT)


async def check(shared: Client) -> None:
    """Raises RPCError where no work could be given out: by its frontend, its matching or its history."""
    await describe_queue(shared, "media-pipeline")
    try:
        await shared.get_workflow_handle("nobody").describe(rpc_timeout=RPC_TIMEOUT)
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
