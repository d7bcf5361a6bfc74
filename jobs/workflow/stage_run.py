"""One stage inside the workflow: its attempts, its waits, its task. Deterministic.

The attempts of a stage are counted here, not by Temporal's activity retries: so a worker that
shuts down burns none, a lost worker or an engine that is away is told from a failure, and the
status query knows the reason of every attempt and the time of the next. Like the workflow it sees
only pure modules and jobs.workflow.failures, and names activities by their type.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, is_cancelled_exception
from temporalio.workflow import ActivityCancellationType

with workflow.unsafe.imports_passed_through():
    from jobs.pipelines import Stage, allowed_seconds
    from jobs.state import (
        GOOD,
        TRANSFERS,
        Attempt,
        KeepRequest,
        Output,
        PipelineInput,
        RetryRequest,
        Source,
        StageState,
        StageStatus,
        TaskRequest,
        TaskWatch,
    )
    from jobs.workflow.failures import (
        AttemptFailed,
        cancel_task,
        classify_failure,
        control_queue,
        outage_wait,
    )

CREATE_TIMEOUT = timedelta(seconds=30)
IN_QUEUE = timedelta(days=7)  # waiting for an encoder counts against no limit of the stage
ONCE = RetryPolicy(maximum_attempts=1)
OUTAGE_LIMIT = 24 * 3600.0  # seconds that one attempt may wait for an engine that is away
LOST_LIMIT = 10  # lost workers that one stage may cost: more, and the file itself is suspect
SKIP_KINDS = {"no_video": "There is no picture in this file.", "no_audio": "This file has no sound."}


class EventSink(Protocol):
    """Adds an event to the job's timeline."""

    def __call__(self, kind: str, *, stage: str = "", actor: str = "", text: str = "") -> None: ...


class StageRun:
    """A stage from pending to settled, as often as people ask for it."""

    def __init__(
        self,
        plan: PipelineInput,
        stage: Stage,
        needed: StageRun | None,
        changed: Callable[[], None],
        add_event: EventSink,
    ) -> None:
        self.plan, self.stage, self.needed = plan, stage, needed
        self.changed, self.add_event = changed, add_event
        self.asked: RetryRequest | None = None  # a person wants another run of it
        self.new_task = True  # the next task is to be a new one, with a new idempotency key
        self.asked_for = plan.first_seq  # activities started: ids that no earlier run has used
        self.status = plan.carried.get(stage.name) or StageStatus(
            stage.name,
            stage.label,
            max_attempts=stage.retry.attempts,
            tries=plan.tries.get(stage.name, 0),
        )

    @property
    def blocked(self) -> bool:
        """Waiting for a stage that has failed, or for one that waits for it."""
        if self.status.state != StageState.PENDING or self.needed is None:
            return False
        return self.needed.status.state == StageState.FAILED or self.needed.blocked

    async def run(self) -> None:
        """Ends when the stage has succeeded or was skipped; a failed one waits here for a person."""
        while self.status.state != StageState.SUCCEEDED:
            if needed := self.needed:
                await workflow.wait_condition(lambda: needed.status.state in GOOD)
            if reason := self._reason_to_skip():
                return self.skip(reason)
            if await self._attempts():
                return None
            await workflow.wait_condition(lambda: self.asked is not None)
            self.new_task = self.new_task or self.status.task_id is None
        return None

    def ask_again(self, request: RetryRequest) -> None:
        """A person wants it retried; run() takes it up."""
        self.asked = request
        text = f"{self.stage.label} was retried" + (f": {request.reason}" if request.reason else "")
        self.add_event("retry", stage=self.stage.name, actor=request.actor, text=text)

    def settle(self, state: StageState, outcome: str = "") -> None:
        """Ends the stage, and the attempt that is open."""
        status, now = self.status, workflow.time()
        status.state, status.finished_at, status.retry_at = state, now, None
        if status.attempts and status.attempts[-1].finished_at is None:
            status.attempts[-1].finished_at, status.attempts[-1].outcome = now, outcome
        if state == StageState.SUCCEEDED:
            status.progress = 100
            status.error = status.error_kind = status.details = None

    def skip(self, reason: str) -> None:
        """Settles the stage as skipped: there is nothing for it to do."""
        self.settle(StageState.SKIPPED, "skipped")
        self.status.error, self.status.error_kind, self.status.details = reason, "skipped", None
        self.add_event(
            "stage_skipped", stage=self.stage.name, text=f"{self.stage.label} was skipped: {reason}"
        )
        self.changed()

    def _source(self) -> Source:
        output = self.needed.status.output if self.needed else None
        return Source(output.url, output.name, size=output.filesize) if output else self.plan.source

    def _reason_to_skip(self) -> str:
        if self.needed is None:
            return ""
        if self.needed.status.state == StageState.SKIPPED:
            return f"{self.needed.stage.label} was skipped, so there is nothing to work on."
        output = self.needed.status.output
        known = output.has(self.stage.wants) if self.stage.wants and output else None
        return SKIP_KINDS[f"no_{self.stage.wants}"] if known is False else ""

    async def _attempts(self) -> bool:
        """Attempts until one succeeds or the retry policy is used up; True when settled for good."""
        status, retry = self.status, self.stage.retry
        self.asked = None
        status.state, status.attempt, status.max_attempts = StageState.RUNNING, 0, retry.attempts
        status.error = status.error_kind = status.details = status.finished_at = status.progress = None
        status.started_at = workflow.time()
        failures = lost = 0
        while True:
            self._begin_attempt()
            try:
                status.output = await self._attempt()
            except AttemptFailed as failed:
                self._end_attempt(failed)
                if failed.failure.kind in SKIP_KINDS and self.needed:
                    self.skip(SKIP_KINDS[failed.failure.kind])
                    return True
                lost += failed.outcome == "lost"
                failures += failed.outcome == "failed" or lost > LOST_LIMIT
                if failed.failure.permanent or failures >= retry.attempts:
                    self._fail(failed)
                    return False
                self._tell(failed)
                status.max_attempts = retry.attempts + status.attempt - failures
                if failed.outcome == "failed":
                    await self._wait(failed.failure.retry_after or retry.wait(failures))
            else:
                self._succeed()
                return True

    def _begin_attempt(self) -> None:
        status, label = self.status, self.stage.label
        last = status.attempts[-1] if status.attempts else None
        status.attempt += 1
        status.attempts = [*status.attempts[-19:], Attempt(status.attempt, workflow.time())]
        if status.attempt > 1 and last and last.outcome == "lost":
            text = f"{label} resumed on attempt {status.attempt}"
        elif status.attempt > 1:
            text = f"{label}: attempt {status.attempt} of {status.max_attempts}"
        else:
            text = f"{label} started"
        self.add_event("attempt", stage=status.name, text=text)
        self.changed()

    def _end_attempt(self, failed: AttemptFailed) -> None:
        status, failure = self.status, failed.failure
        attempt = status.attempts[-1]
        attempt.finished_at, attempt.outcome = workflow.time(), failed.outcome
        attempt.error = str(failed)[:200]
        if failed.outcome == "failed":
            status.error, status.error_kind, status.details = (
                str(failed),
                failure.kind,
                failure.details or None,
            )
        if failure.task_over:
            status.task_id, self.new_task = None, True

    def _tell(self, failed: AttemptFailed) -> None:
        """An attempt that was not the last one, in the timeline."""
        label = self.stage.label
        text = {
            "lost": f"Worker lost during {label.lower()}",
            "handed over": f"{label} was handed over: its worker is restarting",
        }.get(failed.outcome, f"{label}: attempt {self.status.attempt} failed: {failed}")
        self.add_event("attempt_failed", stage=self.stage.name, text=text)

    def _fail(self, failed: AttemptFailed) -> None:
        self.status.max_attempts = self.status.attempt
        self.status.error, self.status.error_kind = str(failed), failed.failure.kind
        self.settle(StageState.FAILED)
        self.add_event("stage_failed", stage=self.stage.name, text=f"{self.stage.label} failed: {failed}")
        self.changed()

    def _succeed(self) -> None:
        self.settle(StageState.SUCCEEDED, "succeeded")
        took = workflow.time() - (self.status.started_at or 0)
        self.add_event(
            "stage_succeeded", stage=self.stage.name, text=f"{self.stage.label} done in {took:.1f} s"
        )
        self.changed()

    async def _wait(self, seconds: float) -> None:
        self.status.retry_at = workflow.time() + seconds
        self.changed()
        await workflow.sleep(seconds, summary=f"{self.stage.label}: next attempt")
        self.status.retry_at = None

    async def _attempt(self) -> Output:
        """One attempt; an engine that is away only makes it longer. Raises AttemptFailed."""
        asked, waits, status = workflow.time(), 0, self.status
        while True:
            try:
                return await self._task()
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                failed = classify_failure(error)
            if failed.failure.stop and status.task_id:
                await cancel_task(status.task_id)
            if not failed.failure.outage or workflow.time() - asked > OUTAGE_LIMIT:
                raise failed
            waits += 1
            status.error, status.error_kind = str(failed), failed.failure.kind
            await self._wait(outage_wait(waits, workflow.time() - asked, failed.failure.retry_after))
            status.error = status.error_kind = None
            if status.task_id:
                self.changed()

    async def _task(self) -> Output:
        """Asks for the stage's task where there is none alive, and awaits it."""
        self.asked_for += 1
        activity_id = f"{self.stage.name}-{self.asked_for}"
        if self.status.task_id is None:
            self.status.task_id = await self._create(activity_id)
            task = asyncio.current_task()
            if task and task.cancelling():  # it finished in spite of the cancel: now its id is known
                raise asyncio.CancelledError
            self.changed()
        output = await self._await(activity_id)
        return output if output.name else await self._keep(output, activity_id)

    async def _create(self, activity_id: str) -> str:
        self.status.tries += self.new_task
        self.new_task = False
        request = TaskRequest(
            job_id=self.plan.job_id,
            stage=self.stage.name,
            kind=self.stage.kind,
            options=self.stage.options,
            source=self._source(),
            key=f"{workflow.info().workflow_id}/{self.stage.name}/{self.status.tries}",
            owner=self.plan.submitted_by,
            activity_id=activity_id,
        )
        task_id: str = await workflow.execute_activity(
            "create_task",
            request,
            result_type=str,
            activity_id=f"create-{activity_id}",
            task_queue=control_queue(),
            start_to_close_timeout=CREATE_TIMEOUT,
            retry_policy=ONCE,
            cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=f"ask for {self.stage.label.lower()}",
        )
        return task_id

    async def _await(self, activity_id: str) -> Output:
        made = self.needed.status.output if self.needed else None
        size = made.filesize if made else self.plan.source.size
        allowed = allowed_seconds(self.stage, made.duration if made else None, size)
        output: Output = await workflow.execute_activity(
            self.stage.activity,
            TaskWatch(self.status.task_id or "", allowed, self.stage.timeout),
            result_type=Output,
            activity_id=activity_id,
            start_to_close_timeout=timedelta(seconds=allowed) + IN_QUEUE,
            heartbeat_timeout=timedelta(seconds=self.plan.heartbeat_timeout),
            retry_policy=ONCE,
            cancellation_type=ActivityCancellationType.TRY_CANCEL,
            summary=f"{self.stage.label}, attempt {self.status.attempt}",
        )
        return output

    async def _keep(self, output: Output, activity_id: str) -> Output:
        kept: Output = await workflow.execute_activity(
            "keep_output",
            KeepRequest(self.plan.job_id, self.stage.name, activity_id, output),
            task_queue=workflow.info().task_queue + TRANSFERS,
            result_type=Output,
            start_to_close_timeout=timedelta(hours=6),
            heartbeat_timeout=timedelta(seconds=self.plan.heartbeat_timeout),
            retry_policy=RetryPolicy(initial_interval=timedelta(seconds=2), maximum_attempts=5),
            summary=f"keep the output of {self.stage.label.lower()}",
        )
        return kept
