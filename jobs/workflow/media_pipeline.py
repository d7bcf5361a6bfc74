"""In what order: the MediaPipeline workflow, deterministic.

It sees only pure modules and its neighbours here; everything that touches
the world is an activity. Changing it? Read docs/durability.md first: running workflows replay it.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    import jobs.pipelines  # noqa: F401 - the sandbox looks up here what the plan's annotations name
    from jobs.state import (
        GOOD,
        SETTLED,
        Cancellation,
        EventRecord,
        JobState,
        PipelineInput,
        PipelineStatus,
        RecordRequest,
        RetryRequest,
        StageState,
    )
    from jobs.workflow.failures import FOREVER, cancel_task, control_queue
    from jobs.workflow.stage_run import StageRun


@workflow.defn(name="MediaPipeline")
class MediaPipeline:
    """One job: its stages by their needs, each held for a person when its attempts are used up."""

    @workflow.init
    def __init__(self, plan: PipelineInput) -> None:
        self.plan = plan
        self.runs: dict[str, StageRun] = {}
        for stage in plan.stages:
            needed = self.runs.get(stage.needs)
            self.runs[stage.name] = StageRun(plan, stage, needed, self._changed, self._add_event)
        self.now = PipelineStatus(
            plan.job_id,
            seq=plan.first_seq,
            stages=[run.status for run in self.runs.values()],
            started_at=workflow.time(),
        )
        self.ending = False
        self.events: list[EventRecord] = []
        self.event_seq = 0
        self.recorded = plan.first_seq
        self._add_event("started", actor=plan.submitted_by, text="The pipeline started")

    @workflow.query
    def status(self) -> PipelineStatus:
        """The job as it is now."""
        return self.now

    @workflow.update
    async def retry_stage(self, request: RetryRequest) -> list[str]:
        """Runs a failed stage again, or all that failed; answers with their labels."""
        runs = [self.runs[request.stage]] if request.stage else self._failed()
        for run in runs:
            run.ask_again(request)
        await workflow.wait_condition(lambda: self.ending or all(run.asked is None for run in runs))
        return [run.stage.label for run in runs]

    @retry_stage.validator
    def _retry_is_possible(self, request: RetryRequest) -> None:
        if self.ending:
            raise ValueError("The job is ending; nothing can be retried now.")
        if not request.stage:
            if not self._failed():
                raise ValueError("No stage of this job has failed.")
            return
        run = self.runs.get(request.stage)
        if run is None:
            raise ValueError(f"This job has no stage {request.stage!r}.")
        if run.asked is not None:
            raise ValueError(f"{run.stage.label} is already being retried.")
        if run.status.state != StageState.FAILED:
            raise ValueError(
                f"{run.stage.label} is {run.status.state}, not failed: there is nothing to retry."
            )
        if request.tries is not None and request.tries != run.status.tries:
            raise ValueError(f"{run.stage.label} has been retried by somebody else meanwhile.")

    @workflow.run
    async def run(self, plan: PipelineInput) -> PipelineStatus:
        """The whole job; the result is its last status."""
        recorder = asyncio.create_task(self._recording())
        running = [asyncio.create_task(run.run()) for run in self.runs.values()]
        try:
            self._changed()
            await self._until_complete(running)
        except (asyncio.CancelledError, FailureError) as error:  # never BaseException: eviction raises one
            await self._end(running, error)
            await self._flush(recorder)
            raise
        for task in running:  # a failed optional stage still waits for a person
            task.cancel()
        self._add_event("succeeded", text="All stages are done")
        self._finish(JobState.SUCCEEDED)
        await self._flush(recorder)
        return self.now

    async def _until_complete(self, running: list[asyncio.Task[None]]) -> None:
        """Until every stage is settled for good. Raises ApplicationError when nobody decides in time."""

        def broken() -> BaseException | None:
            return next((e for t in running if t.done() and not t.cancelled() and (e := t.exception())), None)

        while not self._complete():
            held = self._held()
            limit = timedelta(days=self.plan.hold_days) if held else None
            try:
                await workflow.wait_condition(
                    lambda held=held: self._held() != held or self._complete() or bool(broken()),  # type: ignore[misc]
                    timeout=limit,
                    timeout_summary="waiting for a person" if held else None,
                )
            except TimeoutError:
                raise ApplicationError(
                    f"Nobody decided within {self.plan.hold_days:g} days, so the job was given up. "
                    "Retry starts it again; finished outputs are kept.",
                    type="GivenUp",
                    non_retryable=True,
                ) from None
            if error := broken():
                raise error

    async def _end(self, running: list[asyncio.Task[None]], error: BaseException) -> None:
        """Cancelled by a person, or given up: stops the tasks at work, writes the receipt."""
        since, cancelled = workflow.time(), is_cancelled_exception(error)
        actor, _, reason = (workflow.cancellation_reason() or "").partition("\n")
        self.ending, self.now.cancelling = True, cancelled
        if cancelled:
            self._add_event(
                "cancelling", actor=actor, text="Cancel was asked for" + (f": {reason}" if reason else "")
            )
        self._changed()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)  # a create in flight tells its task's id
        live = [s for s in self.now.stages if s.task_id and s.state == StageState.RUNNING]
        results = await asyncio.gather(*(cancel_task(status.task_id or "") for status in live))
        for run in self.runs.values():
            if run.status.state not in SETTLED:
                run.settle(StageState.CANCELLED, "cancelled")
        self.now.cancelling = False
        if cancelled:
            self.now.receipt = self._receipt(workflow.time() - since, results)
            self._add_event("cancelled", actor=actor, text=self.now.receipt)
        else:
            self.now.error = error.message if isinstance(error, ApplicationError) else str(error)
            self._add_event("failed", text=self.now.error)
        self._finish(JobState.CANCELLED if cancelled else JobState.FAILED)

    def _receipt(self, seconds: float, results: list[Cancellation | None]) -> str:
        """What a cancel came to, for the person who asked for it."""
        freed = sum(result.freed_bytes for result in results if result)
        if any(result and result.encoder_stopped for result in results):
            amount = f"{freed / 1e6:.0f} MB" if freed >= 1e6 else f"{freed / 1e3:.0f} kB"
            text = "encoder stopped, " + (
                f"{amount} of partial files removed" if freed else "nothing left behind"
            )
        elif any(result is None for result in results):
            text = "the engine could not be told, so work handed over may still finish there"
        elif any(result and not result.supported for result in results):
            text = "this API knows no cancel, so work handed over may still finish there"
        else:
            text = "no encoder was at work"
        kept = [s.label.lower() for s in self.now.stages if s.state == StageState.SUCCEEDED]
        return f"Cancelled after {seconds:.1f} s: {text}" + (
            f"; kept the output of {', '.join(kept)}." if kept else "."
        )

    def _failed(self) -> list[StageRun]:
        return [run for run in self.runs.values() if run.status.state == StageState.FAILED]

    def _idle(self) -> bool:
        """Nothing runs, and nothing can begin by itself."""
        runs = self.runs.values()
        return all((run.status.state in SETTLED or run.blocked) and run.asked is None for run in runs)

    def _complete(self) -> bool:
        required = [run for run in self.runs.values() if not run.stage.optional]
        return self._idle() and all(run.status.state in GOOD for run in required)

    def _held(self) -> bool:
        return self._idle() and not self._complete()

    def _finish(self, state: JobState) -> None:
        self.ending = True
        self.now.state, self.now.finished_at = state, workflow.time()
        self._changed()

    def _changed(self) -> None:
        """Makes a change visible: to queries, in the memo (which needs no worker), to the recorder."""
        if not self.ending:
            self.now.state = JobState.ATTENTION if self._held() else JobState.RUNNING
        self.now.seq += 1
        workflow.upsert_memo({"status": self.now.brief()})

    def _add_event(self, kind: str, *, stage: str = "", actor: str = "", text: str = "") -> None:
        self.event_seq += 1
        self.events.append(EventRecord(self.event_seq, workflow.time(), kind, stage, actor, text))

    async def _recording(self) -> None:
        """Writes each change to the database; changes that come while one is written go together."""
        while True:
            await workflow.wait_condition(lambda: self.recorded < self.now.seq)
            seq, count = self.now.seq, len(self.events)
            await workflow.execute_activity(
                "record",
                RecordRequest(self.plan.job_id, self.now, self.events[:count], self.plan.run),
                task_queue=control_queue(),
                start_to_close_timeout=timedelta(seconds=20),
                retry_policy=FOREVER,
                summary="record",
            )
            self.recorded = seq
            del self.events[:count]

    async def _flush(self, recorder: asyncio.Task[None]) -> None:
        """Until everything is on record and every update is answered; then nothing is left running."""

        def told() -> bool:
            return workflow.all_handlers_finished() and self.recorded >= self.now.seq

        try:
            await workflow.wait_condition(told)
        except asyncio.CancelledError:  # a cancel that comes now comes too late: it is asked for once
            await workflow.wait_condition(told)
        recorder.cancel()
