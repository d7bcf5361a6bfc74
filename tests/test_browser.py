"""The main road in a real browser: a file that is uploaded, watched to its end, and played."""

from __future__ import annotations

import pytest

from tests.support.browsing import open_job, upload, wait_for_state, wait_for_tab

pytestmark = [pytest.mark.browser, pytest.mark.whole]


def test_an_upload_is_watched_to_its_end_and_played(product, page, clip):
    open_job(page, upload(page, product, clip))
    wait_for_state(page, "succeeded")
    assert page.locator(".stages li[data-s=succeeded]").count() == 4
    assert page.locator("#thumbnail img").evaluate("image => image.decode().then(() => image.naturalWidth)")
    for kind in ("audio", "video"):
        player = page.locator(f"{kind} >> nth=0").element_handle()
        player.evaluate("player => { player.muted = true; player.currentTime = 3; return player.play(); }")
        page.wait_for_function("player => player.currentTime > 3.1", arg=player)
    wait_for_tab(page, "favicon-done", "Done")
