"""How long a task may work whose engine tells no percentage and of whose source nothing is known.

Learned from this installation's own finished stages, and from the size of the source where its server says
it. Both are asked only when a task has worked for longer than its stage may go without progress, so that a
short one costs nothing.
"""

from __future__ import annotations

from urllib.parse import urljoin

import httpx
from asgiref.sync import sync_to_async
from django.conf import settings

from jobs.models import Stage
from jobs.pipelines import seconds_for
from jobs.state import TaskWatch
from mediapipe import download, url_safety
from mediapipe.database import fresh_connections

TIMES_AS_LONG = 20  # as usual: slow is not broken
NOTHING_KNOWN = 3600.0  # seconds
HEAD_SECONDS = 10.0


async def allowed_without_progress(stage: str, watch: TaskWatch) -> float:
    """Seconds of work after which the task of *stage* counts as stuck; at least the stage's own timeout."""
    usual = await sync_to_async(_usual_seconds, thread_sensitive=False)(stage)
    url = watch.source.url if watch.source else ""
    size = await remote_size(url) if url else None
    known = [] if usual is None else [TIMES_AS_LONG * usual]
    known += [] if size is None else [seconds_for(size)]
    return min(max([watch.stall, *(known or [NOTHING_KNOWN])]), watch.allowed)


async def remote_size(url: str) -> int | None:
    """The bytes of the file at *url*, by asking for its headers alone; None where nobody says so."""
    try:
        async with httpx.AsyncClient(timeout=HEAD_SECONDS, trust_env=False) as http:
            for _ in range(download.MAX_REDIRECTS):
                request = await download.pinned_request(url, trusted_origin=settings.ITTYBIT_API_URL)
                response = await http.head(**request)
                if not response.is_redirect:
                    break
                url = urljoin(url, response.headers.get("Location", ""))
    except (httpx.HTTPError, httpx.InvalidURL, url_safety.UnsafeUrl, ValueError):
        return None
    length = response.headers.get("Content-Length", "")
    return int(length) if response.status_code == 200 and length.isdecimal() and len(length) < 19 else None


@fresh_connections()
def _usual_seconds(stage: str) -> float | None:
    return Stage.usual_seconds(stage)
