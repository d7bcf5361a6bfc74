"""A job's row under every order of what people, starters, the reconciler and its workflow do to it.

The rows and their verbs are the product's own. Temporal is a list of the runs it has opened: what it adds to
the order of events is that a start, once sent, may arrive late or never, and that a run reports what is old.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from jobs.models import Job
from jobs.models.job import CLAIM_TIME
from jobs.models.wish import CANCEL, RETRY, Wish
from jobs.state import ACTIVE, FINISHED, JobState, PipelineStatus, Source, StageStatus

ENDS = st.sampled_from([JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
NEWS = st.sampled_from([JobState.RUNNING, JobState.ATTENTION])
PICK = st.integers(0, 3)


class Run:
    """A workflow as Temporal has it: what it has said, oldest first, and whether it is open."""

    def __init__(self, number: int, first: int) -> None:
        self.number = number
        self.open = True
        self.cancelled = False
        self.said = [first]
        self.reports: list[PipelineStatus] = []


class JobMachine(RuleBasedStateMachine):
    """One job, several who hold an instance of it read at some time, and its runs."""

    @initialize(begun=st.sampled_from(["queued", "claimed", "running", "unheard", "restarted"]))
    def begin(self, begun: str) -> None:
        """Somewhere in a job's life: what goes wrong is a few steps from each of these places."""
        self.submit()
        if begun == "claimed":
            self.a_starter_claims_it(0)
        elif begun != "queued":
            self.it_is_started_as_it_mostly_is()
            self.report(self.runs[1], JobState.RUNNING, heard=begun != "unheard")
        if begun == "restarted":
            self.report(self.runs[1], JobState.FAILED)
            self.runs[1].open = False
            self.closed[1] = JobState.FAILED
            self.held_by(0)
            self.a_person_restarts_it(0)

    def submit(self) -> None:
        """A person's job, which nobody has gone to start."""
        owner, _ = get_user_model().objects.get_or_create(username="ada")
        self.pk = Job.submit(owner, title="film", pipeline="standard", source=Source(url="http://x/a.mp4")).pk
        self.held: list[Job] = [self.row()]
        self.starting: list[Job] = []  # who holds the claim, and has not heard from Temporal
        self.runs: dict[int, Run] = {}
        self.told_unstarted: set[int] = set()  # runs of which somebody was told that nothing had begun
        self.restarts = 0
        self.closed: dict[int, str] = {}  # how each run's row was closed
        self.removed = False

    def row(self) -> Job | None:
        """The row as it is now."""
        return Job.objects.filter(pk=self.pk).first()

    def held_by(self, pick: int) -> Job:
        """What somebody holds who acts now: the row as it is, or as it was read long ago."""
        if job := self.row():
            self.held = [*self.held[-3:], job]
        return self.held[-1 - pick % len(self.held)]

    def is_(self, *states: JobState) -> bool:
        """Whether there was a row, in one of these states, when the step began."""
        return self.now is not None and self.now.state in states

    # Starting: claim, send, hear

    @precondition(lambda self: self.is_(JobState.QUEUED))
    @rule(pick=PICK)
    def a_starter_claims_it(self, pick: int) -> None:
        """By the request that created it, or by the reconciler: it is the same verb."""
        job = self.held_by(pick)
        if job.claim():
            assert job.run not in self.told_unstarted, "claimed after “Cancelled before it started”"
            self.starting.append(job)

    @precondition(lambda self: self.starting)
    @rule(pick=PICK, hears=st.booleans())
    def the_start_arrives(self, pick: int, hears: bool) -> None:
        """Temporal opens the run, if it has never opened it; the starter hears of it, or dies before."""
        job = self.starting.pop(pick % len(self.starting))
        if job.run not in self.runs and not self.removed:
            self.runs[job.run] = Run(job.run, self.row().seq)
        if hears and job.run in self.runs and not job.mark_started():
            self.runs[job.run].cancelled = True

    @precondition(lambda self: self.is_(JobState.QUEUED) and not self.starting)
    @rule()
    def it_is_started_as_it_mostly_is(self) -> None:
        """Without anybody coming in between."""
        self.a_starter_claims_it(0)
        if self.starting:
            self.the_start_arrives(0, hears=True)

    @precondition(lambda self: self.starting)
    @rule(pick=PICK)
    def the_start_never_arrives(self, pick: int) -> None:
        """The starter dies first; its claim runs out."""
        self.starting.pop(pick % len(self.starting))
        self.time_passes()

    def time_passes(self) -> None:
        """Longer than a claim holds; a start that is under way has arrived or failed by then."""
        while self.starting:
            self.the_start_arrives(0, hears=False)
        Job.objects.filter(pk=self.pk).update(claimed_at=timezone.now() - CLAIM_TIME - timedelta(seconds=1))

    @precondition(lambda self: self.is_(JobState.QUEUED) and self.now.run in self.runs)
    @rule()
    def the_reconciler_finds_the_run(self) -> None:
        """A row says that it is queued, and Temporal has opened its run."""
        job = self.row()
        if not job.mark_started():
            self.runs[job.run].cancelled = True

    # People

    @precondition(lambda self: self.is_(*ACTIVE))
    @rule(pick=PICK)
    def a_person_cancels(self, pick: int) -> None:
        """As the button does: at once where nothing was begun, else by a wish that the workflow takes."""
        job = self.held_by(pick)
        if job.cancel_unstarted("ada"):
            assert job.run not in self.runs, "it had begun"
            self.told_unstarted.add(job.run)
            return
        job.keep_wish(Wish(CANCEL, "ada", run=job.run))

    @precondition(lambda self: self.is_(JobState.QUEUED) and self.now.cancelling)
    @rule()
    def the_reconciler_cancels_what_temporal_has_never_seen(self) -> None:
        """A cancel that met a claim is decided once the claim has run out."""
        self.time_passes()
        job = self.row()
        seen = job.run in self.runs
        if not seen and job.cancel_unstarted("ada", unclaimed_for=CLAIM_TIME):
            self.told_unstarted.add(job.run)

    @precondition(lambda self: self.is_(JobState.RUNNING, JobState.ATTENTION))
    @rule(pick=PICK)
    def a_person_retries_a_stage(self, pick: int) -> None:
        """The wish stays in the row until the workflow has taken it."""
        job = self.held_by(pick)
        job.keep_wish(Wish(RETRY, "ada", run=job.run, key=f"retry-all-{job.seq}"))

    @precondition(
        lambda self: not self.removed and any(job.state in FINISHED for job in [self.now, *self.held])
    )
    @rule(pick=PICK)
    def a_person_restarts_it(self, pick: int) -> None:
        """Whoever is first has it, and only of what is closed."""
        before = self.row()
        if self.held_by(pick).start_again("ada"):
            assert before.state in FINISHED, f"{before.state}, run {before.run}"
            self.restarts += 1

    @precondition(
        lambda self: not self.removed and any(job.state in FINISHED for job in [self.now, *self.held])
    )
    @rule(pick=PICK)
    def a_person_deletes_it(self, pick: int) -> None:
        """Only what is closed goes, however old the page was on which the button stood."""
        job = self.held_by(pick)
        before = self.row()
        if job.remove("ada"):
            assert before is None or before.state in FINISHED, f"{before.state}, run {before.run}"
            self.removed = True

    @precondition(lambda self: self.removed)
    @rule()
    def whoever_still_holds_what_is_deleted_can_do_nothing(self) -> None:
        """Then there is another job."""
        for job in self.held:
            assert not (job.claim() or job.start_again("ada") or job.cancel_unstarted("ada"))
            assert not job.keep_wish(Wish(CANCEL, "ada", run=job.run))
        assert self.row() is None
        self.submit()

    # The workflow

    def report(self, run: Run, state: JobState, heard: bool = True) -> None:
        """A run says where it stands, and its row hears of it, or will."""
        run.said.append(run.said[-1] + 1)
        stages = [StageStatus("ingest", "Ingest", tries=1)]
        run.reports.append(PipelineStatus(str(self.pk), state, run.said[-1], stages))
        if heard:
            self.hears(run, run.reports[-1])

    def hears(self, run: Run, status: PipelineStatus) -> None:
        """What the activity `record` does."""
        if job := self.row():
            job.record(status, [], run.number)

    @precondition(lambda self: any(run.open for run in self.runs.values()))
    @rule(state=NEWS, pick=PICK, heard=st.booleans())
    def a_run_goes_on(self, state: JobState, pick: int, heard: bool) -> None:
        """It runs, or waits for a person."""
        running = [run for run in self.runs.values() if run.open]
        self.report(running[pick % len(running)], state, heard)

    @precondition(lambda self: any(run.open for run in self.runs.values()))
    @rule(state=ENDS, pick=PICK, reported=st.booleans(), settled=st.booleans())
    def a_run_ends(self, state: JobState, pick: int, reported: bool, settled: bool) -> None:
        """With its report, or without one: it was terminated, or its history is lost."""
        running = [run for run in self.runs.values() if run.open]
        run = running[pick % len(running)]
        if reported:
            self.report(run, JobState.CANCELLED if run.cancelled else state)
        run.open = False
        if settled:
            self.the_reconciler_settles_it(0)

    @precondition(lambda self: any(run.reports for run in self.runs.values()))
    @rule(pick=PICK, which=PICK)
    def an_old_report_comes_late(self, pick: int, which: int) -> None:
        """A record activity that was lost on its way is tried again."""
        spoken = [run for run in self.runs.values() if run.reports]
        run = spoken[pick % len(spoken)]
        self.hears(run, run.reports[which % len(run.reports)])

    @precondition(lambda self: any(not run.open for run in self.runs.values()))
    @rule(pick=PICK)
    def the_reconciler_settles_it(self, pick: int) -> None:
        """A row was active when the round began, and its run has closed without having been heard."""
        job = self.held_by(pick)
        run = self.runs.get(job.run)
        if not job.active or job.workflow_started_at is None or run is None or run.open:
            return
        if run.reports and run.reports[-1].state in FINISHED:
            job.record(run.reports[-1], [], run.number)
        else:
            job.close(JobState.FAILED, "ended")

    @precondition(lambda self: self.now and any(job.run < self.now.run and job.active for job in self.held))
    @rule(pick=PICK)
    def the_reconciler_closes_what_it_read_before_a_restart(self, pick: int) -> None:
        """It decided that while the run before was open; the row is another run's by now."""
        old = [job for job in self.held if job.run < self.now.run and job.active]
        old[pick % len(old)].close(JobState.FAILED, "ended")
        now = self.row()
        assert (now.state, now.error) == (self.now.state, self.now.error), "another run was closed"

    # What holds at every moment

    @invariant()
    def what_holds_at_every_moment(self) -> None:
        """Of the row as it is now."""
        self.now = self.row() if hasattr(self, "pk") else None
        if self.now:
            self.a_run_is_one_more_than_the_restarts(self.now)
            self.what_was_closed_stays_closed_until_it_is_restarted(self.now)
            self.what_was_cancelled_before_it_started_has_not_begun()
            self.what_is_active_can_still_end(self.now)

    def a_run_is_one_more_than_the_restarts(self, job: Job) -> None:
        """Two who press the button at once restart it once."""
        assert job.run == 1 + self.restarts

    def what_was_closed_stays_closed_until_it_is_restarted(self, job: Job) -> None:
        """And in the state in which it was closed."""
        if job.state in FINISHED:
            assert self.closed.setdefault(job.run, job.state) == job.state
        else:
            assert job.run not in self.closed, f"{self.closed[job.run]} became {job.state}"

    def what_was_cancelled_before_it_started_has_not_begun(self) -> None:
        """Not then, and not later."""
        assert not self.told_unstarted & set(self.runs)

    def what_is_active_can_still_end(self, job: Job) -> None:
        """It waits to be started, or Temporal knows its run, which ends or is settled."""
        waits = job.state == JobState.QUEUED and job.workflow_started_at is None
        assert job.state in FINISHED or waits or job.run in self.runs, f"{job.state}, run {job.run}"


@pytest.mark.django_db
@pytest.mark.slow
def test_no_order_of_events_breaks_a_row(request):
    """A few hundred orders before a release, a few dozen each time: each costs a tenth of a second."""
    many = request.config.getoption("--all")

    class InATransaction(JobMachine):
        """Each example begins with an empty database."""

        def __init__(self) -> None:
            super().__init__()
            self.atomic = transaction.atomic()
            self.atomic.__enter__()

        def teardown(self) -> None:
            """Whatever the example has written is undone."""
            transaction.set_rollback(True)
            self.atomic.__exit__(None, None, None)

    run_state_machine_as_test(
        InATransaction,
        settings=settings(
            max_examples=300 if many else 40,
            stateful_step_count=6,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
