"""What a stage waits for and works on: the job's source, or other stages' outputs. Deterministic.

It sees the stages before its own as they stand now, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from jobs.pipelines import StageDefinition
    from jobs.state import PASSED, PipelineInput, Source, StageState, StageStatus

SKIP_REASONS = {"no_video": "no video in this file.", "no_audio": "no audio in this file."}


class Before(Protocol):
    """A stage that stands before another one."""

    stage: StageDefinition
    status: StageStatus

    @property
    def blocked(self) -> bool:
        """Whether it waits for one that has failed."""


@dataclass(frozen=True)
class Needs:
    """What *stage* needs: the output of the stage *needed*, if any, and of those that it looks *through*.

    Those that stand *before* it are waited for alone.
    """

    plan: PipelineInput
    stage: StageDefinition
    needed: Before | None
    through: Sequence[Before] = ()
    before: Sequence[Before] = ()

    def all(self) -> list[Before]:
        """Every stage that it waits for."""
        return [*([self.needed] if self.needed else []), *self.through, *self.before]

    def met(self) -> bool:
        """Whether it may begin."""
        return all(each.status.state in PASSED for each in self.all())

    def blocked(self) -> bool:
        """Whether one of them has failed, or waits for one that has."""
        return any(each.status.state == StageState.FAILED or each.blocked for each in self.all())

    def reason_to_skip(self) -> str:
        """Why there is nothing for it to do; "" where there is."""
        if self.needed is None:
            return ""
        if self.needed.status.state == StageState.SKIPPED:
            return f"it needs {self.needed.stage.label}, which was skipped."
        output = self.needed.status.output
        present = output.has(self.stage.wants) if self.stage.wants and output else None
        return SKIP_REASONS[f"no_{self.stage.wants}"] if present is False else ""

    def source(self) -> Source:
        """Its input. A look through outputs compares them with the job's own source, where that is kept."""
        if self.through and self.plan.source.name:
            return self.plan.source
        output = _as_source(self.needed) if self.needed else None
        return output or self.plan.source

    def duration(self) -> float | None:
        """How many seconds its input lasts, where that is known."""
        output = self.needed.status.output if self.needed else None
        return output.duration if output else None

    def outputs(self) -> dict[str, Source]:
        """What it looks through, but for its own input."""
        found = {each.stage.name: _as_source(each) for each in self.through}
        own = self.source()
        return {name: output for name, output in found.items() if output and output.name != own.name}


def _as_source(stage: Before) -> Source | None:
    output = stage.status.output
    return Source(output.url, output.name, size=output.filesize) if output else None
