"""What a check says of a job's outputs: findings, and the few words that a page begins with.

Pure: it knows neither Django nor Temporal nor HTTP. Findings travel through Temporal as part of an output,
so every field that is added needs a default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing about the output of the stage *output*; *look*: a person should look at it.

    *start* and *end* in seconds; None for what is so over its whole length.
    """

    output: str = ""
    what: str = ""
    text: str = ""
    look: bool = False
    start: float | None = None
    end: float | None = None


def headline(findings: Sequence[Finding]) -> str:
    """What comes of a check, like "2 things to look at: silence 3:12 to 3:40, loudness −31 LUFS"."""
    looks = list(dict.fromkeys(finding.text for finding in findings if finding.look))
    if not looks:
        return "Checked"
    things = "1 thing" if len(looks) == 1 else f"{len(looks)} things"
    return f"{things} to look at: {', '.join(looks)}"
