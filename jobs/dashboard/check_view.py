"""What a check found, as a job's page shows it: things to look at, each a link to its second, and the rest.

It reads a stage and outputs, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.dashboard.output_view import OutputView
from jobs.dashboard.stage_view import StageView
from jobs.findings import Finding

CHECK = "check"  # the stage
SIDES = ("transcode", "ingest", "audio")  # the outputs that play beside the source, the best first


@dataclass(frozen=True)
class FindingView:
    """A finding, or the same one about several outputs: *where* names them, *url* plays one from there."""

    text: str
    where: str
    url: str
    stage: str  # whose output plays
    at: float  # seconds


@dataclass(frozen=True)
class CheckView:
    """A check on a page; *words*: what it is doing where there is no *report* yet."""

    words: str
    report: OutputView | None = None
    looks: Sequence[FindingView] = ()
    notes: Sequence[FindingView] = ()
    source: OutputView | None = None  # what plays beside the result, and what instead where that can't
    result: OutputView | None = None
    instead: OutputView | None = None


def view_check(
    stages: Sequence[StageView], outputs: Sequence[OutputView], source: OutputView
) -> CheckView | None:
    """The check among a job's *stages*, whose *outputs* and *source* these are; None where it has none."""
    stage = next((each for each in stages if each.name == CHECK), None)
    if stage is None:
        return None
    made = {each.stage: each for each in outputs}
    found = stage.status.output
    if CHECK not in made or found is None:
        return CheckView(stage.summary)
    ingested = made.get("ingest")
    return CheckView(
        stage.summary,
        made[CHECK],
        _merged([each for each in found.findings if each.look], made),
        _merged([each for each in found.findings if not each.look], made),
        source if source.url else ingested,
        next((made[name] for name in SIDES if name in made), None),
        ingested,
    )


def _merged(findings: Sequence[Finding], made: dict[str, OutputView]) -> list[FindingView]:
    """In the order of their seconds; what is so in several outputs is said once."""
    alike: dict[str, list[Finding]] = {}
    for finding in findings:
        alike.setdefault(finding.text, []).append(finding)
    views = [_view(group, made) for group in alike.values()]
    return sorted(views, key=lambda view: view.at)


def _view(group: list[Finding], made: dict[str, OutputView]) -> FindingView:
    known = [each for each in group if each.output in made]
    shown = min(known, key=lambda each: SIDES.index(each.output) if each.output in SIDES else 9, default=None)
    where = ", ".join(made[each.output].label for each in known)
    if shown is None:
        return FindingView(group[0].text, where, "", "", 0)
    place = f"{shown.start or 0:g}" + (f",{shown.end:g}" if shown.end else "")
    url = f"{made[shown.output].url}#t={place}"
    return FindingView(shown.text, where, url, shown.output, shown.start or 0)
