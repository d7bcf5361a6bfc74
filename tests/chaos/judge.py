"""The judge: facts in, violations out. Each rule is one function that states a promise of the product.

Pure: it knows no product and no clock; tests/test_chaos_judge.py breaks each rule once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.answers import (
    every_answered_submission_is_one_job,
    explained_by_a_delete,
    nobody_is_told_what_does_not_happen,
    nothing_begins_after_cancelled_before_it_started,
)
from tests.chaos.facts import ACTIVE, OPEN_TASK, Facts, Found, Task
from tests.chaos.fates import each_job_ends_as_its_tasks_went, no_fault_uses_up_an_attempt

UNREPORTED = 10.0  # seconds in which a row may not know yet of a task that its workflow has asked for
FORCED = "Cancelled. This run couldn’t continue, so it was ended"  # the receipt of a cancel that none took
ENDS = {
    "COMPLETED": ("succeeded",),
    "CANCELED": ("cancelled",),
    "FAILED": ("failed",),
    "TERMINATED": ("failed",),
    "TIMED_OUT": ("failed",),
}


@dataclass(frozen=True)
class Violation:
    """A promise that was broken: which, for whom, and how one sees it."""

    rule: str
    job: str
    evidence: str


def judge(facts: Facts) -> list[Violation]:
    """Every violation."""
    return [Violation(rule.__name__, *found) for rule in RULES for found in rule(facts)]


def each_row_agrees_with_its_workflow(facts: Facts) -> Found:
    """An active row has an open workflow of its run; a closed one has none, and ended as it did."""
    flows = defaultdict(list)
    for flow in facts.workflows:
        flows[flow.job].append(flow)
    rows = {row.id: row for row in facts.rows}
    for job, known in flows.items():
        for flow in known:
            if flow.status == "RUNNING" and job not in rows:
                yield job, f"workflow run {flow.run} is open and has no row"
            elif flow.status == "RUNNING" and (rows[job].state not in ACTIVE or rows[job].run != flow.run):
                row = rows[job]
                yield job, f"workflow run {flow.run} is open; the row says {row.state}, run {row.run}"
    for row in facts.rows:
        own = [flow for flow in flows[row.id] if flow.run == row.run]
        if row.state in ("running", "attention") and not [f for f in own if f.status == "RUNNING"]:
            yield row.id, f"{row.state}, run {row.run}; its workflows: {_flows(flows[row.id])}"
        ends = ENDS.get(own[-1].status, ()) if own and row.state not in ACTIVE else ()
        by_force = own and own[-1].status == "TERMINATED" and row.state == "cancelled"
        if ends and row.state not in ends and not (by_force and row.receipt.startswith(FORCED)):
            yield row.id, f"{row.state}, run {row.run}; its workflow ended {own[-1].status}"


def _flows(flows: list) -> str:
    return ", ".join(f"run {flow.run} {flow.status}" for flow in flows) or "none"


def nothing_is_stuck(facts: Facts) -> Found:
    """Once everything is quiet, and people have decided on what waited for them, each job has ended."""
    for row in facts.rows:
        if row.state in ACTIVE or row.cancelling:
            stages = ", ".join(f"{stage.name} {stage.state}" for stage in row.stages)
            yield row.id, f"{row.state}{', cancelling' * row.cancelling}, run {row.run}: {stages}"


def stages_agree_with_their_job(facts: Facts) -> Found:
    """No stage runs in a closed job; a job that succeeded has all that it needed."""
    for row in facts.rows:
        for stage in row.stages:
            if row.state not in ACTIVE and stage.state in ("running", "pending"):
                yield row.id, f"{row.state}, and {stage.name} is {stage.state}"
            elif (
                row.state == "succeeded"
                and not stage.optional
                and stage.state not in ("succeeded", "skipped")
            ):
                yield row.id, f"succeeded, and {stage.name} is {stage.state}"


def no_task_without_a_running_stage(facts: Facts) -> Found:
    """At the API nothing is at work that no stage waits for; what only a lost history knew is excused."""
    rows = {row.id: row for row in facts.rows}
    for task in facts.tasks:
        if task.status not in OPEN_TASK and task.workflow != "RUNNING":
            continue
        row = rows.get(task.job)
        stage = next((each for each in row.stages if each.name == task.stage), None) if row else None
        known = stage is not None and stage.task == task.id
        over = (row and row.finished_at) or float("inf")
        waited_for = row and row.state in ACTIVE and stage and stage.state == "running" and known
        if waited_for or (not known and _lost_with_the_history(facts, task, over)):
            continue
        says = f"its job is {row.state}, the stage {stage.state}" if row and stage else "its job is gone"
        flow = f" (workflow {task.workflow})" * bool(task.workflow)
        when = f", created {over - task.created_at:.1f} s before that" if over < float("inf") else ""
        named = f"; its row names {stage.task or 'none'}" if stage else ""
        yield task.job, f"{task.stage}: {task.id} is {task.status}{flow}, and {says}{when}{named}"


def _lost_with_the_history(facts: Facts, task: Task, over: float) -> bool:
    """Whether only a lost history can have known of a task: no row had heard of it yet, its job went on.

    The row of a job that was deleted later named it or did not: nobody can tell any more.
    """
    return any(
        task.created_at < moment < min(over, task.created_at + UNREPORTED)
        and (over < float("inf") or explained_by_a_delete(facts, task.job, moment))
        for moment in facts.history_lost_at
    )


def one_task_for_each_stage_and_try(facts: Facts) -> Found:
    """No two tasks have one key, none is missing in its stage's count, and success isn't bought twice."""
    rows = {row.id: row for row in facts.rows}
    for key, number in Counter(task.key for task in facts.tasks).items():
        if number > 1:
            yield key, f"{number} tasks of one key"
    for (job, name), tasks in _by_stage(facts.tasks).items():
        row = rows.get(job)
        stage = next((each for each in row.stages if each.name == name), None) if row else None
        if row is None or stage is None:
            continue
        if len(tasks) > stage.tries:
            yield job, f"{name}: {len(tasks)} tasks, and its row knows of {stage.tries}"
        done = [task for task in tasks if task.status == "succeeded"]
        again = len(row.at("restarted")) + sum(e.kind == "retry" and e.stage == name for e in row.events)
        if len(done) > 1 + again:
            yield job, f"{name}: {len(done)} tasks succeeded, and a person asked for {again} more"


def _by_stage(tasks: list[Task]) -> dict[tuple[str, str], list[Task]]:
    found = defaultdict(list)
    for task in tasks:
        found[task.job, task.stage].append(task)
    return found


def no_attempt_begins_after_a_cancel(facts: Facts) -> Found:
    """Once a workflow has noted that it is cancelled, no stage of that run begins again."""
    for row in facts.rows:
        for cancel in (event for event in row.events if event.kind == "cancelling"):
            late = [e for e in row.events if e.kind == "attempt" and e.run == cancel.run and e.at > cancel.at]
            for event in late[:1]:
                yield (
                    row.id,
                    f"“{event.text}” {event.at - cancel.at:.1f} s after “{cancel.text}”, run {cancel.run}",
                )


def every_file_has_an_owner_and_no_file_is_missing(facts: Facts) -> Found:
    """What lies on the disk is named by a row or in its job's own folder, and what a row names lies there."""
    jobs = {row.id for row in facts.rows}
    owners: dict[str, str] = {}
    for row in facts.rows:
        names = [*row.earlier_files, *(name for stage in row.stages for name in stage.files)]
        owners |= dict.fromkeys([*names, *([row.source] if row.source else [])], row.id)
    for name in facts.files:
        in_own_folder = name.removeprefix("outputs/").partition("/")[0] in jobs
        left = facts.web_killed and name.startswith(("incoming/", "storing/"))  # of a form: swept when old
        left |= facts.worker_killed and name.startswith("incoming/download-")  # likewise
        left |= f"storing/{Path(name).parent.name}{Path(name).suffix}" in facts.files
        if not (name in owners or name in facts.unfinished or in_own_folder or left):
            made_by = next((task.job for task in facts.tasks if task.id in name or task.job in name), "")
            yield made_by, f"{name} belongs to no row"
    for name, job in owners.items():
        if name not in facts.files:
            yield job, f"{name} is missing"
    for name in facts.scratch:
        yield "", f"work/{name} was left behind"


def runs_are_counted(facts: Facts) -> Found:
    """A job has had one run more than it was restarted, or a stage of it made again."""
    for row in facts.rows:
        again = sum(len(row.at(kind)) for kind in ("restarted", "made_again", "stage_added"))
        if row.run != 1 + again:
            yield row.id, f"run {row.run}, started again {again} times"


def no_error_escapes_the_web(facts: Facts) -> Found:
    """Each traceback in the log of the web is a mistake; but who meets a locked database is told so."""
    for error, number in Counter(facts.errors).items():
        if not (facts.database_locked and error.endswith("OperationalError: database is locked")):
            yield "", f"{number} × {error}"


def no_process_stays_behind(facts: Facts) -> Found:
    """Once the product has stopped nothing of it runs."""
    for command in facts.processes:
        yield "", command


RULES = (
    every_answered_submission_is_one_job,
    each_job_ends_as_its_tasks_went,
    no_fault_uses_up_an_attempt,
    each_row_agrees_with_its_workflow,
    nothing_is_stuck,
    stages_agree_with_their_job,
    no_task_without_a_running_stage,
    one_task_for_each_stage_and_try,
    nothing_begins_after_cancelled_before_it_started,
    no_attempt_begins_after_a_cancel,
    every_file_has_an_owner_and_no_file_is_missing,
    nobody_is_told_what_does_not_happen,
    runs_are_counted,
    no_error_escapes_the_web,
    no_process_stays_behind,
)
