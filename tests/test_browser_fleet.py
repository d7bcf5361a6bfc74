"""The page "Fleet" in a real browser, with three workers: one is paused, restarted and resumed."""

from __future__ import annotations

import signal

import pytest

from tests.support.browsing import cookies_of, watched
from tests.support.dashboard import banner, settled, signal_encoders, submit
from tests.support.more_workers import more_workers
from tests.support.product import Product, make_clip, until

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.release]
NAMES = ("cutting-room-1", "cutting-room-2", "cutting-room-3")
WHY = "its disk is changed"
AT_WORK = "() => [...document.querySelectorAll('.fleet > li')].filter((each) => each.querySelector('.at'))\
    .map((each) => each.querySelector('h3 bdi').textContent)"
NOTE = """() => {
    window.taken = 0;
    const look = () => { window.taken += document.querySelectorAll('.fleet > li:nth-child(2) .at').length; };
    new MutationObserver(look).observe(document.body, {childList: true, subtree: true});
}"""


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    """Its own worker is the first of three."""
    home = tmp_path_factory.mktemp("fleet") / "home"
    running = Product(home, MEDIAPIPE_WORKER_NAME=NAMES[0]).start()
    yield running
    running.stop()


def pause(page, name: str) -> None:
    card(page, name).get_by_role("link", name="Pause").click()
    page.fill("#why", WHY)
    page.click("main button.primary")
    card(page, name).get_by_text("Paused since").wait_for()


def all_at_work(product, page) -> bool:
    """Whether each of the three has something; what one has taken stands still meanwhile."""
    signal_encoders(product, signal.SIGSTOP)
    return set(page.evaluate(AT_WORK)) == set(NAMES)


def card(page, name: str):
    return page.locator(".fleet > li", has_text=name)


def test_one_of_three_workers_is_paused_finishes_what_it_has_and_takes_nothing_until_it_is_resumed(
    product, browser, tmp_path
):
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    context.add_cookies(cookies_of(product, "chief", staff=True))
    ada = product.editor("ada")

    def film(name: str) -> str:
        clip = make_clip(tmp_path / f"{name}.mp4", 24, "1280x720", "-metadata", f"title={name}")
        return submit(product, clip, "--owner", "ada")

    with more_workers(product, *NAMES[1:]) as (second, _), watched(context.new_page()) as page:
        jobs = [film(f"tape {number}") for number in range(5)]
        page.goto(f"{product.url}/fleet/")
        until(lambda: all_at_work(product, page), 120)
        pause(page, NAMES[1])
        signal_encoders(product, signal.SIGCONT)
        assert WHY in card(page, NAMES[1]).inner_text() and "by chief" in card(page, NAMES[1]).inner_text()
        card(page, NAMES[1]).get_by_text("It has finished what it had, and can be stopped.").wait_for()
        page.evaluate(NOTE)
        second.stop()
        card(page, NAMES[1]).get_by_text("It takes nothing when it’s started again.").wait_for()
        second.start()
        card(page, NAMES[1]).get_by_text("It has finished what it had, and can be stopped.").wait_for()
        assert {settled(ada, job)["status"] for job in jobs} == {"succeeded"}, "the others have done it all"
        assert page.evaluate("() => window.taken") == 0

        for name in (NAMES[0], NAMES[2]):
            pause(page, name)
            card(page, name).get_by_text("can be stopped").wait_for()
        last = film("the last tape")
        until(lambda: f"Paused by an admin: {WHY}" in banner(ada, last))
        until(lambda: f"Paused by an admin: {WHY}" in ada.get("/").text)
        page.reload()
        card(page, NAMES[1]).get_by_role("button", name="Resume").click()
        until(lambda: page.evaluate(AT_WORK) == [NAMES[1]], 120)
        assert settled(ada, last)["status"] == "succeeded"
        page.goto(f"{product.url}/audit/")
        assert page.inner_text("main").count("paused the worker") >= 3
    context.close()
