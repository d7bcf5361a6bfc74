"""A large upload in the browser's chunks: bytes written against its size, memory, other requests meanwhile.

`.venv/bin/python -m tests.bench.upload [MEGABYTES]` (2048). Prints figures.
"""

from __future__ import annotations

import os
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx

from tests.support.product import Product, token

CHUNK = 64 << 20  # static/upload-row.js


def number(pid: int, file: str, field: str) -> int:
    text = Path(f"/proc/{pid}/{file}").read_text()
    return int(next(line for line in text.splitlines() if line.startswith(field)).split()[1])


def main(megabytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        product = Product(Path(folder) / "home").start()
        try:
            measure(product, megabytes << 20)
        finally:
            product.stop()


def header(size: int) -> bytes:
    """What makes *size* bytes, these 44 among them, an hour or two of noise: a WAV file's head."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 2, 48000, 192000, 4, 16)
    return struct.pack("<4sI4s", b"RIFF", size - 8, b"WAVE") + form + struct.pack("<4sI", b"data", size - 44)


def measure(product: Product, size: int) -> None:
    browser, web = product.editor("ada"), product.children()["web"]
    headers = {"Tus-Resumable": "1.0.0", "X-CSRFToken": token(browser.get("/"))}
    made = browser.post(
        "/uploads/",
        headers={**headers, "Upload-Length": str(size), "Upload-Metadata": "filename YmlnLndhdg=="},
    )
    location, block = made.headers["Location"], os.urandom(1 << 20)
    slowest, stop = 0.0, threading.Event()

    def ask() -> None:
        nonlocal slowest
        with httpx.Client(base_url=product.url, cookies=browser.cookies, trust_env=False) as other:
            while not stop.wait(0.05):
                began = time.perf_counter()
                other.get("/")
                slowest = max(slowest, time.perf_counter() - began)

    thread = threading.Thread(target=ask)
    thread.start()
    written, memory = number(web, "io", "write_bytes"), number(web, "status", "VmRSS")
    began, offset, highest = time.perf_counter(), 0, memory
    while offset < size:
        length = min(CHUNK, size - offset)

        def body(length: int = length, offset: int = offset):
            for at in range(0, length, len(block)):
                data = block[: min(len(block), length - at)]
                yield header(size) + data[44:] if offset == at == 0 else data

        patch = {**headers, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
        patch["Content-Length"] = str(length)
        answer = browser.patch(location, content=body(), headers=patch, timeout=600)
        assert answer.status_code == 204, answer.text
        offset += length
        highest = max(highest, number(web, "status", "VmRSS"))
    seconds = time.perf_counter() - began
    stop.set()
    thread.join()
    wrote = number(web, "io", "write_bytes") - written
    print("| what | figure |\n| --- | --- |")
    print(f"| size | {size / 1e6:.0f} MB in {seconds:.1f} s, {size / 1e6 / seconds:.0f} MB/s |")
    print(f"| bytes written ÷ size | {wrote / size:.3f} |")
    print(f"| growth of memory | {(highest - memory) / 1024:.1f} MiB |")
    print(f"| slowest other request meanwhile | {slowest * 1000:.0f} ms |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2048)
