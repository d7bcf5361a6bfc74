"""The main road in a real browser: a file that is uploaded, watched to its end, and played."""

from __future__ import annotations

import pytest

from tests.support.browsing import open_job, upload, wait_for_state

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
