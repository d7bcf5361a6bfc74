"""Links as people paste them, and servers as they are: what a browser would take, the downloader takes."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import socket
import ssl
import subprocess
import time
import zlib

import pytest

from mediapipe import addresses, download, pace, reply
from mediapipe.url_safety import UnsafeUrl, check_url, normalised

pytestmark = pytest.mark.anyio
DATA = os.urandom(50_000) + b"x" * 50_000


class Site:
    """A web site: `pages` answers a path with status, headers and body; it keeps what was asked."""

    def __init__(self, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.host, self.tls, self.pages, self.asked, self.at_work = host, tls, {}, [], set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.handle, self.host, 0, ssl=self.tls)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *problem):
        self.server.close()
        await asyncio.gather(*self.at_work, return_exceptions=True)

    async def handle(self, reader, writer):
        self.at_work.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            path = head[0].split(" ")[1]
            asked = {line.partition(": ")[0].lower(): line.partition(": ")[2] for line in head[1:]}
            self.asked.append((path, asked))
            page = self.pages.get(path, (404, {}, b""))
            status, headers, body = page(asked) if callable(page) else page
            headers = {"Content-Length": str(len(body)), "Connection": "close", **headers}
            lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers.items()), "\r\n"]
            writer.write("\r\n".join(lines).encode() + body)
            await writer.drain()
        writer.close()


@pytest.fixture
async def site(settings, monkeypatch, anyio_backend):
    settings.ALLOW_PRIVATE_SOURCES = True
    monkeypatch.setattr(download, "BACKOFF", (0.01,) * 2)
    async with Site() as site:
        yield site


@pytest.fixture
def get(tmp_path):
    """Downloads a URL: the bytes, and what the server calls them."""

    async def get(url: str, **more) -> tuple[bytes, str]:
        target = tmp_path / "file"
        fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            done = await download.download(url, fd, report=lambda have, total: None, **more)
        finally:
            os.close(fd)
        assert done.size == target.stat().st_size
        return target.read_bytes(), done.filename

    return get


@pytest.mark.parametrize(
    ("pasted", "is_read_as"),
    [
        (" http://a.org/My Holiday Film.mp4\n", "http://a.org/My%20Holiday%20Film.mp4"),
        ("<http://a.org/x.mp4>", "http://a.org/x.mp4"),
        ("\u200bhttp://a.org/x.mp4\ufeff", "http://a.org/x.mp4"),
        ("http://a.org/a\r\n b.mp4", "http://a.org/a%20b.mp4"),
        ("http://a.org/Grüße.mp4?q=ä b#ü", "http://a.org/Gr%C3%BC%C3%9Fe.mp4?q=%C3%A4%20b#%C3%BC"),
        ("http://a.org/a%20b%C3%BC.mp4?x=%2F&y=[1]", "http://a.org/a%20b%C3%BC.mp4?x=%2F&y=[1]"),
        ("http://a.org\\b\\c.mp4", "http://a.org\\b\\c.mp4"),
        ("http://a.org/b\\c.mp4", "http://a.org/b/c.mp4"),
        ("HTTPS://Bücher.example:8443/x", "HTTPS://xn--bcher-kva.example:8443/x"),
        ("http://straße.de/", "http://xn--strae-oqa.de/"),
        ("http://пример.рф/видео.mp4", "http://xn--e1afmkfd.xn--p1ai/%D0%B2%D0%B8%D0%B4%D0%B5%D0%BE.mp4"),
        ("http://例え。テスト/", "http://xn--r8jz45g.xn--zckzah/"),
        ("http://i❤.ws/", "http://xn--i-7iq.ws/"),
        ("http://[::1]/ä", "http://[::1]/%C3%A4"),
        ("notaurl", "notaurl"),
    ],
)
def test_what_people_paste_is_read_as_a_browser_reads_it(pasted, is_read_as):
    assert normalised(pasted) == is_read_as
    assert normalised(is_read_as) == is_read_as


@pytest.mark.parametrize(
    "pasted",
    ["http://exa mple.org/", "http://a.org\\@b.org/x", "http://u:p@ä.org/", "http://a\x01.org/", "http://ä..de/",
     "http://a.org/\ud83d", "http://" + "ü" * 70 + ".de/"],
)  # fmt: skip
def test_what_no_browser_would_open_is_refused_with_a_sentence(pasted):
    with pytest.raises(UnsafeUrl):
        check_url(pasted)


@pytest.mark.parametrize("place", ["/files/My Holiday Film.mp4", "/files/Grüße aus Köln.mp4"])
async def test_a_redirect_may_have_spaces_and_letters_as_they_are(site, get, place):
    site.pages = {"/": (302, {"Location": place}, b""), normalised(f"http://a{place}")[8:]: (200, {}, DATA)}
    assert (await get(f"http://127.0.0.1:{site.port}/"))[0] == DATA


async def test_twenty_redirects_are_followed_with_the_cookies_that_were_set_on_the_way(site, get):
    site.pages = {
        f"/{n}": (302, {"Location": f"/{n + 1}", "Set-Cookie": f"c{n}=v{n}; Path=/"}, b"") for n in range(20)
    }
    site.pages["/20"] = lambda asked: (
        (200, {}, DATA) if "c0=v0" in asked.get("cookie", "") else (403, {}, b"")
    )
    assert (await get(f"http://127.0.0.1:{site.port}/0"))[0] == DATA
    site.pages["/20"] = (302, {"Location": "/21"}, b"")
    with pytest.raises(download.DownloadError, match="redirects more than 20 times"):
        await get(f"http://127.0.0.1:{site.port}/0")


async def test_a_cookie_of_one_host_is_not_shown_to_another_at_the_same_address(site, get):
    site.pages = {
        "/": (302, {"Location": f"http://localhost:{site.port}/x", "Set-Cookie": "secret=1"}, b""),
        "/x": (200, {}, DATA),
    }
    assert (await get(f"http://127.0.0.1:{site.port}/"))[0] == DATA
    assert "cookie" not in site.asked[-1][1] and site.asked[-1][1]["host"] == f"localhost:{site.port}"


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(DATA)),
        ("X-GZip", gzip.compress(DATA[:10]) + gzip.compress(DATA[10:])),
        ("deflate", zlib.compress(DATA)),
        ("deflate", raw_deflate(DATA)),
        ("gzip", DATA),  # which it isn't
        ("identity", DATA),
    ],
)
async def test_what_comes_packed_although_nobody_asked_for_it_is_unpacked(site, get, encoding, body):
    site.pages = {"/x": (200, {"Content-Encoding": encoding}, body)}
    assert (await get(f"http://127.0.0.1:{site.port}/x"))[0] == DATA


@pytest.mark.parametrize(
    ("encoding", "body", "says"),
    [
        ("br", DATA, r"sends it compressed \(br\)"),
        ("gzip", b"\x1f\x8b" + DATA, "can’t be unpacked"),
        ("gzip", gzip.compress(DATA)[:-9], "broke too often"),
    ],
)
async def test_what_cannot_be_unpacked_is_named_in_a_sentence(site, get, encoding, body, says):
    site.pages = {"/x": (200, {"Content-Encoding": encoding}, body)}
    with pytest.raises(download.DownloadError, match=says):
        await get(f"http://127.0.0.1:{site.port}/x")


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("attachment; filename=\"A.mp4\"; filename*=UTF-8''Anna%20%E2%9C%A8.mp4", "Anna ✨.mp4"),
        ("attachment; filename*=iso-8859-1'en'%A3.mp4; filename=x.mp4", "£.mp4"),
        ('attachment; filename="a \\"b\\"; c.mp4"', 'a "b"; c.mp4'),
        ("inline; filename=plain.mp4", "plain.mp4"),
        ('attachment; FileName = "Übersicht.mp4"', "Übersicht.mp4"),
        ("attachment; filename*=nonsense''%FF; filename=good.mp4", "good.mp4"),
        ("attachment", ""),
        ("", ""),
    ],
)
async def test_the_name_that_a_server_gives_the_file_is_kept(site, get, header, name):
    site.pages = {"/x": (200, {"Content-Disposition": header}, DATA)}
    assert (await get(f"http://127.0.0.1:{site.port}/x"))[1] == name


@pytest.mark.parametrize("status", [429, 503])
async def test_a_server_that_asks_to_come_back_later_is_waited_for_and_uses_up_no_try(site, get, status):
    waits = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    busy = iter([status] * 9)
    site.pages = {"/x": lambda asked: (next(busy, 200), {"Retry-After": "7"}, DATA)}
    assert (await get(f"http://127.0.0.1:{site.port}/x", wait_for_server=wait))[0] == DATA
    assert waits == [7.0] * 9
    site.pages = {"/x": (status, {"Retry-After": "99999"}, b"")}
    with pytest.raises(download.DownloadError, match=f"answered {status} again and again"):
        await get(f"http://127.0.0.1:{site.port}/x", wait_for_server=wait)


async def test_the_other_addresses_of_a_name_are_tried_where_the_first_is_dead(site, get, monkeypatch):
    """The names are the system's: its answer is stood in for, for one name."""
    resolve = socket.getaddrinfo

    def two(host, port, *args, **fields):
        if host != "two.example":
            return resolve(host, port, *args, **fields)
        return [resolve(each, port, *args, **fields)[0] for each in ("127.0.0.9", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    site.pages = {"/x": (200, {}, DATA)}
    assert (await get(f"http://two.example:{site.port}/x"))[0] == DATA
    assert site.asked[0][1]["host"] == f"two.example:{site.port}"


async def test_a_name_that_nobody_can_look_up_at_the_moment_is_tried_again(site, get, monkeypatch):
    """As above."""
    resolve, failures = socket.getaddrinfo, [socket.gaierror(socket.EAI_AGAIN, "Temporary failure")] * 2

    def late(host, port, *args, **fields):
        if host != "late.example":
            return resolve(host, port, *args, **fields)
        if failures:
            raise failures.pop()
        return resolve("127.0.0.1", port, *args, **fields)

    monkeypatch.setattr(socket, "getaddrinfo", late)
    monkeypatch.setattr(download, "BACKOFF", (0.01,) * 4)
    site.pages = {"/x": (200, {}, DATA)}
    assert (await get(f"http://late.example:{site.port}/x"))[0] == DATA and not failures
    failures += [socket.gaierror(socket.EAI_AGAIN, "Temporary failure")] * 5
    with pytest.raises(download.DownloadError, match="name can’t be looked up at the moment") as error:
        await get(f"http://late.example:{site.port}/x")
    assert error.value.reason == "unreachable" and not error.value.permanent
    failures += [socket.gaierror(socket.EAI_AGAIN, "Temporary failure")]
    with pytest.raises(UnsafeUrl, match="Try again in a minute"):
        check_url("http://late.example/x")


@pytest.fixture
def authority(tmp_path):
    """A certificate of nobody's authority but its own, for localhost."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", key, "-out", cert],
        capture_output=True,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("no openssl here")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return cert, context


async def test_an_own_authority_counts_where_it_is_set_and_only_for_its_names(get, settings, authority):
    settings.ALLOW_PRIVATE_SOURCES = True
    cert, context = authority
    async with Site(tls=context) as site:
        site.pages = {"/x": (200, {}, DATA)}
        with pytest.raises(download.DownloadError, match="certificate can’t be verified") as refused:
            await get(f"https://localhost:{site.port}/x")
        assert refused.value.permanent, "it was tried again"
        settings.CA_FILE = str(cert)
        assert (await get(f"https://localhost:{site.port}/x"))[0] == DATA
        with pytest.raises(download.DownloadError, match="certificate can’t be verified"):
            await get(f"https://127.0.0.1:{site.port}/x")


async def test_a_proxy_is_given_checked_addresses_and_its_password(
    site, get, settings, monkeypatch, authority
):
    asked = []

    async def proxy(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.append(head)
        there, back = await asyncio.open_connection("127.0.0.1", secure.port)
        writer.write(b"HTTP/1.1 200 go\r\n\r\n")

        async def pass_on(source, target):
            while data := await source.read(65536):
                target.write(data)
            target.close()

        await asyncio.gather(pass_on(reader, back), pass_on(there, writer), return_exceptions=True)

    monkeypatch.setattr(addresses, "SPECIAL_IPV4", ())  # as if the loopback were the internet
    cert, context = authority
    settings.CA_FILE = str(cert)
    async with Site(tls=context) as secure, await asyncio.start_server(proxy, "127.0.0.1", 0) as server:
        secure.pages = {"/x": (200, {}, DATA)}
        settings.OUTGOING_PROXY = f"http://me:w%20d@127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert (await get("https://localhost:444/x"))[0] == DATA
    assert asked[0].startswith("CONNECT 127.0.0.1:444 HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic bWU6dyBk\r\n" in asked[0]


def test_the_average_that_a_server_must_keep_rises_with_age(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def judged(age: float, rate: float, waited: float = 0.0) -> str:
        nonlocal now
        now = 1000.0
        of = pace.Pace()
        of.add(int(rate * (age - 31)))
        now += age + waited - 31
        of.skip(waited)
        of.again()
        of.add(int(rate * 31))
        now += 31
        return of.judge()

    assert judged(40, 1000) == "stalls" and judged(31, 2048) == judged(40, 2048) == ""
    assert judged(120, 2048) == "slow" and judged(120, 5000) == ""
    assert judged(3600, 60_000) == "slow" and judged(3600, 70_000) == ""
    assert judged(6 * 3600, 70_000) == "", "and not for ever"
    assert judged(40, 2048, waited=1e6) == "", "what we waited for ourselves is not counted"


def test_a_retry_after_is_a_date_or_seconds_and_never_longer_than_an_hour():
    assert reply.retry_after("Fri, 31 Dec 1999 23:59:59 GMT") == 0.0
    assert reply.retry_after("999999") == 3600.0 and reply.retry_after("soon") is None
