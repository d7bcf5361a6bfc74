"""A lost server and a lost session in a browser: one strip says so, the page stays, nothing typed is lost."""

from __future__ import annotations

import pytest

from tests.support.browsing import wait_for_state
from tests.support.dashboard import URL, submit
from tests.support.product import PASSWORD

pytestmark = [pytest.mark.browser, pytest.mark.whole]


@pytest.fixture(scope="module")
def product(cloud):
    """Jobs that run cost nothing."""
    return cloud


@pytest.fixture
def running(product, context, cookies, api):
    """An editor's page of a job that runs until it is cancelled; the console may tell of what is lost."""
    api.life, api.can_cancel = ["processing"], True
    context.add_cookies(cookies)
    page = context.new_page()
    page.goto(f"{product.url}/jobs/{submit(product, URL, '--owner', 'maria')}/")
    wait_for_state(page, "running")
    page.evaluate("() => window.kept = document.querySelector('h1')")
    return page


def type_a_reason(page) -> None:
    page.click("#cancel summary")
    page.fill("#reason", "wrong cut")


def stays(page) -> bool:
    """Whether the page is the one that was opened, with what was typed into it."""
    typed = page.input_value("#reason") == "wrong cut" and page.is_visible("#reason")
    return typed and page.evaluate("() => window.kept.isConnected")


def cancels(page) -> None:
    page.click("text=Cancel job")
    wait_for_state(page, "cancelled")
    assert "wrong cut" in page.inner_text(".timeline")


def sign_in(page) -> None:
    page.fill("input[name=username]", "maria")
    page.fill("input[name=password]", PASSWORD)
    page.click("main button[type=submit]")


def test_a_server_that_dies_is_told_in_a_strip_until_it_is_back(product, running):
    page = running
    type_a_reason(page)
    with product.without("web"):
        page.wait_for_selector("#strip:has-text('Connection lost. You’re seeing')")
        assert stays(page)
        page.click("text=Cancel job")  # goes nowhere, and nothing is lost by it
        assert stays(page)
    page.wait_for_selector("#strip", state="hidden")
    assert stays(page)
    cancels(page)


def test_a_session_that_ends_is_told_in_a_strip_and_renewed_beside_what_was_typed(product, context, running):
    page = running
    type_a_reason(page)
    context.clear_cookies(name="sessionid")
    page.wait_for_selector("#strip:has-text('You’ve been signed out.')")
    assert stays(page)
    with context.expect_page() as opened:
        page.click("#strip a")  # something is at stake: beside this page
    sign_in(opened.value)
    opened.value.wait_for_selector("text=Sign out")
    opened.value.close()
    page.bring_to_front()
    page.wait_for_selector("#strip", state="hidden")
    assert stays(page)
    cancels(page)


def test_who_has_typed_nothing_signs_in_and_is_led_back_to_the_page(context, running):
    page, address = running, running.url
    context.clear_cookies(name="sessionid")
    page.wait_for_selector("#strip:has-text('You’ve been signed out.')")
    page.click("#strip a")
    page.wait_for_selector("h1:has-text('Sign in')")
    sign_in(page)
    wait_for_state(page, "running")
    assert page.url == address
    page.click("#cancel summary")
    page.fill("#reason", "wrong cut")
    cancels(page)


def test_a_page_that_polls_nothing_keeps_its_form_and_sees_that_somebody_has_signed_in(
    product, context, cookies
):
    context.add_cookies(cookies)
    page = context.new_page()
    page.goto(f"{product.url}/account/tokens/")
    page.fill("[name=name]", "Newsroom")
    page.wait_for_load_state("networkidle")  # an answer under way would say that somebody is signed in
    kept = context.cookies()
    context.clear_cookies(name="sessionid")
    page.evaluate(
        "() => document.dispatchEvent(new CustomEvent('signed-out'))"
    )  # as an upload or a visit finds
    page.click("text=Make token")
    assert page.input_value("[name=name]") == "Newsroom" and page.is_visible("#strip")
    context.add_cookies(kept)
    page.wait_for_selector("#strip", state="hidden")
    page.click("text=Make token")
    page.wait_for_selector("text=Copy the token of “Newsroom” now.")
