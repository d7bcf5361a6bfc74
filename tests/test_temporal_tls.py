"""A Temporal that wants TLS and a client's certificate gets them by the settings; who lacks one reads why."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess

import pytest

from mediapipe import doctor, temporal

pytestmark = [pytest.mark.anyio, pytest.mark.whole]
CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
ALT = "subjectAltName=DNS:localhost,IP:127.0.0.1"
TLS = "TEMPORAL_TLS"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """The folder of an authority, a server that it vouches for, a client that it does, and one of its own."""
    folder = tmp_path_factory.mktemp("certificates")

    def issue(name: str, *extra: str) -> None:
        files = ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}", "-days", "2"]
        command = ["openssl", "req", "-x509", *CURVE, *files, *extra]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)

    by = ["-CA", "authority.pem", "-CAkey", "authority.key", "-addext", "basicConstraints=critical,CA:FALSE"]
    try:
        issue("authority")
        issue("server", *by, "-addext", ALT)
        issue("client", *by)
        issue("stranger")
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("no openssl here that can issue certificates")
    return folder


@pytest.fixture
async def behind_tls(dev_env, certificates):
    """The address of a real Temporal behind a door that asks for a certificate of that authority."""
    host, port = dev_env.client.service_client.config.target_host.split(":")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates / "authority.pem")
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])

    async def pass_on(reader, writer):
        with contextlib.suppress(OSError, ssl.SSLError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def open_door(reader, writer):
        inner, outer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pass_on(reader, outer), pass_on(inner, writer))

    server = await asyncio.start_server(open_door, "127.0.0.1", 0, ssl=context)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


@pytest.fixture
def configured(behind_tls, certificates, temporal_at, monkeypatch):
    """Settings by which this process goes there: what follows TEMPORAL_TLS, and the file for it."""

    def configure(**files: str) -> None:
        for name, file in files.items():
            monkeypatch.setenv(TLS + name, str(certificates / file) if file != "1" else file)
        temporal_at(behind_tls)

    return configure


OURS = {"_SERVER_CA_CERT_PATH": "authority.pem"}
CLIENT = {"_CLIENT_CERT_PATH": "client.pem", "_CLIENT_KEY_PATH": "client.key"}


async def test_the_certificate_of_the_settings_opens_it_for_pages_and_for_workers(configured):
    configured(**OURS, **CLIENT)
    assert (await doctor.look("Temporal")).state != "wrong"
    for client in (await temporal.client(), await temporal.worker_client()):
        assert (await client.count_workflows("WorkflowType = 'Nothing'")).count == 0


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "it hangs up: it wants TLS"),
        ({"": "1"}, "its certificate is of an authority that isn’t known here"),
        (OURS, "or a client certificate"),
        (
            {**OURS, "_CLIENT_CERT_PATH": "stranger.pem", "_CLIENT_KEY_PATH": "stranger.key"},
            "or a client certificate",
        ),
    ],
    ids=["without TLS", "a foreign authority", "no certificate", "a stranger's certificate"],
)
async def test_who_is_not_let_in_reads_why_and_a_worker_says_the_same(configured, files, says):
    configured(**files)
    assert says in (await doctor.look("Temporal")).text
    with pytest.raises(RuntimeError) as error:
        await temporal.worker_client()
    assert says in temporal.explain(error.value)
