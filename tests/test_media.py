"""Media on its way out: signed URLs, byte ranges, and downloads that are broken off."""

from __future__ import annotations

import asyncio
import os
import time
from email.utils import formatdate

import httpx
import pytest
from django.test import AsyncClient, Client

from jobs import media
from mediapipe import files

DATA = os.urandom(1000)


@pytest.fixture
def url():
    path = files.path("outputs/clip.mp4")
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    return files.signed_path("outputs/clip.mp4")


def get(url, **headers):
    answer = Client().get(url, headers={key.replace("_", "-"): value for key, value in headers.items()})
    body = b"".join(_collect(answer)) if answer.streaming else answer.content
    return answer, body


def _collect(answer):
    async def all_():
        return [part async for part in answer.streaming_content]

    return asyncio.run(all_())


@pytest.mark.parametrize(
    ("asked", "status", "span"),
    [
        (None, 200, (0, 1000)),
        ("bytes=0-", 206, (0, 1000)),
        ("bytes=0-0", 206, (0, 1)),
        ("bytes=10-19", 206, (10, 20)),
        ("bytes=990-5000", 206, (990, 1000)),
        ("bytes=-10", 206, (990, 1000)),
        ("bytes=-5000", 206, (0, 1000)),
        ("bytes=20-10", 200, (0, 1000)),
        ("bytes=0-1,5-6", 200, (0, 1000)),
        ("lines=0-1", 200, (0, 1000)),
        ("bytes=٣-", 200, (0, 1000)),
        ("bytes=--5", 200, (0, 1000)),
        ("bytes=" + "9" * 40 + "-", 200, (0, 1000)),
    ],
)
def test_a_range_is_answered_as_rfc_9110_says(url, asked, status, span):
    answer, body = get(url, **({"Range": asked} if asked else {}))
    assert answer.status_code == status and body == DATA[slice(*span)]
    assert answer["Content-Length"] == str(len(body)) and answer["Accept-Ranges"] == "bytes"
    if status == 206:
        assert answer["Content-Range"] == f"bytes {span[0]}-{span[1] - 1}/1000"


@pytest.mark.parametrize("asked", ["bytes=1000-", "bytes=5000-6000", "bytes=-0"])
def test_a_range_behind_the_end_is_416(url, asked):
    answer, _ = get(url, Range=asked)
    assert answer.status_code == 416 and answer["Content-Range"] == "bytes */1000"


def test_conditions_spare_bytes_and_never_mix_versions(url):
    answer, _ = get(url)
    assert get(url, If_None_Match=answer["ETag"])[0].status_code == 304
    assert get(url, If_Modified_Since=answer["Last-Modified"])[0].status_code == 304
    assert get(url, Range="bytes=0-9", If_Range=answer["ETag"])[0].status_code == 206
    assert get(url, Range="bytes=0-9", If_Range='"older"')[1] == DATA
    assert get(url, Range="bytes=0-9", If_Range=formatdate(time.time() - 9999, usegmt=True))[1] == DATA


def test_head_tells_without_sending(url):
    answer = Client().head(url)
    assert answer.status_code == 200 and answer["Content-Length"] == "1000" and not answer.content


@pytest.mark.parametrize(
    "change",
    [
        lambda url: url.split("?")[0],
        lambda url: url.replace("signature=", "signature=x"),
        lambda url: url.replace("clip.mp4", "other.mp4"),
        lambda url: url.replace("expires=", "expires=9"),
        lambda url: files.signed_path("outputs/clip.mp4", now=time.time() - 30 * 86400),
        lambda url: "/media/../mediapipe.sqlite3?expires=99999999999&signature=x",
        lambda url: files.signed_path("../secret_key"),
        lambda url: files.signed_path("/etc/passwd"),
    ],
)
def test_nothing_is_read_without_a_right_to_it(url, change):
    answer = Client().get(change(url))
    assert answer.status_code in (403, 404) and "text/" in answer["Content-Type"]


def test_the_url_is_the_same_for_hours_so_that_no_player_restarts():
    now = 1_800_000_000 // files.ROUND * files.ROUND
    assert files.signed_path("outputs/a.mp4", now=now) == files.signed_path("outputs/a.mp4", now=now + 3600)


def test_a_download_has_its_right_name(url):
    answer, _ = get(f"{url}&download=Übersicht%20%22final%22%0d%0a.mp4")
    assert answer["Content-Disposition"].startswith("attachment; filename*=utf-8''%C3%9Cbersicht")
    assert "\r" not in answer["Content-Disposition"] and answer["Content-Type"] == "video/mp4"
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_an_uploaded_page_is_never_answered_as_a_page(url):
    path = files.path("outputs/evil.html")
    path.write_text("<script>alert(1)</script>")
    answer, _ = get(files.signed_path("outputs/evil.html"))
    assert (
        answer["Content-Type"] == "application/octet-stream"
        and "sandbox" in answer["Content-Security-Policy"]
    )


def test_nginx_may_send_the_bytes(url, settings):
    settings.ACCEL_PREFIX = "/internal/"
    answer, body = get(url)
    assert answer["X-Accel-Redirect"] == "/internal/outputs/clip.mp4" and body == b""


@pytest.mark.anyio
async def test_downloads_that_are_broken_off_leave_no_open_file(url):
    files.path("outputs/clip.mp4").write_bytes(os.urandom(3 << 20))

    def opened():
        return sum(
            "clip.mp4" in os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if _there(n)
        )

    for count in range(100):
        answer = await AsyncClient().get(url)
        parts = aiter(answer.streaming_content)
        await anext(parts)
        if count % 2:
            task = asyncio.ensure_future(anext(parts))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
        answer.close()
    await asyncio.sleep(0.1)
    assert opened() == 0


def _there(number: str) -> bool:
    return os.path.islink(f"/proc/self/fd/{number}")


# --- copies of what the API made ------------------------------------------------------------------


class Server(httpx.AsyncBaseTransport):
    """A real answer's shape at the HTTP edge, with faults: it breaks off after *cut* bytes, *times* times."""

    def __init__(
        self, data: bytes, cut: int = 0, times: int = 0, ranges: bool = True, status: int = 200
    ) -> None:
        self.data, self.cut, self.times, self.ranges, self.status = data, cut, times, ranges, status
        self.asked: list[str | None] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        header = request.headers.get("range")
        self.asked.append(header)
        start = int(header.removeprefix("bytes=").rstrip("-")) if header and self.ranges else 0
        broken = self.times > 0
        self.times -= 1

        async def body():
            stop = min(len(self.data), start + self.cut) if broken else len(self.data)
            yield self.data[start:stop]
            if broken:
                raise httpx.ReadError("gone")

        return httpx.Response(206 if start else self.status, content=body())


@pytest.mark.anyio
@pytest.mark.parametrize("ranges", [True, False])
async def test_an_output_is_copied_whole_over_a_link_that_breaks(ranges):
    server = Server(DATA, cut=600 if not ranges else 300, times=2, ranges=ranges)
    async with httpx.AsyncClient(transport=server) as http:
        size = await media.adopt(http, "https://cdn.example/x.mp4", "outputs/j/x.mp4", 1000, lambda n: None)
    assert size == 1000 and files.path("outputs/j/x.mp4").read_bytes() == DATA
    assert not list(files.path("incoming").iterdir())
    assert server.asked[1].startswith("bytes=")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "expected", "permanent"), [(404, None, True), (503, None, False), (200, 7, False)]
)
async def test_a_copy_that_is_not_right_is_not_kept(status, expected, permanent):
    async with httpx.AsyncClient(transport=Server(DATA, status=status)) as http:
        with pytest.raises(media.AdoptError) as caught:
            await media.adopt(http, "https://cdn.example/x.mp4", "outputs/j/x.mp4", expected, lambda n: None)
    assert caught.value.permanent is permanent
    assert not files.path("outputs/j").exists() and not list(files.path("incoming").iterdir())
