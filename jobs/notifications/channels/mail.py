"""Mail, by Django's own backend: the server is in the settings. It knows no jobs."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage, get_connection
from django.core.validators import validate_email

from jobs.models.destination import Destination
from jobs.notifications.channels.channel import NotAccepted, NotDelivered, Parcel


class Mail:
    """Plain text to a person's own address."""

    name = "mail"
    label = "Mail"
    address_label = "Your address"
    hint = "You get a mail there with a link, by which you confirm that it’s yours."
    bundled = True
    confirmed = True
    for_programs = False
    by_script = False

    def unavailable(self) -> str:
        """Where no server is set."""
        return "" if settings.EMAIL_HOST else "This installation sends no mail yet. An admin can set it up."

    def accept(self, address: str) -> str:
        """One address. Raises NotAccepted."""
        try:
            validate_email(address)
        except ValidationError:
            raise NotAccepted("That isn’t a mail address. Check it for typos.") from None
        return address

    def shown(self, destination: Destination) -> str:
        """The address."""
        return destination.address

    async def send(self, destination: Destination, parcel: Parcel) -> None:
        """Hands it to the server. Raises NotDelivered."""
        await asyncio.to_thread(self._send, destination.address, parcel)

    @staticmethod
    def _send(address: str, parcel: Parcel) -> None:
        domain = settings.DEFAULT_FROM_EMAIL.rpartition("@")[2].strip("> ") or "localhost"
        mail = EmailMessage(
            parcel.message.subject,
            parcel.message.whole,
            to=[address],
            # the same for each try: a mail server that has it already keeps one
            headers={"Message-ID": f"<{parcel.key}@{domain}>", "Auto-Submitted": "auto-generated"},
        )
        with _as_not_delivered():
            mail.send()


def check() -> str:
    """What is wrong with the server, in a sentence; "" where it answers and takes our user name."""
    try:
        with _as_not_delivered(), get_connection():
            return ""
    except NotDelivered as error:
        return str(error)


@contextmanager
def _as_not_delivered() -> Iterator[None]:
    """Whatever smtplib raises as NotDelivered."""
    try:
        yield
    except smtplib.SMTPRecipientsRefused as error:
        codes = {code for code, _ in error.recipients.values()}
        permanent = all(500 <= code < 600 for code in codes)
        raise NotDelivered("The mail server refuses this address.", permanent=permanent) from None
    except smtplib.SMTPAuthenticationError:
        raise NotDelivered("The mail server doesn’t take the user name or the password.") from None
    except smtplib.SMTPResponseException as error:
        raise NotDelivered(f"The mail server refuses the message ({error.smtp_code}).") from None
    except ssl.SSLError:
        raise NotDelivered("The mail server’s certificate isn’t valid.") from None
    except (OSError, smtplib.SMTPException):
        raise NotDelivered("The mail server can’t be reached.") from None
