"""The MediaPipeline workflow: a job's stages in their order, held for a person where one fails.

Deterministic: it sees only pure modules and its neighbours here; everything that touches the world is an
activity. Changing it? Read docs/durability.md first: running workflows replay it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    import jobs.pipelines  # noqa: F401 - the sandbox looks up here what the plan's annotations name
    from jobs.requests import Cancellation, RecordRequest, RetryRequest
    from jobs.result import PipelineResult
    from jobs.state import (
        FINISHED,
        PASSED,
        SETTLED,
        EventRecord,
        JobState,
        PipelineInput,
        PipelineStatus,
        StageState,
        StageStatus,
    )
    from jobs.workflow import activity_calls, search_attributes
    from jobs.workflow.needs import Needs
    from jobs.workflow.receipt import CancelReceipt
    from jobs.workflow.stage_run import StageRun


FILMS = ("video", "adaptive_video")  # kinds that take longer than a picture or a sound of the same film


def _line(stage: StageStatus) -> str:
    """A stage in Temporal's own UI, as plain as on our page."""
    attempt = f", attempt {stage.attempt} of {stage.max_attempts}" if stage.attempt else ""
    return f"**{stage.label}**: {stage.state}{attempt}" + (f": {stage.error}" if stage.error else "")


@workflow.defn(name="MediaPipeline")
class MediaPipeline:
    """One job: its stages by their needs, each held for a person when its attempts are used up."""

    @workflow.init
    def __init__(self, plan: PipelineInput) -> None:
        self.plan = plan
        self.runs: dict[str, StageRun] = {}
        for stage in plan.stages:
            needs = Needs(
                plan,
                stage,
                self.runs.get(stage.needs),
                [self.runs[name] for name in stage.looks_through if name in self.runs],
                [self.runs[name] for name in stage.after if name in self.runs],
            )
            self.runs[stage.name] = StageRun(plan, stage, needs, self._changed, self._add_event)
        self.job = PipelineStatus(
            plan.job_id,
            seq=plan.first_seq,
            stages=[run.status for run in self.runs.values()],
            started_at=workflow.time(),
        )
        self.ending = False
        self.events: list[EventRecord] = []
        self.event_seq = 0
        self.published_seq = self.recorded_seq = plan.first_seq
        self.searchable_state = JobState.RUNNING
        self.gathers = False  # changes, to tell those of one workflow task at once
        self._add_event("started", text="Processing started")

    @workflow.query
    def status(self) -> PipelineStatus:
        """The job as it is now."""
        return self.job

    @workflow.update
    async def retry_stage(self, request: RetryRequest) -> list[str]:
        """Runs a failed stage again, or all that failed; returns their labels once they have begun."""
        runs = [self.runs[request.stage]] if request.stage else self._failed()
        for run in runs:
            run.request_retry(request)
        await workflow.wait_condition(lambda: self.ending or not any(run.retry_request for run in runs))
        return [run.stage.label for run in runs]

    @retry_stage.validator
    def _retry_is_possible(self, request: RetryRequest) -> None:
        if self.ending:
            raise ValueError("This job is ending, so nothing can be retried now.")
        if not request.stage:
            if not self._failed():
                raise ValueError("No stage of this job has failed.")
            return
        run = self.runs.get(request.stage)
        if run is None:
            raise ValueError(f"This job has no stage {request.stage!r}.")
        if run.retry_request:
            raise ValueError(f"{run.stage.label} is already being retried.")
        if run.status.state != StageState.FAILED:
            raise ValueError(f"{run.stage.label} hasn’t failed, so it can’t be retried.")
        if request.tries is not None and request.tries != run.status.tries:
            raise ValueError(f"Someone else has just retried {run.stage.label}.")

    @workflow.run
    async def run(self, plan: PipelineInput) -> PipelineStatus:
        """The whole job; returns its last status, with the result in it."""
        self.gathers = workflow.patched("gather-changes")
        recorders = [asyncio.create_task(self._record_changes())]
        if self.gathers:
            recorders.append(asyncio.create_task(self._publish_changes()))
        running = [asyncio.create_task(run.run()) for run in self._in_order()]
        try:
            self._changed()
            await self._until_complete(running)
        except (asyncio.CancelledError, FailureError) as error:  # never BaseException: eviction raises one
            if is_cancelled_exception(error):
                await self._cancelled(running)
            else:
                await self._given_up(running, error)
            await self._flush(recorders)
            raise
        for task in running:  # a failed optional stage still waits for a person
            task.cancel()
        outputs = {stage.name: stage.output for stage in self.job.stages if stage.output}
        self.job.result = PipelineResult.of({name: out.name or out.url for name, out in outputs.items()})
        self._add_event("succeeded", text="Finished")
        self._finish(JobState.SUCCEEDED)
        await self._flush(recorders)
        return self.job

    def _in_order(self) -> list[StageRun]:
        """The stages as they begin where several may: what takes longest is asked for first."""
        runs = list(self.runs.values())
        if workflow.patched("longest-first"):
            runs.sort(key=lambda run: run.stage.kind not in FILMS)
        return runs

    async def _until_complete(self, running: list[asyncio.Task[None]]) -> None:
        """Until every stage is settled for good. Raises ApplicationError when no decision comes in time."""

        def first_error() -> BaseException | None:
            return next((e for t in running if t.done() and not t.cancelled() and (e := t.exception())), None)

        while not self._complete():
            held = self._needs_attention()
            limit = timedelta(days=self.plan.hold_days) if held else None
            try:
                await workflow.wait_condition(
                    lambda held=held: (  # type: ignore[misc]
                        self._needs_attention() != held or self._complete() or bool(first_error())
                    ),
                    timeout=limit,
                    timeout_summary="waiting for a person" if held else None,
                )
            except TimeoutError:
                days = "1 day" if self.plan.hold_days == 1 else f"{self.plan.hold_days:g} days"
                raise ApplicationError(
                    f"Closed after {days} without a decision. "
                    "Restart it any time; finished outputs are kept.",
                    type="GivenUp",
                    non_retryable=True,
                ) from None
            if error := first_error():
                raise error

    async def _cancelled(self, running: list[asyncio.Task[None]]) -> None:
        """Cancelled by a person: stops what runs, and leaves a receipt."""
        since = workflow.time()
        actor, _, reason = (workflow.cancellation_reason() or "").partition("\n")
        self.job.cancelling = True
        text = "Cancel requested" + (f": “{reason}”" if reason else "")
        self._add_event("cancelling", actor=actor, text=text)
        results = await self._stop(running)
        kept = [stage.label for stage in self.job.stages if stage.state == StageState.SUCCEEDED]
        self.job.cancelling = False
        self.job.receipt = str(CancelReceipt.of(results, workflow.time() - since, kept))
        self._add_event("cancelled", text=self.job.receipt)
        self._finish(JobState.CANCELLED)

    async def _given_up(self, running: list[asyncio.Task[None]], error: BaseException) -> None:
        """No decision in time: stops what runs, and fails the job with the reason."""
        await self._stop(running)
        self.job.error = error.message if isinstance(error, ApplicationError) else str(error)
        self._add_event("failed", text=self.job.error)
        self._finish(JobState.FAILED)

    async def _stop(self, running: list[asyncio.Task[None]]) -> list[Cancellation | None]:
        """Stops every stage and cancels the tasks that run; returns what the engine answered for each."""
        self.ending = True
        self._changed()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)  # a create in flight returns its task's id
        stages = [s for s in self.job.stages if s.task_id and s.state == StageState.RUNNING]
        cancels = [activity_calls.cancel_task(stage.task_id or "", stage.engine) for stage in stages]
        unanswered = [run for run in self.runs.values() if run.unanswered and not run.status.task_id]
        if unanswered and workflow.patched("cancel-what-never-answered"):
            cancels += [activity_calls.cancel_unanswered(run.key, run.status.engine) for run in unanswered]
        results = await asyncio.gather(*cancels)
        for run in self.runs.values():
            if run.status.state not in SETTLED:
                run.settle(StageState.CANCELLED, "cancelled")
        return results

    def _failed(self) -> list[StageRun]:
        return [run for run in self.runs.values() if run.status.state == StageState.FAILED]

    def _idle(self) -> bool:
        """Nothing runs, and nothing can begin without a person."""
        runs = self.runs.values()
        return all((run.status.state in SETTLED or run.blocked) and not run.retry_request for run in runs)

    def _complete(self) -> bool:
        required = [run for run in self.runs.values() if not run.stage.optional]
        return self._idle() and all(run.status.state in PASSED for run in required)

    def _needs_attention(self) -> bool:
        return self._idle() and not self._complete()

    def _finish(self, state: JobState) -> None:
        self.ending = True
        self.job.state = state
        self.job.finished_at = workflow.time()
        self._changed()

    def _changed(self) -> None:
        """A change, for queries at once, for the memo (which needs no worker) and the recorder soon."""
        if not self.ending:
            self.job.state = JobState.ATTENTION if self._needs_attention() else JobState.RUNNING
        self.job.seq += 1
        workflow.set_current_details("\n".join(f"- {_line(stage)}" for stage in self.job.stages))
        if not self.gathers:
            self._publish()

    def _publish(self) -> None:
        self.published_seq = self.job.seq
        workflow.upsert_memo({"status": self.job.brief()})
        if self.plan.searchable and self.job.state != self.searchable_state:
            self.searchable_state = self.job.state
            workflow.upsert_search_attributes([search_attributes.STATE.value_set(str(self.job.state))])

    async def _publish_changes(self) -> None:
        """Publishes the changes of one workflow task together: each memo is an event of some kilobytes."""
        while True:
            await self._next_change(lambda: self.published_seq < self.job.seq)
            self._publish()

    async def _next_change(self, come: Callable[[], bool]) -> None:
        await workflow.wait_condition(come)
        if self.gathers:
            await asyncio.sleep(0)  # whoever the same change has woken goes first

    def _add_event(self, kind: str, *, stage: str = "", actor: str = "", text: str = "") -> None:
        self.event_seq += 1
        self.events.append(EventRecord(self.event_seq, workflow.time(), kind, stage, actor, text))

    async def _record_changes(self) -> None:
        """Writes each change to the database; changes that arrive during a write are written together."""
        while True:
            await self._next_change(lambda: self.recorded_seq < self.job.seq)
            seq = self.job.seq
            count = len(self.events)
            request = RecordRequest(self.plan.job_id, self.job, self.events[:count], self.plan.run)
            await activity_calls.record(request, locally=self.gathers and not self._has_ended())
            self.recorded_seq = seq
            del self.events[:count]

    def _has_ended(self) -> bool:
        """Whether the end is what is recorded: Temporal must know that before it is asked to close the run.

        Where a cancel comes meanwhile, or the worker is lost, Temporal forgets what was done locally, and the
        row would have another end than the workflow.
        """
        return self.job.state in FINISHED and workflow.patched("end-recorded-as-an-activity")

    async def _flush(self, recorders: list[asyncio.Task[None]]) -> None:
        """Waits until everything is recorded and every update is answered, then stops the *recorders*."""

        def flushed() -> bool:
            known = min(self.recorded_seq, self.published_seq)
            return workflow.all_handlers_finished() and known >= self.job.seq

        try:
            await workflow.wait_condition(flushed)
        except asyncio.CancelledError:  # a cancel that comes now is too late: it is requested only once
            await workflow.wait_condition(flushed)
        for recorder in recorders:
            recorder.cancel()
