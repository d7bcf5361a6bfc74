"""The channels, in the order in which the page offers them."""

from __future__ import annotations

from jobs.notifications.channels.browser import Browser
from jobs.notifications.channels.channel import Channel
from jobs.notifications.channels.chat import Chat
from jobs.notifications.channels.mail import Mail
from jobs.notifications.channels.webhook import Webhook

ALL: tuple[Channel, ...] = (Mail(), Browser(), Chat(), Webhook())
BY_NAME: dict[str, Channel] = {channel.name: channel for channel in ALL}
