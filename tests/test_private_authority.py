"""A newsroom whose servers have certificates of its own authority, and whose way out is a proxy."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.bucket import Bucket
from tests.support.machines import of_bucket
from tests.support.product import CALM, Product, make_clip
from tests.test_deploy import make_certificate

pytestmark = [pytest.mark.release, pytest.mark.whole, pytest.mark.timeout(600)]
NOBODYS = "[3000::1]:443"  # an address of the internet, by our table, that nobody has


@contextmanager
def site(folder: Path, certificate: list[str]):
    """Serves a folder by https: its port."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@contextmanager
def proxy(port: int):
    """Connects whoever asks to *port*, wherever they wanted to: its own port, and the places asked for."""
    asked: list[str] = []

    def pass_on(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def answer(near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", port)) as far:
            head = b""
            while b"\r\n\r\n" not in head:
                head += near.recv(1)
            asked.append(head.decode().split(" ")[1])
            near.sendall(b"HTTP/1.1 200 go\r\n\r\n")
            back = threading.Thread(target=pass_on, args=(far, near))
            back.start()
            pass_on(near, far)
            back.join()

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1], asked


def test_a_source_comes_by_the_proxy_and_the_bucket_is_used_directly_both_of_the_own_authority(tmp_path):
    certificate = make_certificate(tmp_path, more=",IP:3000::1")
    (films := tmp_path / "films").mkdir()
    make_clip(films / "film.mp4", 2, "320x180", *CALM)
    bucket = Bucket(tmp_path / "s3", "localhost", certificate).start()
    with site(films, certificate) as port, proxy(port) as (way, asked):
        product = Product(
            tmp_path / "home",
            MEDIAPIPE_ALLOW_PRIVATE_SOURCES="0",
            MEDIAPIPE_CA_FILE=certificate[0],
            AWS_CA_BUNDLE=certificate[0],
            MEDIAPIPE_PROXY=f"http://127.0.0.1:{way}",
            **of_bucket(bucket),
        )
        try:
            product.start()
            done = product.script("submit", f"https://{NOBODYS}/film.mp4", "--wait", "--json")
            assert done.returncode == 0, done.stdout + done.stderr
            result = json.loads(done.stdout)["result"]
            assert all(url.startswith(bucket.url) for url in result.values())
            assert asked and set(asked) == {NOBODYS}, "what is on our own network needs no proxy"
            found = product.script("doctor").stdout
            assert f"storage: ok: The bucket media at {bucket.url} answers." in found, found
            assert "the bucket’s server" in found, "its clock is compared"
        finally:
            product.stop()
            bucket.kill()
