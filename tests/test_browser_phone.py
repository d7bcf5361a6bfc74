"""A telephone: five jobs on its first screen, targets for a thumb, and a thumb does the work of the day."""

from __future__ import annotations

import os

import pytest

from tests.support.browsing import PATIENCE, cookies_of, shelf, wait_for_state
from tests.support.product import make_clip

pytestmark = [pytest.mark.browser, pytest.mark.whole]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
THUMB = 44  # CSS pixels
# What can be tapped and is smaller: a ticked box counts with its label, a clipped field with what opens it.
SMALL = """(thumb) => [...document.querySelectorAll('a[href], button, input, select, summary, textarea')]
    .filter((each) => each.checkVisibility({visibilityProperty: true}))
    .filter((each) => getComputedStyle(each).pointerEvents !== 'none')
    .filter((each) => !each.closest('.skip') && getComputedStyle(each).clipPath === 'none')
    .map((each) => (each.type === 'checkbox' ? each.closest('label') ?? each : each))
    .map((each) => [each, each.getBoundingClientRect()])
    .filter(([, {width, height}]) => width < thumb || height < thumb)
    .map(([each, {width, height}]) => `${each.outerHTML.slice(0, 90)} ${width} × ${height}`)"""


@pytest.fixture(scope="module")
def product(cloud):
    """Jobs that run cost nothing."""
    return cloud


@pytest.fixture
def phone(browser, product, api):
    """An admin's telephone."""
    context = browser.new_context(**PHONE)
    context.add_cookies(cookies_of(product, "chief", staff=True))
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    yield page
    context.close()


@pytest.fixture(scope="module")
def jobs(product):
    """A job of each state, by state."""
    cookies_of(product, "chief", staff=True)
    return shelf(product, "chief", 12)


def test_five_jobs_are_on_the_first_screen(product, phone, jobs):
    phone.goto(product.url)
    whole = """() => [...document.querySelectorAll('.job')]
        .filter((each) => each.getBoundingClientRect().bottom <= innerHeight).length"""
    assert phone.evaluate(whole) >= 5


def test_whatever_can_be_tapped_is_as_large_as_a_thumb(product, phone, jobs):
    paths = [
        "/",
        "/?q=take",
        "/jobs/new/",
        "/history/",
        "/password/",
        "/account/tokens/",
        "/account/sessions/",
    ]
    paths.append(f"/jobs/{jobs['succeeded']}/stages/transcode/")
    for path in [*paths, *(f"/jobs/{job}/" for job in jobs.values())]:
        phone.goto(product.url + path)
        assert phone.evaluate(SMALL, THUMB) == [], path
    phone.goto(product.url)
    phone.tap("#more")
    phone.tap(".job >> nth=0 >> [popovertarget]")
    assert phone.evaluate(SMALL, THUMB) == [], "with a menu"
    phone.tap(".items:popover-open >> text=Select")
    phone.tap(".job >> nth=1 >> .tick")
    assert phone.inner_text("#selected") == "2 selected"
    assert phone.evaluate(SMALL, THUMB) == [], "with everything unfolded"
    phone.context.clear_cookies()
    phone.goto(f"{product.url}/login/")
    assert phone.evaluate(SMALL, THUMB) == [], "signing in"


def test_a_thumb_uploads_watches_retries_and_copies_a_link(product, phone, api, tmp_path):
    api.lives["transcode"] = ["failed"]
    api.error = {"kind": "invalid_input", "message": "No."}
    film = make_clip(tmp_path / "thumb.mp4", 1, "160x120")
    film.write_bytes(film.read_bytes() + os.urandom(9))
    phone.goto(product.url)
    with phone.expect_file_chooser() as chooser:
        phone.tap(".with .primary")
    chooser.value.set_files(str(film))
    row = ".job:has-text('thumb.mp4')"
    phone.wait_for_selector(f"{row} >> [data-state=attention]")
    api.behave()
    phone.tap(f"{row} >> .acts button")
    phone.tap(f"{row} >> h2 a")
    wait_for_state(phone, "succeeded")
    phone.tap("nav >> text=Jobs")
    phone.tap(f"{row} >> [data-link]")
    copied = phone.evaluate("() => navigator.clipboard.readText()")
    assert copied.startswith(f"{product.url}/media/")
