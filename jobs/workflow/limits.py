"""How long a task may work whose engine tells no percentage and of whose source nothing is known.

Learned from this installation's own finished stages, and from the size of the source where its server says
it. Both are asked only when a task has worked for longer than its stage may go without progress, so that a
short one costs nothing.
"""

from __future__ import annotations

import httpx
from django.conf import settings

from jobs.models import Stage
from jobs.pipelines import seconds_for
from jobs.requests import TaskWatch
from mediapipe import url_safety
from mediapipe.database import in_thread
from mediapipe.remote import BadRedirect, Remote

TIMES_AS_LONG = 20  # as usual: slow is not broken
UNKNOWN_SIZE = 3600.0  # seconds of work for a source whose size nobody says
SIZE_SECONDS = 10.0


async def allowed_without_progress(stage: str, watch: TaskWatch) -> float:
    """Seconds of work after which the task of *stage* counts as stuck; at least the stage's own timeout."""
    usual = await in_thread(Stage.usual_seconds, stage)
    url = watch.source.url if watch.source else ""
    size = await remote_size(url) if url else None
    by_size = UNKNOWN_SIZE if size is None else seconds_for(size)  # a long film may follow many short clips
    return min(max(watch.stall, TIMES_AS_LONG * (usual or 0.0), by_size), watch.allowed)


async def remote_size(url: str) -> int | None:
    """The bytes of the file at *url*, by asking for its first one; None where nobody says so.

    Not by HEAD: a link that is signed for GET answers it with 403.
    """
    try:
        async with (
            Remote(SIZE_SECONDS, trusted_origin=settings.ITTYBIT_API_URL) as remote,
            remote.follow(url, {"Range": "bytes=0-0"}) as response,
        ):
            return _size(response)
    except (httpx.HTTPError, httpx.InvalidURL, url_safety.UnsafeUrl, BadRedirect, ValueError):
        pass
    return None


def _size(response: httpx.Response) -> int | None:
    """By RFC 9110 14.4 (206) or 8.6 (200, from a server that knows no ranges)."""
    whole = {206: response.headers.get("Content-Range", "").rpartition("/")[2]}
    whole[200] = response.headers.get("Content-Length", "")
    size = whole.get(response.status_code, "")
    return int(size) if size.isdecimal() and size.isascii() and len(size) < 19 else None
