"""Temporal's dev server as `up` runs it: its command line, its port, and that it is the one which answers.

It knows how it is started, and nothing of who uses it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.namespace.v1 import NamespaceConfig
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.workflowservice.v1 import UpdateNamespaceRequest
from temporalio.client import Client

from jobs.workflow import search_attributes
from mediapipe import temporal, temporal_ui
from mediapipe.supervisor import free_port, is_free

HOST = "127.0.0.1"
PORT = 7233  # where it is looked for first
RETENTION = timedelta(days=30)  # of closed workflows; the dev server's default is one day
# Measured: 2 to 5 times faster than SQLite's and the dev server's defaults.
SQLITE_OPTIONS = ("--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=NORMAL")
DYNAMIC_CONFIG = (
    *("--dynamic-config-value", "history.transferProcessorMaxPollRPS=1000"),
    # Else a timer takes a second at least: each wait, and what is handed over or tried again at once.
    *("--dynamic-config-value", 'history.timerProcessorMaxTimeShift="20ms"'),
    # Temporal is fair to owners within a partition of a task queue, and hardly across several.
    *("--dynamic-config-value", "matching.enableFairness=true"),
    *("--dynamic-config-value", "matching.numTaskqueueReadPartitions=1"),
    *("--dynamic-config-value", "matching.numTaskqueueWritePartitions=1"),
    # Its HTTP API takes orders from any page in a browser. No request can have this for its Host.
    *("--dynamic-config-value", 'frontend.httpAllowedHosts=["#"]'),
)


def program() -> str:
    """Temporal's own command."""
    return str(Path(sys.executable).with_name("temporal"))


async def prepare_namespace(address: str) -> None:
    """Has the dev server keep closed workflows for RETENTION, and know our search attributes.

    One request for each: of several names at once Temporal registers the first, and says success.
    """
    client = await Client.connect(address, namespace=temporal.namespace(), lazy=True)
    kept = NamespaceConfig()
    kept.workflow_execution_retention_ttl.FromTimedelta(RETENTION)
    with contextlib.suppress(*temporal.UNAVAILABLE):
        request = UpdateNamespaceRequest(namespace=client.namespace, config=kept)
        await client.workflow_service.update_namespace(request)
    for name in search_attributes.NAMES:
        new = {name: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD}
        with contextlib.suppress(*temporal.UNAVAILABLE):  # most often it is known already
            await client.operator_service.add_search_attributes(
                AddSearchAttributesRequest(namespace=client.namespace, search_attributes=new)
            )


class DevServer:
    """The dev server of this home; where its port has been taken meanwhile, it moves to another."""

    def __init__(self, on_move: Callable[[], None]) -> None:
        """*on_move* is called when it has another port than before."""
        self.port = free_port(PORT)
        self.ui = temporal_ui.hidden_address()
        self.on_move = on_move
        self.started = False

    @property
    def address(self) -> str:
        """Host and port, as its clients want it."""
        return f"{HOST}:{self.port}"

    def argv(self) -> list[str]:
        """The command line for the next start: with ports that are free at this moment."""
        if self.started and not is_free(self.port):
            self.port = free_port(PORT)
            self.on_move()
        self.started = True
        argv = [program(), "server", "start-dev", "--ip", HOST, "--port", str(self.port)]
        if self.ui:
            host, port = self.ui
            argv += ["--ui-ip", host, "--ui-port", str(port), "--ui-disable-news-fetch"]
        else:
            argv += ["--headless"]
        argv += ["--db-filename", str(settings.HOME / "temporal.sqlite3"), "--log-level", "error"]
        argv += [*SQLITE_OPTIONS, *DYNAMIC_CONFIG]
        for name in search_attributes.NAMES:  # heeded only where the database is new
            argv += ["--search-attribute", f"{name}=Keyword"]
        for namespace in {temporal.namespace(), temporal.mark()} - {"default"}:
            argv += ["--namespace", namespace]
        return argv

    async def is_ready(self) -> bool:
        """Whether it answers, and not another one that came to this port before it."""
        try:
            client = await Client.connect(self.address, lazy=True, retry_config=temporal.FAST_FAILURE)
            return await temporal.is_of_this_home(client)
        except temporal.UNAVAILABLE:
            return False
