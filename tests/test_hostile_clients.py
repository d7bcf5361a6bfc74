"""Clients that lie, dawdle or vanish, over real sockets against the running product."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.product import token, until
from tests.support.tusclient import encoded, sound

pytestmark = pytest.mark.whole
STREAM = {"Content-Type": "application/offset+octet-stream"}


class Editor:
    """A signed-in tus client, and the very bytes it would send."""

    def __init__(self, product) -> None:
        self.product, self.http = product, product.editor("ada")
        self.headers = {"Tus-Resumable": "1.0.0", "X-CSRFToken": token(self.http.get("/"))}

    def create(self, length: int) -> str:
        about = {"Upload-Length": str(length), "Upload-Metadata": encoded(filename="a.wav")}
        made = self.http.post("/uploads/", headers={**self.headers, **about})
        return made.headers["Location"].removeprefix(self.product.url)

    def head(self, url: str) -> httpx.Response:
        return self.http.head(url, headers=self.headers)

    def offset(self, url: str) -> int:
        return int(self.head(url).headers["Upload-Offset"])

    def patch(self, url: str, content, offset: int, **headers) -> httpx.Response:
        about = {**self.headers, **STREAM, "Upload-Offset": str(offset), **headers}
        return self.http.patch(url, content=content, headers=about)

    def raw(self, url: str, length: int | str, offset: int = 0) -> socket.socket:
        """A connection on which the head of a PATCH has been sent."""
        about = {**self.headers, **STREAM, "Upload-Offset": offset, "Content-Length": length}
        about |= {"Cookie": "; ".join(f"{k}={v}" for k, v in self.http.cookies.items())}
        lines = [f"PATCH {url} HTTP/1.1", f"Host: 127.0.0.1:{self.product.port}"]
        lines += [f"{name}: {value}" for name, value in about.items()]
        line = socket.create_connection(("127.0.0.1", self.product.port), timeout=30)
        line.sendall("\r\n".join([*lines, "", ""]).encode())
        return line

    def part(self, url: str) -> Path:
        pk = url.strip("/").split("/")[1].replace("-", "")
        return self.product.home / "media" / "incoming" / f"{pk}.wav"


@pytest.fixture(scope="module")
def editor(product):
    return Editor(product)


def status_of(line: socket.socket) -> int:
    return int(line.recv(4096).split(b" ")[1])


def test_more_bytes_than_promised_are_dropped_where_no_length_announced_them(editor):
    data = os.urandom(2 << 20)
    url = editor.create(1 << 20)
    assert editor.patch(url, data[:1000], 0).status_code == 204
    answer = editor.patch(url, (data[at : at + 65536] for at in range(1000, len(data), 65536)), 1000)
    assert answer.status_code == 413 and "More bytes came" in answer.text
    assert editor.offset(url) == 1000 and editor.part(url).read_bytes() == data[:1000]


@pytest.mark.parametrize("length", ["-1", "x", "9" * 30])
def test_a_content_length_that_is_none_gets_no_further_than_the_door(editor, length):
    url = editor.create(1000)
    with editor.raw(url, length) as line:
        line.settimeout(10)
        assert not (answer := line.recv(4096)) or answer.split(b" ")[1] in (b"400", b"413")
    assert editor.offset(url) == 0


def test_a_client_that_vanishes_leaves_what_it_sent_and_the_next_one_goes_on(editor):
    data = sound(500_000)
    url = editor.create(len(data))
    with editor.raw(url, len(data)) as line:
        line.sendall(data[:400_000])
    until(lambda: editor.offset(url) == 400_000)
    assert "Mediapipe-Job" in editor.patch(url, data[400_000:], 400_000).headers


@contextlib.contextmanager
def half_sent(editor):
    """An upload of which the first ten bytes have arrived, on a line that stays open."""
    data = sound(500_000)
    url = editor.create(len(data))
    with editor.raw(url, len(data)) as line:
        line.sendall(data[:10])
        until(lambda: editor.part(url).exists())
        yield url, data, line


def test_a_second_writer_is_told_to_wait_and_the_first_one_is_not_disturbed(editor):
    with half_sent(editor) as (url, data, line), ThreadPoolExecutor(1) as thread:
        second, sent = thread.submit(editor.patch, url, data, 0), 10
        while not second.done():  # who is silent for seconds, as a busy machine may be, is let go of
            line.sendall(data[sent : sent + 1])
            sent += 1
            time.sleep(0.1)
        answer = second.result()
        assert answer.status_code == 423 and "Try again in a moment" in answer.text
        line.sendall(data[sent:])
        assert status_of(line) == 204
    assert "Mediapipe-Job" in editor.head(url).headers


def test_an_upload_that_is_removed_is_gone_though_somebody_still_writes_it(editor):
    with half_sent(editor) as (url, data, line):
        assert editor.http.delete(url, headers=editor.headers).status_code == 204
        assert not editor.part(url).exists() and editor.head(url).status_code == 404
        line.sendall(data[10:])
        assert status_of(line) == 404, "all its bytes came, and no job of them"
    assert not editor.part(url).exists()


def test_a_server_killed_in_the_middle_has_every_byte_that_it_wrote(product, editor):
    data = sound(4_000_000)
    url = editor.create(len(data))
    with editor.raw(url, len(data)) as line:
        line.sendall(data[: 5 << 20])
        until(lambda: editor.part(url).stat().st_size >= 4 << 20)
        product.kill("web")

    def asked() -> int | None:
        try:
            return editor.offset(url)
        except httpx.HTTPError:
            return None

    kept = until(lambda: asked())
    assert kept == editor.part(url).stat().st_size >= 4 << 20
    job = editor.patch(url, data[kept:], kept).headers["Mediapipe-Job"]
    source = product.command(
        *("shell", "-v", "0", "-c"),
        f"from jobs.models import Job; print(Job.objects.get(pk={job.split('/')[2]!r}).source_sha256)",
    )
    assert source.stdout.strip() == hashlib.sha256(data).hexdigest()


def test_nobody_fills_the_disk_by_the_plain_form_with_a_session_that_is_none(product):
    lines = [
        "POST /jobs/new/ HTTP/1.1",
        f"Host: 127.0.0.1:{product.port}",
        "Cookie: sessionid=abcdefghijklmnopqrstuvwxyz012345",
        "Content-Type: multipart/form-data; boundary=x",
        f"Content-Length: {1 << 30}",
    ]
    with socket.create_connection(("127.0.0.1", product.port), timeout=30) as line:
        line.sendall("\r\n".join([*lines, "", ""]).encode())
        assert status_of(line) == 413


def test_the_plain_form_takes_a_large_file_from_who_is_signed_in(editor):
    form = {"csrfmiddlewaretoken": editor.headers["X-CSRFToken"]}
    answer = editor.http.post("/jobs/new/", data=form, files={"file": ("large.wav", sound(6_000_000))})
    assert answer.status_code == 200 and "large.wav" in answer.text, answer.url


def test_ten_forms_at_once_are_checked_by_the_very_server_that_takes_them(editor):
    """Each form's view waits, in a thread, for a probe that the same process answers."""
    form = {"csrfmiddlewaretoken": editor.headers["X-CSRFToken"]}
    notes = b"these are notes\n" * 99

    def send(number: int) -> httpx.Response:
        data = notes if number % 2 else sound(20_000)
        name = f"{'notes' if number % 2 else 'tune'} {number}.wav"
        return editor.http.post("/jobs/new/", data=form, files={"file": (name, data)}, timeout=60)

    began = time.monotonic()
    with ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(send, range(10)))
    assert time.monotonic() - began < 30
    for number, answer in enumerate(answers):
        if number % 2:
            assert answer.status_code == 422 and "This isn’t a video or audio file" in answer.text
        else:
            assert answer.status_code == 200 and f"tune {number}.wav" in answer.text


def usual_wait(editor) -> float:
    """The median of the seconds that twenty pages take."""
    waits = []
    for _ in range(20):
        began = time.monotonic()
        assert editor.http.get("/jobs/new/").status_code == 200
        waits.append(time.monotonic() - began)
    return sorted(waits)[10]


def test_hundreds_of_dawdlers_keep_nobody_waiting(editor):
    """Heads that never end, bodies that drip: 300 connections that a slow-loris holds."""
    before = usual_wait(editor)  # where others keep the machine busy, a page takes a second without any
    url = editor.create(1 << 20)
    lines = [editor.raw(url, 1 << 20)]
    for number in range(299):
        line = socket.create_connection(("127.0.0.1", editor.product.port), timeout=10)
        form = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 90000\r\n\r\na="
        line.sendall(b"POST /login/ HTTP/1.1\r\nHost: 127.0.0.1\r\n" + (form if number % 2 else b"X-A: b"))
        lines.append(line)
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.5):
            for line in lines:
                with contextlib.suppress(OSError):  # the door hangs up on who dawdles too long
                    line.sendall(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        wait = usual_wait(editor)
        data = sound(200_000)
        other = editor.create(len(data))
        assert "Mediapipe-Job" in editor.patch(other, data, 0).headers
    finally:
        stop.set()
        thread.join()
        for line in lines:
            line.close()
    assert wait < max(1, 5 * before)
    until(lambda: editor.head(url).status_code == 200)  # its writer is gone, and its lock


def test_many_broken_downloads_leave_no_open_file(product, editor, request):
    path = product.home / "media" / "outputs" / "big.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.truncate(64 << 20)
    code = "from mediapipe import storage; print(storage.signed_path('outputs/big.mp4'))"
    url = product.command("shell", "-v", "0", "-c", code).stdout.strip()
    for number in range(300 if request.config.option.all else 100):
        with socket.create_connection(("127.0.0.1", product.port), timeout=30) as line:
            line.sendall(f"GET {url} HTTP/1.1\r\nHost: 127.0.0.1:{product.port}\r\n\r\n".encode())
            if number % 3:
                assert re.match(rb"HTTP/1.1 200", line.recv(65536))
    folder = Path(f"/proc/{product.children()['web']}/fd")

    def still_open() -> int:
        found = 0
        for each in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed while we look
                found += "big.mp4" in os.readlink(each)
        return found

    until(lambda: still_open() == 0)
    path.unlink()
