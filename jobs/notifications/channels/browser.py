"""Web Push: a browser in which somebody has asked for it hears of it, though no tab is open.

Where to send is what the browser says, so it is foreign: checked when it comes and at each try, and the
connection is made to what was checked. The message is encrypted for that browser; its service reads nothing.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from urllib.parse import urlsplit

import httpx
from django.conf import settings

from jobs.models.destination import Destination
from jobs.notifications import push_message
from jobs.notifications.channels.channel import NotAccepted, NotDelivered, Parcel
from jobs.notifications.channels.webhook import TIMEOUT, TOTAL_TIMEOUT, judge
from mediapipe import url_safety
from mediapipe.remote import Remote

KEPT_SECONDS = 3 * 24 * 3600  # by the service, for a browser that isn't running
ENDED = (404, 410)
ASLEEP = "This browser takes no notifications any more. Ask for them again in it."
UNREADABLE = "This browser gave no address that can be used. Ask for it again."
BROWSERS = {
    "googleapis.com": "Chrome",
    "mozilla.com": "Firefox",
    "apple.com": "Safari",
    "windows.com": "Edge",
}


def _read(address: str) -> tuple[str, bytes, bytes]:
    """Where to send, and the browser's two keys. Raises NotAccepted."""
    try:
        subscription: Any = json.loads(address)
        endpoint = str(subscription["endpoint"])
        receiver = push_message.decode(str(subscription["keys"]["p256dh"]))
        auth = push_message.decode(str(subscription["keys"]["auth"]))
        push_message.encrypt(b"", receiver, auth)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise NotAccepted(UNREADABLE) from None
    return endpoint, receiver, auth


class Browser:
    """A browser of a person's; its address is what it answers to `subscribe`, as JSON."""

    name = "browser"
    label = "Browser"
    address_label = "This browser"
    hint = "Also while no page of the dashboard is open."
    bundled = True
    confirmed = False
    for_programs = False
    by_script = True

    def unavailable(self) -> str:
        """Never: an outgoing connection is all it needs."""
        return ""

    @property
    def key(self) -> str:
        """What the browser must know to subscribe."""
        return push_message.encode(push_message.public(push_message.key_of(settings.PUSH_KEY)))

    def accept(self, address: str) -> str:
        """What the browser said, without anything else. Raises NotAccepted."""
        endpoint, receiver, auth = _read(address)
        try:
            url = url_safety.normalised(endpoint)
            if urlsplit(url).scheme != "https" and not settings.ALLOW_PRIVATE_SOURCES:
                raise NotAccepted(UNREADABLE)
            url_safety.check_url(url)
        except (url_safety.UnsafeUrl, ValueError):
            raise NotAccepted(UNREADABLE) from None
        keys = {"p256dh": push_message.encode(receiver), "auth": push_message.encode(auth)}
        kept = json.dumps({"endpoint": url, "keys": keys})
        if len(kept) > 1000:
            raise NotAccepted(UNREADABLE)
        return kept

    def shown(self, destination: Destination) -> str:
        """Whose browser it is: the rest is a secret."""
        host = urlsplit(_read(destination.address)[0]).hostname or ""
        maker = next((name for end, name in BROWSERS.items() if host.endswith(end)), "A browser")
        return f"{maker} (no. {destination.pk})"

    async def send(self, destination: Destination, parcel: Parcel) -> None:
        """Hands it to the browser's push service. Raises NotDelivered."""
        endpoint, receiver, auth = _read(destination.address)
        parts = urlsplit(endpoint)
        key = push_message.key_of(settings.PUSH_KEY)
        origin = f"{parts.scheme}://{parts.netloc}"
        headers = {
            "Authorization": push_message.authorization(key, origin, contact(), time.time()),
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(KEPT_SECONDS),
            "Topic": parcel.key.replace("-", "")[:32],  # one that waits there is replaced by the same one
        }
        body = push_message.encrypt(text_of(parcel), receiver, auth)
        try:
            async with asyncio.timeout(TOTAL_TIMEOUT), Remote(TIMEOUT) as remote:
                answer = await remote.send("POST", endpoint, stream=True, content=body, headers=headers)
                await answer.aclose()
        except url_safety.UnsafeUrl:
            raise NotDelivered("Its push service can’t be found on the public internet.") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError):
            raise NotDelivered("The browser’s push service can’t be reached.") from None
        if answer.status_code in ENDED:
            raise NotDelivered(ASLEEP, permanent=True, ends=True)
        judge(answer)


def contact() -> str:
    """Whom a push service may write to, as it wants it."""
    if settings.PUBLIC_URL.startswith("https://"):
        return settings.PUBLIC_URL
    return f"mailto:{settings.DEFAULT_FROM_EMAIL.rpartition('<')[2].strip('> ')}"


def text_of(parcel: Parcel) -> bytes:
    """What the browser shows, as JSON that is short enough."""
    message = parcel.message
    body = message.text.partition("\n\n")[2]
    while True:
        content = {"title": message.subject, "body": body, "tag": parcel.key, "url": message.url}
        text = json.dumps(content, ensure_ascii=False).encode()
        if len(text) <= push_message.MAX_BYTES or not body:
            return text
        body = body[: len(body) * 3 // 4]
