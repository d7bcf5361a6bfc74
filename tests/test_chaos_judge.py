"""The judge of tests/chaos sees each promise that is broken, a script is its seed's for ever, the API that
stands before the engine hands on what is the engine's, and a line that is to be disturbed is."""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext

import httpx
import pytest

from tests.chaos.facts import Answer, AttemptRow, EventRow, Facts, JobRow, StageRow, Task, Workflow
from tests.chaos.gateway import Gateway
from tests.chaos.judge import RULES, judge
from tests.chaos.people import said
from tests.chaos.proxy import SLOW, Proxy
from tests.chaos.script import FAULTS, LINES, VICTIMS, draw
from tests.support import recorded
from tests.support.product import until

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


def stage(at: int = -1, **fields):
    """A change of one of the first job's stages, else the last."""
    return lambda facts: [setattr(facts.rows[0].stages[at], name, value) for name, value in fields.items()]


def fated(fate: str, **fields):
    """The first job's tasks should have gone like that, and its row is changed."""

    def change(facts: Facts) -> None:
        facts.answers[0].fate = fate
        changed(**fields)(facts)

    return change


def tried(*outcomes: str, name: str = "audio", **fields):
    """A stage of the first job had these attempts, of ten seconds each from 100 on."""

    def change(facts: Facts) -> None:
        stage = next(stage for stage in facts.rows[0].stages if stage.name == name)
        stage.attempts = [AttemptRow(o, 100 + 10 * n, 110 + 10 * n) for n, o in enumerate(outcomes)]
        stage.attempt, stage.max_attempts = len(outcomes), 3
        for field, value in fields.items():
            setattr(stage, field, value)

    return change


def both(*changes):
    """One change after the other."""
    return lambda facts: [change(facts) for change in changes]


def lost(*tasks: Task, at: float = 50):
    """Temporal's history, while these tasks were there."""

    def change(facts: Facts) -> None:
        facts.history_lost_at = [at]
        facts.tasks += tasks

    return change


def ended_by_force(receipt: str):
    """The first job took no cancel, so its workflow was terminated."""

    def change(facts: Facts) -> None:
        facts.workflows[0].status = "TERMINATED"
        facts.rows[0].state, facts.rows[0].receipt = "cancelled", receipt

    return change


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
        (both(without_row, added("answers", told("delete", "", "one", status=503))), "has no row"),
        (both(without_row, added("answers", told("delete", "Nothing was deleted.", "one"))), "has no row"),
        (both(without_row, added("answers", told("delete", "", "one", status=0))), "has no row"),
        (changed(title="two"), "2 jobs of the one submission"),
        (changed(title="three"), "nobody submitted"),
    ),
    "each_job_ends_as_its_tasks_went": (
        (changed(state="failed", finished_at=9), "failed, and nobody wanted that"),
        (changed(state="cancelled", finished_at=9), "cancelled, and nobody wanted that"),
        (
            both(
                changed(state="cancelled", finished_at=9),
                added("answers", told("cancel", "Cancelled.", "one", at=20)),
            ),
            "cancelled, and nobody",
        ),
        (both(changed(state="failed", finished_at=9), lost(at=50)), "failed, and nobody"),
        (
            both(
                changed(state="failed", finished_at=90),
                added("answers", told("cancel", "Cancel requested.", "one", at=20)),
            ),
            "failed, and nobody",
        ),
        (fated("flaky", state="failed"), "its tasks go well (flaky)"),
        (stage(state="failed", optional=True), "transcode failed"),
        (added("waited", "one"), "waited for a person"),
        (fated("broken"), "although its tasks failed for good"),
    ),
    "no_fault_uses_up_an_attempt": (
        (tried("failed", "succeeded", max_attempts=3), "audio: 1 attempts failed (fine)"),
        (tried("lost", "succeeded"), "audio: 1 attempts are used up, whose outcomes are lost, succeeded"),
        (tried("handed over", "lost", "succeeded", max_attempts=4), "1 attempts are used up"),
        (both(fated("flaky"), tried("failed", "failed", "succeeded")), "2 attempts failed (flaky)"),
        (both(fated("flaky"), tried("failed", "succeeded", name="ingest")), "ingest: 1 attempts failed"),
        (both(fated("real"), tried("failed", "succeeded")), "1 attempts failed (real)"),
        (both(fated("real"), tried("failed", "succeeded"), added("encoders_killed_at", 111)), "(real)"),
        (both(tried("failed", "succeeded"), added("encoders_killed_at", 105)), "1 attempts failed (fine)"),
        (both(changed(state="cancelled"), tried("failed", "cancelled", state="cancelled")), "1 attempts"),
    ),
    "each_row_agrees_with_its_workflow": (
        (ended_by_force("Cancelled. Nothing was being encoded."), "its workflow ended TERMINATED"),
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
        (lost(Task("t", "three", "audio", "k", "queued", 45)), "its job is gone"),
        (lost(Task("t", "one", "audio", "k", "queued", 30)), "its job is succeeded"),
        (both(changed(finished_at=48), lost(Task("t", "one", "audio", "k", "queued", 45))), "is queued"),
    ),
    "one_task_for_each_stage_and_try": (
        (added("tasks", Task("t", "one", "audio", "media-one/audio/1", "failed")), "2 tasks of one key"),
        (added("tasks", Task("t", "one", "audio", "media-one/audio/2", "failed")), "its row knows of 1"),
        (added("tasks", Task("t", "one", "audio", "media-one/audio/2")), "2 tasks succeeded"),
        (
            both(
                added("tasks", Task("t", "one", "audio", "media-one/audio/2")),
                lambda facts: facts.rows[0].events.append(EventRow("retry", 9, "ada", "ingest", run=1)),
            ),
            "2 tasks succeeded",
        ),
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
        (lambda facts: facts.rows[0].earlier_files.append("outputs/a.webp"), "outputs/a.webp is missing"),
        (added("scratch", "task_1"), "work/task_1 was left behind"),
    ),
    "nobody_is_told_what_does_not_happen": (
        (
            added("answers", told("submit", "", title="one", errors=["POST /jobs/new/: status 500"])),
            "status 500",
        ),
        (both(without_row, added("answers", told("cancel", "Cancel requested.", "one"))), "has vanished"),
        (both(without_row, added("answers", told("retry", "Retrying Audio.", "one"))), "has vanished"),
        (
            both(
                without_row,
                added(
                    "answers",
                    told("delete", "Deleted.", "one", at=10),
                    told("retry", "Retrying Audio.", "one"),
                ),
            ),
            "has vanished",
        ),
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
    "runs_are_counted": ((changed(run=3), "run 3, started again 0 times"),),
    "no_error_escapes_the_web": (
        (added("errors", "web: KeyError: 'run'", "web: KeyError: 'run'"), "2 × web: KeyError"),
        (added("errors", "web: django.db.utils.OperationalError: database is locked"), "is locked"),
    ),
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


ALLOWED = {
    "a job that was deleted": both(without_row, added("answers", told("delete", "Deleted 1 job.", "one"))),
    "a delete that was promised": both(
        without_row,
        added(
            "answers",
            told("delete", "The storage can’t be reached. Your delete is finished when it’s back.", "one"),
        ),
    ),
    "a delete whose answer was lost": both(
        without_row, added("answers", told("delete", "", "one", status=0, cut=True))
    ),
    "a command about what was deleted before": both(
        without_row,
        added(
            "answers",
            told("delete", "Deleted 1 job.", "one", at=10),
            told("retry", "There is no job 'one'.", "one", door="command", status=409),
        ),
    ),
    "a cancel of what was deleted then": both(
        without_row,
        added(
            "answers", told("cancel", "Cancel requested.", "one"), told("delete", "Deleted.", "one", at=60)
        ),
    ),
    "a cancel that ended the workflow by force": both(
        ended_by_force("Cancelled. This run couldn’t continue, so it was ended. Finished outputs were kept."),
        added("answers", told("cancel", "Cancel requested.", "one")),
    ),
    "a run that Temporal has lost": both(
        changed(state="failed", finished_at=60), lost(), lambda facts: facts.workflows.pop(0)
    ),
    "a task that failed as it should": both(fated("flaky"), tried("failed", "succeeded")),
    "a job that failed as it should": both(
        fated("broken"),
        tried("failed", "succeeded", name="ingest"),
        added("waited", "one"),
        lambda facts: facts.rows[0].events.append(EventRow("retry", 9, "chief", "ingest", run=1)),
    ),
    "an encoder that was killed alone": both(
        fated("real"), tried("failed", "succeeded"), added("encoders_killed_at", 105)
    ),
    "workers that were lost and handed over": tried("lost", "handed over", "succeeded", max_attempts=5),
    "a locked database": lambda facts: [
        setattr(facts, "database_locked", True),
        facts.errors.append("web: django.db.utils.OperationalError: database is locked"),
    ],
    "a second success that was asked for": both(
        added("tasks", Task("t", "one", "audio", "media-one/audio/2")),
        stage(2, tries=2),
        lambda facts: facts.rows[0].events.append(EventRow("retry", 9, "ada", "audio", run=1)),
    ),
}


@pytest.mark.parametrize("change", ALLOWED.values(), ids=ALLOWED)
def test_what_may_happen_is_no_violation(change):
    facts = good()
    change(facts)
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
    facts.rows[0].finished_at = 60
    lost(Task("unknown", "one", "audio", "media-one/audio/1 again", "processing", 45))(facts)
    assert not [found for found in judge(facts) if found.rule == "no_task_without_a_running_stage"]
    facts.rows[0].stages[2].task = "unknown"
    assert [found for found in judge(facts) if found.rule == "no_task_without_a_running_stage"]


def test_so_is_one_of_a_job_that_was_deleted_after_the_loss_and_of_no_other():
    facts = good()
    both(without_row, lost(Task("unknown", "one", "audio", "k", "processing", 45)))(facts)
    facts.answers.append(told("delete", "Deleted.", "one", at=55))
    assert judge(facts) == []
    facts.tasks[-1].created_at = 30  # its row had known of it
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
    cut = {blow.victim for script in scripts for blow in script.blows if blow.fault == "line"}
    assert cut == set(VICTIMS["line"]), "each line is dropped, slow and a hole"
    doors = {act.door for script in scripts for act in script.acts}
    assert doors == {"form", "link", "tus", "command", "web", "bulk"}
    submitted = [act.targets for act in scripts[0].acts if act.verb == "submit"]
    assert submitted == [(number,) for number in range(60)]


def asked(gateway: Gateway, job: str, source: str, key: str, **given) -> dict:
    body = {"kind": "video", "input": source, "metadata": {"job": job, "stage": "ingest"}}
    return {"url": f"{gateway.url}/tasks", "json": body, "headers": {"Idempotency-Key": key}, **given}


def test_a_task_whose_creation_was_never_answered_is_made_and_is_cancelled_by_its_key():
    key = "media-1/ingest/1"
    with Gateway(lambda: "") as gateway, httpx.Client(trust_env=False) as http:
        assert http.delete(f"{gateway.url}/tasks/keys/{key}").json() == {"cancelled": {}}
        gateway.faults = ["drop"]
        with pytest.raises(httpx.HTTPError):
            http.post(**asked(gateway, "1", "http://127.0.0.1:9/film.mp4", key))
        assert [task["status"] for task in gateway.tasks.values()] == ["queued"]
        gone = http.delete(f"{gateway.url}/tasks/keys/{key}").json()
    assert (gone["status"], gone["cancelled"]["encoder_stopped"]) == ("cancelled", True)
    assert gateway.deleted == [gone["id"]]


def test_a_key_is_taken_by_whoever_does_its_jobs_tasks(api):
    """The engine here is a stand-in too: it is one that has made no task of that key."""
    api.can_cancel = True
    with Gateway(lambda: api.url) as gateway, httpx.Client(trust_env=False) as http:
        made = http.post(**asked(gateway, "2", "http://x/media/film.mkv", "media-2/ingest/1")).json()
        http.post(**asked(gateway, "3", "http://x/film.mp4", "media-3/ingest/1"))
        for job in ("2", "3"):
            assert http.delete(f"{gateway.url}/tasks/keys/media-{job}/ingest/1").json()["id"]
    assert made["id"] in api.deleted
    assert len(gateway.deleted) == 1


def test_a_person_reads_what_todays_pages_say(ada, editor):
    done = recorded.job(editor)
    page = ada.post(f"/jobs/{done.pk}/cancel/", {"next": "/"}, follow=True)
    assert said(page.content.decode()) == ["This job is already done."]
    assert said(ada.get("/").content.decode()) == []


@pytest.mark.parametrize(
    ("name", "killed"),
    [("incoming/4711.mp4", "web_killed"), ("incoming/download-47-11", "worker_killed")],
)
def test_a_part_that_a_killed_process_left_waits_for_the_sweep(name, killed):
    facts = good()
    facts.files.append(name)
    assert [broken.rule for broken in judge(facts)] == ["every_file_has_an_owner_and_no_file_is_missing"]
    setattr(facts, killed, True)
    assert not judge(facts)


@pytest.mark.parametrize("how", LINES)
def test_a_line_that_is_disturbed_is_so_for_that_time_and_for_whoever_uses_it(api, how):
    with Proxy(lambda: api.address) as line, httpx.Client(base_url=line.url, trust_env=False) as http:
        assert http.get("/tasks/x").status_code == 404
        disturbed = threading.Thread(target=line.disturb, args=[how, 1])
        disturbed.start()
        until(lambda: line.line == how)
        began = time.monotonic()
        problem = {"reset": (httpx.NetworkError, httpx.RemoteProtocolError), "hole": httpx.ReadTimeout}.get(
            how
        )
        with pytest.raises(problem) if problem else nullcontext():
            http.get("/tasks/x", timeout=0.5 if problem else 5)
        assert problem or time.monotonic() - began >= 2 * SLOW, "the question and the answer"
        disturbed.join()
        assert http.get("/tasks/x").status_code == 404


def test_a_line_that_moves_is_at_its_old_address_no_more(api):
    with Proxy(lambda: api.address) as line, httpx.Client(trust_env=False) as http:
        before = line.url
        assert http.get(f"{before}/tasks/x").status_code == 404
        line.move()
        assert http.get(f"{line.url}/tasks/x").status_code == 404
        with pytest.raises(httpx.NetworkError):
            http.get(f"{before}/tasks/x")
