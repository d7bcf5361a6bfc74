"""Gives back what a poll brings that was under way when the gate was closed; another worker has it next.

It knows how activities count what was handed over, and nothing of their work.
"""

from __future__ import annotations

from typing import Any

from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from mediapipe.engine.surroundings import again
from mediapipe.places import gate


class GivesBack(Interceptor):
    """Of a worker of the engine."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Around every activity of a worker."""
        return _GivesBack(next)


class _GivesBack(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        """Raises as a worker that restarts does: such an end counts as no loss."""
        if not gate.is_open:
            handed_over, *along = [*activity.info().heartbeat_details] or [0]
            raise again("the worker is paused", 0, int(handed_over) + 1, *along)
        return await super().execute_activity(input)
