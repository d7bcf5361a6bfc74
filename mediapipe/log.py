"""The log: text for people or JSON for machines, whose each line is, and a limit to what others cause.

Pure: whose a line is, say those who do the work (structlog's context).
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import Any

from structlog import processors, stdlib
from structlog.contextvars import merge_contextvars
from structlog.typing import EventDict, Processor

LOUD = ("django.request", "django.security")  # a line for each refused request
REFUSED = "refused"
AWAY = "away"
POOL = "psycopg.pool"
MAX_PER_MINUTE = {REFUSED: 60, AWAY: 6, POOL: 6}  # lines a minute
MAX_LENGTH = 300  # characters

FIRST = ("time", "level", "logger", "event", "exception")


def formatter(*, as_json: bool) -> stdlib.ProcessorFormatter:
    """Writes each line with its time (UTC), its level, and whose it is: request, job, task, activity."""
    chain: list[Processor] = [
        merge_contextvars,
        stdlib.add_log_level,
        stdlib.add_logger_name,
        processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    end: list[Processor] = [stdlib.ProcessorFormatter.remove_processors_meta, processors.format_exc_info]
    end.append(processors.JSONRenderer(ensure_ascii=False) if as_json else _as_text)
    return stdlib.ProcessorFormatter(foreign_pre_chain=chain, processors=end)


def leave_out_late_cancels() -> None:
    """Of a cancel that comes when its activity has just ended, Temporal's SDK warns in bytes."""
    warnings.filterwarnings("ignore", "Cannot find activity to cancel")


def _as_text(logger: Any, method: str, line: EventDict) -> str:
    """One line for people, and the traceback below it: no text from outside begins another."""
    about = " ".join(f"{name}={value}" for name, value in sorted(line.items()) if name not in FIRST)
    text = f"{line['time'][:19]}Z {line['level'].upper()} {line['logger']}: {line['event']}"
    text = f"{text} [{about}]" if about else text
    text = "".join(each if each.isprintable() else " " for each in text)
    return "\n".join(filter(None, (text, line.get("exception"))))


@dataclass
class Minute:
    """How many lines of one cause there were in this minute, and how many of them were left out."""

    number: int = 0
    seen: int = 0
    left_out: int = 0

    def at(self, number: int) -> Minute:
        """Itself, in the minute *number*."""
        if number != self.number:
            self.number = number
            self.seen = 0
        return self


class Limits(logging.Filter):
    """Lets errors of our own pass as they are; of what others cause it keeps the first lines of a minute.

    Others are strangers whose requests are refused, and what is away, such as the database: each request and
    each try to reach it would write a hundred lines, all night.
    """

    def __init__(self) -> None:
        super().__init__()
        self.minutes = {cause: Minute() for cause in MAX_PER_MINUTE}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written, cut; the first of a minute about what is away has its traceback."""
        if not (cause := _cause(record)):
            return True
        minute = self.minutes[cause].at(int(record.created // 60))
        minute.seen += 1
        if minute.seen > MAX_PER_MINUTE[cause]:
            minute.left_out += 1
            return False
        text = "".join(each if each.isprintable() else "?" for each in record.getMessage()[:MAX_LENGTH])
        missing = f" (and {minute.left_out} such lines before it)" if minute.left_out else ""
        minute.left_out = 0
        record.msg = text + missing
        record.args = ()
        if cause == REFUSED or minute.seen > 1:
            record.exc_info = None
            record.exc_text = None
        return True


def _cause(record: logging.LogRecord) -> str:
    """Of which others a line is; "" of none."""
    if record.name == POOL:
        return POOL
    status = getattr(record, "status_code", 400)
    if not record.name.startswith(LOUD) or (status >= 500 and status != 503):
        return ""
    return AWAY if status == 503 else REFUSED
