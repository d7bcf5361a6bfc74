"""What a channel is: how a message gets to a person, and what it says when it can't.

It knows no jobs and no rows but the destination's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from jobs.models.destination import Destination
from jobs.notifications.wording import Message


class NotAccepted(Exception):
    """An address that this channel can't use; the sentence is for the person who typed it."""


class NotDelivered(Exception):
    """A try that failed, in a sentence without the address.

    *permanent*: another try can't help; *ends*: nor can any other message to this destination.
    """

    def __init__(
        self,
        sentence: str,
        *,
        permanent: bool = False,
        ends: bool = False,
        again_in: timedelta | None = None,
    ) -> None:
        super().__init__(sentence)
        self.permanent = permanent
        self.ends = ends
        self.again_in = again_in


@dataclass(frozen=True)
class Parcel:
    """What is delivered, in words for people or as an *event* for programs.

    *key* is the same for each try of the same message.
    """

    key: str
    message: Message = field(default_factory=lambda: Message("", "", ""))
    event: dict[str, Any] = field(default_factory=dict)


class Channel(Protocol):
    """One way to be notified.

    *bundled*: what happens within a minute is one message. *for_programs*: its destinations have secrets, by
    which events are signed.
    """

    name: str
    label: str
    address_label: str
    hint: str
    bundled: bool
    confirmed: bool  # a person must show that the address is theirs
    for_programs: bool
    by_script: bool  # nobody types the address: the browser says it

    def unavailable(self) -> str:
        """Why this installation can't use it at the moment, for editors; "" where it can."""

    def accept(self, address: str) -> str:
        """The address as it is kept. Raises NotAccepted."""

    def shown(self, destination: Destination) -> str:
        """The address as its owner's page shows it, without anything secret."""

    async def send(self, destination: Destination, parcel: Parcel) -> None:
        """Delivers. Raises NotDelivered; never waits longer than a minute."""
