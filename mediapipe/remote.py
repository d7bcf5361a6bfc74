"""Requests to foreign servers: each one checked, each connection made to an address that was checked.

A redirect is a new request; cookies on the way stay with their host; the addresses of a name are tried in
turn; an own CA and a proxy come from the settings. It knows addresses and HTTP, and nothing of files.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
import urllib.request
from collections.abc import AsyncIterator, Iterable, Mapping
from functools import cache
from http.cookiejar import Cookie, CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote, urljoin, urlsplit

import httpcore
import httpx
from django.conf import settings

from mediapipe import storage, url_safety
from mediapipe.addresses import is_public

MAX_REDIRECTS = 20  # as browsers do
MAX_ADDRESSES = 6  # of one name that are tried
CONNECT_TIMEOUT = 4.0  # seconds for an address while there is another one
ELSEWHERE = "That link redirects to another one."
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "mediapipe"}


class BadRedirect(Exception):
    """A redirect that leads nowhere; the text goes on after "the server": "redirects to no address"."""


@cache
def tls(ca_file: str = "") -> ssl.SSLContext:
    """The public authorities, and those of *ca_file* where there is one."""
    context = httpx.create_ssl_context(trust_env=False)
    if ca_file:
        context.load_verify_locations(cafile=ca_file)
    return context


class _CheckedConnections(httpcore.AsyncNetworkBackend):
    """Opens connections to the addresses that were checked for a host, and to no others."""

    def __init__(self) -> None:
        self.checked: dict[tuple[str, int], list[str]] = {}
        self.network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the first address of *host* that answers."""
        addresses = self.checked[host, port][:MAX_ADDRESSES]
        for address in addresses[:-1]:
            with contextlib.suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return await self._connect(address, port, min(timeout or CONNECT_TIMEOUT, CONNECT_TIMEOUT))
        return await self._connect(addresses[-1], port, timeout)

    async def _connect(self, address: str, port: int, timeout: float | None) -> httpcore.AsyncNetworkStream:
        """By the proxy, where one is set; what is on our own network is reached directly."""
        if not settings.OUTGOING_PROXY or not is_public(address):
            return await self.network.connect_tcp(address, port, timeout=timeout)
        proxy = urlsplit(settings.OUTGOING_PROXY)
        stream = await self.network.connect_tcp(proxy.hostname or "", proxy.port or 3128, timeout=timeout)
        try:
            await _ask_proxy(
                stream, f"[{address}]:{port}" if ":" in address else f"{address}:{port}", timeout
            )
        except BaseException:
            await stream.aclose()
            raise
        return stream

    async def sleep(self, seconds: float) -> None:
        """As the pool wants it."""
        await asyncio.sleep(seconds)


async def _ask_proxy(stream: httpcore.AsyncNetworkStream, place: str, timeout: float | None) -> None:
    """Has the proxy connect to *place*, an address that was checked: it resolves no name."""
    proxy = urlsplit(settings.OUTGOING_PROXY)
    lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
    if proxy.username:
        word = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(word).decode()}")
    await stream.write("\r\n".join([*lines, "\r\n"]).encode(), timeout)
    answer = b""
    while b"\r\n\r\n" not in answer:
        more = await stream.read(1, timeout)  # a byte behind the head would be the server's
        answer += more
        if not more or len(answer) > 8192:
            raise httpcore.ConnectError("the proxy gives no answer")
    if answer.split(b" ")[1:2] != [b"200"]:
        raise httpcore.ConnectError("the proxy refuses the connection")


class _Transport(httpx.AsyncHTTPTransport):
    """httpx's own transport, over checked connections."""

    def __init__(self, backend: _CheckedConnections) -> None:
        context = tls(settings.CA_FILE)
        super().__init__(verify=context, trust_env=False)
        self._pool = httpcore.AsyncConnectionPool(ssl_context=context, network_backend=backend)


class _Cookies(DefaultCookiePolicy):
    """Cookies as servers set them, but for those that no header can hold."""

    def set_ok(self, cookie: Cookie, request: urllib.request.Request) -> bool:
        """Whether it is kept."""
        return f"{cookie.name}{cookie.value}".isascii() and super().set_ok(cookie, request)


async def _keep_location(response: httpx.Response) -> None:
    """Puts where a redirect leads aside: httpx would read it itself, and refuses what browsers take."""
    raw = next((value for name, value in response.headers.raw if name.lower() == b"location"), b"")
    response.headers.pop("location", None)
    try:
        response.extensions["location"] = raw.decode().strip()
    except UnicodeDecodeError:
        response.extensions["location"] = quote(raw.strip(), safe=url_safety.SAFE)


def origin(url: str) -> tuple[str, str] | None:
    """Scheme and host of a URL; None where it can't be read."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return parts.scheme, parts.netloc


class Remote:
    """A client for one errand. Our bucket and *trusted_origin* (of a URL) may be on a private network."""

    def __init__(self, timeout: httpx.Timeout | float, trusted_origin: str = "") -> None:
        self.trusted_origin = trusted_origin
        self.connections = _CheckedConnections()
        self.http = httpx.AsyncClient(
            timeout=timeout,
            trust_env=False,
            transport=_Transport(self.connections),
            cookies=CookieJar(_Cookies()),
            event_hooks={"response": [_keep_location]},
        )

    async def __aenter__(self) -> Self:
        await self.http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.http.__aexit__(kind, error, trace)

    async def send(self, method: str, url: str, *, stream: bool = False, **parts: Any) -> httpx.Response:
        """One request, to an address that is checked now. Raises UnsafeUrl, HTTPError, InvalidURL."""
        url = url_safety.normalised(url)
        trusted = storage.is_in_bucket(url) or (
            bool(self.trusted_origin) and origin(url) == origin(self.trusted_origin)
        )
        found = await asyncio.to_thread(url_safety.check_url, url, trusted=trusted)
        parts["headers"] = {**HEADERS, **(parts.get("headers") or {})}
        request = self.http.build_request(method, url.partition("#")[0], **parts)
        port = request.url.port or (443 if request.url.scheme == "https" else 80)
        self.connections.checked[request.url.raw_host.decode(), port] = found
        return await self.http.send(request, stream=stream)

    @contextlib.asynccontextmanager
    async def follow(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
        """The reply to a GET behind all redirects, its body unread. Raises as send(), and BadRedirect."""
        for hop in range(MAX_REDIRECTS + 1):
            try:
                answer = await self.send("GET", url, headers=headers, stream=True)
            except url_safety.LookupFailed:
                raise
            except url_safety.UnsafeUrl as error:
                raise url_safety.UnsafeUrl(f"{ELSEWHERE} {error}" if hop else str(error)) from None
            async with contextlib.aclosing(answer) as response:
                if not response.is_redirect:
                    yield response
                    return
                status = response.status_code
                location = str(response.extensions["location"])
            try:
                if not location:
                    raise ValueError
                path, query, rest = location.partition("?")
                url = urljoin(url, path.replace("\\", "/") + query + rest)
            except ValueError:
                raise BadRedirect(f"redirects to no address (it answered {status})") from None
        raise BadRedirect(f"redirects more than {MAX_REDIRECTS} times")
