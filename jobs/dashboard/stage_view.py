"""A stage as the pages show it: icon, percent, what it is doing. It reads a status and decides nothing."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from jobs.dashboard.advice import helped_by_another_source, next_step
from jobs.dashboard.formatting import duration, eta
from jobs.findings import headline
from jobs.live import Live
from jobs.models import Job
from jobs.pipelines import OWN
from jobs.state import PASSED, SETTLED, PipelineStatus, StageState, StageStatus
from mediapipe.recent import Recent

ICONS = {
    StageState.PENDING: "clock",
    StageState.RUNNING: "loader-circle",
    StageState.SUCCEEDED: "check",
    StageState.FAILED: "circle-x",
    StageState.SKIPPED: "circle-minus",
    StageState.CANCELLED: "ban",
}
_needs: Recent[tuple[UUID, int], dict[str, list[str]]] = Recent(1000)  # of a job by its run
MEANINGFUL = 5  # percent from which on a stage's own speed says when it ends
STATE_LABELS = {
    StageState.PENDING: "Waiting",
    StageState.RUNNING: "In progress",
    StageState.SUCCEEDED: "Done",
    StageState.FAILED: "Failed",
    StageState.SKIPPED: "Skipped",
    StageState.CANCELLED: "Cancelled",
}


def needs_of(job: Job) -> dict[str, list[str]]:
    """What each stage waits for: by the job's own plan, where that was read with it."""
    if "plan" not in job.get_deferred_fields():
        return _needs_by(job.plan)
    if (known := _needs.get((job.pk, job.run))) is None:  # in a list: its plan is read once
        plan: list[dict[str, Any]] = type(job).objects.values_list("plan", flat=True).get(pk=job.pk)
        known = _needs[job.pk, job.run] = _needs_by(plan)
    return known


def _needs_by(plan: list[dict[str, Any]]) -> dict[str, list[str]]:
    return {stage["name"]: [stage.get("needs", ""), *stage.get("after", ())] for stage in plan}


class StageView:
    """A stage on a page; *live* adds why it waits, its speed and its time left.

    *needs*: the labels of the stages that it still waits for, in words.
    """

    def __init__(self, status: StageStatus, live: Live | None, needs: str = "", engine: str = "") -> None:
        self.status = status
        self.name = status.name
        self.label = status.label
        self.needs = needs
        self.chosen_engine = engine  # as its plan has it
        self.state = str(status.state)
        self.wait = live.waits.get(status.name) if live else None
        self.retrying = bool(self.wait and self.wait.until)
        self.icon = "rotate-ccw" if self.retrying else ICONS[status.state]
        self.stalled = bool(live and live.banner)  # the page says that nothing moves
        self.speed = live.speeds.get(status.name) if live and not self.stalled else None
        self.time_left = live.time_left.get(status.name) if live and not self.stalled else None

    @property
    def engine(self) -> str:
        """Who makes it, where its pipeline says who is to; "" elsewhere."""
        return "" if not self.chosen_engine else "own engine" if self.status.engine == OWN else "cloud"

    @property
    def running(self) -> bool:
        """Whether it runs, or waits for its next attempt."""
        return self.status.state == StageState.RUNNING

    @property
    def spinning(self) -> bool:
        """Whether its icon spins: it runs, waits for nothing, and the page doesn't say that nothing moves."""
        return self.running and (self.wait is None or self.wait.busy) and not self.stalled

    @property
    def failed(self) -> bool:
        """Whether it has used up its attempts."""
        return self.status.state == StageState.FAILED

    @property
    def settled(self) -> bool:
        """Whether nothing more is to come of it by itself."""
        return self.status.state in SETTLED

    @property
    def state_label(self) -> str:
        """The state for people."""
        if self.running and self.wait and not (self.wait.busy or self.retrying):
            return STATE_LABELS[StageState.PENDING]
        return "Retrying" if self.retrying else STATE_LABELS[self.status.state]

    @property
    def percent(self) -> int | None:
        """Whole percent while it runs; None where no progress is known."""
        known = self.running and self.status.progress is not None and not self.status.retry_at
        return int(self.status.progress or 0) if known else None

    @property
    def bar_label(self) -> str:
        """What its bar shows, for who can't see it."""
        count = len(self.status.attempts)
        attempts = f"{self.label}: {count} attempt{'' if count == 1 else 's'}"
        return attempts if self.percent is None else f"{attempts}, {self.percent}%"

    @property
    def left(self) -> float | None:
        """Seconds until it is expected to end: by the engine, else by its percent so far; None if unknown."""
        if not self.running or self.stalled or self.wait:
            return None
        if self.time_left is not None:
            return self.time_left
        percent = self.status.progress or 0
        attempts = self.status.attempts
        if percent < MEANINGFUL or not attempts:
            return None
        return (time.time() - attempts[-1].started_at) * (100 - percent) / percent

    @property
    def summary(self) -> str:
        """What it is doing, or how it ended, in a few words."""
        status = self.status
        if self.running:
            return self._activity()
        if status.state == StageState.SUCCEEDED:
            text = "Done"
            if status.output and status.output.findings:
                return headline(status.output.findings).partition(":")[0]
            if status.started_at and status.finished_at:
                text += f" in {duration(status.finished_at - status.started_at)}"
            return text + (f", on attempt {status.attempt}" if status.attempt > 1 else "")
        if status.state == StageState.PENDING:
            return f"Waits for {self.needs}" if self.needs else "Waiting for its turn"
        if status.state == StageState.FAILED:
            return f"Failed after {status.attempt} attempts" if status.attempt > 1 else "Failed"
        return f"Skipped: {status.error}" if status.state == StageState.SKIPPED else "Cancelled"

    def _activity(self) -> str:
        """What a running stage does at the moment, or what it waits for."""
        status = self.status
        if self.wait:
            text = f"{self.wait.reason} {self.wait.text}".strip()
        else:
            facts = [f"attempt {status.attempt} of {status.max_attempts}"] if status.attempt > 1 else []
            facts += [f"{self.speed:.1f}× real time"] if self.speed else []
            left = self.left
            facts += [eta(left)] if left and left > 1 else []
            text = ", ".join(facts) or ("in progress" if status.task_id else "starting")
        return text[0].upper() + text[1:]

    @property
    def next_step(self) -> str:
        """What a person may do about its failure; "" where the failure's own sentence says so."""
        step = next_step(self.status.error_kind or "")
        return "" if step in (self.status.error or "") else step

    @property
    def source_is_at_fault(self) -> bool:
        """Whether another file or link is likely to help."""
        return helped_by_another_source(self.status.error_kind or "")

    @property
    def next_step_for_admins(self) -> str:
        """The same for an admin; it may name commands and settings."""
        step = next_step(self.status.error_kind or "", admin=True)
        return "" if step in (self.status.error or "") else step


def view_stages(job: Job, status: PipelineStatus, live: Live | None) -> list[StageView]:
    """The job's stages, each with what it still waits for."""
    open_labels = {stage.name: stage.label for stage in status.stages if stage.state not in PASSED}
    needs = needs_of(job) if any(stage.state == StageState.PENDING for stage in status.stages) else {}

    def waits_for(name: str) -> str:
        return " and ".join(open_labels[each] for each in needs.get(name, ()) if each in open_labels)

    known = "plan" not in job.get_deferred_fields()
    engines = {stage["name"]: stage.get("engine", "") for stage in job.plan} if known else {}
    return [
        StageView(stage, live, waits_for(stage.name), engines.get(stage.name, "")) for stage in status.stages
    ]
