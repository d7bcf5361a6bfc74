"""The dev server that `up` starts obeys us alone: no page of the web, no rebound name, no stranger."""

from __future__ import annotations

import json
import re
import socket
import threading
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from mediapipe import temporal_ui
from tests.support.browsing import cookies_of
from tests.support.dashboard import URL, submit
from tests.support.product import until

pytestmark = [pytest.mark.whole, pytest.mark.usefixtures("api")]
NAMESPACES = "/api/v1/namespaces"
# What a page may do without asking: read what it may read, send what a form could send, show, open.
ATTACK = """async ([targets, terminate]) => {
  const read = [];
  for (const target of targets) {
    for (const [method, path] of [["GET", "/api/v1/namespaces"], ["GET", "/"], ["POST", terminate]]) {
      for (const mode of ["cors", "no-cors"]) {
        try {
          const reply = await fetch(target + path, {method, mode, credentials: "include",
            headers: method === "POST" ? {"Content-Type": "text/plain"} : {},
            body: method === "POST" ? "{}" : undefined, signal: AbortSignal.timeout(20000)});
          const text = await reply.text();
          if (text) read.push(`${method} ${target}${path} ${mode}: ${text.slice(0, 80)}`);
        } catch {}
      }
    }
    const frame = document.body.appendChild(document.createElement("iframe"));
    const shown = new Promise((done) => { frame.onload = frame.onerror = done; setTimeout(done, 20000); });
    frame.src = target + "/";
    await shown;
  }
  return read;
}"""


@pytest.fixture(scope="module")
def product(cloud):
    """Jobs that run cost nothing, and last."""
    return cloud


@pytest.fixture
def running(product, api):
    """A job at work, which ends when the test does."""
    api.life = ["processing"] * 100_000
    product.editor("ada")
    job = submit(product, URL, "--owner", "ada")
    until(lambda: product.status(job)["status"] == "running")
    yield job
    assert product.status(job)["status"] == "running"
    product.command("cancel", job)


def listening(pid: int) -> list[tuple[str, int]]:
    """Where a process listens."""
    sockets = {path.readlink().name for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()}
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
            host, port = fields[1].split(":")
            found.append((socket.inet_ntoa(bytes.fromhex(host)[::-1]), int(port, 16)))
    return found


def addresses(product) -> dict[str, str]:
    return json.loads((product.home / "addresses.json").read_text())


def ask(host: str, port: int, lines: list[str]) -> bytes:
    """The first bytes of what comes back for a request, as it is written here."""
    with socket.create_connection((host, port), timeout=30) as line:
        line.sendall(
            "\r\n".join([*lines, "Connection: close", "Content-Length: 0", "", ""]).encode("latin-1")
        )
        answer = b""
        with suppress(ConnectionResetError):
            while block := line.recv(4096):
                answer += block
        return answer


def cookie(product, name: str, staff: bool) -> str:
    return "; ".join(f"{key}={value}" for key, value in product.editor(name, staff=staff).cookies.items())


def test_no_port_of_the_dev_server_takes_an_order_over_http_whatever_its_host(product, running):
    terminate = f"{NAMESPACES}/default/workflows/media-{running}/terminate"
    places = listening(product.children()["temporal"])
    hidden = [place for place in places if place[0] != "127.0.0.1"]
    assert len(hidden) == 1 and re.fullmatch(r"127\.\d+\.\d+\.\d+", hidden[0][0]), places
    assert len(places) > 3
    for host, port in set(places) - set(hidden):
        for name in ("Host: evil.example", f"Host: {host}:{port}", "Host: localhost", "Host: #", "Host:"):
            for order in (f"POST {terminate}", f"GET {NAMESPACES}"):
                answer = ask(host, port, [f"{order} HTTP/1.1", name])
                assert not re.match(rb"HTTP/1.\d [23]", answer), (host, port, name, answer)


@pytest.mark.parametrize(
    ("method", "fields", "status"),
    [
        ("GET", {}, 200),
        ("GET", {"Host": "localhost:{port}"}, 200),
        ("GET", {"Host": "rebound.evil.example"}, 403),
        ("GET", {"Host": "127.0.0.1.evil.example:{port}"}, 403),
        ("GET", {"Host": "[::1]:{port}"}, 403),
        ("GET", {"Host": ""}, 403),
        ("GET", {"Origin": "http://evil.example"}, 403),
        ("GET", {"Origin": "null"}, 403),
        ("GET", {"Origin": "http://127.0.0.1:1"}, 403),
        (
            "GET",
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"},
            403,
        ),
        (
            "GET",
            {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
            403,
        ),
        (
            "GET",
            {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
            200,
        ),
        ("POST", {}, 403),
        ("POST", {"Origin": "http://evil.example"}, 403),
        ("GET", {"Cookie": ""}, 403),
        ("GET", {"Cookie": "sessionid=no-such-session"}, 403),
    ],
)
def test_the_uis_door_opens_for_an_admins_own_page_alone(product, method, fields, status):
    port = urlsplit(addresses(product)["temporal_ui"]).port
    given = {"Host": f"127.0.0.1:{port}", "Cookie": cookie(product, "chief", staff=True), **fields}
    lines = [f"{name}: {value.format(port=port)}" for name, value in given.items()]
    answer = ask("127.0.0.1", port, [f"{method} {NAMESPACES} HTTP/1.1", *lines])
    assert answer.startswith(b"HTTP/1.1 %d" % status), answer
    assert (b'"namespaces"' in answer) is (status == 200)


def test_who_isnt_an_admin_is_sent_to_the_dashboard_and_an_order_of_theirs_nowhere(product):
    ui = addresses(product)["temporal_ui"]
    for headers in ({}, {"Cookie": cookie(product, "ada", staff=False)}):
        page = httpx.get(f"{ui}/", headers=headers, trust_env=False, timeout=30)
        assert page.status_code == 302 and page.headers["Location"] == f"{product.url}/temporal/"
        order = httpx.post(
            f"{ui}{NAMESPACES}", headers={**headers, "Origin": ui}, trust_env=False, timeout=30
        )
        assert order.status_code == 403
    assert product.editor("ada").get("/temporal/").status_code == 403
    arrived = httpx.get(f"{ui}{temporal_ui.ARRIVED}", trust_env=False, timeout=30)
    assert arrived.status_code == 403 and product.url in arrived.text, "nobody is sent round in circles"
    chief = product.editor("chief", staff=True)
    assert chief.get("/temporal/", follow_redirects=False).headers["Location"] == f"{ui}{temporal_ui.ARRIVED}"
    assert "<!doctype html>" in chief.get("/temporal/").text
    # An order of an admin's own page comes as far as Temporal's own check.
    order = chief.post(f"{ui}{NAMESPACES}", headers={"Origin": ui})
    assert order.status_code != 200 and order.text != temporal_ui.FOREIGN


@pytest.mark.browser
@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"], ids=["another site", "this site, another port"])
def test_a_page_in_an_admins_browser_can_order_and_read_nothing(product, running, context, tmp_path, name):
    (tmp_path / "index.html").write_text("<!doctype html><title>evil</title><body>")
    context.add_cookies(cookies_of(product, "chief", staff=True))
    ports = [port for host, port in listening(product.children()["temporal"]) if host == "127.0.0.1"]
    targets = [addresses(product)["temporal_ui"], *(f"http://127.0.0.1:{port}" for port in ports)]
    serve = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.goto(f"http://{name}:{server.server_port}/")
        terminate = f"{NAMESPACES}/default/workflows/media-{running}/terminate"
        read = page.evaluate(ATTACK, [targets, terminate])
        server.shutdown()
    assert read == []
    assert product.status(running)["status"] == "running"


@pytest.mark.browser
def test_an_admin_opens_the_ui_from_a_jobs_page_and_it_works(product, running, context):
    context.add_cookies(cookies_of(product, "chief", staff=True))
    page = context.new_page()
    page.goto(f"{product.url}/jobs/{running}/")
    with context.expect_page() as opened:
        page.click("a[href*='/namespaces/default/workflows/']")
    ui = opened.value
    ui.get_by_text("MediaPipeline").first.wait_for()
    assert ui.url.startswith(addresses(product)["temporal_ui"])
