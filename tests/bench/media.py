"""A large download: CPU, throughput against reading the file, memory, open files after broken downloads.

`.venv/bin/python -m tests.bench.media [MEGABYTES] [ABORTS]` (1024, 300). Prints figures. The client does as
little as it can: on two cores it competes with the server.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

import httpx

from tests.bench.poll import cpu
from tests.bench.upload import number
from tests.support.product import Product


def main(megabytes: int, aborts: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        product = Product(Path(folder) / "home").start()
        try:
            measure(product, megabytes << 20, aborts)
        finally:
            product.stop()


def read(path: Path) -> float:
    began = time.perf_counter()
    with open(path, "rb", buffering=0) as file:
        while file.read(1 << 18):
            pass
    return time.perf_counter() - began


def download(url: str, web: int) -> tuple[float, float]:
    """Seconds, and those of the web server's CPU."""
    began, before = time.perf_counter(), cpu(web)
    buffer = bytearray(1 << 20)
    with urlopen(url, timeout=600) as answer:
        while answer.readinto(buffer):
            pass
    return time.perf_counter() - began, cpu(web) - before


def measure(product: Product, size: int, aborts: int) -> None:
    path = product.home / "media" / "outputs" / "big.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    block = os.urandom(1 << 20)
    with open(path, "wb") as file:
        for _ in range(size >> 20):
            file.write(block)
    code = "from mediapipe import storage; print(storage.signed_path('outputs/big.mp4'))"
    url = product.url + product.command("shell", "-v", "0", "-c", code).stdout.strip()
    web = product.children()["web"]
    before = number(web, "status", "VmRSS")
    raw, found = min(read(path) for _ in range(3)), [download(url, web) for _ in range(5)]
    sent, used = (min(each) for each in zip(*found, strict=True))
    after = number(web, "status", "VmRSS")
    for _ in range(aborts):
        with httpx.stream("GET", url, trust_env=False) as answer:
            next(answer.iter_raw())
    time.sleep(2)
    folder = Path(f"/proc/{web}/fd")
    opened = sum("big.mp4" in os.readlink(each) for each in folder.iterdir() if each.is_symlink())
    print("| what | figure |\n| --- | --- |")
    print(
        f"| download ÷ reading the file (best of 5, of 3) | {sent:.2f} s ÷ {raw:.2f} s = {sent / raw:.1f} |"
    )
    print(f"| throughput | {size / 1e6 / sent:.0f} MB/s |")
    print(f"| CPU of the web server for each GiB (best of 5) | {used / size * (1 << 30):.2f} s |")
    print(f"| growth of memory | {(after - before) / 1024:.1f} MiB |")
    print(f"| files left open after {aborts} broken downloads | {opened} |")


if __name__ == "__main__":
    given = [int(text) for text in sys.argv[1:]]
    main(*(given + [1024, 300][len(given) :]))
