"""A task as a short workflow: the engine's queue is Temporal. Deterministic, and free of Django."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import Priority, RetryPolicy
from temporalio.workflow import ActivityCancellationType

with workflow.unsafe.imports_passed_through():
    from mediapipe.engine.pieces import IN_ONE, MISSING, Division, Piece, PieceWork

HEAVY_QUEUE = "media-engine"
LIGHT_QUEUE = "media-engine-light"
IMPORT_QUEUE = "media-engine-import"
BEFORE = 2  # of Temporal's priorities, 1 to 5; everything else has 3, and what a person moves to the front 1
# A worker that is lost or restarts is no reason to give up: the activities bound that themselves.
MAX_ROUNDS = 3  # of encoding pieces and joining them: some may be gone when the last one is done
RETRY_POLICY = RetryPolicy(
    initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=10)
)


# Without the SDK's sandbox, which takes longer for each task than the workflow: it sees pure modules only.
@workflow.defn(name="EngineTask", sandboxed=False)
class EngineTaskWorkflow:
    """Runs one task, on the heavy or the light task queue; a foreign source comes by a queue of its own."""

    @workflow.run
    async def run(
        self,
        task_id: str,
        light: bool,
        heartbeat_timeout: float = 10,
        foreign: bool = False,
        copies: bool = False,
        before: bool = False,
    ) -> None:
        """Ends when the task is over: how it ended stands in its row.

        *heartbeat_timeout*: seconds of silence after which another worker takes it over. *foreign*: its
        source must be downloaded first. *copies*: it may be a copy, a moment's work, which never waits behind
        an encode; only where it is none it stands in line for one. *before*: it goes before what has no such
        priority; its pieces, and what takes as long, don't. No history from before these arguments has them,
        so none is patched.
        """
        silence = timedelta(seconds=heartbeat_timeout)
        priority = Priority(priority_key=BEFORE) if before else Priority.default
        if foreign and not await _activity("import_source", [task_id], IMPORT_QUEUE, silence):
            return
        if copies and await _activity("copy_task", [task_id], LIGHT_QUEUE, silence, priority=priority):
            return
        if light:
            await _activity("run_task", [task_id], LIGHT_QUEUE, silence, priority=priority)
            return
        division: Division | None = await _activity(
            "run_task", [task_id, True], HEAVY_QUEUE, silence, Division, priority
        )
        if division and not await self._in_pieces(task_id, division, silence):
            await _activity("run_task", [task_id, False, IN_ONE], HEAVY_QUEUE, silence)

    async def _in_pieces(self, task_id: str, division: Division, silence: timedelta) -> bool:
        """Encodes a film's pieces and joins them; False where it must be encoded in one after all."""
        for _ in range(MAX_ROUNDS):
            if not await self._encoded(task_id, division, silence):
                return False
            problem = await _activity("join_pieces", [task_id, division], LIGHT_QUEUE, silence)
            if problem != MISSING:
                return not problem
        return False

    async def _encoded(self, task_id: str, division: Division, silence: timedelta) -> bool:
        """Encodes all pieces, and the sound beside them; False, and no more of them, where one can't be."""

        at_once = division.at_once if workflow.patched("pieces-in-their-order") else 0
        places = asyncio.Semaphore(at_once or len(division.pieces))

        async def work(piece: Piece) -> bool:
            async with places:
                summary = f"piece {piece.number + 1} of {len(division.pieces)}"
                return await encode(piece, HEAVY_QUEUE, summary)

        async def encode(piece: Piece | None, queue: str, summary: str) -> bool:
            asked = PieceWork(task_id, division.key, division.seconds, piece)
            return bool(
                await _activity(
                    "encode_piece", [asked], queue, silence, priority=_of_pieces(), summary=summary
                )
            )

        running = [asyncio.create_task(work(piece)) for piece in division.pieces]
        if division.sound:
            running.append(asyncio.create_task(encode(None, LIGHT_QUEUE, "the sound")))
        try:
            for done in workflow.as_completed(running):
                if not await done:
                    return False
        finally:
            for each in running:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        return True


def _of_pieces() -> Priority:
    """The turns of a person's pieces: a line of their own, so that a short encode waits for one at most."""
    owner = (workflow.info().priority.fairness_key or "").removesuffix("/later")
    return Priority(fairness_key=owner.encode()[:57].decode(errors="ignore") + "/pieces")


async def _activity(
    name: str,
    arguments: list[Any],
    queue: str,
    silence: timedelta,
    result: type | None = None,
    priority: Priority = Priority.default,
    summary: str | None = None,
) -> Any:
    return await workflow.execute_activity(
        name,
        args=arguments,
        task_queue=queue,
        result_type=result,
        start_to_close_timeout=timedelta(days=30),  # heartbeats and the stall watchdog end what hangs
        heartbeat_timeout=silence,
        retry_policy=RETRY_POLICY,
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        priority=priority,
        summary=summary,
    )
