"""The places of this process' workers, and their gate: while it is closed nothing new begins here.

What runs keeps its place to its end. It knows Temporal's slots, and nothing of who closes the gate or why.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
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

Supplier = CustomSlotSupplier | FixedSizeSlotSupplier
MANY = 100  # the SDK's own number
OTHER_SLOTS = FixedSizeSlotSupplier(MANY)  # of workflows and what else a worker may run
LOOK = 0.01  # seconds between two looks whether a workflow is at work,
LONGEST = 0.5  # and for which others wait at most


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


class Limited(CustomSlotSupplier):
    """So many places of one worker: a poll takes one, and what it brings keeps it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._free = asyncio.Semaphore(number)
        self._loop: asyncio.AbstractEventLoop | None = None

    async def opened(self, ctx: SlotReserveContext) -> None:
        """Returns when a place that is free may be taken."""

    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:
        """Returns when a place is free and may be taken."""
        self._loop = asyncio.get_running_loop()
        await self._free.acquire()
        try:
            await self.opened(ctx)
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


class Places(Limited):
    """The places of one worker for its activities, behind the gate."""

    def __init__(self, queue: str, number: int) -> None:
        super().__init__(number)
        self.queue = queue
        self._open = asyncio.Event()
        gate.places.add(self)
        self.follow(gate)

    @property
    def tuner(self) -> WorkerTuner:
        """As a worker takes it."""
        return tuner(OTHER_SLOTS, self)

    def follow(self, gate: Gate) -> None:
        """Gives places out while the gate is open."""
        if gate.is_open:
            self._open.set()
        else:
            self._open.clear()

    async def opened(self, ctx: SlotReserveContext) -> None:
        """Returns when the gate is open."""
        await self._open.wait()


class OneByOne(Limited):
    """The places of one worker for its workflows: one that is new here comes when none is at work.

    Else jobs that come together are all done at the end, since each gets its share of the interpreter, and
    each takes longer. Temporal keeps them meanwhile, and people take turns there.
    """

    def __init__(self, longest: float = LONGEST) -> None:
        super().__init__(MANY)
        self.longest = longest
        self._at_work: set[SlotPermit] = set()

    async def opened(self, ctx: SlotReserveContext) -> None:
        """Returns at once for a workflow that is known here, and for another one after a while at most."""
        if not ctx.is_sticky:
            until = time.monotonic() + self.longest
            await asyncio.sleep(LOOK)
            while self._at_work and time.monotonic() < until:  # noqa: ASYNC110 - threads of the SDK end it
                await asyncio.sleep(LOOK)

    def mark_slot_used(self, ctx: SlotMarkUsedContext) -> None:
        """A workflow is at work: it decides what comes next, and its row is written."""
        self._at_work.add(ctx.permit)

    def release_slot(self, ctx: SlotReleaseContext) -> None:
        """It waits for something again, or is over."""
        self._at_work.discard(ctx.permit)
        super().release_slot(ctx)


def tuner(workflows: Supplier, activities: Supplier) -> WorkerTuner:
    """For a worker with these places."""
    return WorkerTuner.create_composite(
        workflow_supplier=workflows,
        activity_supplier=activities,
        local_activity_supplier=OTHER_SLOTS,
        nexus_supplier=OTHER_SLOTS,
    )


gate = Gate()
