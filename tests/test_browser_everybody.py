"""The pages for everybody: narrow, enlarged, from right to left, without motion, without scripts, by ear."""

from __future__ import annotations

import pytest
from axe_playwright_python.base import AXE_SCRIPT, AxeResults

from tests.support.browsing import PATIENCE, choose, cookies_of, shelf, watched
from tests.support.product import until

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.usefixtures("api")]
VIEWS = {
    "a telephone": {"viewport": {"width": 390, "height": 844}},
    "200 % zoom": {"viewport": {"width": 640, "height": 430}, "device_scale_factor": 2},
    "a wide screen": {"viewport": {"width": 1280, "height": 860}},
}
FURTHER = (
    *("/?page=2", "/?tab=attention", "/history/?q=nothing", "/?state=failed&from=2026-01-01"),
    "/pipelines/previews/",
)
COLOURS = ["color-contrast", "link-in-text-block"]  # the rules of axe that see a difference in the dark
# Chief is an admin by the group, which opens the records.
JOINS = """
from django.contrib.auth.models import Group, User
User.objects.get(username="chief").groups.add(Group.objects.get(name="Admins"))
"""
# How far the page scrolls sideways, what is wider than it, and where the sheet of each opened menu lies.
FITS = """() => {
    const wider = [...document.querySelectorAll('body *')]
        .filter((each) => each.getBoundingClientRect().right > innerWidth + 1
            || each.getBoundingClientRect().left < -1)
        .filter((each) => !each.closest(
            '.scroll, .filmstrip, pre, .vh, .skip, svg, dialog, details:not([open])'))
        .map((each) => each.outerHTML.slice(0, 120));
    const scrolls = document.documentElement.scrollWidth - innerWidth;
    const sheets = [...document.querySelectorAll('details.menu > summary')].map((menu) => {
        menu.click();
        const {left, right} = menu.nextElementSibling.getBoundingClientRect();
        menu.click();
        return [left, right];
    });
    return [scrolls, wider, sheets];
}"""
STILL = "() => !document.getAnimations().some((each) => each instanceof CSSTransition)"
# Of a long list four rows, which have every state.
SHORTEN = """() => document.querySelectorAll('main :is(.job, tbody tr):nth-of-type(n + 5)')
    .forEach((each) => each.remove())"""


# Presses each button that sends a form: whether it or a question shows that at once, and after how many ms.
PRESS = """() => [...document.querySelectorAll('button[type=submit]:enabled')]
    .filter(({form}) => form?.method === 'post')
    .map((button) => {
        const began = performance.now();
        Object.assign(button.form, {noValidate: true}).removeAttribute('data-sent');
        window.addEventListener('submit', (event) => event.preventDefault(), {once: true});
        button.click();
        const asked = document.querySelector('dialog[open]');
        const shown = asked || button.ariaBusy === 'true';
        asked?.close('no');
        return [button.innerText.trim() || button.outerHTML, Boolean(shown), performance.now() - began];
    })"""


@pytest.fixture(scope="module")
def product(cloud):
    """Jobs that run cost nothing."""
    return cloud


@pytest.fixture(scope="module")
def staff(product, request):
    """Somebody who sees everything, and the pages that there are."""
    cookies = cookies_of(product, "chief", staff=True)
    product.shell(JOINS)
    jobs = shelf(product, "chief", 40)
    lists = ("/", "/?q=nothing-like-it", "/history/")
    forms = ("/jobs/new/", "/password/", "/account/tokens/", "/account/notifications/", "/account/sessions/")
    forms += ("/audit/", "/trash/", "/fleet/", "/no-such-page", "/pipelines/")
    forms += ("/pipelines/standard/", "/pipelines/standard/edit/", "/admin/jobs/job/")
    further = (*FURTHER, "/admin/", f"/admin/jobs/job/{jobs['succeeded']}/change/")
    forms += further if request.config.option.all else ()
    stage = f"/jobs/{jobs['succeeded']}/stages/transcode/"
    return cookies, [*lists, *forms, stage, *(f"/jobs/{job}/" for job in jobs.values())], jobs


@pytest.mark.parametrize(
    "view",
    [pytest.param(each, marks=[] if at == 0 else pytest.mark.release) for at, each in enumerate(VIEWS)],
)
def test_nothing_is_wider_than_the_window_and_nothing_complains(product, browser, staff, view):
    cookies, paths, _ = staff
    context = browser.new_context(**VIEWS[view])
    context.set_default_timeout(PATIENCE)
    context.add_cookies(cookies)
    with watched(context.new_page()) as page:
        for path in paths:
            if path == "/no-such-page":
                continue  # the console tells of each 404, rightly
            page.goto(product.url + path)
            for direction in ("ltr", "rtl"):
                page.evaluate(f"() => document.documentElement.dir = '{direction}'")
                fits(page, f"{path} {direction}", VIEWS[view]["viewport"]["width"])
    context.close()


def fits(page, where: str, width: int) -> None:
    """Neither the page nor an open menu is wider than the window."""
    scrolls, wider, sheets = page.evaluate(FITS)
    assert scrolls <= 0 and wider == [], f"{where} scrolls {scrolls} px: {wider}"
    assert all(left >= 0 and right <= width for left, right in sheets), f"{where}: {sheets}"


def accessible(page, where: str, dark: bool = True) -> None:
    """No rule of accessibility is broken, in the dark none about colours: the others see no difference."""
    page.evaluate(AXE_SCRIPT)
    for scheme, rules in (("light", {}), ("dark", {"runOnly": COLOURS}))[: 1 + dark]:
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(STILL)  # the admin’s own colours are on their way, whoever wants no motion
        options = {"resultTypes": ["violations"], **rules}
        found = AxeResults(page.evaluate("options => axe.run(document, options)", options))
        assert found.violations_count == 0, f"{where} {scheme}\n{found.generate_report()}"


def test_no_page_breaks_a_rule_of_accessibility(product, browser, staff, request):
    """In the dark every third page; a release looks at each."""
    cookies, paths, _ = staff
    context = browser.new_context(bypass_csp=True, reduced_motion="reduce")  # no colour is on its way
    context.set_default_timeout(PATIENCE)
    context.add_cookies(cookies)
    page = context.new_page()
    for number, path in enumerate(paths):
        page.goto(product.url + path)
        page.evaluate(SHORTEN)
        for fold in page.query_selector_all("main details"):
            fold.evaluate("each => each.open = true")
        accessible(page, path, dark=request.config.option.all or number % 3 == 0)
    page.goto(product.url)
    page.evaluate(SHORTEN)
    page.check(".job >> nth=0 >> input")
    accessible(page, "ticked")
    page.set_viewport_size(VIEWS["a telephone"]["viewport"])
    page.click(".job >> nth=0 >> [popovertarget]")
    accessible(page, "a menu on a telephone")
    page.keyboard.press("Escape")
    page.click(".bulk button[value=delete]")
    page.wait_for_selector("form button.danger")
    accessible(page, "asked")
    context.clear_cookies()
    page.goto(f"{product.url}/login/")
    accessible(page, "signing in")
    context.close()


@pytest.mark.release
def test_no_page_breaks_a_rule_of_accessibility_on_a_telephone(product, browser, staff):
    cookies, paths, _ = staff
    context = browser.new_context(bypass_csp=True, reduced_motion="reduce", **VIEWS["a telephone"])
    context.set_default_timeout(PATIENCE)
    context.add_cookies(cookies)
    page = context.new_page()
    for path in paths:
        page.goto(product.url + path)
        page.evaluate(SHORTEN)
        for fold in page.query_selector_all("main details"):
            fold.evaluate("each => each.open = true")
        accessible(page, path)
    context.clear_cookies()
    page.goto(f"{product.url}/login/")
    accessible(page, "signing in")
    context.close()


def test_every_button_that_sends_something_shows_at_once_that_it_was_pressed(
    product, browser, staff, request
):
    """On every third page; a release presses those of all."""
    cookies, paths, _ = staff
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    context.add_cookies(cookies)
    page = context.new_page()
    page.route("**", lambda route, request: route.abort() if request.method == "POST" else route.continue_())
    pressed = 0
    whole = request.config.option.all
    for path in list(dict.fromkeys((*paths, *FURTHER)))[:: 1 if whole else 3]:
        if path.startswith("/admin/") or path == "/no-such-page":
            continue  # Django's own, and one that has no scripts
        page.goto(product.url + path)
        for _ in range(3):  # who is late each time is late; others take a busy machine's time now and then
            found = page.evaluate(PRESS)
            if not (late := [(words, took) for words, shown, took in found if not shown or took > 100]):
                break
        assert late == [], path
        pressed += len(found)
    assert pressed > (100 if whole else 30)
    context.close()


def test_who_wants_no_motion_gets_none(product, browser, staff):
    context = browser.new_context(reduced_motion="reduce")
    context.set_default_timeout(PATIENCE)
    context.add_cookies(staff[0])
    page = context.new_page()
    page.goto(product.url)
    page.evaluate("() => document.querySelector('.poster .i').classList.add('spin')")
    moving = """() => [...document.querySelectorAll('*')].filter((each) => {
        const style = getComputedStyle(each);
        return style.animationName !== 'none' || parseFloat(style.transitionDuration) > 0;
    }).length"""
    assert page.evaluate(moving) == 0
    context.close()


@pytest.fixture
def plain(browser, cookies):
    """An editor's page without scripts."""
    context = browser.new_context(java_script_enabled=False)
    context.set_default_timeout(PATIENCE)
    context.add_cookies(cookies)
    yield context.new_page()
    context.close()


def test_a_job_is_started_cancelled_and_retried_without_scripts(product, plain, clip, api):
    api.life, api.can_cancel = ["processing"], True
    plain.goto(f"{product.url}/jobs/new/")
    plain.set_input_files("input[name=file]", str(clip))
    plain.fill("input[name=title]", "Without scripts")
    plain.click("text=Start")
    plain.wait_for_selector("h1:has-text('Without scripts')")

    def stands(*states: str) -> bool:
        plain.reload()
        return plain.get_attribute("#job-status", "data-state") in states

    plain.click("#cancel summary")
    with plain.expect_navigation():
        plain.click("text=Cancel job")
    until(lambda: stands("cancelled"), every=0.5)
    plain.click("text=Restart")
    assert "Restarted." in plain.inner_text(".notice")
    until(lambda: stands("queued", "running"), every=0.5)
    plain.goto(product.url)
    with plain.expect_navigation():
        choose(plain, ".job:has-text('Without scripts')", "Cancel")
    again = ".job:has-text('Without scripts') >> text=Restart"
    until(lambda: plain.reload() and plain.is_visible(again), every=0.5)


def test_the_list_is_searched_paged_and_acted_on_in_bulk_without_scripts(product, browser, staff):
    cookies, *_ = staff
    context = browser.new_context(java_script_enabled=False)
    context.set_default_timeout(PATIENCE)
    context.add_cookies(cookies)
    page = context.new_page()
    page.goto(product.url)
    page.fill("#q", "take 02")
    page.press("#q", "Enter")
    assert page.locator(".job").count() >= 4
    page.check(".job >> nth=0 >> input")
    page.click(".bulk button[value=cancel]")
    page.click("form button.danger")
    assert "Nothing was cancelled. 1 had already ended." in page.inner_text(".notice")
    page.goto(f"{product.url}/history/?owner=chief&tab=done")
    page.check("td input >> nth=0")
    page.click(".bulk button[value=delete]")
    page.click("form button.danger")
    assert "Deleted 1 job." in page.inner_text(".notice") and "/history/" in page.url
    context.close()
