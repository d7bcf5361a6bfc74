"""The downloader as an output's copy uses it: broken links, other versions, dawdlers, forbidden places."""

from __future__ import annotations

import asyncio
import contextlib
import os

import pytest
from django.conf import settings

from mediapipe import disk, download, pace, remote, storage
from mediapipe.storage.outage import Patience

pytestmark = pytest.mark.anyio
DATA = os.urandom(300_000)
TARGET = "outputs/j/x.mp4"


class Origin:
    """A file server. `cuts`: after how many bytes of a reply it breaks off, for the next replies."""

    def __init__(self, data: bytes = DATA, **headers: str) -> None:
        self.data, self.headers, self.cuts, self.ranges = data, {"ETag": '"one"', **headers}, [], True
        self.drip, self.handlers = 0.0, set()
        self.status, self.asked, self.part_headers = 200, [], {}

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.handle, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *problem):
        self.server.close()
        self.drip = 0.0
        await asyncio.gather(*self.handlers, return_exceptions=True)

    async def handle(self, reader, writer):
        self.handlers.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            asked = {line.split(": ", 1)[0].lower(): line.split(": ", 1)[1] for line in lines[1:] if line}
            self.asked.append(asked)
            head, body = self.reply(asked)
            writer.write(head)
            while self.drip and not writer.is_closing():  # a byte now and then, for ever
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(self.drip)
            if self.cuts:
                writer.write(body[: self.cuts.pop(0)])
                await writer.drain()
            else:
                writer.write(body)
                await writer.drain()
        writer.close()

    def reply(self, asked):
        status, body, more = self.status, self.data, dict(self.headers)
        start = int(asked.get("range", "bytes=0-")[6:-1])
        same = asked.get("if-range") in (self.headers.get("ETag"), self.headers.get("Last-Modified"), None)
        if start and self.ranges and same:
            status, body = (206, body[start:]) if start < len(body) else (416, b"")
            place = f"{start}-{len(self.data) - 1}" if status == 206 else "*"
            more |= {"Content-Range": f"bytes {place}/{len(self.data)}", **self.part_headers}
        more = {"Content-Length": str(len(body)), "Connection": "close", **more}
        head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{k}: {v}\r\n" for k, v in more.items() if v)
        return head.encode() + b"\r\n", body


@pytest.fixture
async def origin(settings, monkeypatch, anyio_backend):
    """The API's own host, which is trusted wherever it is."""
    monkeypatch.setattr(download, "BACKOFF", (0.01,) * 4)
    async with Origin() as origin:
        settings.ITTYBIT_API_URL = f"{origin.url}/v1"
        yield origin


async def copy(origin, path="/x.mp4", expected=None):
    async def wait_for_storage(error: Exception) -> None:
        raise error

    return await download.download_to_storage(
        origin.url + path,
        TARGET,
        expected=expected,
        report=lambda have, total: None,
        wait_for_storage=wait_for_storage,
        trusted_origin=settings.ITTYBIT_API_URL,
    )


async def refusal(origin, path="/x.mp4", expected=None) -> download.DownloadError:
    with pytest.raises(download.DownloadError) as caught:
        await copy(origin, path, expected)
    assert not storage.path("outputs/j").exists() and not list(storage.path("incoming").iterdir())
    return caught.value


def is_right(data: bytes = DATA) -> bool:
    return storage.path(TARGET).read_bytes() == data and not list(storage.path("incoming").iterdir())


class Ours:
    """A storage of ours at *origin*: how often it was waited out, and was heard to give again."""

    def __init__(self, origin, tmp_path):
        self.origin, self.target = origin, tmp_path / "source"
        self.waits, self.answers, self.signed = [], 0, []

    async def wait_out(self, error: Exception) -> None:
        self.waits.append(error)
        if len(self.waits) > 20:
            raise TimeoutError("that was a day")
        if len(self.waits) > 2:
            self.origin.status = 200

    async def answered(self) -> None:
        self.answers += 1

    def url(self, anew: bool) -> str:
        self.signed.append(anew)
        return f"{self.origin.url}/x.mp4"

    async def get(self) -> bytes:
        fd = os.open(self.target, os.O_RDWR | os.O_CREAT)
        try:
            await download.download(
                self.url,
                fd,
                report=lambda have, total: None,
                trusted_origin=self.origin.url,
                patience=Patience(self.wait_out, self.answered),
            )
        finally:
            os.close(fd)
        return self.target.read_bytes()


@pytest.fixture
def ours(origin, tmp_path):
    return Ours(origin, tmp_path)


async def test_a_file_of_ours_that_breaks_at_the_same_place_each_time_is_given_up(origin, ours):
    origin.cuts = [100_000, *[0] * 99]
    with pytest.raises(download.DownloadError, match="broke too often") as caught:
        await ours.get()
    assert not caught.value.permanent and len(origin.asked) == 6 and not ours.waits


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_our_storage_is_waited_out_until_it_brings_more(origin, ours, status):
    origin.status = status
    assert await ours.get() == DATA
    assert len(ours.waits) == 3 and ours.answers == 1


async def test_headers_alone_are_no_sign_that_our_storage_gives_again(origin, ours):
    origin.status, origin.cuts = 503, [0] * 99
    with pytest.raises(download.DownloadError):
        await ours.get()
    assert len(ours.waits) == 3 and ours.answers == 0


async def test_a_wait_for_our_storage_is_no_part_of_the_time_that_a_download_may_take(
    origin, ours, monkeypatch
):
    monkeypatch.setattr(download, "TOTAL_SECONDS", 0.8)
    waited_out = ours.wait_out

    async def wait_out(error):
        await asyncio.sleep(0.3)
        await waited_out(error)

    ours.wait_out, origin.status = wait_out, 503
    assert await ours.get() == DATA
    origin.drip = 0.05
    with pytest.raises(download.DownloadError, match="it took longer than"):
        await ours.get()


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_link_of_ours_that_is_refused_is_signed_anew_once(origin, ours, status):
    origin.status = status
    with pytest.raises(download.DownloadError) as caught:
        await ours.get()
    assert caught.value.permanent and ours.signed == [False, True] and not ours.waits
    origin.status = 200
    assert await ours.get() == DATA


@pytest.mark.parametrize("status", [400, 405, 451])
async def test_a_link_that_the_server_does_not_accept_is_asked_for_once(origin, status):
    origin.status = status
    assert (await refusal(origin)).permanent and len(origin.asked) == 1


async def test_keys_that_are_away_are_waited_for_and_say_why(ours):
    signed = ours.url

    def url(anew: bool) -> str:
        if len(ours.waits) < 2:
            raise OSError("the role gives no keys")
        return signed(anew)

    ours.url = url
    assert await ours.get() == DATA
    assert {type(error) for error in ours.waits} == {OSError}


async def test_an_output_is_copied_whole_and_never_asked_for_compressed(origin):
    assert await copy(origin, expected=len(DATA)) == len(DATA) and is_right()
    assert [each.get("accept-encoding") for each in origin.asked] == ["identity"]


async def test_a_link_that_breaks_is_taken_up_where_it_broke(origin):
    origin.cuts = [100_000, 50_000, 0]
    await copy(origin, expected=len(DATA))
    assert is_right()
    assert [each.get("range") for each in origin.asked] == [
        *(None, "bytes=100000-", "bytes=150000-", "bytes=150000-")
    ]
    assert origin.asked[1]["if-range"] == '"one"'


async def test_what_comes_quickly_is_written_together_and_what_comes_slowly_at_once():
    async def pieces():
        for _ in range(20):
            yield b"x" * (64 << 10)
        for _ in range(2):
            await asyncio.sleep(2 * disk.HELD)
            yield b"y"
        yield b"z"
        raise TimeoutError

    found = []

    async def write() -> None:
        async for block in disk.blocks(pieces()):
            found.append(bytes(block))

    with pytest.raises(TimeoutError):
        await write()
    assert b"".join(found) == b"x" * (20 * (64 << 10)) + b"yyz"
    assert len(found) < 12 and [each[-1:] for each in found[-3:]] == [b"y", b"y", b"z"]


async def test_a_link_that_breaks_behind_the_last_byte_needs_no_more(origin):
    origin.headers |= {"Content-Length": str(len(DATA) + 1)}
    origin.part_headers = {"Content-Length": "0"}
    await copy(origin)
    assert is_right() and len(origin.asked) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"ranges": False},
        {"headers": {"ETag": ""}},  # nothing tells the versions apart
        {"headers": {"ETag": 'W/"one"'}},
        {"part_headers": {"Content-Range": f"bytes 0-{len(DATA) - 1}/{len(DATA)}"}},  # from elsewhere
        {"part_headers": {"Content-Range": f"bytes 100000-{len(DATA) - 1}/999999"}},
        {"part_headers": {"Content-Range": ""}},
        {"part_headers": {"ETag": '"two"'}},  # it heard If-Range and did not care
    ],
)
async def test_what_is_no_continuation_is_fetched_anew(origin, change):
    for name, value in change.items():
        setattr(origin, name, value)
    origin.cuts = [100_000]
    await copy(origin, expected=len(DATA))
    assert is_right()
    assert "range" not in origin.asked[-1] or not origin.ranges


async def test_two_versions_are_never_mixed(origin):
    async def change():
        while not origin.asked:
            await asyncio.sleep(0.001)
        origin.data, origin.headers = DATA[::-1], {"ETag": '"two"'}

    origin.cuts = [100_000]
    await asyncio.gather(copy(origin), change())
    assert is_right(DATA[::-1])


@pytest.mark.parametrize(
    ("status", "expected", "permanent"),
    [(404, None, True), (410, None, True), (503, None, False), (200, 7, False)],
)
async def test_a_copy_that_is_not_right_is_not_kept(origin, status, expected, permanent):
    origin.status = status
    assert (await refusal(origin, expected=expected)).permanent is permanent


async def test_a_link_that_always_breaks_is_given_up(origin):
    origin.cuts = [10] * 99
    assert "broke too often" in str(await refusal(origin)) and len(origin.asked) == 5


async def test_a_server_that_only_drips_is_given_up(origin, monkeypatch):
    monkeypatch.setattr(pace, "WINDOW", 0.2)
    origin.drip = 0.05
    error = await refusal(origin)
    assert "almost nothing" in str(error) and not error.permanent and len(origin.asked) == 5


async def test_a_download_may_not_take_for_ever(origin, monkeypatch):
    monkeypatch.setattr(download, "TOTAL_SECONDS", 2.0)
    origin.drip = 0.05
    assert "it took longer than" in str(await refusal(origin)) and len(origin.asked) == 1


async def test_a_link_that_breaks_often_but_always_brings_more_is_not_given_up(origin, monkeypatch):
    monkeypatch.setattr(download, "MIN_PROGRESS", 1)
    origin.cuts = [20_000] * 12
    await copy(origin, expected=len(DATA))
    assert is_right() and len(origin.asked) == 13


async def test_what_comes_compressed_is_not_taken_for_the_file(origin):
    origin.headers |= {"Content-Encoding": "br"}
    assert "compressed (br)" in str(await refusal(origin))


async def test_an_output_may_not_be_larger_than_any_source_whatever_it_says_of_itself(origin, settings):
    settings.MAX_UPLOAD_BYTES = 200_000
    assert (await refusal(origin)).permanent
    origin.headers |= {"Content-Length": ""}
    assert (await refusal(origin)).permanent


async def test_an_output_without_room_is_not_begun(origin, monkeypatch):
    monkeypatch.setattr(disk, "MEDIA_RESERVE", 1 << 60)
    error = await refusal(origin)
    assert "free space" in str(error) and not error.permanent


@pytest.mark.parametrize(
    "target",
    [
        "{other}/x.mp4",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:127.0.0.1]/x.mp4",
        "http://2130706433/x.mp4",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x.mp4",
        "http://user:word@127.0.0.1/x.mp4",
    ],
)
async def test_a_redirect_into_a_private_network_is_not_followed(origin, target):
    async with Origin() as other:
        origin.status, origin.headers = 302, {"Location": target.format(other=other.url)}
        await refusal(origin)
        assert len(origin.asked) == 1 and not other.asked


async def test_a_private_network_is_followed_where_the_installation_allows_it(origin, settings):
    settings.ALLOW_PRIVATE_SOURCES = True
    async with Origin(DATA[:99]) as other:
        origin.status, origin.headers = 302, {"Location": f"{other.url}/x.mp4"}
        assert await copy(origin) == 99
        assert other.asked[0]["host"] == other.url.removeprefix("http://")


async def test_redirects_without_end_are_given_up(origin):
    origin.status, origin.headers = 302, {"Location": "/again"}
    assert (await refusal(origin)).permanent and len(origin.asked) == remote.MAX_REDIRECTS + 1
