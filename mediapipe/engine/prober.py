"""Reads what a media file holds, in a child of its own: a process that has PyAV loaded forks for each file.

Loading PyAV takes longer than reading most files. The forking process itself never opens one; each child
goes into its sandbox (sandbox.py), reads one file (probe.py) and ends, whatever the file did to it.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from mediapipe.engine import sandbox
from mediapipe.engine.errors import TaskError
from mediapipe.engine.media import Media, media_from_probe
from mediapipe.engine.probe import print_facts
from mediapipe.engine.seams import Asked
from mediapipe.recent import Recent

ROOT = Path(__file__).resolve().parents[2]
MAX_REQUEST = 1 << 16  # bytes: a path and its options
AT_ONCE = 16  # files that are read at once; who comes later waits for a turn
START_TIMEOUT = 120.0  # seconds for a child to be at work: the forking process may have to load PyAV first
TIMEOUT = 90.0  # seconds that its child may take for one file
CPU = 60  # seconds of it that one file may take
MEMORY = 4 << 30  # bytes


class Prober:
    """This process' forking process: started when it is first needed, ended with us."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.requests: socket.socket | None = None
        self.lock = threading.RLock()
        atexit.register(self.close)

    def start(self) -> None:
        """Starts it unless it is running."""
        with self.lock:
            if self.process is not None and self.process.poll() is None:
                return
            self.close()
            self.requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from mediapipe.engine import prober; "
            with theirs:
                self.process = subprocess.Popen(
                    [sys.executable, "-I", "-c", f"{code}prober.serve({theirs.fileno()})"],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env={"PATH": "/usr/bin", "LC_ALL": "C.UTF-8"},  # none of our secrets
                    start_new_session=True,  # it ends when its socket is closed, not by our signals
                )

    def close(self) -> None:
        """Closes its socket, which ends it; kills it where it takes longer than 5 s."""
        if self.requests is not None and self.process is not None:
            self.requests.close()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.requests = self.process = None

    def send(self, request: bytes, answer: int) -> None:
        """Sends *request*; the answer is written to the file descriptor *answer*."""
        with self.lock:
            self.start()
            try:
                self._send(request, answer)
            except OSError:  # it has just died
                self.close()
                self.start()
                self._send(request, answer)

    def _send(self, request: bytes, answer: int) -> None:
        assert self.requests is not None
        socket.send_fds(self.requests, [request], [answer])


_prober = Prober()
start = _prober.start
# By device, inode, size and time; the result that one task verifies is the next one's source.
_probed: Recent[tuple[int, ...], tuple[set[str], Media]] = Recent(200)
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


async def probe(path: Path, *extra: str) -> Media:
    """What is in the file. *extra*: "--gap", "--whole", "--heard" (probe.py), which take longer.

    No time that it waits, for its turn or for a child, counts as the file's own. Raises TaskError where it
    cannot be used, OSError where this machine can't read it.
    """
    stat = await asyncio.to_thread(path.stat)
    file = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    known, media = _probed.get(file, (set[str](), None))
    if media is None or not set(extra) <= known:
        media = await _probe(path, *extra)
        _probed[file] = (set(extra), media)
    return media


async def _probe(path: Path, *extra: str) -> Media:
    turn = _turns.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE))
    try:
        async with turn:
            out = await read_facts(str(path), *extra)
    except TimeoutError:
        raise TaskError(
            "damaged", f"The file couldn’t be read within {TIMEOUT:.0f} seconds; it may be damaged."
        ) from None
    try:
        return media_from_probe(json.loads(out))
    except ValueError:
        raise TaskError("damaged", "This file couldn’t be opened safely. It’s probably damaged.") from None


async def looks(path: Path, **asked: Any) -> dict[str, Any] | None:
    """What the file shows and lets hear (looks.py says what to ask); None where that can’t be known."""
    try:
        async with asyncio.timeout(TIMEOUT):
            found = json.loads(await read_facts(str(path), "--looks", json.dumps(asked)))
    except (TimeoutError, ValueError):
        return None
    return None if "error" in found else found


async def picture_times(path: Path, asked: Asked) -> dict[str, Any] | None:
    """When its pictures are shown (picture_times.py); None where that can't be known."""
    try:
        async with asyncio.timeout(TIMEOUT):
            found = json.loads(await read_facts(str(path), "--times", json.dumps(asdict(asked))))
    except (TimeoutError, ValueError):
        return None
    return None if "error" in found else found


async def read_facts(path: str, *extra: str) -> bytes:
    """The JSON object that a child prints about the file (probe.py); cut short where the child died.

    A child is killed when this call is cancelled. Raises TimeoutError where it takes too long, and
    ChildProcessError where there is none.
    """
    request = json.dumps([path, *extra]).encode()
    out = b""
    for _ in range(2):  # once more where the forking process died instead of the child
        reading, writing = socket.socketpair()
        with writing:
            _prober.send(request, writing.fileno())
        started, out = await _answer(reading)
        if started:
            break
    return out


async def _answer(reading: socket.socket) -> tuple[bool, bytes]:
    """Whether a child has started, and what it printed.

    A socket, not a pipe: uvloop closes the descriptor of a pipe's file object twice, and the second time the
    number may belong to another file.
    """
    reader, writer = await asyncio.open_connection(sock=reading, limit=1 << 20)
    child = -1
    try:
        try:
            async with asyncio.timeout(START_TIMEOUT):
                pid = await reader.readline()
        except TimeoutError:
            raise ChildProcessError(f"No reader was at work within {START_TIMEOUT:.0f} seconds.") from None
        with contextlib.suppress(ProcessLookupError, ValueError):  # ended already, or never started
            child = os.pidfd_open(int(pid))
        async with asyncio.timeout(TIMEOUT):
            return bool(pid), await reader.read()
    finally:
        writer.close()
        if child >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(child, signal.SIGKILL)
            os.close(child)


def load() -> None:
    """Loads what reading a file takes once, so that no child has to."""
    import av.subtitles.stream  # noqa: F401 - PyAV itself loads it as it opens a file


def serve(descriptor: int) -> None:
    """The forking process: a child for each request, until its socket is closed."""
    load()

    def reap(number: int, frame: object) -> None:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass

    signal.signal(signal.SIGCHLD, reap)
    own = os.getpid()
    with socket.socket(fileno=descriptor) as requests:
        while True:
            request, answers, _, _ = socket.recv_fds(requests, MAX_REQUEST, 1)
            if not request:
                return
            if os.fork() == 0:
                requests.close()
                try:
                    _child(request, answers[0], own)
                finally:
                    os._exit(0)
            os.close(answers[0])


def _child(request: bytes, answer: int, parent: int) -> None:
    """Prints its process id, enters its sandbox, and prints what is in the file."""
    os.setsid()
    os.dup2(answer, 1)
    os.close(answer)
    os.dup2(0, 2)  # what a decoder prints is of no use
    path, *extra = json.loads(request)
    os.write(1, b"%d\n" % os.getpid())
    read = [sys.prefix, sys.base_prefix, str(Path(__file__).parent), path]
    sandbox.enter(parent, {"cpu": CPU, "memory": MEMORY}, read, [])
    print_facts(path, extra)
