"""The places of this process' workers, and their gate: while it is closed nothing new begins here.

What runs keeps its place to its end. It knows Temporal's slots, and nothing of who closes the gate or why.
"""

from __future__ import annotations

import asyncio
import contextlib
from weakref import WeakSet

from temporalio.worker import (
    CustomSlotSupplier,
    FixedSizeSlotSupplier,
    SlotMarkUsedContext,
    SlotPermit,
    SlotReleaseContext,
    SlotReserveContext,
    WorkerTuner,
)

OTHER_SLOTS = FixedSizeSlotSupplier(100)  # of workflows and what else a worker may run: the SDK's own number


class Gate:
    """That of this process: open, unless somebody closes it."""

    def __init__(self) -> None:
        self.is_open = True
        self.places: WeakSet[Places] = WeakSet()

    def set(self, *, is_open: bool) -> None:
        """Lets what waits begin, or nothing new; from the loop of the workers."""
        self.is_open = is_open
        for each in self.places:
            each.follow(self)

    def numbers(self) -> dict[str, int]:
        """How many places there are, by task queue."""
        return {each.queue: each.number for each in self.places}


class Places(CustomSlotSupplier):
    """The places of one worker: a poll takes one, and what it brings keeps it."""

    def __init__(self, queue: str, number: int) -> None:
        self.queue = queue
        self.number = number
        self._free = asyncio.Semaphore(number)
        self._open = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        gate.places.add(self)
        self.follow(gate)

    @property
    def tuner(self) -> WorkerTuner:
        """As a worker takes it."""
        return WorkerTuner.create_composite(
            workflow_supplier=OTHER_SLOTS,
            activity_supplier=self,
            local_activity_supplier=OTHER_SLOTS,
            nexus_supplier=OTHER_SLOTS,
        )

    def follow(self, gate: Gate) -> None:
        """Gives places out while the gate is open."""
        if gate.is_open:
            self._open.set()
        else:
            self._open.clear()

    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:
        """Returns when a place is free and the gate is open."""
        self._loop = asyncio.get_running_loop()
        await self._free.acquire()
        try:
            await self._open.wait()
        except asyncio.CancelledError:
            self._free.release()
            raise
        return SlotPermit()

    def try_reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit | None:
        """Never: what a workflow asks for stands in line as everything else does."""
        return None

    def mark_slot_used(self, ctx: SlotMarkUsedContext) -> None:
        """Nothing changes by it."""

    def release_slot(self, ctx: SlotReleaseContext) -> None:
        """Gives a place back; the SDK calls this from threads of its own."""
        if self._loop:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and its worker with it
                self._loop.call_soon_threadsafe(self._free.release)


gate = Gate()
