"""Which URLs may be fetched: http and https, to public hosts, without credentials.

Used where a URL is typed and again, for every hop, where it is fetched. It knows names and
addresses, and nothing of media.
"""

from __future__ import annotations

import re
import socket
from unicodedata import category
from urllib.parse import quote, urlsplit

import idna
from django.conf import settings

from mediapipe.addresses import is_public

LONGEST = 4000  # signs of a link that is kept
MOST_READ = 4 * LONGEST  # of what somebody pasted, with all that came along
PARTS = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#]*)([^?#]*)(.*)", re.IGNORECASE | re.DOTALL)
# What browsers take for "http://": too many slashes, too few, or the same once more before it.
BEGINNING = re.compile(r"(?:https?:/+(?=https?:/))*(https?):/*(?=[^/])", re.IGNORECASE)
ANOTHER = re.compile(r"https?://.*\s(?=https?://)", re.IGNORECASE | re.DOTALL)
QUOTED = {
    "<": ">",
    "(": ")",
    "[": "]",
    '"': '"',
    "'": "'",
    "`": "`",
    "“": "”",
    "„": "“”",
    "«": "»",
    "»": "«",
    "‹": "›",
    "‘": "’",
    "‚": "‘’",
    "「": "」",
}
SAFE = "%/:=&?~#+!$,;'@()*[]"
OWN_FILE = re.compile(r"[a-z]:[\\/]|\\\\|~?/(?!/)|file:", re.IGNORECASE)
NO_SCHEME = re.compile(r"//|www\.|[\w.-]+:\d+(?:/|$)|[\w-]+(?:\.[\w-]+)+/", re.IGNORECASE)
MANY = "That’s more than one link. Paste a single one."
TOO_LONG = "This link is longer than 4,000 characters. Use a shorter one, or upload the file instead."
NOT_A_LINK = "That isn’t a link. Paste one that begins with http:// or https://."
NO_BEGINNING = "That link lacks its beginning. Put https:// before it."
NOT_ALONE = "There’s something before that link. Paste it from its http:// or https:// on."
ON_A_COMPUTER = "That’s a file on a computer, and no link leads to it. Upload the file instead."
OF_SOMEBODY = (
    "Links with a user name or password aren’t accepted. Use a signed link, or upload the file instead."
)
UNREADABLE = "That link’s server name or port can’t be read. Check the link for typos."


class UnsafeUrl(Exception):
    """The URL may not be fetched; the sentence says why and what to do."""


class LookupFailed(UnsafeUrl):
    """Nobody answers what address the name of a server has: that may pass."""


def normalised(text: str) -> str:
    """A URL as browsers read what people paste and servers redirect to: in ASCII, its host too.

    Idempotent. What isn't a URL stays as it is, and is for parse() to refuse. Raises UnsafeUrl.
    """
    if len(text) > MOST_READ:
        raise UnsafeUrl(TOO_LONG)
    url = _alone(text)
    if ANOTHER.match(url):
        raise UnsafeUrl(MANY)
    url = BEGINNING.sub(r"\1://", re.sub("[\t\r\n]", "", url), count=1) if BEGINNING.match(url) else url
    if not (match := PARTS.fullmatch(url)):
        return url
    scheme, host, path, rest = match.groups()
    try:
        tail = quote(path.replace("\\", "/") + rest, safe=SAFE)
    except UnicodeError:  # half of a character
        raise UnsafeUrl("That isn’t a link: it contains characters that can’t be read.") from None
    return f"{scheme}://{_in_ascii(host)}{tail}"


def _alone(text: str) -> str:
    """Without what comes along when a link is copied: blanks, signs that can't be seen, quotes around it."""
    unseen = "".join({sign for sign in text if sign.isspace() or category(sign) in ("Cc", "Cf")})
    before = ""
    while text != before:
        before = text
        text = text.lstrip(unseen).rstrip(unseen + ">”»")
        if text[:1] in QUOTED:
            closing = QUOTED[text[0]]
            text = text[1:-1] if text[-1] in closing else text[1:]
    return text


def _in_ascii(host: str) -> str:
    """A host as DNS and TLS write it: its letters outside ASCII as `xn--`, by the rules of browsers."""
    name, colon, port = host.partition(":")
    if name.isascii():
        return host if "@" in host else _without_dot(name) + colon + port
    try:
        try:
            name = idna.encode(name, uts46=True).decode()
        except idna.IDNAError:  # names from before 2010, such as those with emoji
            name = name.encode("idna").decode()
    except UnicodeError:
        raise UnsafeUrl(f"{name} can’t be the name of a server. Check the link for typos.") from None
    return _without_dot(name) + colon + port


def _without_dot(name: str) -> str:
    """DNS may end a name with a dot, a certificate doesn't."""
    return name.removesuffix(".") if not name.endswith("..") else name


def _as_written(host: str) -> str:
    """A host as people know it."""
    try:
        return idna.decode(host) if "xn--" in host else host
    except UnicodeError:
        return host


def parse(url: str) -> tuple[str, int]:
    """Host and port of an http(s) URL. Raises UnsafeUrl."""
    if not re.match("https?://", url, re.IGNORECASE):
        raise UnsafeUrl(_no_link(url))
    if any(ord(sign) <= 32 or ord(sign) == 127 for sign in url) or "\\" in url:
        raise UnsafeUrl("That isn’t a link: it contains spaces or control characters. Paste it again.")
    try:
        parts = urlsplit(url)
        host = parts.hostname
        port = parts.port
    except ValueError:
        raise UnsafeUrl(UNREADABLE) from None
    if not host:
        raise UnsafeUrl("That link has no server name. Paste it again, or upload the file instead.")
    if parts.username is not None or parts.password is not None:
        raise UnsafeUrl(OF_SOMEBODY)
    if port == 0:
        raise UnsafeUrl(UNREADABLE)
    return host, port or (443 if parts.scheme.lower() == "https" else 80)


def _no_link(text: str) -> str:
    """Why *text* leads nowhere, and what to do."""
    if OWN_FILE.match(text):
        return ON_A_COMPUTER
    if NO_SCHEME.match(text):
        return NO_BEGINNING
    scheme = re.match(r"([a-z][a-z0-9+.-]{0,20}):(//)?(?=\S)", text, re.IGNORECASE)
    if scheme and scheme[1].lower() in ("blob", "data"):
        return f"{scheme[1]}: links lead nowhere outside the browser they come from. Upload the file instead."
    if re.search("https?://", text, re.IGNORECASE) and not (scheme and scheme[2]):
        return NOT_ALONE
    if scheme:
        return f"{scheme[0]} links aren’t accepted. Paste one that begins with http:// or https://."
    return NOT_A_LINK


def accepted(text: str) -> str:
    """What somebody pasted as a link that may be kept and fetched. It resolves a name. Raises UnsafeUrl."""
    url = normalised(text)
    check_url(url)
    if len(url) > LONGEST:
        raise UnsafeUrl(TOO_LONG)
    return url


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
            raise LookupFailed(
                f"{_as_written(host)} can’t be looked up at the moment. Try again in a minute."
            ) from None
        found = []
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    anywhere = trusted or settings.ALLOW_PRIVATE_SOURCES
    if not addresses or not (anywhere or all(map(is_public, addresses))):
        # one sentence for both, or it would tell which names there are in the inner network
        where = "" if anywhere else " on the public internet"
        raise UnsafeUrl(
            f"Can’t find {_as_written(host)}{where}. Check the link for typos, or upload the file instead."
        )
    return addresses
