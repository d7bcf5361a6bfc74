"""What hostile clients cost everybody else: one sort at a time, beside somebody who asks for /healthz.

`.venv/bin/python -m tests.bench.hostile [SECONDS] [WORDS ...]` (6 for each sort; of those with such a word in
their name). Prints the p99 of /healthz with the sort, without it just before, and their ratio; how many
connections it made, how much of a core the web process spent on them, and how much that grew. The goals are
100 ms and 16 MiB. Where others use the machine, ratios and what is spent count; or, as root, let nobody
disturb it: `chrt -f 10 .venv/bin/python -m tests.bench.hostile`. Who asks has an address of their own,
127.0.0.2, as somebody in another network has.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from tests.bench.poll import cpu
from tests.support.product import Product

HOST = b"Host: 127.0.0.1\r\n"
FORM = b"POST /login/ HTTP/1.1\r\n" + HOST + b"Content-Type: application/x-www-form-urlencoded\r\n"
Sends = Iterator[bytes]


def endless(head: bytes, block: bytes) -> Callable[[], Sends]:
    """A client that begins so, and goes on so for ever."""

    def sends() -> Sends:
        yield head
        while True:
            yield block

    return sends


def once(*parts: bytes) -> Callable[[], Sends]:
    """A client that sends this, and then nothing."""
    return lambda: iter(parts)


def announced(body: bytes, head: bytes = FORM) -> bytes:
    """A request with its whole body."""
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


TASK = b"POST /ittybit/tasks HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
TOKEN = b"a" * 32  # Django takes one that a client has made up, if its cookie has it too
CHUNKED = FORM + b"Transfer-Encoding: chunked\r\n\r\n"
SORTS: dict[str, tuple[int, Callable[[], Sends]]] = {  # how many at once, and what each sends
    "nobody": (0, once()),
    "a header without an end": (1, endless(b"GET / HTTP/1.1\r\nX: ", b"a" * 65536)),
    "an address without an end": (1, endless(b"GET /", b"a" * 65536)),
    "headers without an end": (1, endless(b"GET / HTTP/1.1\r\n", b"A: b\r\n" * 9999)),
    "a trailer without an end": (1, endless(CHUNKED + b"1\r\nx\r\n0\r\nX: ", b"a" * 65536)),
    "600 heads of a byte": (600, once(b"G")),
    "600 connections that say nothing": (600, once()),
    "600 bodies that don't come": (600, once(FORM + b"Content-Length: 30000\r\n\r\na=")),
    "600 large bodies that don't come": (600, once(FORM + b"Content-Length: 9000000\r\n\r\na=")),
    "a body of chunks without an end": (1, endless(CHUNKED, b"1000\r\n" + b"a" * 4096 + b"\r\n")),
    "ten thousand requests in a breath": (4, once((b"GET /login/ HTTP/1.1\r\n" + HOST + b"\r\n") * 10_000)),
    "who never reads": (50, once((b"GET /login/ HTTP/1.1\r\n" + HOST + b"\r\n") * 7)),
    "10,000 form fields": (8, once(announced(b"&a" * 10_000))),
    "10,000 query fields": (8, once(b"GET /login/?" + b"&a" * 10_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n")),
    "JSON 30,000 deep": (8, once(announced(b"[" * 30_000, TASK))),
    "3,000 ranges": (
        8,
        once(b"GET /media/x.mp4 HTTP/1.1\r\n" + HOST + b"Range: bytes=" + b"0-0," * 3000 + b"\r\n\r\n"),
    ),
    "passwords": (
        30,
        once(
            announced(
                b"csrfmiddlewaretoken=" + TOKEN + b"&username=ada&password=wrong",
                FORM + b"Cookie: csrftoken=" + TOKEN + b"\r\n",
            )
        ),
    ),
    "WebSocket upgrades": (
        30,
        once(b"GET / HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\nConnection: upgrade\r\n\r\n"),
    ),
}


def attack(port: int, count: int, sends: Callable[[], Sends], made: Synchronized[int]) -> None:
    """Keeps *count* connections busy; one that is hung up on begins anew. *made*: how many so far."""
    lines: dict[socket.socket, Sends] = {}
    while True:
        while len(lines) < count:
            with contextlib.suppress(OSError):
                lines[socket.create_connection(("127.0.0.1", port), timeout=1)] = sends()
                made.value += 1
        for line, left in list(lines.items()):
            line.setblocking(False)
            try:
                if (block := next(left, None)) is not None:
                    line.setblocking(True)
                    line.settimeout(1)
                    line.sendall(block)
                elif line.recv(1, socket.MSG_PEEK) == b"" or sends is not SORTS["who never reads"][1]:
                    raise ConnectionError
            except BlockingIOError:
                continue
            except OSError:
                line.close()
                del lines[line]
        time.sleep(0.01)


def memory(pid: int) -> int:
    """Bytes that a process has in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def ask(port: int) -> float:
    """Seconds that one /healthz takes on a connection of its own."""
    began = time.perf_counter()
    own = ("127.0.0.2", 0)
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 20, own) as line:
        line.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        if line.recv(4096).startswith(b"HTTP/1.1 200"):
            return time.perf_counter() - began
    return 20.0


def asked(port: int, web: int, seconds: float) -> tuple[float, int]:
    """The p99 of /healthz in ms, asked for so long, and the most memory that the web process had."""
    times, most, end = list[float](), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        times.append(ask(port))
        most = max(most, memory(web))
        time.sleep(0.02)
    return sorted(times)[int((len(times) - 1) * 0.99)] * 1000, most


def measure(port: int, web: int, seconds: float, words: list[str]) -> None:
    """Prints a row for each sort."""
    context = multiprocessing.get_context("fork")
    print("| client | p99 without | p99 with | ratio | connections | web process | memory |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, (count, sends) in SORTS.items():
        if words and not any(word in name for word in words):
            continue
        before = memory(web)
        without, _ = asked(port, web, seconds / 2)
        made = context.Value("q", 0)
        attacker = context.Process(target=attack, args=(port, count, sends, made))
        spent = cpu(web)
        attacker.start()
        p99, most = asked(port, web, seconds)
        spent = cpu(web) - spent
        attacker.kill()
        attacker.join()
        rate, share = made.value / seconds, spent / seconds * 100
        grown = (most - before) / (1 << 20)
        print(
            f"| {name} | {without:.0f} ms | {p99:.0f} ms | {p99 / without:.1f} | {rate:.0f}/s "
            f"| {share:.0f} % of a core | {grown:+.1f} MiB |",
            flush=True,
        )


def main(seconds: float, words: list[str]) -> None:
    """Starts the product and attacks it."""
    with tempfile.TemporaryDirectory() as folder:
        product = Product(Path(folder) / "home").start()
        try:
            product.editor("ada")
            measure(product.port, product.children()["web"], seconds, words)
        finally:
            product.stop()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 6, sys.argv[2:])
