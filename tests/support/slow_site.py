"""A site that takes its time: it drips, asks to come back later, hangs up, until a test lets it go on."""

from __future__ import annotations

import re
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def padded(clip: bytes, size: int = 4 << 20) -> bytes:
    """An MP4 with so many bytes more, which players skip."""
    return clip + size.to_bytes(4, "big") + b"free" + bytes(size - 8)


class SlowSite:
    """Sends *data*: `/film/…` at once, `/drip/…` 100 kB and then 10 kB/s, `/half/…` breaks off.

    `/busy/…` asks to be left alone for `busy_for` seconds, as `/half/…` does from the second request on.
    `asked` has each request's path and range.
    """

    def __init__(self, data: bytes) -> None:
        self.data, self.asked, self.free = data, [], set()
        self.busy_for, self.busy_times = 3600, 10**6
        self.changed = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def do_GET(self):
                self.close_connection = True
                with suppress(OSError):
                    site.answer(self)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()
        return self

    def __exit__(self, *problem):
        self.let_go("")
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def let_go(self, *paths: str) -> None:
        """These drip no more, with "" none does."""
        self.free |= set(paths)
        self.changed.set()

    def ranges(self, path: str) -> list[str | None]:
        """The ranges that were asked of a path."""
        return [each for asked, each in self.asked if asked == path]

    def answer(self, handler) -> None:
        path, wanted = handler.path, handler.headers.get("Range")
        self.asked.append((path, wanted))
        kind, times = path.split("/")[1], len(self.ranges(path))
        if (kind == "busy" and times <= self.busy_times) or (kind == "half" and times > 1):
            handler.send_response(503)
            handler.send_header("Retry-After", str(self.busy_for))
            handler.send_header("Content-Length", "0")
            return handler.end_headers()
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
        handler.send_response(206 if wanted else 200)
        handler.send_header("Content-Length", str(len(self.data) - start))
        handler.send_header("ETag", '"one"')
        if wanted:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.data) - 1}/{len(self.data)}")
        handler.end_headers()
        if kind == "drip":
            start = self.drip(handler, path, start)
        end = len(self.data) // 2 if kind == "half" else len(self.data)
        handler.wfile.write(self.data[start:end])

    def drip(self, handler, path: str, start: int) -> int:
        """Where the rest begins, once this path is let go."""
        step = 100_000
        while not self.free & {path, ""} and start + step < len(self.data):
            handler.wfile.write(self.data[start : start + step])
            start += step
            step = 2000
            self.changed.wait(0.2)
        return start
