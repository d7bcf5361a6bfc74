"""Safe: hostile files and addresses reach no file and no host, and the engine goes on serving."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import uvloop

from mediapipe import storage
from mediapipe.engine import prober
from mediapipe.engine.errors import TaskError
from tests.support.engine import STAGES, X264, ask

pytestmark = pytest.mark.anyio

SCRIPTS = {
    "hls.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10.0,\n{url}\n#EXT-X-ENDLIST\n",
    "hls.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10.0,\nfile://{secret}\n#EXT-X-ENDLIST\n",
    "concat.mp4": "ffconcat version 1.0\nfile '{secret}'\nfile '{url}'\n",
    "picture.svg": '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="{url}"/></svg>',
    "stream.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 15004 RTP/AVP 96\n",
    "list.mp4": "[playlist]\nFile1={url}\n",
    "page.mp4": "<!doctype html><html><body>404 Not Found</body></html>",
    "notes.mp4": "these are notes\n" * 50,
    "program.mp4": "\x7fELF\x02\x01\x01" + "\0" * 500,
    "lut.vpy": "import os\nos.system('touch PWNED')\n",
}


@pytest.mark.parametrize("name", SCRIPTS)
async def test_a_script_posing_as_media_reaches_no_file_and_no_address(tmp_path, listener, name):
    port, seen = listener
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRET-TOKEN\n" * 20)
    script = tmp_path / name
    script.write_text(SCRIPTS[name].format(url=f"http://127.0.0.1:{port}/x.ts", secret=secret))
    for stage in ("ingest", "thumbnails", "audio"):
        with pytest.raises(TaskError) as caught:
            await ask(script, *STAGES[stage])
        assert caught.value.kind == "invalid_input"
        assert "SECRET" not in f"{caught.value}{caught.value.details}"
        assert str(tmp_path) not in caught.value.details
    assert seen == []


async def test_the_sandbox_keeps_a_program_from_files_and_addresses(tmp_path, listener):
    from mediapipe.engine.encode import sandboxed

    port, seen = listener
    (tmp_path / "secret.txt").write_text("SECRET")
    probe = (
        "import socket, sys\n"
        f"try: print(open({str(tmp_path / 'secret.txt')!r}).read())\n"
        "except OSError as e: print('file', type(e).__name__)\n"
        f"try: socket.create_connection(('127.0.0.1', {port}), 2); print('connected')\n"
        "except OSError as e: print('net', type(e).__name__)\n"
        f"try: open({str(tmp_path / 'made')!r}, 'w'); print('wrote')\n"
        "except OSError as e: print('write', type(e).__name__)\n"
    )
    own = [sys.prefix, sys.base_prefix]
    done = subprocess.run(
        sandboxed([sys.executable, "-I", "-S", "-c", probe], read=own, write=[], cpu=10),
        capture_output=True,
        text=True,
    )
    assert done.stdout.split("\n")[:3] == [
        "file PermissionError",
        "net PermissionError",
        "write PermissionError",
    ], done.stdout + done.stderr
    assert seen == []


async def test_the_reader_of_a_file_is_sandboxed_knows_no_secret_and_ends_with_its_caller(
    tmp_path, monkeypatch
):
    """A pipe that nobody writes to keeps it in the middle of its work."""
    monkeypatch.setenv("SECRET_KEY", "hush")
    prober._prober.close()
    os.mkfifo(tmp_path / "endless.mp4")
    asking = asyncio.create_task(prober.read_facts(str(tmp_path / "endless.mp4")))
    forking = await appeared(lambda: prober._prober.process)
    child = Path("/proc", await appeared(lambda: children(forking.pid)))
    await appeared(lambda: "NoNewPrivs:\t1" in (child / "status").read_text())
    assert re.search(rf"Max cpu time +{prober.CPU} ", (child / "limits").read_text())
    for process in (child, Path(f"/proc/{forking.pid}")):
        assert b"hush" not in (process / "environ").read_bytes()
    asking.cancel()
    await appeared(lambda: not children(forking.pid))


async def test_a_file_is_read_though_the_process_that_forks_has_just_died(made):
    plain = made("short.mp4", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=30:d=1", *X264)
    prober.start()
    prober._prober.process.kill()
    forking = set()
    for _ in range(3):
        assert json.loads(await prober.read_facts(str(plain)))["duration"] == pytest.approx(1, abs=0.1)
        await asyncio.sleep(0.1)
        forking.add(prober._prober.process.pid)
    assert len(forking) == 1 and not children(forking.pop()), "one forks for all, and buries its children"


def test_a_file_has_its_time_from_when_it_is_read_and_not_from_when_it_comes(tmp_path, monkeypatch):
    """A hundred come at once, to a machine that has no time to start a reader."""
    monkeypatch.setattr(prober, "TIMEOUT", 3)
    monkeypatch.setattr(prober, "AT_ONCE", 4)
    (notes := tmp_path / "notes.mp4").write_text("these are notes\n" * 50)
    prober.start()
    forking = prober._prober.process

    async def read_all() -> tuple[list[BaseException | None], int]:
        asking = [asyncio.create_task(prober.probe(notes)) for _ in range(100)]
        forking.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(3.5)
        finally:
            forking.send_signal(signal.SIGCONT)
        most = 0
        while not all(each.done() for each in asking):
            most = max(most, len(children(forking.pid).split()))
            await asyncio.sleep(0.01)
        return [each.exception() for each in asking], most

    errors, most = asyncio.run(read_all())
    assert all(isinstance(each, TaskError) and each.kind == "invalid_input" for each in errors), errors
    assert 0 < most <= 2 * 4, "some have answered and aren't buried yet"


def test_reading_an_answer_closes_no_descriptor_of_somebody_else():
    """Under uvloop, as in the web process, beside threads that open and close files."""
    stop, robbed = threading.Event(), []

    def open_and_close() -> None:
        while not stop.is_set():
            for descriptor in [os.open(os.devnull, os.O_RDONLY) for _ in range(5)]:
                try:
                    os.close(descriptor)
                except OSError as error:
                    robbed.append(error)

    async def answers() -> None:
        for _ in range(2000):
            reading, writing = socket.socketpair()
            with writing:
                writing.sendall(b"99999999\n{}")  # no such process
            assert await prober._answer(reading) == (True, b"{}")

    threads = [threading.Thread(target=open_and_close) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        uvloop.run(answers())
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not robbed


def children(pid: int) -> str:
    """A process's children, by their numbers."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().strip()


async def appeared(get):
    """What *get* returns, once that is something."""
    for _ in range(200):
        if found := get():
            return found
        await asyncio.sleep(0.05)
    raise AssertionError("it never came")


async def test_odd_names_are_only_names(made, tmp_path):
    plain = made("short.mp4", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=30:d=1", *X264)
    for name in (
        "-y.mp4",
        "pipe:0.mp4",
        "http:__x.mp4",
        "new\nline.mp4",
        "a:b|c;$(touch x)`id`'q\".mp4",
        "ü😀.mp4",
        "list.m3u8",
    ):
        odd = tmp_path / name
        odd.write_bytes(plain.read_bytes())
        files_name = f"sources/odd/{name}"
        target = storage.path(files_name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(plain.read_bytes())
        assert (await ask(storage.signed_url(files_name), *STAGES["ingest"])).output["width"] == 320


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://127.0.0.1:1/a.mp4", "source_refused"),
        ("http://localhost/a.mp4", "source_refused"),
        ("http://[::1]/a.mp4", "source_refused"),
        ("http://[::ffff:10.0.0.1]/a.mp4", "source_refused"),
        ("http://169.254.169.254/latest/meta-data", "source_refused"),
        ("http://2130706433/a.mp4", "source_refused"),
        ("http://user:pw@example.org/a.mp4", "source_refused"),
        ("http://no-such-host.invalid/a.mp4", "source_refused"),
    ],
)
async def test_a_private_address_is_never_asked(url, kind, settings):
    settings.ALLOW_PRIVATE_SOURCES = False
    with pytest.raises(TaskError) as caught:
        await ask(url, *STAGES["ingest"])
    assert caught.value.kind == kind
