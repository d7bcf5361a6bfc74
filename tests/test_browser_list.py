"""The list in a real browser: found again on the way back, worked by keys, acted on in bulk."""

from __future__ import annotations

import re

import pytest

from tests.support.browsing import PATIENCE, choose, cookies_of, polls, say_yes, shelf, upload, watched
from tests.support.product import until

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.usefixtures("api")]
JOBS = 64


@pytest.fixture(scope="module")
def product(cloud):
    """Jobs that run cost nothing."""
    return cloud


@pytest.fixture
def endless(api):
    """Jobs run until they are cancelled."""
    api.life, api.can_cancel = ["processing"], True


@pytest.fixture(scope="module")
def shelved(product):
    """Somebody with many ended jobs: her cookies, and an id for each state."""
    cookies = cookies_of(product, "nora")
    return cookies, shelf(product, "nora", JOBS)


@pytest.fixture
def shelf_page(context, shelved):
    context.add_cookies(shelved[0])
    with watched(context.new_page()) as page:
        yield page


def retitle(product, job: str, title: str) -> None:
    code = f"from jobs.models import Job; Job.objects.filter(pk={job!r}).update(title={title!r})"
    assert product.command("shell", "-v", "0", "-c", code).returncode == 0


def focused(page) -> str:
    return page.evaluate("() => document.activeElement.closest('.job')?.id ?? ''")


def test_back_leads_to_the_same_place_of_the_same_list_and_it_is_live_again(product, shelf_page):
    page = shelf_page
    page.goto(f"{product.url}/?tab=done&q=take&sort=oldest")
    last = page.locator(".job h2 a").last
    last.scroll_into_view_if_needed()
    title, job = last.inner_text(), last.get_attribute("href").split("/")[2]
    before = page.evaluate("() => scrollY")
    assert before > 300
    last.click()
    page.wait_for_selector("#job-status")
    retitle(product, job, f"{title} was renamed meanwhile")
    page.go_back()
    page.wait_for_selector("#job-rows")
    assert "tab=done" in page.url and "q=take" in page.url and "sort=oldest" in page.url
    page.wait_for_selector(f".job:has-text('{title} was renamed meanwhile')")
    assert abs(page.evaluate("() => scrollY") - before) < 120
    assert page.get_attribute(".tabs a:has-text('Done')", "aria-current") == "true"
    retitle(product, job, title)


def test_a_new_job_appears_in_an_idle_list_without_a_reload(product, shelf_page):
    page = shelf_page
    page.goto(product.url)
    page.evaluate("() => window.kept = document.querySelector('.job')")
    code = (
        "from django.contrib.auth.models import User; from jobs.models import Job; "
        "from jobs.state import Source; Job.submit(User.objects.get(username='nora'), title='Just in', "
        "pipeline='standard', source=Source(url='http://127.0.0.1:9/x.mp4')).cancel_unstarted('nora')"
    )
    assert product.command("shell", "-v", "0", "-c", code).returncode == 0
    page.wait_for_selector(".job:has-text('Just in')")
    assert page.evaluate("() => window.kept.isConnected"), "the rows that were there were made anew"


def test_search_filters_order_and_pages_are_in_the_url(product, shelf_page):
    page = shelf_page
    page.goto(product.url)
    page.type("#q", "take")
    page.wait_for_url("**/?q=take")  # while somebody types, and nothing else is in it
    assert page.evaluate("() => document.activeElement.id") == "q"
    with page.expect_navigation():
        page.keyboard.press("Enter")
    page.click(".tabs >> text=Failed")
    page.wait_for_url("**tab=failed**")
    page.click("#filters summary")
    page.select_option("[name=sort]", "title")
    page.click("#filters >> text=Apply")
    page.wait_for_url("**sort=title**")
    assert sorted(page.url.split("?")[1].split("&")) == ["q=take", "sort=title", "tab=failed"]
    assert page.locator(".job").count() == len(page.query_selector_all(".job .pill[data-state=failed]")) > 5
    page.goto(f"{product.url}/?tab=done")
    page.click("text=Next")
    page.wait_for_url("**page=2**")
    assert "tab=done" in page.url and page.locator(".job").count() > 0
    listed = page.url
    page.click(".job h2 a >> nth=0")
    page.click(".crumbs >> text=Jobs")
    page.wait_for_url(listed)


def test_a_search_is_saved_found_again_and_forgotten(product, shelf_page):
    page = shelf_page
    page.goto(f"{product.url}/?q=take&sort=title")
    found = page.inner_text(".tabs a >> nth=0").split()[-1]
    page.click("#filters summary")
    page.fill("#save-view [name=name]", "My takes")
    page.click("#save-view button")
    page.wait_for_selector(f".tabs [aria-current] >> text=My takes {found}")
    page.goto(product.url)
    page.click(f".tabs >> text=My takes {found}")
    page.wait_for_url("**q=take**")
    assert "sort=title" in page.url
    page.click("#filters summary")
    page.click("button[name=forget]")
    page.wait_for_selector(".tabs >> text=My takes", state="detached")


def test_keys_go_through_the_list_and_are_off_while_typing(product, shelf_page):
    page, choosers = shelf_page, []
    page.on(
        "filechooser", lambda each: choosers.append(each)
    )  # from the start: listening takes the browser a moment
    page.goto(f"{product.url}/?sort=oldest")
    ids = [f"job-{href.split('/')[2]}" for href in hrefs(page)]
    for key, at in (("j", 0), ("j", 1), ("j", 2), ("k", 1)):
        page.keyboard.press(key)
        assert focused(page) == ids[at]
        outline = page.evaluate("() => getComputedStyle(document.activeElement.closest('.job')).outlineStyle")
        assert outline == "solid", "the focus cannot be seen"
    page.keyboard.press("x")
    assert page.locator(".job input:checked").count() == 1
    page.keyboard.press("x")
    page.keyboard.press("e")
    page.fill("dialog #title", "Renamed by a key")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#{ids[1]}:has-text('Renamed by a key')")
    assert page.url == f"{product.url}/?sort=oldest"
    page.keyboard.press("/")
    assert page.evaluate("() => document.activeElement.id") == "q"
    page.keyboard.type("jk/?rcu")
    assert page.input_value("#q") == "jk/?rcu" and not page.is_visible("#help")
    page.wait_for_selector(".empty")
    page.fill("#q", "")
    page.wait_for_selector(f"#{ids[0]}")
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("?")
    page.wait_for_selector("#help", state="visible")
    page.keyboard.press("Escape")
    page.click("[data-help]")
    page.wait_for_selector("#help", state="visible")
    page.keyboard.press("Escape")
    page.keyboard.press("u")
    until(lambda: choosers or page.wait_for_timeout(50), every=0)
    page.keyboard.press("j")
    here = page.evaluate("() => document.activeElement.getAttribute('href')")
    page.keyboard.press("o")
    page.wait_for_url(f"**{here}")
    page.keyboard.press("g")
    page.keyboard.press("j")
    page.wait_for_url(f"{product.url}/")


def hrefs(page) -> list[str]:
    return page.eval_on_selector_all(".job h2 a", "all => all.map((each) => each.getAttribute('href'))")


def test_the_keys_r_and_c_retry_and_cancel_the_job_in_focus_and_c_asks_first(product, page, clip, endless):
    title = upload(page, product, clip)
    row = f".job:has-text('{title}')"
    page.wait_for_selector(f"{row} >> [formaction$='/cancel/']", state="attached")
    page.focus(f"{row} h2 a")
    page.keyboard.press("c")
    assert title in page.inner_text("#confirm")
    page.click("#confirm button[value=no]")
    assert page.get_attribute(row, "data-state") in ("queued", "running")
    page.focus(f"{row} h2 a")
    page.keyboard.press("c")
    say_yes(page)
    page.wait_for_selector(f"{row}[data-state=cancelled]")
    page.focus(f"{row} h2 a")
    page.keyboard.press("r")
    page.wait_for_selector(".notice:has-text('Restarted.')")
    page.wait_for_selector(f"{row}:is([data-state=queued], [data-state=running])")
    choose(page, row, "Cancel")
    say_yes(page)
    page.wait_for_selector(f"{row}[data-state=cancelled]")


def test_ticked_jobs_stay_ticked_through_polls_and_are_cancelled_together(product, page, clip, endless):
    titles = [upload(page, product, clip) for _ in range(2)]
    for title in titles:
        page.check(f".job:has-text('{title}') input[type=checkbox]")
    heard = polls(page, "/rows/")
    until(lambda: len(heard) >= 3 or page.wait_for_timeout(100), every=0)
    assert page.locator(".job input:checked").count() == 2
    assert page.inner_text("#selected") == "2 selected"
    page.click(".bulk button[value=cancel]")
    page.wait_for_selector("h1:has-text('Cancel 2 jobs?')")
    page.click("form button.danger")
    page.wait_for_selector(".notice:has-text('Cancelling 2 jobs.')")
    for title in titles:
        page.wait_for_selector(f".job:has-text('{title}')[data-state=cancelled]")


def test_all_that_match_are_acted_on_and_the_result_says_what_was_skipped(product, shelf_page):
    page = shelf_page
    page.goto(f"{product.url}/?q=reel-3")  # by file name: reel-3 and reel-30 to reel-39
    found = int(re.search(r"All (\d+)", page.inner_text(".tabs a >> nth=0"))[1])
    assert found == 11
    page.check(".job >> nth=0 >> input")
    assert page.inner_text("#selected") == "1 selected"
    page.click(".job >> nth=3 >> input", modifiers=["Shift"])
    assert page.inner_text("#selected") == "4 selected"
    page.click("#select-page")
    assert page.inner_text("#selected") == f"{found} selected"
    assert not page.is_visible(".bulk button[value=cancel]"), "nothing runs"
    page.click(".bulk [type=reset]")
    page.wait_for_selector(".bulk", state="hidden")
    assert page.locator(".job :checked").count() == 0
    page.check(".job >> nth=0 >> input")
    page.check(".bulk [name=matching]")
    assert page.inner_text("#selected") == "All selected"
    assert page.inner_text(".bulk button[value=delete]").split() == ["Delete", f"{found}"]
    page.click(".bulk button[value=delete]")
    page.wait_for_selector(f"h1:has-text('Delete {found} jobs?')")
    page.click("form button.danger")
    page.wait_for_selector(f"text=Deleted {found} jobs.")
    assert "q=reel-3" in page.url
    page.wait_for_selector("text=No jobs match your search.")


def test_a_hidden_tab_asks_for_nothing(product, page, clip, endless):
    page.clock.install()
    title = upload(page, product, clip)
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url) if "/rows/" in r.url else None)
    until(lambda: asked or page.wait_for_timeout(100), every=0)
    page.evaluate("() => Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    page.wait_for_function("() => !document.querySelector('.htmx-request')")
    asked.clear()
    page.clock.run_for(60_000)
    assert asked == []
    page.clock.pause_at(page.evaluate("() => Date.now() + 1000"))  # no poll is due any more
    with page.expect_request("**/rows/*", timeout=PATIENCE):
        page.evaluate(
            """() => {
                Object.defineProperty(document, 'hidden', {value: false, configurable: true});
                document.dispatchEvent(new Event('visibilitychange'));
            }"""
        )
    page.clock.resume()
    tells = "() => document.title.includes('running')"
    page.wait_for_function(tells)  # else the tab doesn't tell that something runs
    choose(page, f".job:has-text('{title}')", "Cancel")
    say_yes(page)
    page.wait_for_selector(f".job:has-text('{title}')[data-state=cancelled]")


def test_a_job_that_finishes_elsewhere_is_told_in_a_toast(product, page, clip, endless, api):
    title = upload(page, product, clip)
    page.goto(f"{product.url}/jobs/new/")
    api.life = ["succeeded"]
    for task in api.tasks.values():
        task["left"] = ["succeeded"]
    page.wait_for_selector(f".toast:has-text('{title}')", timeout=2 * PATIENCE)
    page.wait_for_selector(".toast", state="detached")


def test_what_needs_somebody_is_told_on_the_list_too_and_stays_until_it_is_dismissed(product, shelf_page):
    page = shelf_page
    page.clock.install()
    page.goto(product.url)
    page.wait_for_selector("#news [hx-trigger*=swap]", state="attached")
    code = (
        "from django.contrib.auth.models import User; from django.db.transaction import atomic; "
        "from django.utils.timezone import now; from jobs.models import Job; from jobs.state import Source; "
        "atomic(lambda: Job.objects.filter(pk=Job.submit(User.objects.get(username='nora'), title='Broken', "
        "pipeline='standard', source=Source(url='http://127.0.0.1:9/x.mp4')).pk)"
        ".update(state='failed', finished_at=now()))()"
    )
    assert product.command("shell", "-v", "0", "-c", code).returncode == 0
    page.wait_for_selector("[role=status] .toast:has-text('Failed: Broken')")
    page.goto(f"{product.url}/jobs/new/")
    page.wait_for_selector(".toast:has-text('Failed: Broken')")
    page.clock.fast_forward(60_000)
    assert page.locator(".toast").count() == 1
    page.locator(".toast button").press("Enter")
    assert page.locator(".toast").count() == 0
    with page.expect_response(lambda answer: "/jobs/news/" in answer.url):
        page.reload()
    assert not page.wait_for_timeout(200) and page.locator(".toast").count() == 0
