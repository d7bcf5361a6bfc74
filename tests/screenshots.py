"""Takes the pictures of the README and for looking at: `.venv/bin/python -m tests.screenshots [FOLDER]`.

Not a test: it starts the product, makes jobs of every state, and photographs the pages.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.conftest import SHARED
from tests.product import ROOT, Product, make_clip, until

SIZES = {"wide": {"width": 1280, "height": 860}, "narrow": {"width": 390, "height": 844}}


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        product = Product(Path(home) / "home").start()
        try:
            photograph(product, folder)
        finally:
            product.stop()


def photograph(product: Product, folder: Path) -> None:
    work = product.home.parent
    real = SHARED / "media" / "dev"
    film = real / "trailer_bbb.mp4" if real.exists() else make_clip(work / "trailer.mp4", 20)
    long = make_clip(work / "council meeting.mp4", 150, "1920x1080")
    (work / "notes.mp4").write_text("these are notes\n" * 99)
    staff = product.editor("maria", staff=True)
    cookies = [{"name": n, "value": v, "url": product.url} for n, v in staff.cookies.items()]

    def submit(path: Path, *extra: str) -> str:
        done = product.command("submit", str(path), "--owner", "maria", "--json", *extra)
        return json.loads(done.stdout)["id"]

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])

        def shoot(name: str, path: str, full: bool = True) -> None:
            for scheme in ("light", "dark"):
                for size, view in SIZES.items():
                    context = browser.new_context(color_scheme=scheme, viewport=view, device_scale_factor=1)
                    context.add_cookies(cookies)
                    page = context.new_page()
                    page.goto(product.url + path)
                    page.wait_for_timeout(1200)
                    page.screenshot(path=folder / f"{name}-{scheme}-{size}.png", full_page=full)
                    context.close()

        shoot("list-empty", "/")
        done = submit(film, "--title", "Big Buck Bunny, trailer", "--pipeline", "previews", "--wait")
        failed = submit(work / "notes.mp4", "--title", "Interview, raw cut", "--wait")
        cancelled = submit(long, "--title", "Council meeting")
        product.command("cancel", cancelled)
        running = submit(long, "--title", "Drone over the harbour, take 3")
        until(lambda: (product.status(running)["stages"][3]["progress"] or 0) > 8, 90)
        shoot("job-running", f"/jobs/{running}/")
        shoot("list", "/")
        shoot("job-done", f"/jobs/{done}/")
        shoot("job-attention", f"/jobs/{failed}/")
        shoot("job-cancelled", f"/jobs/{cancelled}/")
        shoot("new", "/jobs/new/")
        shoot("history", "/history/")
        shoot("missing", "/nothing-here")
        product.command("cancel", running)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "screenshots")
