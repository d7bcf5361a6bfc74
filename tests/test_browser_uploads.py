"""Uploads in a real browser: what an editor sees while bytes move, stop, go on, and are refused."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import threading
from pathlib import Path

import pytest
from playwright.sync_api import Error

from tests.support.product import PASSWORD, make_clip, token, until

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.usefixtures("api")]
MB = 1_000_000


@pytest.fixture(scope="module")
def product(cloud):
    """What becomes of an upload is not asked here: nothing is encoded."""
    return cloud


@pytest.fixture(scope="module")
def seconds(tmp_path_factory):
    """A clip of a second."""
    return make_clip(tmp_path_factory.mktemp("clip") / "second.mp4", 1, "160x120").read_bytes()


@pytest.fixture
def film(seconds, tmp_path):
    """Makes a film of so many megabytes that nobody has uploaded before."""

    def make(name: str, megabytes: float) -> Path:
        path = tmp_path / name
        path.write_bytes(seconds + os.urandom(int(megabytes * MB)))
        return path

    return make


class Link:
    """A line to the product that can be cut: what runs over it breaks off, and nobody gets through."""

    def __init__(self, port: int) -> None:
        self.port, self.up, self.ends = port, True, set()
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.server.accept()
                if not self.up:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self.port))
                self.ends |= {near, far}
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self.carry, args=pair, daemon=True).start()

    def carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        self.close(source, target)

    def close(self, *ends: socket.socket) -> None:
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def cut(self) -> None:
        self.up = False
        self.close(*self.ends)
        self.ends.clear()


@pytest.fixture
def link(product):
    link = Link(product.port)
    yield link
    link.cut()
    link.server.close()


@pytest.fixture
def page(product, context, cookies):
    """A signed-in editor's list; what the browser's console says of a lost connection is no failure here."""
    context.add_cookies(cookies)
    page = context.new_page()
    said: list[str] = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(product.url)
    yield page
    assert not said


def choose(page, *files: Path) -> None:
    page.set_input_files("#upload-file", [str(each) for each in files])


def slow(page, megabytes: float) -> None:
    """From now on the page sends so many megabytes a second: few, for a busy machine to see it under way."""
    if not hasattr(page, "link"):
        page.link = page.context.new_cdp_session(page)
    speed = int(megabytes * MB)
    about = {"offline": False, "latency": 1, "downloadThroughput": -1, "uploadThroughput": speed}
    page.link.send("Network.emulateNetworkConditions", about)


def row(page, name: str):
    return page.locator(f".upload:has-text('{name}')")


def percent(page, name: str) -> int:
    found = re.search(r"(\d+)%", row(page, name).inner_text())
    return int(found[1]) if found else 0


def moved(page, name: str, least: int) -> None:
    until(lambda: percent(page, name) >= least or page.wait_for_timeout(50), every=0)


def becomes_a_job(page, name: str) -> None:
    page.wait_for_selector(f".job:has-text('{name}')")
    row(page, name).wait_for(state="detached")


def is_stored(product, file: Path) -> bool:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return any(
        hashlib.sha256(path.read_bytes()).hexdigest() == digest
        for path in (product.home / "media" / "sources").rglob("*")
        if path.is_file() and path.stat().st_size == file.stat().st_size
    )


def offsets(page) -> list[int]:
    """The offsets at which parts are sent from now on."""
    seen: list[int] = []
    page.on(
        "request", lambda r: seen.append(int(r.headers["upload-offset"])) if r.method == "PATCH" else None
    )
    return seen


def test_an_empty_or_foreign_file_is_refused_before_a_byte_is_sent(page, tmp_path):
    for name, data in {"empty.mp4": b"", "notes.txt": b"notes", "photo.jpg": b"x", "a.zip": b"PK"}.items():
        (tmp_path / name).write_bytes(data)
    sent: list[str] = []
    page.on("request", lambda r: sent.append(r.method) if "/uploads/" in r.url else None)
    choose(page, *sorted(tmp_path.glob("*.*")))
    assert "empty (0 bytes)" in row(page, "empty.mp4").inner_text()
    for name in ("notes.txt", "photo.jpg", "a.zip"):
        assert "a video or audio file, so it wasn’t uploaded" in row(page, name).inner_text()
    row(page, "a.zip").get_by_text("Remove").click()
    assert page.locator(".upload").count() == 3 and sent == []


def test_a_text_with_a_films_name_is_refused_by_the_server_in_its_row(product, page, tmp_path):
    notes = tmp_path / "notes.mp4"
    notes.write_text("these are notes\n" * 99)
    choose(page, notes)
    sentence = "This isn’t a video or audio file, so it wasn’t uploaded."
    page.wait_for_selector(f".upload[data-state=failed]:has-text('{sentence}')")
    assert row(page, "notes.mp4").locator("button").all_inner_texts() == ["Remove"]
    page.reload()
    assert not page.locator("text=notes.mp4").count()


def test_two_move_at_a_time_and_each_can_be_paused_resumed_and_removed(page, film):
    slow(page, 0.25)
    choose(page, film("one.mp4", 6), film("two.mp4", 6), film("three.mp4", 6))
    moved(page, "one.mp4", 5)
    assert re.search(r"\d+% of 6\.\d MB", row(page, "one.mp4").inner_text())
    assert "Waiting, 6.0 MB" in row(page, "three.mp4").inner_text()
    row(page, "one.mp4").get_by_text("Pause").click()
    page.wait_for_selector(".upload[data-state=uploading]:has-text('three.mp4')")
    assert re.search(r"Paused at \d+%", row(page, "one.mp4").inner_text())
    row(page, "one.mp4").get_by_text("Resume").click()
    assert "Waiting" in row(page, "one.mp4").inner_text()
    row(page, "two.mp4").get_by_text("Remove").click()
    page.wait_for_selector(".upload[data-state=uploading]:has-text('one.mp4')")
    slow(page, 100)
    becomes_a_job(page, "three.mp4")
    becomes_a_job(page, "one.mp4")
    page.reload()
    assert not page.locator("text=two.mp4").count()


def test_at_its_end_a_row_says_that_the_file_is_checked_and_becomes_the_jobs_row(page, film):
    page.evaluate(
        """() => {
            window.said = []; window.here = true;
            const message = () => document.querySelector('.upload .message')?.textContent;
            new MutationObserver(() => window.said.push(message()))
                .observe(document.querySelector('[data-upload-rows]'), {childList: true, subtree: true});
        }"""
    )
    choose(page, film("checked.mp4", 1))
    becomes_a_job(page, "checked.mp4")
    assert "Checking the file…" in page.evaluate("window.said") and page.evaluate("window.here")


def test_the_same_bytes_offer_the_job_that_is_there_before_one_is_sent(page, film):
    first = film("first.mp4", 3)  # more than a slice that is read at once
    choose(page, first)
    becomes_a_job(page, "first.mp4")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(f"{request.method} {request.url}"))
    copy = first.rename(first.with_name("copy.mp4"))
    choose(page, copy)
    page.wait_for_selector(
        ".upload[data-state=duplicate]:has-text('already processed this file as “first.mp4” with Standard')"
    )
    job = row(page, "copy.mp4").get_by_text("Open that job").get_attribute("href")
    assert page.locator(f".job h2 a[href='{job}']").inner_text() == "first.mp4"
    row(page, "copy.mp4").get_by_text("Run again").click()
    becomes_a_job(page, "copy.mp4")
    assert not [each for each in sent if "PATCH" in each or each.endswith("/uploads/")], sent


@pytest.mark.release
def test_an_upload_survives_a_killed_server(product, page, film):
    big = film("big.mp4", 48)
    slow(page, 16)
    choose(page, big)
    moved(page, "big.mp4", 20)
    product.kill("web")
    page.wait_for_selector(".upload[data-state=interrupted]:has-text('Stopped at')")
    becomes_a_job(page, "big.mp4")
    assert is_stored(product, big)


def test_a_link_that_is_lost_for_long_is_taken_up_again_by_itself(product, page, film, link):
    far = film("far.mp4", 12)
    page.goto(link.url)
    slow(page, 1)
    choose(page, far)
    moved(page, "far.mp4", 20)
    link.cut()
    page.wait_for_selector(".upload[data-state=interrupted]:has-text('Connection lost.')")
    page.wait_for_timeout(1500)  # a try in vain
    at = offsets(page)
    slow(page, 100)
    link.up = True
    becomes_a_job(page, "far.mp4")
    assert at[0] > 0 and is_stored(product, far)


def test_what_stopped_with_a_crashed_tab_goes_on_when_it_is_chosen_again(product, context, page, film):
    one, other = film("holiday.mp4", 24), film("wedding.mp4", 24)
    slow(page, 4)
    choose(page, one, other)
    moved(page, "holiday.mp4", 30)
    moved(page, "wedding.mp4", 30)
    with contextlib.suppress(Error):
        page.goto("chrome://crash")  # no event is fired, nothing can be noted down, no byte is sent any more
    page.close()
    page = context.new_page()
    page.goto(product.url)
    stopped = row(page, "holiday.mp4").inner_text()
    assert re.search(r"Stopped at [3-9]\d%\. Choose the same file again to continue\.", stopped)
    at = offsets(page)
    choose(page, one)
    becomes_a_job(page, "holiday.mp4")
    assert at[0] >= 0.3 * one.stat().st_size and is_stored(product, one)
    assert "Choose the same file again" in row(page, "wedding.mp4").inner_text()
    with page.expect_response(lambda answer: answer.request.method == "DELETE"):
        row(page, "wedding.mp4").get_by_text("Remove").click()
    page.reload()
    assert not page.locator("text=wedding.mp4").count()


def test_leaving_warns_while_bytes_move_and_only_then(page, film):
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    slow(page, 0.2)
    choose(page, film("leaving.mp4", 4))
    moved(page, "leaving.mp4", 1)
    page.mouse.click(5, 5)  # a page that nobody has touched may not ask
    page.close(run_before_unload=True)
    until(lambda: asked or page.wait_for_timeout(50), every=0)
    row(page, "leaving.mp4").get_by_text("Pause").click()
    page.reload()
    assert asked == ["beforeunload"]
    row(page, "leaving.mp4").get_by_text("Remove").click()


def test_a_session_that_ends_in_the_middle_is_renewed_in_another_tab_and_the_upload_goes_on(
    product, context, page, film
):
    long = film("long.mp4", 70)
    slow(page, 4)
    choose(page, long)
    moved(page, "long.mp4", 10)
    context.clear_cookies(name="sessionid")
    slow(page, 100)
    page.wait_for_selector(".upload[data-state=signed-out]:has-text('been signed out.')")
    with context.expect_page() as opened:
        row(page, "long.mp4").get_by_text("Sign in", exact=True).click()
    other = opened.value
    other.fill("input[name=username]", "maria")
    other.fill("input[name=password]", PASSWORD)
    other.click("main button[type=submit]")  # and the CSRF token is a new one
    other.wait_for_selector("text=Sign out")
    at = offsets(page)
    other.close()
    page.bring_to_front()
    page.evaluate("() => window.dispatchEvent(new Event('focus'))")  # headless tabs tell of no focus
    becomes_a_job(page, "long.mp4")
    assert at[0] >= 64 << 20 and is_stored(product, long)


def test_files_are_dropped_and_urls_pasted_anywhere_on_the_page(page, seconds):
    drop = """([name, bytes]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], name, {type: 'video/mp4'}));
        const over = {dataTransfer: data, bubbles: true, cancelable: true};
        document.querySelector('footer, main').dispatchEvent(new DragEvent('dragenter', over));
        const lit = !document.getElementById('drop-here').hidden;
        document.querySelector('footer, main').dispatchEvent(new DragEvent('drop', over));
        return lit && document.getElementById('drop-here').hidden;
    }"""
    assert page.evaluate(drop, ["dropped.mp4", [*seconds, *os.urandom(9)]])
    becomes_a_job(page, "dropped.mp4")
    paste = """(text) => {
        const data = new DataTransfer();
        data.setData('text/plain', text);
        document.body.dispatchEvent(
            new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true}));
        return [document.getElementById('upload-url').value, document.activeElement.id];
    }"""
    assert page.evaluate(paste, "just words") == ["", ""]
    assert page.evaluate(paste, " https://example.org/a.mp4\n") == ["https://example.org/a.mp4", "upload-url"]


def test_an_upload_that_arrived_whole_before_the_server_could_look_is_finished_by_a_visit(
    product, page, seconds
):
    browser = product.editor("late")
    data = seconds + os.urandom(9)
    headers = {"Tus-Resumable": "1.0.0", "X-CSRFToken": token(browser.get("/"))}
    about = {**headers, "Upload-Length": str(len(data)), "Upload-Metadata": "filename bGF0ZS5tcDQ="}
    made = browser.post("/uploads/", headers=about)
    part = (
        product.home
        / "media"
        / "incoming"
        / f"{made.headers['Location'].split('/')[-2].replace('-', '')}.mp4"
    )
    part.write_bytes(data)
    page.context.add_cookies(
        [{"name": n, "value": v, "url": product.url} for n, v in browser.cookies.items()]
    )
    page.goto(product.url)
    becomes_a_job(page, "late.mp4")


def test_progress_is_not_read_aloud_and_what_changes_is(page, film):
    slow(page, 0.15)
    choose(page, film("quiet.mp4", 2))
    moved(page, "quiet.mp4", 10)
    assert page.locator(".upload output").count() == 0
    row(page, "quiet.mp4").get_by_text("Pause").click()
    assert re.match(r"quiet\.mp4: Paused at \d+%", page.inner_text("ul.uploads + output"))
    assert page.evaluate("document.activeElement.textContent") == "Resume"
    row(page, "quiet.mp4").get_by_text("Remove").click()


def test_time_and_size_are_told_in_words_that_fit(page, film):
    slow(page, 0.1)
    choose(page, film("words.mp4", 3))
    until(lambda: "left" in row(page, "words.mp4").inner_text() or page.wait_for_timeout(50), every=0)
    assert percent(page, "words.mp4") < 33, "it took ten seconds"
    assert re.search(
        r"\d+% of 3\.\d MB, \d+(\.\d)? [kM]B/s, about \d+ s left", row(page, "words.mp4").inner_text()
    )
    row(page, "words.mp4").get_by_text("Remove").click()


def test_uploads_go_along_from_page_to_page_and_pause_and_go_on_together(product, page, film):
    slow(page, 0.1)
    films = [film(f"along {number}.mp4", 3) for number in range(3)]
    choose(page, *films)
    moved(page, "along 0.mp4", 5)
    page.evaluate("() => window.kept = document.querySelector('.upload')")
    page.fill("#q", "nothing like it")
    page.press("#q", "Enter")  # a form
    page.wait_for_selector("text=No jobs match your search.")
    assert "q=nothing+like+it" in page.url
    page.click(".top >> text=maria")  # a link
    page.wait_for_selector("h1:has-text('Change your password')")
    assert page.title().startswith("Change your password") and "/password/" in page.url
    page.click("text=API tokens")
    page.wait_for_selector("h1:has-text('API tokens')")
    page.evaluate(
        "() => [window.file = document.createElement('a')].forEach((each) => each.href = '/media/x')"
    )
    page.evaluate("() => document.body.append(file)")
    with page.expect_popup() as beside:
        page.evaluate("() => file.click()")
    beside.value.close()
    assert page.get_attribute("a[href='/media/x']", "target") is None, "once uploads are done it opens here"
    page.click("#tray-all")
    page.wait_for_selector("#tray-all:has-text('Resume all')")
    assert page.locator(".upload[data-state=paused]").count() == 3
    at = percent(page, "along 0.mp4")
    assert re.search(r"0 of 3 uploaded · \d+%", page.inner_text("#tray-title"))
    page.go_back()
    page.wait_for_selector("h1:has-text('Change your password')")
    page.click(".top >> text=Jobs")
    page.wait_for_selector("#job-rows")
    assert page.evaluate("() => window.kept.isConnected") and percent(page, "along 0.mp4") == at > 0
    slow(page, 100)
    page.click("#tray-all")
    for each in films:
        becomes_a_job(page, each.name)
    page.wait_for_selector(".upload:has-text('along')", state="detached")  # others may have left some


def test_a_file_is_dropped_on_any_page_and_goes_through_the_pipeline_that_was_chosen_before(page, seconds):
    with page.expect_response("**/jobs/pipeline/*"):
        page.select_option("#upload-pipeline", "streaming")
    assert "plus an HLS stream" in page.inner_text("#pipeline-says")
    page.click("nav >> text=Jobs")  # nothing is on its way: the browser goes there itself
    assert page.input_value("#upload-pipeline") == "streaming"
    page.click(".top >> text=maria")
    page.wait_for_selector("h1:has-text('Change your password')")
    drop = """([name, bytes]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], name, {type: 'video/mp4'}));
        const over = {dataTransfer: data, bubbles: true, cancelable: true};
        document.body.dispatchEvent(new DragEvent('dragover', over));
        const says = document.getElementById('drop-here').innerText;
        return [says, !document.body.dispatchEvent(new DragEvent('drop', over))];
    }"""
    says, stays = page.evaluate(drop, ["elsewhere.mp4", [*seconds, *os.urandom(9)]])
    assert says == "Drop to upload with Streaming (HLS)" and stays
    row(page, "elsewhere.mp4").get_by_text("Open the job").click()
    page.wait_for_selector("#job-status")
    assert "HLS" in page.inner_text(".stages")
    page.goto(page.url.split("/jobs/")[0])
    page.select_option("#upload-pipeline", "standard")
