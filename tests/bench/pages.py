"""What a first visit of each page transfers, and what moves on it. Prints both beside their limits.

`.venv/bin/python -m tests.bench.pages` measures in a browser: for each page a fresh profile, and what came
over the wire, headers too, the reader's own media apart; then what is watched: a job of each pipeline, ticks,
and 30 uploads.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from jobs.pipelines import PIPELINES
from tests.support.browsing import cookies_of, shelf
from tests.support.dashboard import submit
from tests.support.product import Product, make_clip
from tests.support.shifts import LIMIT, counting, shift, small_films, tick_some, upload_all, watch

BUDGET = 60_000  # bytes of a first visit
VIEW = {"width": 1280, "height": 860}
BROWSER = os.environ.get("MEDIAPIPE_BROWSER", "/usr/bin/chromium-headless-shell")


def main() -> None:
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        product = Product(Path(home) / "home").start()
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        try:
            cookies = cookies_of(product, "maria", staff=True)
            film = make_clip(Path(home) / "film.mp4", 4, "640x360")
            done = submit(product, film, "--owner", "maria", "--pipeline", "previews", "--wait")
            shelf(product, "maria", 60)
            visits(product, browser, cookies, done)
            moves(product, browser, cookies, film)
        finally:
            browser.close()
            product.stop()


def visits(product: Product, browser: Browser, cookies: list[dict], job: str) -> None:
    """A line for each page: requests, bytes, layout shift."""
    paths = ["/login/", "/", f"/jobs/{job}/", "/jobs/new/", "/history/", "/people/", "/password/"]
    print(f"{'first visit':28} {'requests':>8} {'kB':>6} {'limit':>6} {'media kB':>9} {'CLS':>7}")
    for path in (*paths, "/audit/", "/trash/", "/account/tokens/", "/account/sessions/"):
        context = browser.new_context(viewport=VIEW)
        context.add_cookies([] if path == "/login/" else cookies)
        page = counting(context.new_page())
        sizes, media = count_bytes(page)
        page.goto(product.url + path, wait_until="networkidle")
        moved, _ = shift(page)
        page_bytes = sum(size for key, size in sizes.items() if key not in media)
        media_bytes = sum(size for key, size in sizes.items() if key in media)
        name = path.replace(job, "…")
        late = "" if page_bytes <= BUDGET and moved <= LIMIT else "  over"
        print(
            f"{name:28} {len(sizes):8} {page_bytes / 1000:6.1f} {BUDGET / 1000:6.1f}"
            f" {media_bytes / 1000:9.1f} {moved:7.4f}{late}"
        )
        context.close()


def count_bytes(page) -> tuple[dict[str, int], set[str]]:
    """Fills in by request what came over the wire, and which requests were for media."""
    sizes: dict[str, int] = {}
    media: set[str] = set()
    wire = page.context.new_cdp_session(page)
    wire.send("Network.enable")

    def sent(event: dict) -> None:
        if "/media/" in event["request"]["url"]:
            media.add(event["requestId"])

    def finished(event: dict) -> None:
        sizes[event["requestId"]] = int(event["encodedDataLength"])

    wire.on("Network.requestWillBeSent", sent)
    wire.on("Network.loadingFinished", finished)
    return sizes, media


def moves(product: Product, browser: Browser, cookies: list[dict], film: Path) -> None:
    """A line for each thing that is watched: its layout shift."""
    context = browser.new_context(viewport=VIEW)
    context.add_cookies(cookies)
    pages = {}
    for pipeline in PIPELINES:
        pages[pipeline] = counting(context.new_page())
        job = submit(product, film, "--owner", "maria", "--pipeline", pipeline)
        pages[pipeline].goto(f"{product.url}/jobs/{job}/")
    found = {f"a watched job, {key}": moved for key, (moved, _) in watch(pages).items()}
    page = counting(context.new_page())
    page.goto(product.url)
    found["rows that are ticked"], _ = tick_some(page)
    with tempfile.TemporaryDirectory() as folder:
        found["30 uploads"], _ = upload_all(page, small_films(Path(folder), 30))
    print(f"\n{'watched':28} {'CLS':>7} {'limit':>7}")
    for name, moved in found.items():
        limit = 0.0 if "ticked" in name else LIMIT
        print(f"{name:28} {moved:7.4f} {limit:7.2f}{'' if moved <= limit else '  over'}")


if __name__ == "__main__":
    main()
