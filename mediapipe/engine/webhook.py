"""A task's webhook: who asked for the task hears how it ended, and may miss it.

It knows addresses, and nothing of rows, queues or FFmpeg.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import httpx
from django.conf import settings

from mediapipe import url_safety
from mediapipe.remote import Remote, tls

notifications: set[asyncio.Task[None]] = set()


def notify(url: str, body: dict[str, Any]) -> None:
    """Posts a task to its webhook in the background: nothing waits for it, and it may fail."""
    notification = asyncio.create_task(_post_webhook(url, body))
    notifications.add(notification)
    notification.add_done_callback(notifications.discard)


async def _post_webhook(url: str, body: dict[str, Any]) -> None:
    path = url if url.startswith("/") else url_safety.own_path(url)  # earlier versions kept it whole
    if path:
        async with httpx.AsyncClient(timeout=5, verify=tls(), trust_env=False) as ours:
            await _until_taken(partial(ours.post, f"{settings.LOCAL_URL}{path}", json=body))
    else:
        async with Remote(5.0) as remote:
            await _until_taken(partial(remote.send, "POST", url, json=body))


async def _until_taken(post: Callable[[], Awaitable[httpx.Response]]) -> None:
    for attempt in range(4):
        with contextlib.suppress(httpx.HTTPError, httpx.InvalidURL, url_safety.UnsafeUrl):
            if (await post()).status_code < 500:
                return
        await asyncio.sleep(2**attempt)
