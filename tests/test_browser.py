"""The dashboard in a real browser: what an editor sees, clicks and hears."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests.conftest import SHARED
from tests.product import make_clip, until

pytestmark = [pytest.mark.browser, pytest.mark.whole]
BROWSER = os.environ.get("MEDIAPIPE_BROWSER", "/usr/bin/chromium")


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args):
    if not BROWSER or (BROWSER != "playwright" and not Path(BROWSER).exists()):
        if os.environ.get("CI"):
            pytest.fail("There is no browser, and CI must have one.")
        pytest.skip("no browser")
    own = {} if BROWSER == "playwright" else {"executable_path": BROWSER}
    quiet = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
    return {**browser_type_launch_args, **own, "args": quiet}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    real = SHARED / "media" / "dev" / "sample_iPod.m4v"
    made = tmp_path_factory.mktemp("clip") / "interview.mp4"
    return real if real.exists() else make_clip(made, 8)


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("clip") / "council meeting.mp4", 60, "1920x1080")


@pytest.fixture(scope="module")
def cookies(product):
    return [
        {"name": name, "value": value, "url": product.url}
        for name, value in product.editor("maria").cookies.items()
    ]


@pytest.fixture
def page(product, context, cookies):
    """A signed-in editor's page; what the console or the policy complains about fails the test."""
    context.add_cookies(cookies)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.set_default_timeout(20_000)
    yield page
    assert not said


def upload(page, product, file: Path) -> None:
    """Uploads bytes that nobody has uploaded before: the same ones would offer the job that is there."""
    page.goto(product.url)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / file.name
        copy.write_bytes(file.read_bytes() + b"\0\0\0\x18free" + os.urandom(16))
        page.set_input_files("#upload-file", str(copy))
        page.wait_for_selector(f".job:has-text('{file.name}')")
        page.wait_for_selector(".upload", state="detached")


def open_job(page, name: str) -> None:
    page.click(f".job:has-text('{name}') h2 a")
    page.wait_for_selector("#job-status")


def wait_for_state(page, *states: str, patience: float = 90) -> None:
    choices = ",".join(f"#job-status[data-state={state}]" for state in states)
    page.wait_for_selector(choices, timeout=patience * 1000)


def test_an_upload_is_watched_to_its_end_and_played(product, page, clip):
    upload(page, product, clip)
    open_job(page, clip.name)
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


def test_polls_keep_a_player_a_fold_and_the_focus_and_end_with_the_job(product, page, long_clip):
    upload(page, product, long_clip)
    open_job(page, long_clip.name)
    page.wait_for_selector("#sound", timeout=60_000)
    page.evaluate(
        """() => {
            const sound = document.getElementById('sound');
            sound.muted = true; sound.loop = true; sound.play();
            window.kept = sound; window.breaks = 0;
            sound.addEventListener('emptied', () => window.breaks++);
            sound.addEventListener('pause', () => window.breaks++);
        }"""
    )
    page.click("#cancel summary")
    page.fill("#reason", "wrong cut")
    polls: list[str] = []
    page.on("response", lambda r: polls.append(r.url) if r.url.endswith("/status/") else None)
    until(lambda: len(polls) >= 4 or page.wait_for_timeout(100), 30)
    assert page.evaluate(
        "() => [window.kept === document.getElementById('sound'), window.kept.paused, window.breaks]"
    ) == [True, False, 0]
    assert page.evaluate("() => document.activeElement.id") == "reason"
    assert page.input_value("#reason") == "wrong cut"
    page.click("text=Cancel the job")
    wait_for_state(page, "cancelled", patience=20)
    assert "encoder stopped" in page.inner_text("#job-status")
    page.wait_for_timeout(500)
    polls.clear()
    page.wait_for_timeout(2500)
    assert polls == []
    page.click("text=Start again")
    wait_for_state(page, "running", "queued")
    page.wait_for_selector("#cancel summary")
    page.click("#cancel summary")
    page.click("text=Cancel the job")
    wait_for_state(page, "cancelled", patience=20)


def test_a_hidden_tab_asks_for_nothing(product, page, long_clip):
    upload(page, product, long_clip)
    polls: list[str] = []
    page.on("request", lambda r: polls.append(r.url) if "/rows/" in r.url else None)
    until(lambda: polls or page.wait_for_timeout(100), 10)
    page.evaluate("() => Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    page.wait_for_timeout(300)
    polls.clear()
    page.wait_for_timeout(3500)
    assert polls == []
    page.evaluate(
        """() => {
            Object.defineProperty(document, 'hidden', {value: false, configurable: true});
            document.dispatchEvent(new Event('visibilitychange'));
        }"""
    )
    until(lambda: polls or page.wait_for_timeout(20), 0.5)
    page.click(f".job:has-text('{long_clip.name}') >> nth=0 >> text=Cancel")


def test_keys_go_through_the_list_and_are_off_while_typing(product, page, clip):
    page.goto(product.url)
    page.wait_for_selector(".job")
    page.keyboard.press("j")
    assert page.evaluate("() => document.activeElement.closest('.job') !== null")
    page.keyboard.press("/")
    assert page.evaluate("() => document.activeElement.id") == "q"
    page.keyboard.type("jk/")
    assert page.input_value("#q") == "jk/"
    page.keyboard.press("Escape")
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("?")
    assert page.is_visible("#help")


def test_ticked_jobs_stay_ticked_through_polls_and_are_cancelled_together(product, page, long_clip):
    upload(page, product, long_clip)
    page.check(f".job:has-text('{long_clip.name}') >> nth=0 >> input[type=checkbox]")
    polls: list[str] = []
    page.on("response", lambda r: polls.append(r.url) if "/rows/" in r.url else None)
    until(lambda: len(polls) >= 3 or page.wait_for_timeout(100), 20)
    assert page.locator(".job input:checked").count() == 1
    page.click(".bulk button[value=cancel]")
    assert "Cancel 1 job?" in page.inner_text("h1")
    page.click("form button.danger")
    page.wait_for_selector("text=1 cancelled")


def test_a_job_that_finishes_elsewhere_is_told_in_a_toast(product, page, clip):
    upload(page, product, clip)
    page.goto(f"{product.url}/jobs/new/")
    page.wait_for_selector(f".toast:has-text('{clip.name}')", timeout=60_000)


def test_everything_that_matters_works_without_scripts(product, browser, cookies, clip):
    context = browser.new_context(java_script_enabled=False)
    context.add_cookies(cookies)
    page = context.new_page()
    page.goto(f"{product.url}/jobs/new/")
    page.set_input_files("input[name=file]", str(clip))
    page.fill("input[name=title]", "Without scripts")
    page.click("text=Start")
    assert "Without scripts" in page.inner_text("h1")
    page.click("#cancel summary")
    page.click("text=Cancel the job")

    def cancelled():
        page.reload()
        return page.get_attribute("#job-status", "data-state") in ("cancelled", "succeeded")

    until(cancelled, 30, 0.5)
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_breaks_a_rule_of_accessibility(product, browser, cookies, scheme):
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(color_scheme=scheme, bypass_csp=True)
    staff = product.editor("chief", staff=True)
    context.add_cookies([{"name": n, "value": v, "url": product.url} for n, v in staff.cookies.items()])
    page = context.new_page()
    page.goto(product.url)
    job = page.get_attribute(".job h2 a", "href")
    for path in ("/", job, "/jobs/new/", "/history/", "/password/", "/no-such-page", "/?tab=attention&q=zzz"):
        page.goto(product.url + path)
        found = Axe().run(page)
        assert found.violations_count == 0, path + "\n" + found.generate_report()
    context.clear_cookies()
    page.goto(f"{product.url}/login/")
    assert Axe().run(page).violations_count == 0
    context.close()
