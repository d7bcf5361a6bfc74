"""16. Row, claim, wish and workflow agree in the end, in whatever order people, starters and fate come.

Hypothesis draws the orders. The rows, verbs, workflow and reconciler are the product's own, and so is the
workers' code; Temporal is a real server, because the test server lists no workflows. What a row alone must
withstand, by the hundred, is tests/test_job_machine.py.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError

from jobs import control, reconcile, workflow_calls
from jobs.models import Job
from jobs.models.wish import CANCEL, RETRY, Wish
from jobs.removal import deleting
from jobs.state import ACTIVE, FINISHED, JobState
from tests.support.product import until_async

pytestmark = pytest.mark.anyio
AGES_AGO = timedelta(minutes=1)
NEVER_STARTED = "Cancelled before it started."
OPEN = ("queued", "processing")
ENDS = {"COMPLETED": "succeeded", "CANCELED": "cancelled"}


class Life:
    """One job, and what people were told of it; *inside* is the product around it."""

    def __init__(self, inside) -> None:
        self.inside = inside
        self.late: list = []  # starts under way whose starter has died
        self.said: list[str] = []
        self.unstarted: int | None = None  # tasks there were when somebody read that nothing had begun
        self.cancelled = 0  # the run of which somebody read that it will be cancelled

    async def begin(self) -> None:
        self.job = await self.inside.submit(start=False)

    async def row(self) -> Job | None:
        return await Job.objects.select_related("owner").filter(pk=self.job.pk).afirst()

    async def ask(self, verb, *given) -> None:
        """A person presses a button of a page that may be old."""
        job = await self.row() or self.job
        with suppress(control.NotPossible, control.TemporalUnavailable):
            said = await verb(job, *given)
            if said == NEVER_STARTED:
                self.unstarted = len(self.inside.asked(self.job))
            elif said == workflow_calls.CANCEL_TAKEN:
                self.cancelled = job.run
            elif said.startswith(("Restart", "It will restart")):
                self.unstarted = None
            self.said.append(said)

    async def wish(self, kind: str) -> None:
        """The same, and the process is killed before it asks Temporal."""
        if job := await self.row():
            await sync_to_async(job.keep_wish)(Wish(kind, "ada", run=job.run, key=f"{kind}-{job.seq}"))

    async def starter_dies(self) -> None:
        """After its claim; its start is under way and may arrive at any time."""
        if (job := await self.row()) and await sync_to_async(job.claim)():
            self.late.append((job, await sync_to_async(job.workflow_input)()))

    async def late_start(self) -> None:
        job, plan = self.late.pop()
        await workflow_calls.request_start(self.inside.client, job, plan)

    async def work(self, end: str) -> None:
        """The tasks that are at work end well, or for good."""
        for task in self.inside.asked(self.job):
            if task["status"] in OPEN:
                task["left"] = [end]

    async def terminate(self) -> None:
        with suppress(RPCError):
            await self.inside.workflow(self.job).terminate("by hand")

    async def round(self) -> None:
        """The reconciler's, a minute later: claims have run out."""
        mine = Job.objects.filter(pk=self.job.pk)
        await mine.aupdate(created_at=timezone.now() - AGES_AGO)
        await mine.exclude(claimed_at=None).aupdate(claimed_at=timezone.now() - AGES_AGO)
        await reconcile.run_once(self.inside.engine)
        if (row := await self.row()) and row.receipt == NEVER_STARTED and self.unstarted is None:
            self.unstarted = len(self.inside.asked(self.job))

    async def rests(self) -> bool:
        """Whether nothing is left to do: what is said now stays true."""
        await self.work("succeeded")
        await self.round()
        row, flow = await self.row(), await self.flow()
        runs = flow is not None and flow.status == WorkflowExecutionStatus.RUNNING
        waits = row is not None and row.state == JobState.ATTENTION and not row.cancelling
        return (waits and runs) or (not runs and not (row and (row.state in ACTIVE or row.wishes)))

    async def flow(self):
        with suppress(RPCError):
            return await self.inside.workflow(self.job).describe()
        return None

    async def told(self) -> str:
        row, flow = await self.row(), await self.flow()
        about = f"{row.state}, run {row.run}, wishes {row.wishes}, {row.note}" if row else "deleted"
        return f"{about}; workflow {flow and flow.status.name}; {self.said}"

    async def judge(self) -> None:
        """Once all is at rest: whether each promise was kept."""
        while self.late:
            await self.late_start()
        last = ""

        async def rests() -> bool:
            nonlocal last
            last = await self.told()
            return await self.rests()

        await until_async(rests, about=lambda: last)
        row, flow, tasks = await self.row(), await self.flow(), self.inside.asked(self.job)
        if self.unstarted is not None:
            assert len(tasks) == self.unstarted, f"a task after “{NEVER_STARTED}”: {last}"
        if row and row.run == self.cancelled:
            assert row.state in FINISHED, f"a cancel was lost: {last}"
        if row is None or row.state in FINISHED:
            assert not [task for task in tasks if task["status"] in OPEN], f"nobody waits for a task: {last}"
        if row and flow and await flow.memo_value("run") == row.run and flow.status.name in ENDS:
            assert row.state == ENDS[flow.status.name], last
        if row:
            assert row.run == 1 + await row.events.filter(kind="restarted").acount(), last
            known = {stage.name: stage.tries async for stage in row.stages.all()}
            for name, tries in known.items():
                assert len(self.inside.asked(self.job, f"{name}/")) <= tries, f"{name}: {last}"


class Machine(RuleBasedStateMachine):
    """Draws the order; *inside* and *loop* are where it is played."""

    inside = loop = None

    def do(self, work) -> None:
        """On the loop on which the workers are."""
        asyncio.run_coroutine_threadsafe(work, self.loop).result(120)

    @initialize(begun=st.sampled_from(["given up", "running", "claimed", "queued"]))
    def begin(self, begun: str) -> None:
        """Somewhere in a job's life: what goes wrong is a few steps from each of these places."""
        self.life = Life(self.inside)
        self.do(self.life.begin())
        if begun == "running":
            self.do(control.start(self.life.job))
        elif begun != "queued":
            self.do(self.life.starter_dies())
        if begun == "given up":  # and its job cancelled
            self.do(self.life.ask(control.cancel, "ada"))
            self.do(self.life.round())

    @rule(kind=st.sampled_from([CANCEL, RETRY]))
    def a_person_asks_and_the_process_is_killed(self, kind: str) -> None:
        self.do(self.life.wish(kind))

    @rule(verb=st.sampled_from([control.cancel, control.cancel, deleting.delete_for_good]))
    def a_person_cancels_or_deletes(self, verb) -> None:
        self.do(self.life.ask(verb, "ada"))

    @rule()
    def a_person_retries(self) -> None:
        self.do(self.life.ask(control.retry, None, "ada"))

    @rule()
    def a_starter_dies(self) -> None:
        self.do(self.life.starter_dies())

    @precondition(lambda self: self.life.late)
    @rule()
    def a_start_arrives_late(self) -> None:
        self.do(self.life.late_start())

    @rule(end=st.sampled_from(["succeeded", "failed"]))
    def tasks_end(self, end: str) -> None:
        self.do(self.life.work(end))

    @rule()
    def somebody_terminates_it(self) -> None:
        self.do(self.life.terminate())

    @rule()
    def the_reconciler_comes_by(self) -> None:
        self.do(self.life.round())

    def teardown(self) -> None:
        """All comes to rest, and each promise is looked at."""
        if hasattr(self, "life"):
            self.do(self.life.judge())


@pytest.mark.timeout(1800)
async def test_whatever_comes_when_row_and_workflow_agree_in_the_end(inside, monkeypatch, request):
    many = request.config.getoption("--all")
    monkeypatch.setattr(reconcile, "GRACE", timedelta(0))
    monkeypatch.setattr(control, "CLOSING_PATIENCE", 0.5)
    inside.api.lives["video"], inside.api.can_cancel = ["processing"] * 9999, True
    inside.api.error = {"kind": "damaged", "message": "The file is damaged."}

    class Here(Machine):
        """Played in this test's product."""

    Here.inside, Here.loop = inside, asyncio.get_running_loop()
    drawn = settings(
        max_examples=60 if many else 8,
        stateful_step_count=6,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    await asyncio.to_thread(run_state_machine_as_test, Here, settings=drawn)
