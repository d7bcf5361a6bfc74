"""A task's webhook: who asked for the task is told how it ended, and may miss it.

It knows rows and addresses, and nothing of queues or FFmpeg.
"""

from __future__ import annotations

import asyncio
import contextlib

import httpx
from django.conf import settings

from mediapipe import url_safety
from mediapipe.database import persistently
from mediapipe.engine.models import EngineTask
from mediapipe.engine.serialize import task_json
from mediapipe.remote import Remote, tls

notifications: set[asyncio.Task[None]] = set()


def notify(task: EngineTask) -> None:
    """Posts the task to its webhook in the background: nothing waits for it, and it may fail."""
    notification = asyncio.create_task(_post_webhook(task))
    notifications.add(notification)
    notification.add_done_callback(notifications.discard)


async def _post_webhook(task: EngineTask) -> None:
    body = await persistently(task_json, task)
    url = task.webhook_url
    path = url if url.startswith("/") else url_safety.own_path(url)  # earlier versions kept it whole
    own = httpx.AsyncClient(timeout=5, verify=tls(), trust_env=False)
    async with own as ours, Remote(5.0) as remote:
        for attempt in range(4):
            with contextlib.suppress(httpx.HTTPError, httpx.InvalidURL, url_safety.UnsafeUrl):
                if path:
                    answer = await ours.post(f"{settings.LOCAL_URL}{path}", json=body)
                else:
                    answer = await remote.send("POST", url, json=body)
                if answer.status_code < 500:
                    return
            await asyncio.sleep(2**attempt)
