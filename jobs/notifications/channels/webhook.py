"""Webhooks out, for programs: each event is POSTed, signed by the Standard Webhooks scheme.

A receiver is foreign: its address is checked when it is typed and at each try, and the connection is made to
what was checked. What it answers is not read, but for its status. It knows no jobs.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import httpx
from django.conf import settings
from django.utils import timezone
from standardwebhooks import Webhook as Signer

from jobs.models.destination import Destination
from jobs.notifications.channels.channel import NotAccepted, NotDelivered, Parcel
from mediapipe import url_safety
from mediapipe.remote import Remote
from mediapipe.reply import retry_after

TIMEOUT = 15.0  # seconds for one step of a request
TOTAL_TIMEOUT = 30.0  # seconds in all
LONGEST_WAIT = timedelta(hours=6)  # that a receiver may ask for
BUSY_STATUSES = (429, 503)
GONE_STATUS = 410


def new_secret() -> str:
    """A secret in the scheme's own spelling."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


def signatures(secrets_: list[str], key: str, moment: datetime, body: str) -> str:
    """One for each secret that counts, as the scheme writes them: a receiver knows one of them."""
    return " ".join(Signer(secret).sign(key, moment, body) for secret in secrets_)


class Webhook:
    """An address of a program."""

    name = "webhook"
    label = "Webhooks"
    address_label = "URL"
    hint = "For programs: each event is POSTed there by itself, signed by the Standard Webhooks scheme."
    bundled = False
    confirmed = False
    for_programs = True
    by_script = False

    def unavailable(self) -> str:
        """Never: an outgoing connection is all it needs."""
        return ""

    def accept(self, address: str) -> str:
        """An https URL on the public internet; any where sources may be private. Raises NotAccepted."""
        try:
            url = url_safety.normalised(address)
            url_safety.parse(url)
            if urlsplit(url).scheme.lower() != "https" and not settings.ALLOW_PRIVATE_SOURCES:
                raise NotAccepted("Use an https:// address: what is sent names your jobs.")
            url_safety.check_url(url)
        except url_safety.LookupFailed as error:
            raise NotAccepted(str(error)) from None
        except url_safety.UnsafeUrl:
            raise NotAccepted("That isn’t an address on the public internet. Check it for typos.") from None
        return url

    def shown(self, destination: Destination) -> str:
        """The host alone: the path of such an address is often a secret."""
        return f"{urlsplit(destination.address).netloc}/… (no. {destination.pk})"

    async def send(self, destination: Destination, parcel: Parcel) -> None:
        """POSTs the event. Raises NotDelivered."""
        now = datetime.now(UTC)
        body = json.dumps(parcel.event, ensure_ascii=False, separators=(",", ":"))
        headers = {
            "Content-Type": "application/json",
            "webhook-id": parcel.key,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signatures(destination.valid_secrets(timezone.now()), parcel.key, now, body),
        }
        try:
            async with asyncio.timeout(TOTAL_TIMEOUT), Remote(TIMEOUT) as remote:
                answer = await remote.send(
                    "POST", destination.address, stream=True, content=body.encode(), headers=headers
                )
                await answer.aclose()
        except url_safety.UnsafeUrl:
            raise NotDelivered("Its address can’t be found on the public internet.") from None
        except (httpx.TimeoutException, TimeoutError):
            raise NotDelivered("The receiver doesn’t answer.") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError):
            raise NotDelivered("The receiver can’t be reached.") from None
        judge(answer)


def judge(answer: httpx.Response) -> None:
    """What an answer's status means. Raises NotDelivered for all that isn't 2xx."""
    status = answer.status_code
    if 200 <= status < 300:
        return
    if status == GONE_STATUS:
        raise NotDelivered("The receiver says that it’s gone (410).", permanent=True)
    if 300 <= status < 400:
        raise NotDelivered(f"The receiver redirects ({status}), which isn’t followed. Add its new address.")
    asked = answer.headers.get("retry-after") if status in BUSY_STATUSES else None
    wait = retry_after(asked, longest=LONGEST_WAIT.total_seconds())
    again_in = None if wait is None else timedelta(seconds=wait)
    raise NotDelivered(f"The receiver answers {status}.", again_in=again_in)
