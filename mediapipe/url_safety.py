"""Which URLs may be fetched: http and https, to public hosts, without credentials.

Used where a URL is typed and again, for every hop, where it is fetched. It knows names and
addresses, and nothing of media.
"""

from __future__ import annotations

import re
import socket
from urllib.parse import quote, urlsplit

import idna
from django.conf import settings

from mediapipe.addresses import is_public

PARTS = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#]*)([^?#]*)(.*)", re.IGNORECASE | re.DOTALL)
INVISIBLE = "\ufeff\u200b\u200e\u200f<>"  # what comes along when a link is copied
SAFE = "%/:=&?~#+!$,;'@()*[]"


class UnsafeUrl(Exception):
    """The URL may not be fetched; the sentence says why and what to do."""


class LookupFailed(UnsafeUrl):
    """Nobody answers what address the name of a server has: that may pass."""


def normalised(text: str) -> str:
    """A URL as browsers read what people paste and servers redirect to: in ASCII, its host too.

    Idempotent. What isn't a URL stays as it is, and is for parse() to refuse. Raises UnsafeUrl.
    """
    url = re.sub("[\t\r\n]", "", text.strip().strip(INVISIBLE).strip())
    if not (match := PARTS.fullmatch(url)):
        return url
    scheme, host, path, rest = match.groups()
    try:
        tail = quote(path.replace("\\", "/") + rest, safe=SAFE)
    except UnicodeError:  # half of a character
        raise UnsafeUrl("That isn’t a link: it contains characters that can’t be read.") from None
    return f"{scheme}://{_in_ascii(host)}{tail}"


def _in_ascii(host: str) -> str:
    """A host as DNS and TLS write it: its letters outside ASCII as `xn--`, by the rules of browsers."""
    if host.isascii():
        return host
    name, colon, port = host.partition(":")
    try:
        try:
            return idna.encode(name, uts46=True).decode() + colon + port
        except idna.IDNAError:  # names from before 2010, such as those with emoji
            return name.encode("idna").decode() + colon + port
    except UnicodeError:
        raise UnsafeUrl(f"{name} can’t be the name of a server. Check the link for typos.") from None


def parse(url: str) -> tuple[str, int]:
    """Host and port of an http(s) URL. Raises UnsafeUrl."""
    if any(ord(sign) <= 32 or ord(sign) == 127 for sign in url) or "\\" in url:
        raise UnsafeUrl("That isn’t a link: it contains spaces or control characters. Paste it again.")
    try:
        parts = urlsplit(url)
        host = parts.hostname
        port = parts.port
    except ValueError:
        raise UnsafeUrl("That isn’t a link. Paste one that begins with http:// or https://.") from None
    if parts.scheme.lower() not in ("http", "https"):
        what = f"{parts.scheme}:// links aren’t accepted" if parts.scheme else "That isn’t a link"
        raise UnsafeUrl(f"{what}. Paste one that begins with http:// or https://.")
    if not host:
        raise UnsafeUrl("That link has no server name. Paste it again, or upload the file instead.")
    if parts.username is not None or parts.password is not None:
        raise UnsafeUrl("Links with a user name or password aren’t accepted. Use a signed link.")
    return host, port or (443 if parts.scheme.lower() == "https" else 80)


def own_path(url: str) -> str:
    """The path, with its query, of a URL that leads to this installation; "" for any other."""
    own = (base for base in (settings.LOCAL_URL, settings.PUBLIC_URL) if base and url.startswith(f"{base}/"))
    return next((url.removeprefix(base) for base in own), "")


def check_url(url: str, *, trusted: bool = False) -> list[str]:
    """The IP addresses that *url* leads to, each one checked unless it is *trusted*. Raises UnsafeUrl.

    It resolves the name, so it blocks: call it in a thread where a loop runs. Connect to one of these
    addresses, not to the name: a second DNS answer could differ.
    """
    host, port = parse(normalised(url))
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
            raise LookupFailed(f"{host} can’t be looked up at the moment. Try again in a minute.") from None
        found = []
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    anywhere = trusted or settings.ALLOW_PRIVATE_SOURCES
    if not addresses or not (anywhere or all(map(is_public, addresses))):
        # one sentence for both, or it would tell which names there are in the inner network
        where = "" if anywhere else " on the public internet"
        raise UnsafeUrl(f"Can’t find {host}{where}. Check the link for typos, or upload the file instead.")
    return addresses
