"""A delivery as a short workflow: it waits for what belongs into the same message, and tries for three days.

Deterministic, and free of Django: what is delivered stands in the row, and no address and no text here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, is_cancelled_exception

NOTIFICATIONS = "-notifications"  # suffix of the task queue's name
DELIVER = "deliver"
GIVE_UP = "give_up_delivery"
GIVE_UP_AFTER = timedelta(days=3)
RETRY_POLICY = RetryPolicy(
    initial_interval=timedelta(seconds=10), backoff_coefficient=3, maximum_interval=timedelta(hours=1)
)


@dataclass(frozen=True)
class DeliveryRequest:
    """Which delivery, and for how many seconds others may still join it."""

    delivery_id: str
    wait: float = 0


@workflow.defn(name="Delivery")
class DeliveryWorkflow:
    """One message: its id is the delivery's, so it is started once however often somebody asks."""

    @workflow.run
    async def run(self, request: DeliveryRequest) -> str:
        """Ends when the message has arrived or is given up; returns the row's state."""
        if request.wait:
            await workflow.sleep(request.wait)
        try:
            return str(
                await workflow.execute_activity(
                    DELIVER,
                    request.delivery_id,
                    result_type=str,
                    start_to_close_timeout=timedelta(minutes=5),
                    schedule_to_close_timeout=GIVE_UP_AFTER,
                    retry_policy=RETRY_POLICY,
                )
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
        return str(
            await workflow.execute_activity(
                GIVE_UP,
                request.delivery_id,
                result_type=str,
                start_to_close_timeout=timedelta(minutes=1),
            )
        )
