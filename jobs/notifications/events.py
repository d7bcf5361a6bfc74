"""What can happen to a job that somebody may want to hear of, and who wants which. Pure.

It knows states, and neither rows nor channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from jobs.state import JobState, PipelineStatus, StageState

# The types, by the names that webhooks send.
DONE = "job.succeeded"
FAILED = "job.failed"
CANCELLED = "job.cancelled"
HELD = "job.attention"
STILL_HELD = "job.reminder"
SLOW = "job.slow"
STAGE_STARTED = "stage.started"
STAGE_DONE = "stage.succeeded"
STAGE_FAILED = "stage.failed"
OF_STATES = {
    JobState.SUCCEEDED: DONE,
    JobState.FAILED: FAILED,
    JobState.CANCELLED: CANCELLED,
    JobState.ATTENTION: HELD,
}
OF_STAGES = {
    StageState.RUNNING: STAGE_STARTED,
    StageState.SUCCEEDED: STAGE_DONE,
    StageState.FAILED: STAGE_FAILED,
}
NEED_SOMEBODY = (HELD, STILL_HELD, FAILED)
REPORTED_BY_BATCH = (DONE, FAILED, CANCELLED, HELD)  # of a batch's jobs, to people: its end is one message

# What a person chooses.
WANTS = {
    "done": "My job is done",
    "needs_me": "My job needs me, or has failed",
    "slow": "My job takes longer than usual",
    "anybody": "Anybody’s job needs somebody",
    "every": "Everything of my jobs, and of each of their stages",
    "everybody": "Everything of everybody’s jobs, and of each of their stages",
}
FOR_ADMINS = ("anybody", "everybody")
FOR_PROGRAMS = ("every", "everybody")  # far too much for people


class Happened(NamedTuple):
    """One event: its type, the name of the stage it is about, and a sentence where there is one."""

    type: str
    stage: str = ""
    text: str = ""


def changes(state: str, stages: Mapping[str, str], status: PipelineStatus) -> list[Happened]:
    """What has happened between a job's row (its *state*, and those of its *stages*) and a newer *status*."""
    found = [
        Happened(OF_STAGES[stage.state], stage.name, stage.error or "")
        for stage in status.stages
        if stage.state in OF_STAGES and stages.get(stage.name) != stage.state
    ]
    if status.state != state and status.state in OF_STATES:
        failed = (f"{each.label}: {each.error}" for each in status.stages if each.state == StageState.FAILED)
        bad = status.state in (JobState.FAILED, JobState.ATTENTION)
        found.append(Happened(OF_STATES[status.state], text=next(failed, "") or status.error if bad else ""))
    return found


def wanted(wants: str, event: str, *, mine: bool, admin: bool) -> bool:
    """Whether who chose *wants* (names with a space between them) hears of *event*."""
    chosen = wants.split()
    if admin and ("everybody" in chosen or ("anybody" in chosen and event in NEED_SOMEBODY)):
        return True
    if not mine:
        return False
    return (
        "every" in chosen
        or (event == DONE and "done" in chosen)
        or (event == SLOW and "slow" in chosen)
        or (event in NEED_SOMEBODY and "needs_me" in chosen)
    )
