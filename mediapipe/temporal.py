"""The one way to Temporal: a lazy client from TEMPORAL_* or from the dev server that `up` started.

It knows addresses and deadlines, and nothing of workflows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from temporalio.client import Client
from temporalio.common import Priority
from temporalio.envconfig import ClientConfig
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter
from temporalio.service import RetryConfig
from temporalio.worker import Worker

# With the server away a call fails after 60 ms instead of 6 to 10 s: rpc_timeout alone doesn't bound it.
IMPATIENT = RetryConfig(initial_interval_millis=50, max_retries=2, max_elapsed_time_millis=1000)
ENDING = 12.0  # seconds that workers have for their end: `up` kills after 15

_clients: dict[int, Client] = {}


def addresses_file() -> Path:
    """Where `up` writes what it started: a JSON object with `temporal`, `temporal_ui`, `web`."""
    return Path(settings.HOME) / "addresses.json"


def addresses() -> dict[str, str]:
    """What `up` has written, or nothing."""
    try:
        found: dict[str, str] = json.loads(addresses_file().read_text())
    except (OSError, ValueError):
        return {}
    return found


def ui_url() -> str:
    """Temporal's own UI, or nothing where its address is not known."""
    return os.environ.get("TEMPORAL_UI_URL", "") or addresses().get("temporal_ui", "")


def _config() -> dict[str, Any]:
    target = addresses().get("temporal", "127.0.0.1:7233")
    return {"target_host": target, **ClientConfig.load_client_connect_config()}


def workflow_url(workflow_id: str, run_id: str = "") -> str:
    """A workflow's page in Temporal's own UI, or nothing where that is not known."""
    base = ui_url()
    run = f"/{run_id}" if run_id else ""
    return f"{base}/namespaces/{namespace()}/workflows/{workflow_id}{run}" if base else ""


async def client() -> Client:
    """The shared client of this process; never fails, the first call does.

    One lazy client works from any loop and thread. It must not cross a fork, hence the pid.
    """
    if (known := _clients.get(os.getpid())) is None:
        known = await Client.connect(**_config(), lazy=True, retry_config=IMPATIENT)
        _clients[os.getpid()] = known
    return known


async def worker_client() -> Client:
    """A client for workers: patient, and connected. Raises RuntimeError while Temporal is away."""
    # at WARN the SDK tells of each activity that a webhook completed before its poller did
    quiet = LoggingConfig(filter=TelemetryFilter(core_level="ERROR", other_level="ERROR"))
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=quiet)), error_if_already_set=False)
    return await Client.connect(**_config())


@contextlib.asynccontextmanager
async def working(
    workers: Sequence[Worker], ending: float = ENDING
) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Runs *workers*, whose runs it yields, and has all of them hand over at the end.

    One that does not come to its end is left: a worker that shuts down may wait for ever for an
    activity's last word (temporalio/sdk-rust#1537), and Temporal gives its work to the next one anyway.
    """
    running = [asyncio.create_task(worker.run()) for worker in workers]
    try:
        yield running
    finally:
        ends = [*(asyncio.create_task(worker.shutdown()) for worker in workers), *running]
        await asyncio.wait(ends, timeout=ending)
        for each in ends:
            each.cancel()
        await asyncio.gather(*ends, return_exceptions=True)


def fairness_key(owner: str) -> Priority:
    """What makes the work of different owners take fairness_key. Temporal takes 64 bytes of a name."""
    return Priority(fairness_key=owner.encode()[:64].decode(errors="ignore"))


def namespace() -> str:
    """Temporal's namespace, as the client uses it."""
    found: dict[str, Any] = dict(ClientConfig.load_client_connect_config())
    return str(found.get("namespace", "default"))
