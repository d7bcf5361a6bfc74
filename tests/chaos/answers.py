"""What people were told, and what came of it: the rules about answers.

Pure, as tests/chaos/judge.py is, which has the rest of the rules.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict

from tests.chaos.facts import ACTIVE, Answer, Facts, Found, JobRow

NEVER_STARTED = "Cancelled before it started"
NO_JOB = "There is no job"
CLOSING = 10.0  # seconds from "Cancel requested" to a cancel that came too late


def every_answered_submission_is_one_job(facts: Facts) -> Found:
    """Who was told of a job has it; nobody has two of one submission, or one that nobody submitted."""
    rows = {row.id: row for row in facts.rows}
    titles = {answer.title for answer in facts.answers if answer.verb == "submit"}
    for answer in facts.answers:
        if answer.made and answer.made not in rows and not explained_by_a_delete(facts, answer.made):
            yield answer.made, f"{answer.person} was told of {answer.title!r} ({answer.door}); it has no row"
    for title, number in Counter(row.title for row in facts.rows).items():
        if number > 1:
            yield "", f"{number} jobs of the one submission {title!r}"
        if title not in titles:
            yield "", f"nobody submitted {title!r}"


def explained_by_a_delete(facts: Facts, job: str, since: float = 0) -> bool:
    """Whether somebody was told after *since* that the job is deleted, or will be, or may have been.

    The last: the line broke after the question, so the product may have done it. A refusal explains nothing.
    """
    return any(
        answer.cut or answer.sentence.startswith("Deleted") or "Your delete" in answer.sentence
        for answer in facts.answers
        if answer.verb == "delete" and job in answer.jobs and answer.answered_at >= since
    )


def nothing_begins_after_cancelled_before_it_started(facts: Facts) -> Found:
    """Who reads that nothing had been handed over is right, until somebody restarts the job."""
    told = defaultdict(list)
    for answer in facts.answers:
        if answer.sentence.startswith(NEVER_STARTED):
            told[answer.jobs[0]].append(answer.answered_at)
    for row in facts.rows:
        said = [event.at for event in row.events if event.text.startswith(NEVER_STARTED)]
        for at in [*said, *told[row.id]]:
            since = max((moment for moment in row.at("restarted") if moment <= at), default=0.0)
            until = min((moment for moment in row.at("restarted") if moment > at), default=float("inf"))
            begun = [e for e in row.events if e.kind in ("started", "attempt") and since < e.at < until]
            tasks = [t.id for t in facts.tasks if t.job == row.id and since < t.created_at < until]
            if begun or tasks:
                when = f", began {begun[0].at - at:+.1f} s from there" if begun else ""
                yield row.id, f"“{NEVER_STARTED}”{when}, tasks {tasks}"
                break


def nobody_is_told_what_does_not_happen(facts: Facts) -> Found:
    """Each answer that promises something is compared with what became of the job, or of as many jobs."""
    rows = {row.id: row for row in facts.rows}
    for answer in facts.answers:
        about = " ".join(answer.jobs)
        for error in answer.errors:
            yield about, f"{answer.person}, {answer.verb} ({answer.door}): {error}"
        broken = [each for job in answer.jobs if (each := _broken(facts, answer, job, rows.get(job)))]
        kept = len(answer.jobs) - len(broken)
        if len(answer.jobs) and kept < _promised(answer):
            states = ", ".join(f"{rows[j].state}, run {rows[j].run}" for j in answer.jobs if j in rows)
            yield about, f"{answer.person} was told “{answer.sentence}”: {broken[0]}; {states}"


def _promised(answer: Answer) -> int:
    """For how many jobs something was promised: of a list's bar “Cancelling 3 jobs.”, of a page one."""
    if answer.status not in (200, 302, 409):  # 409: a command's, which may have kept a wish
        return 0
    if NO_JOB in answer.sentence:  # a command's 404
        return 0
    number = re.match(r"(?:Cancelling|Retrying|Deleted) (\d+) jobs?\.", answer.sentence)
    return int(number[1]) if number else int(answer.door != "bulk")


def _broken(facts: Facts, answer: Answer, job: str, row: JobRow | None) -> str:
    """What was promised and did not happen to a job; nothing where all is well, or it was deleted later."""
    said = answer.sentence
    if row is None:
        vanished = answer.verb in ("cancel", "retry") and not explained_by_a_delete(
            facts, job, answer.asked_at
        )
        return "it has vanished" if vanished else ""
    if said.startswith("Deleted") or "Your delete" in said:
        return "it is still there"
    again = [event for event in row.events if event.kind in ("restarted", "retry")]
    later = [event for event in again if event.at > answer.asked_at]
    by_them = [event for event in later if event.actor.startswith(answer.person) or answer.door == "command"]
    cancelled = said.startswith(("Cancelled", "Cancel requested", "Cancelling")) or "Your cancel" in said
    if cancelled and not later:
        late = row.finished_at and row.finished_at < answer.answered_at + CLOSING
        if row.state in ACTIVE or (row.state == "succeeded" and not late):
            return "it goes on, or went on"
    if said.startswith(("Restarted", "Restarting", "It will restart")) and not by_them:
        return "nothing was restarted"
    if said.startswith("Retrying") or "Your retry starts" in said:
        ended = row.at("cancelled") + row.at("closed") + row.at("succeeded") + row.at("failed")
        if not by_them and not [moment for moment in ended if moment > answer.asked_at]:
            return "nothing was retried"
    return ""
