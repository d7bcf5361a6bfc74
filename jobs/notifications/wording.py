"""The words of a message: its subject, what happened, what to do next, and where. Pure.

The same words go to every channel that people read; what a channel makes of them is the channel's matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from jobs.notifications import events

MAX_TITLE = 80  # signs of a title in a message
MAX_LISTED = 40  # jobs that a message lists
SHORT_PHRASES = {  # after a title
    events.DONE: "is done",
    events.FAILED: "has failed",
    events.CANCELLED: "was cancelled",
    events.HELD: "needs you",
    events.STILL_HELD: "still needs you",
    events.SLOW: "takes longer than usual",
}
COUNTED_PHRASES = {  # one, many
    events.DONE: ("is done", "are done"),
    events.FAILED: ("has failed", "have failed"),
    events.CANCELLED: ("was cancelled", "were cancelled"),
    events.HELD: ("needs you", "need you"),
    events.STILL_HELD: ("still needs you", "still need you"),
    events.SLOW: ("takes longer than usual", "take longer than usual"),
}
NEXT = {
    events.DONE: "Its outputs are ready.",
    events.FAILED: "You can start it again; finished outputs are kept.",
    events.HELD: "It waits for you to retry or to cancel it",
    events.STILL_HELD: "It still waits for you to retry or to cancel it",
    events.SLOW: "Nothing is lost, and nothing needs to be done. Its page says what it waits for.",
}
WHY = "You get this because you chose it on the Notifications page, where you can also end it:"


@dataclass(frozen=True)
class News:
    """An event as a message tells it. *owner*: whose job it is, "" for one's own.

    *closes_at*: when a held job is closed without a decision, in the time zone of this installation.
    """

    type: str
    title: str
    url: str
    text: str = ""
    owner: str = ""
    closes_at: datetime | None = None


@dataclass(frozen=True)
class BatchNews:
    """The end of a batch: of *total* sources *done* are, and *needy* are not, by the sentences of *why*."""

    title: str
    url: str
    total: int
    done: int
    needy: int
    why: list[tuple[str, int]]
    owner: str = ""  # "" for one's own


@dataclass(frozen=True)
class Message:
    """What a channel for people delivers; *url* is where it leads."""

    subject: str
    text: str
    url: str
    manage_url: str = ""
    lines: list[str] = field(default_factory=list)

    @property
    def whole(self) -> str:
        """The text with where to end such messages below it."""
        return f"{self.text}\n\n-- \n{WHY}\n{self.manage_url}\n" if self.manage_url else f"{self.text}\n"


def short(title: str) -> str:
    """A title on one line, and not too long."""
    line = " ".join(title.split())
    return line if len(line) <= MAX_TITLE else f"{line[: MAX_TITLE - 1]}…"


def subject_of(news: News) -> str:
    """One event in a line."""
    whose = f" ({news.owner})" if news.owner else ""
    says = (
        SHORT_PHRASES[news.type]
        if not news.owner
        else SHORT_PHRASES[news.type].replace("needs you", "needs somebody")
    )
    return f"“{short(news.title)}”{whose} {says}"


def what_next(news: News) -> str:
    """What a person may do about it."""
    text = NEXT.get(news.type, "")
    if news.type not in (events.HELD, events.STILL_HELD):
        return text
    if news.closes_at is None:
        return f"{text}."
    when = f"{news.closes_at:%A}, {news.closes_at.day} {news.closes_at:%B, %H:%M}"
    return f"{text}. It’s closed by itself on {when}; finished outputs are kept, and you can start it again."


def message(pieces: Sequence[News], list_url: str, manage_url: str) -> Message:
    """One message about everything of *pieces*, which has at least one event."""
    if len(pieces) == 1:
        news = pieces[0]
        subject = subject_of(news)
        parts = [f"{subject}.", short_reason(news.text), what_next(news), news.url]
        return Message(subject, "\n\n".join(filter(None, parts)), news.url, manage_url, [subject])
    counts = Counter(news.type for news in pieces)
    kinds = [kind for kind in COUNTED_PHRASES if counts[kind]]
    first, *rest = [f"{counts[kind]} {COUNTED_PHRASES[kind][counts[kind] > 1]}" for kind in kinds]
    number, _, says = first.partition(" ")
    noun = "job" if number == "1" else "jobs"
    subject = ", ".join([f"{number} {noun} {says}", *rest])
    ordered = sorted(pieces, key=lambda news: kinds.index(news.type))
    lines = [subject_of(news) for news in ordered]
    blocks = [
        "\n".join(filter(None, [line, short_reason(news.text), news.url]))
        for line, news in zip(lines[:MAX_LISTED], ordered, strict=False)
    ]
    if len(lines) > MAX_LISTED:
        blocks.append(f"And {len(lines) - MAX_LISTED} more:\n{list_url}")
    return Message(subject, "\n\n".join([f"{subject}.", *blocks]), list_url, manage_url, lines)


def batch_message(news: BatchNews, manage_url: str) -> Message:
    """The one message at the end of a batch."""
    whose = f" ({news.owner})" if news.owner else ""
    counted = f"{news.done:,} of {news.total:,} done"
    needy = f", {news.needy:,} {'needs' if news.needy == 1 else 'need'} {'somebody' if news.owner else 'you'}"
    subject = f"“{short(news.title)}”{whose} is over: {counted}{needy if news.needy else ''}"
    lines = [f"{many:,} × {short_reason(sentence)}" for sentence, many in news.why[:MAX_LISTED]]
    blocks = [f"{subject}.", "\n".join(lines), news.url]
    return Message(subject, "\n\n".join(filter(None, blocks)), news.url, manage_url, [subject])


def short_reason(text: str) -> str:
    """Why it failed, as a message has room for."""
    line = " ".join(text.split())
    return line if len(line) <= 500 else f"{line[:499]}…"


def test_message(url: str, manage_url: str) -> Message:
    """What “Send a test” sends."""
    subject = "A test from mediapipe"
    text = "Notifications arrive here. You asked for this test on the Notifications page."
    return Message(subject, f"{text}\n\n{url}", url, manage_url, [subject])


def confirmation(person: str, url: str) -> Message:
    """Asks whether an address is the person's own: it names nobody's jobs."""
    subject = "Is this your address?"
    text = (
        f"{person} wants to get notifications from mediapipe at this address. If that’s you, open this page, "
        f"sign in, and confirm:\n\n{url}\n\nIf it isn’t you, do nothing: no other message will come."
    )
    return Message(subject, text, url)
