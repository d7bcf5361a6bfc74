"""What the log keeps of lines that any stranger can cause: short ones, and only so many a minute. Pure."""

from __future__ import annotations

import logging

LOUD = ("django.request", "django.security")  # a line for each refused request
MOST = 60  # lines a minute
LONGEST = 300  # characters


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
            self.minute, self.seen = minute, 0
        self.seen += 1
        if self.seen > MOST:
            self.left_out += 1
            return False
        text = "".join(each if each.isprintable() else "?" for each in record.getMessage()[:LONGEST])
        missing = f" (and {self.left_out} such lines before it)" if self.left_out else ""
        record.msg, record.args, record.exc_info, record.exc_text = text + missing, (), None, None
        self.left_out = 0
        return True
