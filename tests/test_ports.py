"""Ports that `up` chooses: each is one product's, and what answers there is that product's own."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys

import pytest
from django.core.management.base import CommandError
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest

from mediapipe import supervisor, temporal
from mediapipe.management.commands.up import Command
from mediapipe.management.dev_server import DevServer
from tests.support.product import ROOT, free_port, until_async

CHOOSE = "from mediapipe.supervisor import free_port; print(free_port({}), flush=True); input()"
# A server that was given where it listens: it answers once with its id, and ends.
SERVER = """
import os, socket, sys
client, _ = socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1])).accept()
client.sendall(str(os.getpid()).encode())
"""


def choosing(preferred: int) -> subprocess.Popen[str]:
    """A process that chooses a port, and prints it."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", CHOOSE.format(preferred)], cwd=ROOT, **pipes)


def test_of_two_that_look_for_a_port_at_once_each_is_given_its_own():
    preferred = free_port()
    several = [choosing(preferred) for _ in range(3)]
    try:
        chosen = [int(each.stdout.readline()) for each in several]
        assert len(set(chosen)) == 3 and preferred in chosen
        for port in chosen:
            assert not supervisor.reserve(port)
            supervisor.listen(port).close()  # which a server of theirs can at any time
    finally:
        for each in several:
            each.communicate("\n")
    assert supervisor.free_port(preferred) == preferred, "it is let go by the process’s end"


def test_up_refuses_a_port_at_which_another_one_is_about_to_listen():
    other = choosing(port := free_port())
    try:
        assert int(other.stdout.readline()) == port
        with pytest.raises(CommandError, match=f"Port {port} is taken by another program"):
            Command().listen("127.0.0.1", port)
    finally:
        other.communicate("\n")
    with Command().listen("127.0.0.1", port), pytest.raises(OSError, match="in use"):
        supervisor.listen(port)


@pytest.mark.anyio
async def test_a_server_is_given_where_it_listens_and_waits_where_a_stranger_has_come_before_it():
    port = free_port()
    lines: list[str] = []
    service = supervisor.Service(
        "web", lambda: [sys.executable, "-c", SERVER], listener=lambda: supervisor.listen(port)
    )
    running = supervisor.Supervisor([service], lines.append)
    task = asyncio.create_task(running._run_service(service))

    async def answer() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        said = await reader.read()
        writer.close()
        return int(said or 0)

    async def answers() -> bool:
        try:
            return await answer() == service.process.pid
        except (OSError, AttributeError):
            return False

    await until_async(answers)
    with await until_async(lambda: asyncio.to_thread(stranger, port)):
        await until_async(lambda: asyncio.sleep(0, any("can’t be started" in line for line in lines)))
    await until_async(answers)
    running.stopping.set()
    await running._stop(service, task)


@pytest.mark.anyio
async def test_what_a_server_says_of_looks_before_it_is_ready_is_not_shown():
    """An error in the log of a first start frightens, and is none."""
    lines: list[str] = []
    says = "import time; print('ERROR not healthy yet\\nERROR no disk', flush=True); time.sleep(60)"
    service = supervisor.Service("temporal", lambda: [sys.executable, "-c", says], noise="not healthy yet")
    running = supervisor.Supervisor([service], lines.append)
    task = asyncio.create_task(running._run_service(service))
    await until_async(lambda: asyncio.sleep(0, bool(lines)))
    running.stopping.set()
    await running._stop(service, task)
    assert lines[0] == "temporal: ERROR no disk"


def stranger(port: int) -> socket.socket | None:
    """Somebody else's server on that port, once it can be."""
    try:
        return supervisor.listen(port)
    except OSError:
        return None


def test_temporals_server_moves_where_its_port_is_taken_while_it_is_away():
    moved: list[int] = []
    server = DevServer(lambda: moved.append(server.port))
    before = server.port
    assert str(before) in server.argv() and str(before) in server.argv() and not moved
    with supervisor.listen(before):
        argv = server.argv()
    assert moved == [server.port] and server.port != before
    assert argv[argv.index("--port") + 1] == str(server.port)


@pytest.fixture
def another_home(dev_env, tmp_path, settings, monkeypatch):
    """A home in which the address of a Temporal stands that isn't its own."""
    settings.HOME = tmp_path
    monkeypatch.delenv("TEMPORAL_ADDRESS")
    monkeypatch.setattr(temporal, "_ours", set())  # by TEMPORAL_ADDRESS it may have been used before
    at = dev_env.client.service_client.config.target_host
    temporal.addresses_file().write_text(json.dumps({"temporal": at}))
    return dev_env.client


@pytest.mark.anyio
async def test_nobody_works_on_the_temporal_of_another_home(another_home):
    with pytest.raises(RuntimeError) as error:
        await (await temporal.client()).count_workflows("WorkflowType = 'Nothing'")
    assert temporal.is_unavailable(error.value)
    with pytest.raises(RuntimeError) as error:
        await temporal.worker_client()
    assert "isn’t the one that `up` starts for this MEDIAPIPE_HOME" in temporal.explain(error.value)
    mark = RegisterNamespaceRequest(namespace=temporal.mark())
    mark.workflow_execution_retention_period.FromSeconds(86400)
    await another_home.workflow_service.register_namespace(mark)
    for client in (await temporal.client(), await temporal.worker_client()):
        assert (await client.count_workflows("WorkflowType = 'Nothing'")).count == 0
