"""A settled job's page in a real browser: it tells the truth and hands out its files."""

from __future__ import annotations

import json
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.support.browsing import cookies_of, open_job, shelf, upload, wait_for_state, wait_for_tab, watched
from tests.support.engine import X264, ffmpeg
from tests.support.product import CALM, make_broken, make_clip, until

# The stronger of the colours in the middle of the thumbnail.
COLOUR = """async () => {
  const image = document.querySelector("#thumbnail img");
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const pen = canvas.getContext("2d");
  pen.drawImage(image, 0, 0, 1, 1);
  const [red, , blue] = pen.getImageData(0, 0, 1, 1).data;
  return red > blue ? "red" : "blue";
}"""

# Notes whether a pressed button shows it in the very task of the click.
ANSWERS = """() => document.addEventListener("click", ({ target }) => {
  const busy = () => { sessionStorage.answered = target.closest("button").ariaBusy; };
  document.addEventListener("submit", () => queueMicrotask(busy));
}, true)"""

pytestmark = [pytest.mark.browser, pytest.mark.whole]


def test_a_failure_says_what_and_why_and_what_next(product, page, tmp_path):
    broken = make_broken(tmp_path / "raw.mp4")
    command = ("submit", str(broken), "--title", "Raw cut", "--owner", "maria", "--json")
    job = json.loads(product.command(*command).stdout)["id"]
    page.goto(f"{product.url}/jobs/{job}/")
    wait_for_state(page, "attention")
    problem = page.inner_text(".problem")
    for part in (
        "Ingest failed",
        "contains no readable video or audio",
        "upload the new file",
        "Replace the source",
        "Technical details",
    ):
        assert part in problem
    wait_for_tab(page, "favicon-attention", "Needs attention")
    page.evaluate(ANSWERS)
    page.click("text=Try anyway")
    page.wait_for_selector(".notice:has-text('Retrying')")
    assert page.evaluate("sessionStorage.answered") == "true", (
        "a pressed button waits for the server to show it"
    )
    # what is shown at first may be the state of before; while the attempt lasts no source can be replaced
    until(lambda: page.inner_text(".timeline").count("Ingest failed:") == 2, 120)
    wait_for_state(page, "attention")
    assert "by maria" in page.inner_text(".timeline")
    page.click(".problem >> text=Replace the source")
    page.set_input_files("#id_file", str(make_clip(tmp_path / "whole.mp4", 1, "320x180")))
    page.click("button:has-text('Replace')")
    wait_for_state(page, "succeeded")
    assert page.url.endswith(f"/jobs/{job}/")
    assert "Replaced the source “raw.mp4” by “whole.mp4” by maria" in page.inner_text(".timeline")


def over(page, part: float) -> None:
    """Moves the pointer over the thumbnail to this part of its width; the first fetch what it shows."""
    page.locator("#thumbnail").scroll_into_view_if_needed()
    for step in (0, 1):
        page.wait_for_load_state("networkidle")
        box = page.locator("#thumbnail").bounding_box()
        page.mouse.move(box["x"] + part * box["width"], box["y"] + 20 + step)


@pytest.mark.release
def test_a_finished_job_gets_another_thumbnail_and_another_size(product, page, made):
    """The picture is of the frame that the player shows, not of the next one, which has another colour."""
    half = "color={}:s=320x180:r=25:d=2,format=yuv420p"
    halves = f"{half.format('red')}[a];{half.format('blue')}[b];[a][b]concat"
    film = made("halves.mp4", "-f", "lavfi", "-i", halves, "-c:v", "libx264", "-g", "25")
    open_job(page, upload(page, product, film))
    wait_for_state(page, "succeeded")
    about = page.request.get(f"{page.url}json/").json()
    page.emulate_media(reduced_motion="no-preference")
    place = "() => document.getElementById('thumbnail').style.backgroundPosition.split('px')[0]"
    for part, at in ((0.01, 0), (0.99, -9)):
        until(lambda part=part: over(page, part) or page.locator("#thumbnail.scrubbed").count())
        wide = page.evaluate("() => document.getElementById('thumbnail').clientWidth")
        assert float(page.evaluate(place)) == pytest.approx(at * wide, abs=1)
    page.mouse.move(1, 1)
    page.wait_for_selector("#thumbnail:not(.scrubbed)")
    page.emulate_media(reduced_motion="reduce")
    over(page, 0.5)
    assert not page.locator(".scrubbed").count()
    assert page.get_attribute(".film > svg", "width") == "1000", "what is encoded isn’t in colour"
    for at, colour in ((1.97, "red"), (2.01, "blue")):
        page.evaluate("at => (document.getElementById('player').currentTime = at)", at)
        page.wait_for_function(
            "at => Math.abs(document.getElementById('frame-at').value - at) < 0.04", arg=at
        )
        page.click("text=Use as thumbnail")
        page.wait_for_selector(".notice:has-text('Making Thumbnails again.')")
        wait_for_state(page, "succeeded")
        until(lambda colour=colour: page.evaluate(COLOUR) == colour)
    page.click("[title='Make again'] >> nth=-1")
    page.wait_for_selector("h1:has-text('Transcode')")
    page.fill("#id_width", "160")
    page.click("button:has-text('Make again')")
    wait_for_state(page, "succeeded")
    assert "160 × 90" in page.inner_text(".files").replace("\u00a0", " ")
    assert "Making Transcode again: width 160 px" in page.inner_text(".timeline")
    after = page.request.get(f"{page.url}json/").json()
    assert after["stages"][0]["task_id"] == about["stages"][0]["task_id"]
    assert [len(stage["earlier_versions"]) for stage in after["stages"]] == [0, 2, 0, 1]
    page.click("[title='Make again'] >> nth=-1")
    page.click("text=Use this version")
    page.wait_for_selector(".notice:has-text('The earlier version is used again.')")
    assert "320 × 180" in page.inner_text("[aria-label='In use']").replace("\u00a0", " ")


def test_a_finished_job_shows_its_facts_and_hands_out_its_files(product, context, clip):
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    context.add_cookies(cookies_of(product, "otto", staff=True))
    with watched(context.new_page()) as page:
        open_job(page, upload(page, product, clip))
        wait_for_state(page, "succeeded")
        facts = page.inner_text(".files")
        for fact in ("Source", clip.stem, "Ingest", "H.264", "×", "MB", "MP3"):
            assert fact in facts
        source = page.inner_text(".files li >> nth=0").replace("\u00a0", " ")
        assert all(fact in source for fact in (clip.stem, " + AAC", "×", "MB")), source
        page.click(".files [data-link] >> nth=1")
        copied = page.evaluate("() => navigator.clipboard.readText()")
        assert copied.startswith(f"{product.url}/media/")
        page.evaluate("() => [window.kept = navigator.clipboard, delete Navigator.prototype.clipboard]")
        page.click("text=Copy JSON")  # as over plain http, where scripts have no clipboard
        page.wait_for_selector(".copied:has-text('Copy JSON')")
        assert "stages" in page.evaluate("() => window.kept.readText()")
        with page.expect_download() as saved:
            page.click(".files li:has-text('Thumbnail') [title=Download]")
        assert saved.value.suggested_filename.endswith(".webp")
        temporal = page.get_attribute("text=Open in Temporal", "href")
        assert "/workflows/media-" in temporal
        wait_for_tab(page, "favicon-done", "Done")


def test_a_storyboard_is_laid_out_as_its_webvtt_says_and_leads_into_the_film(product, page, tmp_path):
    film = make_clip(tmp_path / "match.mp4", 12, "640x360", *CALM)
    command = ("submit", str(film), "--pipeline", "previews", "--owner", "maria", "--json", "--wait")
    job = json.loads(product.command(*command).stdout)["id"]
    page.goto(f"{product.url}/jobs/{job}/")
    frames = page.locator("#filmstrip button")
    frames.last.wait_for()
    labels = [each.get_attribute("aria-label") for each in frames.all()]
    assert labels == ["Go to 0 seconds", "Go to 5 seconds", "Go to 10 seconds"]
    drawn = """all => all.map((each) => {
        const {width, height} = each;
        const {data} = each.getContext('2d').getImageData(0, 0, width, height);
        return [width, height, data.some((value, index) => index % 4 < 3 && value > 40)];
    })"""
    assert page.eval_on_selector_all("#filmstrip canvas", drawn) == [[160, 90, True]] * 3
    frames.nth(1).click()
    until(lambda: page.evaluate("() => document.getElementById('player').currentTime") >= 5)


def test_every_moment_on_a_page_is_by_the_readers_clock(product, browser):
    zone = ZoneInfo("Pacific/Apia")
    context = browser.new_context(timezone_id=zone.key)
    context.add_cookies(cookies_of(product, "otto", staff=True))
    job = shelf(product, "otto", 1)["succeeded"]
    with watched(context.new_page()) as page:
        for path in (f"/jobs/{job}/", "/history/"):
            page.goto(product.url + path)
            page.wait_for_load_state("networkidle")
            times = page.query_selector_all("time[datetime]")
            moments = [datetime.fromisoformat(each.get_attribute("datetime")) for each in times]
            assert times and all(
                f"{moment.astimezone(zone):%H:%M}" in time.inner_text()
                for time, moment in zip(times, moments, strict=True)
            )
        page.goto(f"{product.url}/jobs/{job}/")
        events = page.locator(".timeline time").evaluate_all("all => all.map(each => each.dateTime)")
        days = {datetime.fromisoformat(event).astimezone(zone).day for event in events}
        shown = page.locator(".timeline .day").all_inner_texts()
        assert {int(day.split()[0]) for day in shown} == days and len(shown) == len(days)
    context.close()


def test_a_check_leads_to_the_second_in_source_and_result_under_one_playhead(product, page, tmp_path):
    film = tmp_path / "quiet.mp4"
    picture = "testsrc2=s=320x180:r=25:d=9,drawbox=enable='between(t,3,6)':c=black:t=fill"
    sound = "sine=300:d=9"
    ffmpeg("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, *X264, "-c:a", "aac", film)
    command = ("submit", str(film), "--pipeline", "checked", "--owner", "maria", "--json", "--wait")
    job = json.loads(product.command(*command).stdout)["id"]
    page.goto(f"{product.url}/jobs/{job}/")
    assert page.inner_text("#check .checked").strip() == "Checked"
    assert page.inner_text(".stages li >> nth=-1").split() == ["Check", "Checked"]
    page.click("#check-notes summary")
    black = page.locator("#check a", has_text="black 0:03 to 0:06, as in the source")
    assert black.get_attribute("href").partition("#")[2].startswith("t=3")
    black.click()
    places = "() => [...document.querySelectorAll('#sides video')].map((side) => side.currentTime)"
    until(lambda: all(2.9 <= at <= 3.2 for at in page.evaluate(places)))
    page.click("text=Play both")
    until(lambda: all(at > 3.4 for at in page.evaluate(places)))
    page.click("text=Pause both")
    here, there = page.evaluate(places)
    assert abs(here - there) < 0.05
    page.locator("#sides input[type=range]").fill("7")
    until(lambda: page.evaluate(places) == [7, 7])
    found = Axe().run(page, options={"resultTypes": ["violations"]})
    assert found.violations_count == 0, found.generate_report()


def test_an_admin_edits_a_pipeline_and_the_job_before_it_stays_as_it_was(product, context, tmp_path):
    film = make_clip(tmp_path / "short.mp4", 1, "160x90")
    context.add_cookies(cookies_of(product, "pip", staff=True))
    with watched(context.new_page()) as page:
        page.goto(f"{product.url}/pipelines/standard/")
        page.fill("[name=label]", "For TV")
        page.click("text=Make a copy")

        def made() -> str:
            page.goto(product.url)
            page.select_option("#upload-pipeline", "for-tv")
            open_job(page, upload(page, product, film))
            wait_for_state(page, "succeeded")
            return page.url

        first = made()
        page.goto(f"{product.url}/pipelines/for-tv/edit/")
        page.fill("[name=transcode-label]", "Small")
        page.fill("[name=transcode-width]", "64")
        page.click("#stage-audio >> text=Remove")
        page.wait_for_selector("#stage-audio", state="detached")
        assert page.input_value("[name=transcode-label]") == "Small"
        page.click("text=Save and use")
        page.wait_for_selector("text=Saved as version 2.")
        made()
        stages = page.inner_text("[aria-label=Stages]")
        assert "Small" in stages and "Audio" not in stages and "version 2" in page.inner_text(".headline")
        page.goto(first)
        stages = page.inner_text("[aria-label=Stages]")
        assert "Transcode" in stages and "Audio" in stages and "version 1" in page.inner_text(".headline")
