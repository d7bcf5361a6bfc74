"""One stage inside the workflow: its attempts, its waits, its task. Deterministic.

Attempts are counted here, not by Temporal's activity retries: so a worker that shuts down costs none, a lost
worker or an unavailable engine is no failure, and the status query knows the reason of every attempt and the
time of the next. It sees only pure modules and its neighbours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from jobs.pipelines import CLOUD_THEN_OWN, OWN, StageDefinition, task_key
    from jobs.requests import HeartbeatDetails, KeepRequest, RetryRequest, TaskRequest
    from jobs.state import Attempt, Output, PipelineInput, StageState, StageStatus
    from jobs.workflow import activity_calls
    from jobs.workflow.failures import LOST, AttemptFailed, classify_failure, outage_wait, was_cancelled
    from jobs.workflow.needs import SKIP_REASONS, Needs

MAX_LOST_WORKERS = 10  # that one stage may lose: with more, the file itself is suspect


class EventSink(Protocol):
    """Adds an event to the job's timeline."""

    def __call__(self, kind: str, *, stage: str = "", actor: str = "", text: str = "") -> None: ...


class StageRun:
    """A stage from pending to settled, and again for each retry that a person requests."""

    def __init__(
        self,
        plan: PipelineInput,
        stage: StageDefinition,
        needs: Needs,
        changed: Callable[[], None],
        add_event: EventSink,
    ) -> None:
        self.plan = plan
        self.stage = stage
        self.needs = needs
        self.changed = changed
        self.add_event = partial(add_event, stage=stage.name)
        self.retry_request: RetryRequest | None = None
        self.needs_new_task = True  # the next one gets a new idempotency key
        self.unanswered = False  # a task of the present key may be at work whose id never came
        self.seen: HeartbeatDetails | None = None  # what was last reported of the present task
        self.activities_started = plan.first_seq  # part of their ids, which no earlier run has used
        self.status = plan.carried.get(stage.name) or StageStatus(
            stage.name, stage.label, max_attempts=stage.retry.attempts, tries=plan.tries.get(stage.name, 0)
        )

    @property
    def blocked(self) -> bool:
        """Waiting for a stage that has failed, or for one that waits for it."""
        return self.status.state == StageState.PENDING and self.needs.blocked()

    @property
    def key(self) -> str:
        """The Idempotency-Key of its latest task."""
        return task_key(workflow.info().workflow_id, self.stage.name, self.status.tries)

    async def run(self) -> None:
        """Ends when the stage has succeeded or was skipped; a failed one waits here for a person."""
        while self.status.state != StageState.SUCCEEDED:
            if self.stage.unavailable:
                return self.skip(self.stage.unavailable)
            if self.needs.all():
                await workflow.wait_condition(self.needs.met)
            if reason := self.needs.reason_to_skip():
                return self.skip(reason)
            if await self._attempts():
                return None
            await workflow.wait_condition(lambda: self.retry_request is not None)
            self.needs_new_task |= self.status.task_id is None and not self.unanswered
        return None

    def request_retry(self, request: RetryRequest) -> None:
        """A person wants it to run again; run() takes it up."""
        self.retry_request = request
        text = f"{self.stage.label} retried" + (f": “{request.reason}”" if request.reason else "")
        self.add_event("retry", actor=request.actor, text=text)

    def settle(self, state: StageState, outcome: str = "") -> None:
        """Ends the stage, and the attempt that is open."""
        status = self.status
        status.state = state
        status.finished_at = workflow.time()
        status.retry_at = None
        if status.attempts and status.attempts[-1].finished_at is None:
            status.attempts[-1].finished_at = status.finished_at
            status.attempts[-1].outcome = outcome
        if state == StageState.SUCCEEDED:
            status.progress = 100
            status.error = status.error_kind = status.details = None

    def skip(self, reason: str) -> None:
        """Settles the stage as skipped: there is nothing for it to do."""
        self.settle(StageState.SKIPPED, "skipped")
        self.status.error = reason
        self.status.error_kind = "skipped"
        self.status.details = None
        self.add_event("stage_skipped", text=f"{self.stage.label} skipped: {reason}")
        self.changed()

    async def _attempts(self) -> bool:
        """Attempts until one succeeds or the retry policy is used up; True when settled for good."""
        retry = self.stage.retry
        self._begin()
        failed_attempts = lost_workers = 0
        while True:
            self._begin_attempt()
            try:
                self.status.output = await self._attempt()
            except AttemptFailed as failed:
                self._end_attempt(failed)
                if failed.failure.kind in SKIP_REASONS and self.needs.needed:
                    self.skip(SKIP_REASONS[failed.failure.kind])
                    return True
                lost_workers += failed.outcome in LOST
                failed_attempts += failed.outcome == "failed" or lost_workers > MAX_LOST_WORKERS
                if failed.failure.permanent or failed_attempts >= retry.attempts:
                    if not await self._falls_back(failed):
                        self._fail(failed)
                        return False
                    failed_attempts = lost_workers = 0
                    continue
                text = failed.event_text(self.stage.label, self.status.attempt)
                self.add_event("attempt_failed", text=text)
                self.status.max_attempts = retry.attempts + self.status.attempt - failed_attempts
                if failed.outcome == "failed":
                    await self._wait(failed.failure.retry_after or retry.wait(failed_attempts))
            else:
                self._succeed()
                return True

    def _begin(self) -> None:
        self.retry_request = None
        status = self.status
        status.state = StageState.RUNNING
        status.engine = OWN if self.stage.engine == OWN else ""
        status.attempt = 0
        status.max_attempts = self.stage.retry.attempts
        status.error = status.error_kind = status.details = status.finished_at = status.progress = None
        status.started_at = workflow.time()

    def _begin_attempt(self) -> None:
        status = self.status
        label = self.stage.label
        last = status.attempts[-1] if status.attempts else None
        status.attempt += 1
        status.attempts = [*status.attempts[-19:], Attempt(status.attempt, workflow.time())]
        text = f"{label} started"
        if status.attempt > 1 and last and last.outcome == "lost":
            text = f"Another worker took over {label} (attempt {status.attempt})"
        elif status.attempt > 1:
            text += f" again (attempt {status.attempt} of {status.max_attempts})"
        self.add_event("attempt", text=text)
        self.changed()

    def _end_attempt(self, failed: AttemptFailed) -> None:
        status = self.status
        attempt = status.attempts[-1]
        attempt.finished_at = workflow.time()
        attempt.outcome = failed.outcome
        attempt.error = str(failed)[:200]
        if failed.outcome == "failed":
            status.error = str(failed)
            status.error_kind = failed.failure.kind
            status.details = failed.failure.details or None
        if failed.failure.task_over:
            status.task_id = None
            self.needs_new_task = True
            self.unanswered = False

    async def _falls_back(self, failed: AttemptFailed) -> bool:
        """Whether the own engine is to make it now, since the cloud has given it up."""
        status = self.status
        if self.stage.engine != CLOUD_THEN_OWN or status.engine == OWN:
            return False
        if status.task_id:
            await activity_calls.cancel_task(status.task_id, status.engine)
        status.engine = OWN
        status.task_id = status.progress = None
        self.needs_new_task = True
        self.unanswered = False
        status.max_attempts = status.attempt + self.stage.retry.attempts
        text = f"The cloud gave {self.stage.label} up: {failed} This installation’s own engine makes it now"
        self.add_event("engine", text=text)
        return True

    def _fail(self, failed: AttemptFailed) -> None:
        self.status.max_attempts = self.status.attempt
        self.status.error = str(failed)
        self.status.error_kind = failed.failure.kind
        self.settle(StageState.FAILED)
        self.add_event("stage_failed", text=f"{self.stage.label} failed: {failed}")
        self.changed()

    def _succeed(self) -> None:
        self.settle(StageState.SUCCEEDED, "succeeded")
        took = workflow.time() - (self.status.started_at or 0)
        self.add_event("stage_succeeded", text=f"{self.stage.label} done in {took:.1f} s")
        self.changed()

    async def _wait(self, seconds: float) -> None:
        self.status.retry_at = workflow.time() + seconds
        self.changed()
        await workflow.sleep(seconds, summary=f"{self.stage.label}: next attempt")
        self.status.retry_at = None

    async def _attempt(self) -> Output:
        """One attempt; an unavailable engine only makes it longer. Raises AttemptFailed."""
        status = self.status
        since = workflow.time()
        tries = 0
        while True:
            try:
                return await self._run_task()
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                failed = classify_failure(error, self.plan.heartbeat_timeout)
                self.seen = failed.seen or self.seen
                self.unanswered |= status.task_id is None and failed.failure.unanswered
                if was_cancelled() and workflow.patched("cancel-outlives-a-failed-create"):
                    raise asyncio.CancelledError from error
            if failed.failure.stop and status.task_id:
                await activity_calls.cancel_task(status.task_id, status.engine)
            lasted = workflow.time() - since
            if failed.is_over(lasted):
                raise failed
            tries += 1
            status.error = str(failed)
            status.error_kind = failed.failure.kind
            await self._wait(outage_wait(tries, lasted, failed.failure.retry_after))
            status.error = status.error_kind = None
            if status.task_id:
                self.changed()

    async def _run_task(self) -> Output:
        """Creates the stage's task unless there is one already, and awaits its output."""
        self.activities_started += 1
        activity_id = f"{self.stage.name}-{self.activities_started}"
        asked_at = 0.0 if self.status.task_id else workflow.time()
        if self.status.task_id is None:
            self.status.task_id = await self._create_task(activity_id)
            self.seen = None
            if was_cancelled():  # now the task's id is known
                raise asyncio.CancelledError
            self.changed()
        output = await self._await_task(activity_id, asked_at)
        return output if output.name else await self._copy_output(output, activity_id)

    async def _create_task(self, activity_id: str) -> str:
        self.status.tries += self.needs_new_task
        self.needs_new_task = False
        request = TaskRequest(
            job_id=self.plan.job_id,
            stage=self.stage.name,
            kind=self.stage.kind,
            options=self.stage.options,
            source=self.needs.source(),
            outputs=self.needs.outputs(),
            key=self.key,
            owner=self.plan.submitted_by,
            activity_id=activity_id,
            run=self.plan.run,
            engine=self.status.engine,
        )
        return await activity_calls.create_task(request, self.stage.label)

    async def _await_task(self, activity_id: str, asked_at: float) -> Output:
        return await activity_calls.await_task(
            self.stage,
            self.status.task_id or "",
            self.needs.source(),
            self.needs.duration(),
            activity_id=activity_id,
            heartbeat_timeout=self.plan.heartbeat_timeout,
            attempt=self.status.attempt,
            seen=self.seen,
            engine=self.status.engine,
            asked_at=asked_at,
        )

    async def _copy_output(self, output: Output, activity_id: str) -> Output:
        """Copies an output of the API into our storage, because its URL may expire."""
        return await activity_calls.copy_output(
            KeepRequest(self.plan.job_id, self.stage.name, activity_id, output),
            self.stage.label,
            heartbeat_timeout=self.plan.heartbeat_timeout,
        )
