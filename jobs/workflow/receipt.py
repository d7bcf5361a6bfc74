"""The receipt of a cancel: what was stopped and which outputs remain. Pure.

The facts are worded as soon as they are known, by the workflow: the job's row, its memo, its timeline and
`status --json` all hold the sentence, and replay never compares it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.requests import Cancellation


@dataclass(frozen=True)
class CancelReceipt:
    """The facts of a cancel. *kept*: the labels of the stages whose outputs remain."""

    seconds: float = 0.0  # from the request until everything had stopped
    encoder_stopped: bool = False
    freed_bytes: int = 0  # of partial files
    unreachable: bool = False  # the engine didn't answer
    unsupported: bool = False  # the API has no cancel
    kept: tuple[str, ...] = ()

    @classmethod
    def of(cls, results: Sequence[Cancellation | None], seconds: float, kept: Sequence[str]) -> CancelReceipt:
        """The receipt for what the engine answered; None: it didn't."""
        answers = [result for result in results if result]
        return cls(
            seconds=seconds,
            encoder_stopped=any(answer.encoder_stopped for answer in answers),
            freed_bytes=sum(answer.freed_bytes for answer in answers),
            unreachable=len(answers) < len(results),
            unsupported=not all(answer.supported for answer in answers),
            kept=tuple(kept),
        )

    def __str__(self) -> str:
        """The receipt as a sentence, for the person who cancelled."""
        return f"Cancelled. {self._stopped()}{self._kept()}."

    def _stopped(self) -> str:
        if self.encoder_stopped:
            text = f"Encoding stopped within {max(1, math.ceil(self.seconds))} s"
            return text + (f" and {self._freed()} of partial files were removed" if self.freed_bytes else "")
        if self.unreachable:
            return "The engine can’t be reached, so work it has started may still finish"
        if self.unsupported:
            return "The cloud can’t cancel work it has started, so it may still finish (and be billed)"
        return "Nothing was being encoded"

    def _freed(self) -> str:
        if self.freed_bytes >= 1e6:
            return f"{self.freed_bytes / 1e6:.0f} MB"
        return f"{math.ceil(self.freed_bytes / 1e3)} kB"  # never "0 kB": there was something

    def _kept(self) -> str:
        if not self.kept:
            return ""
        if len(self.kept) == 1:
            return f"; the {self.kept[0]} output was kept"
        return f"; the {', '.join(self.kept[:-1])} and {self.kept[-1]} outputs were kept"
