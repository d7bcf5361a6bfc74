"""Uploads in a real browser: what an editor drops, sees and resumes."""

from __future__ import annotations

import hashlib
import os
import re
import time
from pathlib import Path

import pytest

from tests.browsing import open_job, upload, wait_for_state
from tests.product import make_clip, until

pytestmark = [pytest.mark.browser, pytest.mark.whole]


def test_an_upload_is_watched_to_its_end_and_played(product, page, clip):
    open_job(page, upload(page, product, clip))
    wait_for_state(page, "succeeded")
    assert page.locator(".stages li[data-s=succeeded]").count() == 4
    assert page.locator("#thumbnail img").evaluate("image => image.decode().then(() => image.naturalWidth)")
    for player in ("audio", "video"):
        seconds = page.locator(f"{player} >> nth=0").evaluate(
            """async (player) => {
                player.muted = true;
                player.currentTime = 3;
                await player.play();
                await new Promise((done) => setTimeout(done, 700));
                return player.currentTime;
            }"""
        )
        assert seconds > 3.1
    assert page.title().startswith("Done")


def test_an_empty_or_foreign_file_is_refused_before_a_byte_is_sent(product, page, tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "notes.txt").write_text("notes")
    page.goto(product.url)
    sent: list[str] = []
    page.on("request", lambda r: sent.append(r.method) if "/uploads/" in r.url else None)
    page.set_input_files("#upload-file", [str(tmp_path / "empty.mp4"), str(tmp_path / "notes.txt")])
    assert "empty (0 bytes)" in page.inner_text(".upload >> nth=0")
    assert "not a video or audio file" in page.inner_text(".upload >> nth=1")
    assert sent == []


@pytest.fixture
def big(tmp_path):
    """48 MB that no link carries at once, and that are a clip at their beginning."""
    path = make_clip(tmp_path / "big.mp4", 2, "320x240")
    with open(path, "ab") as file:
        file.write(os.urandom(48 << 20))
    return path


def stored(product, name: str) -> Path | None:
    digest = hashlib.sha256(Path(name).read_bytes()).hexdigest()
    for path in (product.home / "media" / "sources").rglob("*"):
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest:
            return path
    return None


def slow(page, megabytes: float) -> None:
    link = page.context.new_cdp_session(page)
    link.send(
        "Network.emulateNetworkConditions",
        {
            "offline": False,
            "latency": 1,
            "downloadThroughput": -1,
            "uploadThroughput": int(megabytes * 1e6),
        },
    )


def percent(page) -> int:
    found = re.search(r"(\d+) %", page.inner_text(".upload output"))
    return int(found[1]) if found else 0


def test_an_upload_survives_a_killed_server(product, context, cookies, big):
    context.add_cookies(cookies)
    page = context.new_page()  # the console tells of the lost connection, rightly
    page.goto(product.url)
    slow(page, 8)
    page.set_input_files("#upload-file", str(big))
    until(lambda: percent(page) > 20 or page.wait_for_timeout(100), 30)
    product.kill("web")
    page.wait_for_selector(".job:has-text('big.mp4')", timeout=60_000)
    assert stored(product, str(big))


def test_a_closed_tab_is_resumed_by_choosing_the_file_again(product, context, cookies, big):
    with open(big, "ab") as file:
        file.write(b"another")
    context.add_cookies(cookies)
    page = context.new_page()
    page.goto(product.url)
    slow(page, 8)
    page.set_input_files("#upload-file", str(big))
    until(lambda: percent(page) > 30 or page.wait_for_timeout(100), 30)
    page.on("dialog", lambda dialog: dialog.accept())
    page.reload()
    assert "choose it again to go on" in page.inner_text(".uploads")
    began = time.monotonic()
    first: list[int] = []
    page.on(
        "request",
        lambda r: first.append(int(r.headers.get("upload-offset", -1))) if r.method == "PATCH" else None,
    )
    page.set_input_files("#upload-file", str(big))
    page.wait_for_selector(".upload:has-text('choose it again')", state="detached")
    until(lambda: stored(product, str(big)) or page.wait_for_timeout(200), 60)
    assert first[0] > 0, "it began anew"
    assert time.monotonic() - began < 60
