"""Downloads: every hop checked, nothing endless, and a connection that breaks is taken up again."""

from __future__ import annotations

import gzip
import os
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mediapipe import content_encoding, download, pace
from mediapipe.engine import fetch, sources
from mediapipe.engine.errors import TaskError

pytestmark = pytest.mark.anyio
DATA = bytes(range(256)) * 4000


class Server(BaseHTTPRequestHandler):
    """One path per kind of trouble."""

    asked: list[tuple[str, str | None, str | None]] = []

    def log_message(self, *arguments) -> None:
        pass

    def begin(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
        self.close_connection = True
        getattr(self, self.path.strip("/").split("/")[0])()

    def breaks(self) -> None:
        """Sends half, then hangs up; later the rest."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(found[1]) if found else 0
        about = {"Content_Range": f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"} if found else {}
        self.begin(206 if found else 200, Content_Length=len(DATA) - start, ETag='"one"', **about)
        self.wfile.write(DATA[start:] if found else DATA[: len(DATA) // 2])

    def forgets(self) -> None:
        """Sends half, then hangs up; it cannot resume."""
        first = sum(path == self.path for path, *_ in self.asked) == 1
        self.begin(200, Content_Length=len(DATA))
        self.wfile.write(DATA[: len(DATA) // 2] if first else DATA)

    def changes(self) -> None:
        """Sends half of one version, then the rest of another one, whatever If-Range says; later it whole."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if found:
            start = int(found[1])
            part = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"
            self.begin(206, Content_Length=len(DATA) - start, ETag='"two"', Content_Range=part)
            self.wfile.write(DATA[::-1][start:])
            return
        first = sum(path == self.path for path, *_ in self.asked) == 1
        self.begin(200, Content_Length=len(DATA), ETag='"one"' if first else '"two"')
        self.wfile.write(DATA[: len(DATA) // 2] if first else DATA[::-1])

    def unmarked(self) -> None:
        """Resumes, but says by nothing which version it sends: half of one, and then another one."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = sum(path == self.path for path, *_ in self.asked) == 1
        start = int(found[1]) if found else 0
        about = {"Content_Range": f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"} if found else {}
        self.begin(206 if found else 200, Content_Length=len(DATA) - start, **about)
        self.wfile.write(DATA[: len(DATA) // 2] if first else DATA[::-1][start:])

    def whole_already(self) -> None:
        """Promises a byte too many, and hangs up behind the last one."""
        if self.headers.get("Range"):
            self.begin(416, Content_Length=0, Content_Range=f"bytes */{len(DATA)}")
            return
        self.begin(200, Content_Length=len(DATA) + 1, ETag='"one"')
        self.wfile.write(DATA)

    def moved(self) -> None:
        """Leads to where nobody listens."""
        self.begin(302, Location="http://127.0.0.1:1/a.mp4")

    def hangs_up(self) -> None:
        """Says nothing at all."""

    def local(self) -> None:
        self.begin(302, Location="file:///etc/passwd")

    def named(self) -> None:
        self.begin(302, Location="http://user:secret@127.0.0.1/")

    def around(self) -> None:
        self.begin(302, Location=self.path + "/again")

    def huge(self) -> None:
        self.begin(200, Content_Length=10**15)

    def endless(self) -> None:
        self.begin(200)
        while True:
            try:
                self.wfile.write(DATA)
            except OSError:
                return

    def drips(self) -> None:
        self.begin(200, Content_Length=10**6)
        for _ in range(100):
            try:
                self.wfile.write(b"x")
                self.wfile.flush()
            except OSError:
                return
            time.sleep(0.1)

    def bomb(self) -> None:
        packed = gzip.compress(bytes(50_000_000))
        self.begin(200, Content_Length=len(packed), Content_Encoding="gzip")
        self.wfile.write(packed)

    def gone(self) -> None:
        self.begin(410)

    def page(self) -> None:
        self.begin(200, Content_Length=15)
        self.wfile.write(b"\n <!doctype html")


@pytest.fixture(scope="module")
def server():
    running = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    running.daemon_threads = True
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{running.server_address[1]}"
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture
async def get(server, settings, tmp_path):
    """Downloads a path of the server to a file."""
    settings.ALLOW_PRIVATE_SOURCES = True
    settings.MAX_UPLOAD_BYTES = 100 << 20
    Server.asked.clear()

    async def room(wanted: int) -> None:
        return None

    async def download(path: str, host: str = "127.0.0.1") -> bytes:
        url = f"{server.replace('127.0.0.1', host)}/{path}"
        await fetch.fetch(url, tmp_path / "input", lambda percent: None, room)
        return (tmp_path / "input").read_bytes()

    return download


async def test_a_host_name_with_letters_outside_ascii_is_written_in_ascii(get):
    assert await get("breaks", "ⓛocalhost") == DATA


async def test_a_broken_download_goes_on_where_it_stopped(get):
    assert await get("breaks") == DATA
    _, continued, mark = Server.asked[1]
    assert (int(continued[6:-1]), mark) == (len(DATA) // 2, '"one"')


async def test_a_server_that_cannot_resume_is_read_again_from_the_start(get):
    assert await get("forgets") == DATA


@pytest.mark.parametrize(
    ("path", "kind", "says"),
    [
        ("local", "source_refused", "redirects to another one. That’s a file on a computer"),
        ("named", "source_refused", "user name or password"),
        ("around", "source_refused", "redirects more than"),
        ("huge", "too_large", "larger than"),
        ("endless", "too_large", "larger than"),
        ("page", "invalid_input", "leads to a web page"),
    ],
)
async def test_a_download_that_leads_nowhere_ends_with_a_sentence(get, path, kind, says):
    with pytest.raises(TaskError, match=says) as caught:
        await get(path)
    assert caught.value.kind == kind


async def test_a_server_that_only_drips_is_given_up(get, monkeypatch):
    monkeypatch.setattr(pace, "WINDOW", 0.3)
    monkeypatch.setattr(download, "BACKOFF", (0.1,))
    with pytest.raises(TaskError, match="sends almost nothing") as caught:
        await get("drips")
    assert caught.value.kind == "source_unreachable"


@pytest.mark.parametrize(
    ("path", "says"),
    [("moved", "the server isn’t responding"), ("hangs_up", "the connection broke")],
)
async def test_a_server_that_is_away_is_named_in_a_sentence(get, monkeypatch, path, says):
    monkeypatch.setattr(download, "BACKOFF", ())
    with pytest.raises(TaskError, match=f"Couldn’t download the source: {says}") as caught:
        await get(path)
    assert caught.value.kind == "source_unreachable"


async def test_a_bomb_is_given_up_long_before_it_has_gone_off(get, monkeypatch, tmp_path):
    monkeypatch.setattr(content_encoding, "HARMLESS", 1 << 20)
    with pytest.raises(TaskError, match="far more than was sent") as caught:
        await get("bomb")
    assert caught.value.kind == "source_refused"
    assert (tmp_path / "input").stat().st_size < 20_000_000


@pytest.mark.parametrize("path", ["changes", "unmarked"])
async def test_two_versions_of_a_source_are_never_mixed(get, monkeypatch, path):
    monkeypatch.setattr(download, "BACKOFF", (0.01,) * 4)
    assert await get(path) == DATA[::-1]


async def test_a_connection_that_breaks_behind_the_last_byte_needs_no_more(get):
    assert await get("whole_already") == DATA
    assert [asked for _, asked, _ in Server.asked] == [None, f"bytes={len(DATA)}-"]


async def test_a_source_may_not_take_for_ever(get, monkeypatch):
    monkeypatch.setattr(download, "TOTAL_SECONDS", 0.5)
    with pytest.raises(TaskError, match="it took longer than") as caught:
        await get("drips")
    assert caught.value.kind == "source_unreachable"


async def test_a_file_that_is_not_there_is_named(get):
    with pytest.raises(TaskError, match="there is no such file") as caught:
        await get("gone")
    assert caught.value.kind == "source_not_found"


async def test_a_download_waits_for_room_and_goes_on(server, settings, tmp_path):
    settings.ALLOW_PRIVATE_SOURCES = True
    asked = []

    async def room(wanted: int) -> None:
        asked.append(wanted)

    await fetch.fetch(f"{server}/forgets/once", tmp_path / "input", lambda percent: None, room)
    assert asked[0] == len(DATA)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "0x7f000001", "0177.0.0.1", "127.1", "0", "169.254.169.254", "[::1]", "[::]"),
        *("[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1]", "[fc00::1]"),
        *("224.0.0.1", "[ff02::1]", "localhost", "192.0.2.1", "0.0.0.0", "100.64.0.1", "255.255.255.255"),
    ],
)  # fmt: skip
async def test_no_way_to_write_a_private_address_gets_through(host, settings, tmp_path):
    async def room(wanted: int) -> None:
        pass

    settings.ALLOW_PRIVATE_SOURCES = False
    with pytest.raises(TaskError) as caught:
        await fetch.fetch(f"http://{host}/a.mp4", tmp_path / "input", lambda percent: None, room)
    assert caught.value.kind == "source_refused"


def test_what_is_kept_of_a_bucket_is_bounded(settings, tmp_path, monkeypatch):
    """By age and size: what was read first goes first, the latest stays, and who reads one loses nothing."""
    settings.WORK_ROOT = tmp_path
    kept = tmp_path / ".sources"
    kept.mkdir()
    ages = {"old": 2 * sources.CACHED_FOR, "earlier": 60, "latest": 1}
    for name, age in ages.items():
        (kept / name).write_bytes(DATA)
        os.utime(kept / name, (time.time() - age, 0))
    os.link(kept / "earlier", tmp_path / "read")
    assert sources.sweep() == 1 and {each.name for each in kept.iterdir()} == {"earlier", "latest"}
    monkeypatch.setattr(sources, "CACHED_SHARE", 1e-12)
    assert sources.sweep() == 1 and {each.name for each in kept.iterdir()} == {"latest"}
    assert sources.sweep() == 0 and (tmp_path / "read").read_bytes() == DATA
