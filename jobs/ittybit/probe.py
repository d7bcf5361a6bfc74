"""What the engine found when it looked into a file: an extension of the embedded one. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.ittybit.lenient_json import as_mapping, as_text
from jobs.ittybit.replies import Broken


@dataclass(frozen=True)
class SourceProblem:
    """Why a file is certainly no usable media: a kind (`not_media`, `image`, `protected`…), a sentence."""

    kind: str
    message: str


@dataclass(frozen=True)
class ProbeReply:
    """What a probe found wrong, None where the file may be media; *unread*: why nothing was found out."""

    problem: SourceProblem | None
    unread: str = ""


def parse_probe(answer: object) -> ProbeReply:
    """What a reply to a probe says. Raises Broken."""
    body = as_mapping(answer)
    if "problem" not in body:
        raise Broken("The engine’s answer to a probe is incomplete.")
    found = as_mapping(body["problem"])
    kind = as_text(found.get("kind"), 60)
    problem = SourceProblem(kind, as_text(found.get("message"))) if kind else None
    return ProbeReply(problem, as_text(body.get("unread"), 300))
