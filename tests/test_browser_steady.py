"""Nothing jumps: what a real browser counts of a page's layout shifts while somebody watches it."""

from __future__ import annotations

import pytest

from jobs.pipelines import PIPELINES
from tests.support.browsing import cookies_of, shelf
from tests.support.dashboard import submit
from tests.support.product import CALM, make_clip, run_ffmpeg
from tests.support.shifts import LIMIT, counting, small_films, tick_some, upload_all, watch

pytestmark = [pytest.mark.browser, pytest.mark.whole]
SIZES = {"wide": {"width": 1280, "height": 860}, "narrow": {"width": 390, "height": 844}}


@pytest.fixture
def sized(browser):
    """Makes a page of a size, on which somebody has signed in, and which counts what moves on it."""
    contexts = []

    def make(product, size: str):
        contexts.append(browser.new_context(viewport=SIZES[size]))
        contexts[-1].add_cookies(cookies_of(product, "maria"))
        return counting(contexts[-1].new_page())

    yield make
    for context in contexts:
        context.close()


@pytest.mark.parametrize(
    "pipelines",  # the first has all kinds of places
    [pytest.param(["previews"], id="one"), pytest.param([*PIPELINES], id="all", marks=pytest.mark.release)],
)
def test_a_watched_job_moves_nothing_whatever_its_pipeline(product, sized, tmp_path, pipelines):
    film = make_clip(tmp_path / "steady.mp4", 3, "640x360", *CALM)
    pages = {(pipeline, size): sized(product, size) for pipeline in pipelines for size in SIZES}
    for pipeline in pipelines:
        job = submit(product, film, "--pipeline", pipeline, "--owner", "maria")
        for watched, page in pages.items():
            if watched[0] == pipeline:
                page.goto(f"{product.url}/jobs/{job}/")
    moved = watch(pages)
    assert {key: found for key, found in moved.items() if found[0] > LIMIT} == {}


@pytest.mark.release
def test_a_watched_job_of_a_portrait_film_or_of_sound_alone_moves_nothing(product, sized, tmp_path):
    make_clip(tmp_path / "portrait.mp4", 3, "360x640", *CALM)
    run_ffmpeg("-f", "lavfi", "-i", "sine=d=3", str(tmp_path / "voice.mp3"))
    (tmp_path / "voice").write_bytes((tmp_path / "voice.mp3").read_bytes())  # no name says what it is
    names = ("portrait.mp4", "voice.mp3", "voice")
    pages = {(name, size): sized(product, size) for name in names for size in SIZES}
    for name in names:
        job = submit(product, tmp_path / name, "--pipeline", "previews", "--owner", "maria")
        for size in SIZES:
            pages[name, size].goto(f"{product.url}/jobs/{job}/")
    moved = watch(pages)
    assert {key: found for key, found in moved.items() if found[0] > LIMIT} == {}
    tall = pages["portrait.mp4", "wide"]
    tall.reload()
    box = tall.locator("#player").bounding_box()
    assert box["height"] > 0.55 * SIZES["wide"]["height"], "who comes later has it large"
    tall.goto(product.url)
    row = tall.locator(".job:has-text('portrait.mp4')")
    place, picture = (row.locator(each).bounding_box() for each in (".poster", ".poster img"))
    assert picture == place, "a row shows the middle of a film, as its frames under the pointer do"


def test_rows_that_are_ticked_stay_where_they_are(cloud, sized):
    for size in SIZES:
        page = sized(cloud, size)
        shelf(cloud, "maria", 8)
        page.goto(cloud.url)
        assert tick_some(page) == (0.0, [])


@pytest.mark.release  # beside other tests frames come so seldom that a glide counts as a jump
def test_uploads_move_no_row_of_the_list(cloud, api, sized, tmp_path):
    page = sized(cloud, "wide")
    shelf(cloud, "maria", 8)
    page.goto(cloud.url)
    value, seen = upload_all(page, small_films(tmp_path, 8))
    assert value <= LIMIT, sorted(seen, reverse=True)[:9]
