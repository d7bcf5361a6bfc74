"""A running job's page in a real browser: it tells what moves, and disturbs nobody who types or listens."""

from __future__ import annotations

import pytest

from tests.support.browsing import open_job, polls, upload, wait_for_state, wait_for_tab
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
    until(lambda: len(heard) >= 6 or page.wait_for_timeout(100), every=0)
    assert page.evaluate(
        "() => [window.kept === document.getElementById('sound'), window.kept.paused, window.breaks]"
    ) == [True, False, 0]
    assert page.evaluate("() => document.activeElement.id") == "reason"
    assert page.input_value("#reason") == "wrong cut"
    assert page.evaluate("() => window.said") == [], "a reader of the screen was told what had not changed"
    wait_for_tab(page, "favicon-running", "Running")
    page.click("text=Cancel job")
    wait_for_state(page, "cancelled", patience=60)
    assert "Encoding stopped" in page.inner_text("#job-status")
    assert "by maria" in page.inner_text(".timeline") and "wrong cut" in page.inner_text(".timeline")
    page.wait_for_function("() => !document.querySelector('.htmx-request')")  # the last poll is answered
    heard.clear()
    page.wait_for_timeout(2500)
    assert heard == []
    page.click("text=Restart")
    wait_for_state(page, "running", "queued")
    page.click("#cancel summary")
    page.click("text=Cancel job")
    wait_for_state(page, "cancelled", patience=60)


def test_a_retry_is_told_with_a_countdown_that_ticks_and_a_cause(product, page, api):
    api.lives["video"] = ["processing"]
    job = submit(product, URL, "--owner", "maria")
    page.goto(f"{product.url}/jobs/{job}/")  # so that it is watched before its five seconds begin
    until(lambda: api.asked(job, "ingest"))
    page.evaluate(
        """() => {
            window.seen = [];
            setInterval(() => {
                const row = document.querySelector('.stages li');
                const time = row.querySelector('time[data-until]');
                const words = row.querySelector('.words').innerText;
                if (time) window.seen.push([row.dataset.s, words.toLowerCase(), time.textContent]);
            }, 50);
        }"""
    )
    api.lives["video"] = ["failed"]
    api.asked(job, "ingest")[0]["left"] = ["failed"]
    page.wait_for_function("() => new Set(window.seen.map((each) => each[2])).size > 1")
    state, words, _ = page.evaluate("() => window.seen[0]")
    assert state == "retrying"
    assert words.startswith("the encoder crashed. attempt 2 of 3 in "), words
    page.click("#cancel summary")
    page.click("text=Cancel job")
    wait_for_state(page, "cancelled")
