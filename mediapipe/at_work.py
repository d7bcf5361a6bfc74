"""What the activities of this process are at: each is named in its log lines, and listed while it runs.

It knows Temporal's interceptors, and nothing of what an activity does.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from structlog.contextvars import bound_contextvars
from temporalio import activity
from temporalio.client import Interceptor as ClientInterceptor
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from mediapipe import tracing

JOB = "media-"  # what the id of a job's workflow begins with; a task's is the task's own


class AtWork(NamedTuple):
    """An activity that runs here: *whose*: its workflow's id; *since*: unix seconds."""

    queue: str
    name: str
    whose: str
    since: float


_running: dict[object, AtWork] = {}


def now() -> list[AtWork]:
    """The activities that run in this process, the oldest first."""
    return list(_running.values())


class Activities(ClientInterceptor, Interceptor):
    """Lets each line that an activity writes say whose it is. A stage's activity is named as the stage is."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Around every activity of a worker."""
        return _Named(next)


class _Named(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        """Runs it in the context of its job or task."""
        info = activity.info()
        of = info.workflow_id or ""
        whose = {"job": of.removeprefix(JOB)} if of.startswith(JOB) else {"task": of}
        tracing.note(**whose, attempt=info.attempt)
        this = object()
        _running[this] = AtWork(info.task_queue, info.activity_type, of, time.time())
        try:
            with bound_contextvars(**whose, activity=info.activity_type, attempt=info.attempt):
                return await super().execute_activity(input)
        finally:
            del _running[this]
