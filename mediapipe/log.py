"""The log: text for people or JSON for machines, whose each line is, and a limit to what strangers cause.

Pure: whose a line is, say those who do the work (structlog's context).
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

from structlog import processors, stdlib
from structlog.contextvars import merge_contextvars
from structlog.typing import EventDict, Processor

LOUD = ("django.request", "django.security")  # a line for each refused request
MAX_PER_MINUTE = 60  # lines a minute
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


class Strangers(logging.Filter):
    """Lets errors of our own pass as they are; of refused requests it keeps the first ones of a minute."""

    def __init__(self) -> None:
        super().__init__()
        self.minute = self.seen = self.left_out = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written; one of a stranger's is cut, on one line and without a traceback."""
        if not record.name.startswith(LOUD) or getattr(record, "status_code", 400) >= 500:
            return True
        if (minute := int(record.created // 60)) != self.minute:
            self.minute = minute
            self.seen = 0
        self.seen += 1
        if self.seen > MAX_PER_MINUTE:
            self.left_out += 1
            return False
        text = "".join(each if each.isprintable() else "?" for each in record.getMessage()[:MAX_LENGTH])
        missing = f" (and {self.left_out} such lines before it)" if self.left_out else ""
        record.msg = text + missing
        record.args = ()
        record.exc_info = None
        record.exc_text = None
        self.left_out = 0
        return True
