"""An event as programs get it: what happened, to which job, and where to read more. It knows no channel.

Small on purpose: a program asks the API for what it needs, and gets it as it is then.
"""

from __future__ import annotations

from typing import Any

from jobs.models.notice import Notice
from mediapipe.own_address import absolute


def event_of(notice: Notice) -> dict[str, Any]:
    """The body of a webhook; the same for each try."""
    job = notice.job
    data = {
        "job": {
            "id": str(job.pk),
            "title": job.title,
            "pipeline": job.pipeline,
            "owner": job.owner.get_username(),
            "url": absolute(job.get_absolute_url()),
            "api_url": absolute(f"/api/v1/jobs/{job.pk}"),
        },
        "stage": notice.stage or None,
        "reason": notice.text or None,
    }
    return {"type": notice.type, "timestamp": notice.at.isoformat(), "data": data}


def test_event(at: str) -> dict[str, Any]:
    """What “Send a test” sends."""
    return {"type": "test", "timestamp": at, "data": {}}
