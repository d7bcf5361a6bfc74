"""Blocking calls in threads that outlive the task which waits for them. It knows nothing of what they do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def run_to_completion(function: Callable[..., T], *args: object) -> T:
    """Runs *function* in a thread to its end, even where this task is cancelled before that.

    Otherwise a cancelled task closes a file descriptor that the thread still uses, and the number
    may by then belong to another file.
    """
    task = asyncio.ensure_future(asyncio.to_thread(function, *args))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
