"""Servers as they are: replies that no standard asks for, and that browsers make a file of."""

from __future__ import annotations

import asyncio
import contextlib
import gzip

import pytest

from mediapipe import content_disposition, download, file_names, url_safety
from mediapipe.engine import not_media
from mediapipe.url_safety import UnsafeUrl, check_url, normalised
from tests.test_links import DATA, get  # noqa: F401 - a fixture

pytestmark = pytest.mark.anyio
HALF = len(DATA) // 2


class Server:
    """Answers a path with bytes as they are: `replies` has them, by turns the last one for good."""

    def __init__(self) -> None:
        self.replies: dict[str, list[bytes]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []

    async def handle(self, reader, writer) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            path = head[0].split(" ")[1]
            headers = {line.partition(": ")[0].lower(): line.partition(": ")[2] for line in head[1:]}
            self.asked.append((path, headers))
            replies = self.replies.get(path) or [reply("404 X")]
            writer.write(replies.pop(0) if len(replies) > 1 else replies[0])
            await writer.drain()
        writer.close()


def reply(status: str, *headers: str | bytes, body: bytes = b"", length: int | None = None) -> bytes:
    """A whole reply; *length*: another one than its body has."""
    about = f"Content-Length: {len(body) if length is None else length}"
    lines = [f"HTTP/1.1 {status}", about, "Connection: close", *headers]
    text = [line if isinstance(line, bytes) else line.encode() for line in lines]
    return b"\r\n".join([*text, b"", b""]) + body


@pytest.fixture
async def server(settings, monkeypatch, anyio_backend):
    settings.ALLOW_PRIVATE_SOURCES = True
    monkeypatch.setattr(download, "BACKOFF", (0.01,) * 2)
    found = Server()
    async with await asyncio.start_server(found.handle, "127.0.0.1", 0) as running:
        found.url = f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}"
        yield found


ONE = 'ETag: "one"'
LATER = reply("503 X", "Retry-After: 3")


@pytest.mark.parametrize(
    "replies",
    [
        *([reply("200 X", f"Content-Encoding: {word}", body=DATA)] for word in ("none", "utf-8", "binary")),
        [reply("200 X", "Content-Encoding: gzip,", body=gzip.compress(DATA))],
        [reply("200 X", "Content-Encoding: gzip, identity", body=gzip.compress(DATA))],
        [reply("200 X", "Content-Encoding: gzip, gzip", body=gzip.compress(gzip.compress(DATA)))],
        [reply("200 X", *["Content-Encoding: gzip"] * 2, body=gzip.compress(gzip.compress(DATA)))],
        [reply("200 X", "Content-Encoding: gzip, gzip", body=gzip.compress(DATA))],
        [reply("200 X", "Content-Encoding: gzip", body=gzip.compress(DATA), length=len(DATA))],
        [reply("201 X", body=DATA)],
        [reply("203 X", body=DATA)],
        [reply("202 X", "Content-Type: video/mp4", body=DATA)],
        [reply("202 X", body=b"in preparation"), reply("200 X", body=DATA)],
        [reply("206 X", body=DATA)],
        [reply("206 X", f"Content-Range: bytes 0-{len(DATA) - 1}/{len(DATA)}", body=DATA)],
        [
            reply("206 X", ONE, f"Content-Range: bytes 0-{HALF - 1}/{len(DATA)}", body=DATA[:HALF]),
            reply("206 X", ONE, f"Content-Range: bytes {HALF}-{len(DATA) - 1}/{len(DATA)}", body=DATA[HALF:]),
        ],
        [reply("423 X"), reply("200 X", body=DATA)],
    ],
)
async def test_what_a_browser_makes_a_file_of_is_one(server, get, replies):  # noqa: F811
    server.replies["/x"] = replies
    assert (await get(f"{server.url}/x"))[0] == DATA


@pytest.mark.parametrize("status", ["202", "403", "409", "423", "425", "500"])
async def test_whatever_says_when_to_come_back_is_waited_for(server, get, status):  # noqa: F811
    waits = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    server.replies["/x"] = [reply(f"{status} X", "Retry-After: 5")] * 3 + [reply("200 X", body=DATA)]
    assert (await get(f"{server.url}/x", wait_for_server=wait))[0] == DATA and waits == [5.0] * 3


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (reply("401 X", 'WWW-Authenticate: Basic realm="x"'), "asks for a user name and a password"),
        (reply("402 X"), "wants to be paid"),
        (reply("451 X"), "legal reasons"),
        (reply("204 X"), "sends no file"),
        (reply("206 X", "Content-Range: bytes 5-9/10", body=b"12345"), "only a part"),
        (reply("302 X"), "redirects to no address"),
        (reply("304 X"), "redirects to no address"),
        (reply("302 X", "Location: "), "redirects to no address"),
        (reply("200 X", "Content-Encoding: gzip, br", body=DATA), r"compressed \(gzip, br\)"),
        (reply("200 X", "Content-Encoding: gzip, gzip, gzip, gzip", body=DATA), "compressed"),
        (b"\x16\x03\x01 what is that\r\n\r\n", "answer can’t be read"),
    ],
)
async def test_what_brings_no_file_is_told_as_what_it_is(server, get, answer, says):  # noqa: F811
    server.replies["/x"] = [answer]
    with pytest.raises(download.DownloadError, match=says):
        await get(f"{server.url}/x")


@pytest.mark.parametrize(
    ("location", "asks_for"),
    [
        (b"/a\tb.mp4", "/ab.mp4"),
        ("/Köln.mp4".encode("latin-1"), "/K%F6ln.mp4"),
        ("/Köln.mp4".encode(), "/K%C3%B6ln.mp4"),
        (b"\\a\\b.mp4", "/a/b.mp4"),
        (b"//127.0.0.1:PORT/b.mp4#t=4", "/b.mp4"),
        (b"?b=[1]|2", "/x?b=[1]%7C2"),
    ],
)
async def test_a_redirect_leads_where_a_browser_goes(server, get, location, asks_for):  # noqa: F811
    there = location.replace(b"PORT", server.url.rpartition(":")[2].encode())
    server.replies = {
        "/x": [reply("302 X", "X-Name: ü", b"Location: " + there)],
        asks_for: [reply("200 X", body=DATA)],
    }
    assert (await get(f"{server.url}/x"))[0] == DATA


async def test_a_cookie_that_no_header_can_hold_stops_nothing(server, get):  # noqa: F811
    server.replies = {
        "/x": [reply("302 X", "Location: /y", "Set-Cookie: näme=wért; Path=/", "Set-Cookie: ok=1; Path=/")],
        "/y": [reply("200 X", body=DATA)],
    }
    assert (await get(f"{server.url}/x"))[0] == DATA and server.asked[1][1]["cookie"] == "ok=1"


async def test_where_a_redirect_leads_into_the_forbidden_that_is_said_of_the_redirect(server, get):  # noqa: F811
    server.replies["/x"] = [reply("302 X", "Location: ftp://127.0.0.1/x")]
    with pytest.raises(download.DownloadError, match=r"redirects to another one. ftp:// links aren’t"):
        await get(f"{server.url}/x")


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("filename*=\"UTF-8''quoted%20star.mp4\"", "quoted star.mp4"),
        ("filename*=UTF-8''With spaces.mp4", "With spaces.mp4"),
        ("filename*=without%20charset.mp4", "without charset.mp4"),
        ("filename*0*=UTF-8''K%C3%B6; filename*1*=ln%20; filename*2=\"2.mp4\"", "Köln 2.mp4"),
        ('filename="=?UTF-8?B?R3LDvA==?= =?UTF-8?B?w59lLm1wNA==?="', "Grüße.mp4"),
        ('filename="Gr%C3%BC%C3%9Fe%20aus.mp4"', "Grüße aus.mp4"),
        ('filename="100% wahr.mp4"', "100% wahr.mp4"),
        ('filename="C:\\Users\\Anna\\film.mp4"', "film.mp4"),
        ('filename="../../etc/film.mp4"', "film.mp4"),
        ("filename*=UTF-8''..%2F..%2Ffilm.mp4", "film.mp4"),
        ("filename=My Holiday Film.mp4; size=5", "My Holiday Film.mp4"),
        ("filename='single.mp4'", "single.mp4"),
        ('filename="unterminated.mp4', "unterminated.mp4"),
        ('title="a; filename=wrong.mp4"; filename="right.mp4"', "right.mp4"),
        ('filename="Gr\xfc\xdfe.mp4"'.encode("latin-1"), "Grüße.mp4"),
        ("filename*=UTF-8''a%00%0D%0A%E2%80%AEb.mp4", "ab.mp4"),
        ("filename*=UTF-8''a%E3%80%80b%C2%A0c.mp4", "a\u3000b\u00a0c.mp4"),
        ('filename=".."', ""),
        ('filename=" "', ""),
    ],
)
def test_names_are_read_as_servers_write_them(header, name):
    raw = header if isinstance(header, bytes) else header.encode()
    assert content_disposition.filename(b"attachment; " + raw) == name
    assert content_disposition.filename(raw) == name


def test_a_long_header_takes_no_time():
    assert content_disposition.filename(b"a" * 100_000 + b"=" * 100_000) == ""


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("会議\u3000録画.mp4", "会議\u3000録画.mp4"),
        ("Screenshot 9.41\u202fAM.mov", "Screenshot 9.41\u202fAM.mov"),
        ("🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f.mp4",) * 2,
        ("\U0001fa77 \U0001fae9.mp4",) * 2,  # younger than this Python's table
        ("a\u202egpj.mp4", "agpj.mp4"),
        ("a\u200bb\ufeff\x00\n.mp4", "ab.mp4"),
        ("\u200d", ""),
    ],
)
def test_a_name_keeps_what_can_be_seen_and_every_kind_of_space(name, shown):
    assert file_names.shown(name) == shown


@pytest.mark.parametrize(
    ("pasted", "is_read_as"),
    [
        ("“http://a.org/x.mp4”", "http://a.org/x.mp4"),
        ("(http://a.org/x_(1).mp4)", "http://a.org/x_(1).mp4"),
        ("\u2060\u202ahttp://a.org/x.mp4\u202c", "http://a.org/x.mp4"),
        ("http:/a.org/x", "http://a.org/x"),
        ("https:///a.org/x", "https://a.org/x"),
        ("http://https://a.org/x", "https://a.org/x"),
        ("http://a.org.:80/x", "http://a.org:80/x"),
        ("http://bücher.example./x", "http://xn--bcher-kva.example/x"),
        ('http://a.org/?q="x"', "http://a.org/?q=%22x%22"),
    ],
)
def test_what_comes_along_with_a_pasted_link_is_left_out(pasted, is_read_as):
    assert normalised(pasted) == is_read_as == normalised(is_read_as)


@pytest.mark.parametrize(
    ("pasted", "says"),
    [
        ("example.com/x.mp4", "lacks its beginning"),
        ("localhost:8000/x.mp4", "lacks its beginning"),
        ("//example.com/x.mp4", "lacks its beginning"),
        ("http://a.org/x http://a.org/y", "more than one link"),
        ("http://a.org/x\nhttp://a.org/y", "more than one link"),
        ("Film: http://a.org/x", "something before that link"),
        ("[film](http://a.org/x)", "something before that link"),
        ("blob:https://a.org/x", "outside the browser"),
        ("magnet:?xt=urn:btih:abc", "magnet: links aren’t accepted"),
        ("C:\\Users\\Anna\\film.mp4", "a file on a computer"),
        ("file:///home/anna/film.mp4", "a file on a computer"),
        ("http://a.org:0/x", "port can’t be read"),
        ("http://a.org:65536/x", "port can’t be read"),
        ("http://[zz]/x", "port can’t be read"),
        ("http://faß.invalid/x", "Can’t find faß.invalid"),
    ],
)
def test_a_link_that_is_none_is_told_what_it_lacks(pasted, says):
    with pytest.raises(UnsafeUrl, match=says):
        check_url(pasted)


def test_a_link_that_is_too_long_to_be_kept_is_refused(settings):
    settings.ALLOW_PRIVATE_SOURCES = True
    with pytest.raises(UnsafeUrl, match="longer than 4,000"):
        url_safety.accepted("http://127.0.0.1/" + "ä" * 1000)


def test_a_text_that_no_link_is_as_long_as_is_not_searched_for_one():
    with pytest.raises(UnsafeUrl, match="longer than 4,000"):
        normalised("(" * 1_000_000 + "http://a.org/x")


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (b"\n" * 40 + b"<!-- x --><html>", "web page"),
        (b"\xef\xbb\xbf<!DOCTYPE html>", "web page"),
        ("\ufeff<html>".encode("utf-16-le"), "web page"),
        (b"\xef\xbb\xbf#EXTM3U\n", "playlist"),
        (b'<?xml version="1.0"?>\n<MPD xmlns="x">', "playlist"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a text"),
        (b'<?xml version="1.0"?><!DOCTYPE html><html>', "web page"),
        (b'{"error": {"code": "expired"}}', "a text"),
        ("Abgelaufen – bitte anmelden ü".encode()[:-1], "a text"),
        (b"PK\x03\x04\x14", "an archive"),
        (b"\x00\x00\x00\x20ftypisom", ""),
        (b"\xff\xfe\x00\x10" + bytes(40), ""),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", ""),
        (b"ID3\x04\x00\x00\x00", ""),
    ],
)
def test_what_a_link_has_brought_in_place_of_a_film_is_named(head, says):
    assert says in not_media.instead(head) and bool(says) == bool(not_media.instead(head))
