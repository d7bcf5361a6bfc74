"""Chat and phone services, by Apprise and its spelling of their addresses.

Apprise opens its own connections, which nobody checks: so it is given addresses alone that lead to a vendor's
own, fixed hosts, those that an admin allows besides, and no option that reads a file or another server. It
knows no jobs.
"""

from __future__ import annotations

import asyncio
import logging
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from django.conf import settings

from jobs.models.destination import Destination
from jobs.notifications.channels.channel import NotAccepted, NotDelivered, Parcel

# The host of each is written in Apprise, and none sends to a number or an address of somebody else's.
FIXED = (
    "slack",
    "discord",
    "tgram",
    "gchat",
    "webex",
    "zoom",
    "line",
    "lark",
    "feishu",
    "dingtalk",
    "flock",
    "pover",
    "pbul",
    "pagerduty",
    "signl4",
)
OPTIONS = {"to", "topic", "thread", "priority", "sound", "region", "silent"}  # others read files, or wait
SERVICES = "Slack, Discord, Telegram, Google Chat, Webex, Zoom, Line, Lark, Pushover, Pushbullet, PagerDuty …"

logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its lines name addresses, which are secrets


@cache
def library() -> tuple[Any, Any]:
    """Apprise and how it is used here; its import takes a second, which only who needs it waits for."""
    import apprise

    asset = apprise.AppriseAsset(http_redirects=False, async_mode=False, secure_logging=True)
    return apprise, asset


class Chat:
    """A room or a device at a service."""

    name = "chat"
    label = "Chat and phone"
    address_label = "Address"
    hint = f"As Apprise writes it, such as slack://… or tgram://…, or a Slack or Discord webhook. {SERVICES}"
    bundled = True
    confirmed = False
    for_programs = False
    by_script = False

    def unavailable(self) -> str:
        """Never: what a service needs is in its address."""
        return ""

    def accept(self, address: str) -> str:
        """An address of a service that is allowed here. Raises NotAccepted."""
        try:
            options = {name for name, _ in parse_qsl(urlsplit(address).query, keep_blank_values=True)}
        except ValueError:
            options = set()
        if options - OPTIONS:
            raise NotAccepted(f"Leave {', '.join(sorted(options - OPTIONS))} out of the address.")
        self._service(address)
        return address

    @staticmethod
    def _service(address: str) -> Any:
        """What Apprise makes of *address*. Raises NotAccepted where that isn't allowed here."""
        apprise, asset = library()
        service = apprise.Apprise.instantiate(address, asset=asset, suppress_exceptions=True)
        names = {*FIXED, *settings.CHAT_SERVICES}
        if service is None or names.isdisjoint(service.schemas()):
            raise NotAccepted("That isn’t an address of a service that can be used here. Check it for typos.")
        return service

    def shown(self, destination: Destination) -> str:
        """The service alone: the rest of such an address is a secret."""
        return f"{urlsplit(destination.address).scheme}://… (no. {destination.pk})"

    async def send(self, destination: Destination, parcel: Parcel) -> None:
        """Sends it. Raises NotDelivered."""
        await asyncio.to_thread(self._send, destination.address, parcel)

    def _send(self, address: str, parcel: Parcel) -> None:
        try:
            service = self._service(address)
        except NotAccepted:
            raise NotDelivered("This service can’t be used here any more.", permanent=True) from None
        body = parcel.message.text
        if not service.notify(title=parcel.message.subject, body=body, body_format="text"):
            raise NotDelivered("The service doesn’t take the message, or can’t be reached.")
