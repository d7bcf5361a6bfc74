"""How a job's tasks went by its script, and so how it ends: the rules about success.

Pure, as tests/chaos/judge.py is. Without them a product that lets every fault fail a job would keep all its
other promises.
"""

from __future__ import annotations

from tests.chaos.facts import Facts, Found, JobRow, StageRow

# How many attempts the tasks themselves cost, by the fate of the job (tests/chaos/script.py) and its stage.
COSTS = {("flaky", "audio"): 1, ("broken", "ingest"): 1, ("broken", "audio"): 1}


def each_job_ends_as_its_tasks_went(facts: Facts) -> Found:
    """What should end well, and nobody cancelled, has; only what breaks by itself waits for a person."""
    for row in facts.rows:
        fate = facts.fates.get(row.title, "")
        if fate == "broken":
            if row.state == "succeeded" and not row.at("retry") + row.at("restarted"):
                yield row.id, "succeeded, although its tasks failed for good and nobody retried them"
            continue
        if row.id in facts.waited:
            yield row.id, f"waited for a person; its tasks go well ({fate or 'fine'})"
        failed = [stage.name for stage in row.stages if stage.state == "failed"]
        if row.state == "succeeded" and failed:
            yield row.id, f"its tasks go well ({fate or 'fine'}), and {', '.join(failed)} failed"
        if row.state in ("failed", "cancelled") and not _excused(facts, row):
            yield row.id, f"{row.state}, and nobody wanted that; its tasks go well ({fate or 'fine'})"


def _excused(facts: Facts, row: JobRow) -> bool:
    """Whether somebody asked for a cancel before that end, or Temporal had lost the run."""
    over = row.finished_at or float("inf")
    if row.state == "cancelled":
        asked = [a.asked_at for a in facts.answers if a.verb == "cancel" and row.id in a.jobs]
        return bool(asked) and min(asked) < over
    began = max([0.0, *row.at("submitted"), *row.at("restarted")])
    return any(began < moment < over for moment in facts.history_lost_at)


def no_fault_uses_up_an_attempt(facts: Facts) -> Found:
    """Only a task that failed costs an attempt, and an encoder that was killed alone: docs/durability.md."""
    for row in facts.rows:
        fate = facts.fates.get(row.title, "")
        for stage in row.stages:
            failed = [attempt for attempt in stage.attempts if attempt.outcome == "failed"]
            killed = facts.encoders_killed_at if fate == "real" else []
            own = [a for a in failed if not any(a.started_at <= at <= a.finished_at for at in killed)]
            if len(own) > COSTS.get((fate, stage.name), 0):
                told = "; ".join(attempt.error for attempt in own)
                yield row.id, f"{stage.name}: {len(own)} attempts failed ({fate or 'fine'}): {told}"
            elif (used := _used_up(stage)) > len(failed):
                outcomes = ", ".join(attempt.outcome for attempt in stage.attempts)
                yield row.id, f"{stage.name}: {used} attempts are used up, whose outcomes are {outcomes}"


def _used_up(stage: StageRow) -> int:
    """How many attempts a stage that has succeeded had lost before, by what it had left."""
    return stage.planned - 1 - (stage.max_attempts - stage.attempt) if stage.state == "succeeded" else 0
