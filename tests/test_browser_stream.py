"""An HLS stream in a real browser: it plays from the job's page, and every part of it has a signed link."""

from __future__ import annotations

import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urljoin

import httpx
import pytest

from tests.support.browsing import wait_for_state, watched
from tests.support.product import make_clip, until

pytestmark = [pytest.mark.browser, pytest.mark.whole]


@pytest.fixture(scope="module")
def streamed(product, tmp_path_factory):
    """The job of a film that is large enough for two renditions and long enough for three segments."""
    film = make_clip(tmp_path_factory.mktemp("film") / "match.mp4", 10, "960x540")
    command = ("submit", str(film), "--pipeline", "streaming", "--owner", "maria", "--json", "--wait")
    done = product.command(*command)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["id"]


def test_a_stream_plays_on_the_page_past_its_first_segment_with_sound(product, page, streamed):
    heard: list[str] = []
    page.on("response", lambda answer: heard.append(answer.url.split("?")[0].rsplit("/", 1)[-1]))
    page.goto(f"{product.url}/jobs/{streamed}/")
    wait_for_state(page, "succeeded")
    if not page.is_visible("#play-hls"):
        pytest.skip("this browser plays no HLS")
    page.click("#play-hls")
    page.evaluate(
        """() => {
            const player = document.getElementById('player');
            player.muted = true;
            return player.play();
        }"""
    )
    look = """() => {
        const player = document.getElementById('player');
        return {at: player.currentTime, wide: player.videoWidth, high: player.videoHeight,
            length: player.duration, heard: player.webkitAudioDecodedByteCount, error: player.error};
    }"""
    until(lambda: page.evaluate(look)["at"] > 5 or page.wait_for_timeout(200), every=0)
    seen = page.evaluate(look)
    assert seen["error"] is None and seen["heard"] > 0
    assert (seen["wide"], seen["high"]) in ((960, 540), (640, 360))
    assert len([each for each in heard if each.startswith("segment")]) >= 2
    assert seen["length"] == pytest.approx(10, abs=0.2)


def test_a_browser_that_plays_no_hls_fetches_a_player_on_that_click_alone(product, page, streamed):
    page.add_init_script("HTMLMediaElement.prototype.canPlayType = () => ''")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{product.url}/jobs/{streamed}/")
    wait_for_state(page, "succeeded")
    page.wait_for_load_state("networkidle")
    assert not any("hls" in each for each in asked)
    page.click("#play-hls")
    playing = "() => document.getElementById('player').currentTime > 0.5"
    page.wait_for_function(playing)
    assert [each for each in asked if "vendor/hls.light" in each and each.startswith(product.url)]
    assert page.evaluate("() => document.getElementById('player').src").startswith("blob:")
    page.click("#play-ingest")
    page.wait_for_function("() => document.getElementById('player').src.includes('/media/')")
    page.wait_for_function(playing)
    assert page.get_attribute("[data-play][aria-current]", "id") == "play-ingest"


@pytest.fixture
def site(tmp_path):
    """Another site: a folder of pages, and its address."""
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield tmp_path, f"http://localhost:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_code_to_embed_plays_the_stream_in_a_page_of_another_site(product, page, browser, streamed, site):
    folder, address = site
    page.goto(f"{product.url}/jobs/{streamed}/")
    page.click("[title='Share or embed']")
    page.click("text=Make link")
    code, link = page.input_value("#share-frame"), page.input_value("#share-link")
    (folder / "film.html").write_text(f"<!DOCTYPE html>{code}")
    (folder / "trap.html").write_text(f'<!DOCTYPE html><iframe src="{link}"></iframe>')
    context = browser.new_context()
    context.add_init_script("HTMLMediaElement.prototype.canPlayType = () => ''")
    with watched(context.new_page()) as reader:
        asked: list[str] = []
        reader.on("request", lambda request: asked.append(request.url))
        reader.goto(f"{address}film.html", wait_until="networkidle")
        player = reader.frame_locator("iframe").locator("video")
        assert not any("hls" in each for each in asked if "files/" not in each)
        player.evaluate("each => { each.muted = true; return each.play().catch(() => {}); }")
        until(lambda: player.evaluate("each => each.currentTime") > 0.5)
        assert player.evaluate("each => each.src").startswith("blob:")
        assert player.evaluate("each => each.videoWidth") in (960, 640)
    trapped = context.new_page()
    trapped.goto(f"{address}trap.html")
    assert trapped.frames[1].locator("video").count() == 0, "the page with the downloads is in a frame"
    context.close()


def test_every_playlist_and_segment_of_a_stream_is_reached_by_its_signed_name(product, cookies, streamed):
    jar = {each["name"]: each["value"] for each in cookies}
    job = httpx.get(f"{product.url}/jobs/{streamed}/json/", cookies=jar, trust_env=False, timeout=60).json()
    output = next(stage for stage in job["stages"] if stage["name"] == "hls")["output"]
    assert (output["format"], output["width"], output["height"]) == ("hls", 960, 540)

    def named(address: str) -> list[str]:
        text = httpx.get(address, trust_env=False, timeout=60).text
        quoted = [line.split('"')[1] for line in text.splitlines() if line.startswith("#EXT-X-MAP:")]
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        return [urljoin(address, each) for each in (*quoted, *lines)]

    playlists = named(output["url"])
    parts = [part for playlist in playlists for part in named(playlist)]
    assert len(playlists) == 2 and len(parts) == 8
    assert all(
        httpx.get(each, trust_env=False, timeout=60).status_code == 200 for each in (*playlists, *parts)
    )
    assert all(
        httpx.get(each.split("?")[0], trust_env=False, timeout=60).status_code == 403 for each in playlists
    )
