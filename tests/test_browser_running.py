"""A running job's page in a real browser: it tells what moves, and disturbs nobody who types or listens."""

from __future__ import annotations

import pytest

from tests.support.browsing import favicon, open_job, polls, upload, wait_for_state
from tests.support.dashboard import URL, submit
from tests.support.product import make_clip, until

pytestmark = [pytest.mark.browser, pytest.mark.whole]


@pytest.fixture(scope="module")
def product(cloud):
    """Jobs that run cost nothing."""
    return cloud


def test_polls_keep_a_player_a_fold_and_the_focus_and_end_with_the_job(product, page, clip, api, tmp_path):
    api.lives["transcode"], api.can_cancel = ["processing"], True
    api.files["audio"] = make_clip(tmp_path / "sound.mp4", 2, "320x180").read_bytes()
    open_job(page, upload(page, product, clip))
    page.wait_for_selector("#sound")
    page.evaluate(
        """() => {
            const sound = document.getElementById('sound');
            sound.muted = true; sound.loop = true; sound.play();
            window.kept = sound; window.breaks = 0;
            sound.addEventListener('emptied', () => window.breaks++);
            sound.addEventListener('pause', () => window.breaks++);
            const pill = document.querySelector('#job-status [role=status]');
            window.said = [];
            new MutationObserver(() => window.said.push(pill.textContent)).observe(
                pill, {childList: true, characterData: true, subtree: true});
        }"""
    )
    page.click("#cancel summary")
    page.fill("#reason", "wrong cut")
    heard = polls(page, "/status/")
    until(lambda: len(heard) >= 10 or page.wait_for_timeout(100), 60, every=0)
    assert page.evaluate(
        "() => [window.kept === document.getElementById('sound'), window.kept.paused, window.breaks]"
    ) == [True, False, 0]
    assert page.evaluate("() => document.activeElement.id") == "reason"
    assert page.input_value("#reason") == "wrong cut"
    assert page.evaluate("() => window.said") == [], "a reader of the screen was told what had not changed"
    assert favicon(page) == "favicon-running" and page.title().startswith("Running")
    page.click("text=Cancel job")
    wait_for_state(page, "cancelled", patience=60)
    assert "Encoding stopped" in page.inner_text("#job-status")
    assert "by maria" in page.inner_text(".timeline") and "wrong cut" in page.inner_text(".timeline")
    page.wait_for_timeout(500)
    heard.clear()
    page.wait_for_timeout(2500)
    assert heard == []
    page.click("text=Restart")
    wait_for_state(page, "running", "queued")
    page.click("#cancel summary")
    page.click("text=Cancel job")
    wait_for_state(page, "cancelled", patience=60)


def test_a_retry_is_told_with_a_countdown_that_ticks_and_a_cause(product, page, api):
    api.lives["video"] = ["failed"]
    job = submit(product, URL, "--owner", "maria")
    page.goto(f"{product.url}/jobs/{job}/")
    countdown = page.locator(".stages time[data-until]")
    countdown.wait_for()
    words = page.inner_text(".stages .words >> nth=0").lower()
    assert words.startswith("the encoder crashed. attempt 2 of 3 in "), words
    assert page.locator(".stages li >> nth=0").get_attribute("data-s") == "retrying"
    seen = page.evaluate(
        """() => new Promise((done) => {
            const seen = new Set();
            const look = setInterval(() => {
                const time = document.querySelector('.stages time[data-until]');
                if (time) seen.add(time.textContent);
                if (!time || seen.size > 2) { clearInterval(look); done([...seen]); }
            }, 50);
        })"""
    )
    assert len(seen) >= 2, seen
    page.click("#cancel summary")
    page.click("text=Cancel job")
    wait_for_state(page, "cancelled")
