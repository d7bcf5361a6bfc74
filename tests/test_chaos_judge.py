"""The judge of tests/chaos sees each promise that is broken, and a script is its seed's for ever."""

from __future__ import annotations

import pytest

from tests.chaos.facts import Answer, EventRow, Facts, JobRow, StageRow, Task, Workflow
from tests.chaos.judge import RULES, judge
from tests.chaos.script import FAULTS, draw

STAGES = ("ingest", "thumbnails", "audio", "transcode")


def told(verb: str, sentence: str, *jobs: str, at: float = 20, **fields) -> Answer:
    given = {"door": "web", "person": "ada", "asked_at": at - 0.5, "answered_at": at, "status": 302, **fields}
    return Answer(verb, jobs=list(jobs), sentences=[sentence] if sentence else [], **given)


def good() -> Facts:
    """A job that ran straight through, and one that was cancelled, restarted and has succeeded."""
    facts = Facts()
    for job in ("one", "two"):
        stages = [
            StageRow(name, "succeeded", f"task_{job}_{name}", 1, [f"outputs/{job}/{name}"]) for name in STAGES
        ]
        events = [EventRow("submitted", 1), EventRow("started", 1, run=1), EventRow("attempt", 2, run=1)]
        facts.rows.append(JobRow(job, title=job, source=f"sources/{job}", stages=stages, events=events))
        facts.workflows.append(Workflow(job))
        facts.files += [f"outputs/{job}/{name}" for name in STAGES] + [f"sources/{job}"]
        facts.answers.append(told("submit", "", made=job, title=job, at=1))
        for name in STAGES:
            key = f"media-{job}/{name}/1"
            facts.tasks.append(Task(f"task_{job}_{name}", job, name, key, created_at=30 * (job == "two") + 2))
    two = facts.rows[1]
    two.run = 2
    facts.workflows = [Workflow("one"), Workflow("two", run=2)]
    two.events = [
        EventRow("submitted", 1),
        EventRow("cancelled", 20, "ada", text="Cancelled before it started"),
        EventRow("restarted", 30, "ada", text="Restarted"),
        EventRow("started", 31, run=2),
        EventRow("attempt", 32, run=2),
    ]
    facts.answers += [
        told("cancel", "Cancelled before it started.", "two"),
        told("retry", "Restarted. Finished outputs were kept.", "two", at=30.4),
    ]
    return facts


def changed(**fields):
    """A change of the first job's row."""
    return lambda facts: [setattr(facts.rows[0], name, value) for name, value in fields.items()]


def added(to: str, *values):
    """More of something."""
    return lambda facts: getattr(facts, to).extend(values)


def without_row(facts: Facts) -> None:
    """The first job is gone, with all that was its own."""
    del facts.rows[0]
    facts.files = [name for name in facts.files if "one" not in name]


def stage(**fields):
    """A change of the first job's last stage."""
    return lambda facts: [setattr(facts.rows[0].stages[-1], name, value) for name, value in fields.items()]


def cancelled_and(*events: EventRow):
    """The first job's cancel is noted at 40; then comes more."""

    def change(facts: Facts) -> None:
        facts.rows[0].events += [EventRow("cancelling", 40, run=1, text="Cancel requested"), *events]

    return change


def restarted_by_nobody(facts: Facts) -> None:
    """Its timeline has lost the restart that was promised."""
    facts.rows[1].events = [event for event in facts.rows[1].events if event.kind != "restarted"]
    facts.rows[1].run = 1
    facts.workflows[1].run = 1


SEEN = {
    "every_answered_submission_is_one_job": (
        (without_row, "has no row"),
        (changed(title="two"), "2 jobs of the one submission"),
        (changed(title="three"), "nobody submitted"),
    ),
    "each_row_agrees_with_its_workflow": (
        (changed(state="running"), "its workflows: run 1 COMPLETED"),
        (changed(state="attention", run=2), "run 2"),
        (changed(state="cancelled"), "its workflow ended COMPLETED"),
        (added("workflows", Workflow("one", "RUNNING")), "is open; the row says succeeded"),
        (added("workflows", Workflow("three", "RUNNING")), "has no row"),
    ),
    "nothing_is_stuck": (
        (changed(state="queued"), "queued"),
        (changed(state="attention", cancelling=True), "cancelling"),
    ),
    "stages_agree_with_their_job": (
        (stage(state="running"), "transcode is running"),
        (stage(state="failed"), "succeeded, and transcode is failed"),
    ),
    "no_task_without_a_running_stage": (
        (added("tasks", Task("t", "one", "audio", "k", "processing")), "its job is succeeded"),
        (added("tasks", Task("t", "three", "audio", "k", "queued")), "its job is gone"),
        (added("tasks", Task("t", "one", "audio", "k", "cancelled", 2, "RUNNING")), "workflow RUNNING"),
    ),
    "one_task_for_each_stage_and_try": (
        (added("tasks", Task("t", "one", "audio", "media-one/audio/1", "failed")), "2 tasks of one key"),
        (added("tasks", Task("t", "one", "audio", "media-one/audio/2", "failed")), "its row knows of 1"),
        (added("tasks", Task("t", "one", "audio", "media-one/audio/2")), "2 tasks succeeded"),
    ),
    "nothing_begins_after_cancelled_before_it_started": (
        (added("answers", told("cancel", "Cancelled before it started.", "one")), "tasks ['task_one_ingest'"),
        (lambda facts: facts.rows[1].events.insert(2, EventRow("attempt", 25, run=1)), "began +5.0 s"),
    ),
    "no_attempt_begins_after_a_cancel": (
        (cancelled_and(EventRow("attempt", 50, run=1, text="Audio started again")), "10.0 s after"),
    ),
    "every_file_has_an_owner_and_no_file_is_missing": (
        (added("files", "outputs/task_one_audio.mp3"), "belongs to no row"),
        (added("files", "incoming/4711.mp4"), "belongs to no row"),
        (lambda facts: facts.files.remove("sources/one"), "sources/one is missing"),
        (added("scratch", "task_1"), "work/task_1 was left behind"),
    ),
    "nobody_is_told_what_does_not_happen": (
        (added("answers", told("look", "", "one", status=500)), "status 500"),
        (
            added("answers", told("cancel", "Cancel requested. Finished outputs are kept.", "one")),
            "it goes on",
        ),
        (added("answers", told("cancel", "No answer. Your cancel takes effect later.", "one")), "it goes on"),
        (added("answers", told("retry", "Retrying Audio.", "one")), "nothing was retried"),
        (added("answers", told("retry", "No worker. Your retry starts when one is back.", "one")), "retried"),
        (added("answers", told("delete", "Deleted 1 job.", "one", door="bulk")), "it is still there"),
        (added("answers", told("delete", "Deleted.", "one", door="web")), "it is still there"),
        (added("answers", told("cancel", "Cancelling 2 jobs.", "one", "two", door="bulk")), "it goes on"),
        (restarted_by_nobody, "nothing was restarted"),
    ),
    "runs_are_counted": ((changed(run=3), "run 3, restarted 0 times"),),
    "no_process_stays_behind": ((added("processes", "4711 ffmpeg"), "4711 ffmpeg"),),
}


def test_the_judge_finds_nothing_where_nothing_is_wrong():
    facts = good()
    facts.rows[0].finished_at = 25
    facts.answers += [
        told("cancel", "Cancel requested. Finished outputs are kept.", "one"),  # a moment too late
        told("retry", "This job is done, so there’s nothing to retry.", "one"),
        told("delete", "Nothing was deleted. 1 is still running; cancel it first.", "two", door="bulk"),
        told("cancel", "", "one", status=503),
    ]
    assert judge(facts) == []


def test_a_deleted_job_is_not_missed():
    facts = good()
    without_row(facts)
    facts.answers.append(told("delete", "Deleted 1 job.", "one", door="bulk"))
    assert judge(facts) == []


@pytest.mark.parametrize(
    "rule, change, says",
    [(rule, change, says) for rule, cases in SEEN.items() for change, says in cases],
    ids=[f"{rule} {number}" for rule, cases in SEEN.items() for number in range(len(cases))],
)
def test_each_broken_promise_is_seen(rule, change, says):
    facts = good()
    change(facts)
    assert [found.evidence for found in judge(facts) if found.rule == rule and says in found.evidence]


def test_a_task_that_only_a_lost_history_knew_is_excused_and_one_that_a_row_names_is_not():
    facts = good()
    facts.history_lost_at = [50]
    facts.tasks.append(Task("unknown", "one", "audio", "media-one/audio/1 again", "processing", 40))
    assert not [found for found in judge(facts) if found.rule == "no_task_without_a_running_stage"]
    facts.rows[0].stages[2].task = "unknown"
    assert [found for found in judge(facts) if found.rule == "no_task_without_a_running_stage"]


def test_every_rule_is_broken_once():
    assert [rule.__name__ for rule in RULES] == list(SEEN)


def test_a_seed_plays_the_same_people_and_the_same_fate():
    assert draw(7, 60, 40) == draw(7, 60, 40) != draw(8, 60, 40)


def test_a_fault_that_is_switched_off_changes_nothing_else():
    for seed in range(20):
        whole, part = draw(seed, 30, 40), draw(seed, 30, 40, tuple(set(FAULTS) - {"kill", "move"}))
        assert part.acts == whole.acts
        assert part.blows == [blow for blow in whole.blows if blow.fault not in ("kill", "move")]


def test_twenty_seeds_play_every_fault_and_come_in_by_every_door():
    scripts = [draw(seed, 60, 40) for seed in range(20)]
    assert {blow.fault for script in scripts for blow in script.blows} == set(FAULTS)
    doors = {act.door for script in scripts for act in script.acts}
    assert doors == {"form", "link", "tus", "command", "web", "bulk"}
    submitted = [act.targets for act in scripts[0].acts if act.verb == "submit"]
    assert submitted == [(number,) for number in range(60)]
