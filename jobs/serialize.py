"""A job as JSON, the same for the commands and the page's "Copy as JSON"."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.conf import settings

from jobs.models import Job
from jobs.state import Output, PipelineStatus, StageState, StageStatus
from mediapipe import storage

# The seed's PipelineResult, by stage.
RESULT = {
    "ingest": "ingested_url",
    "thumbnails": "thumbnail_url",
    "audio": "audio_url",
    "transcode": "transcoded_url",
}


def absolute(output: Output) -> str:
    """A URL of *output* that works outside the dashboard; ours are signed."""
    return storage.signed_url(output.name) if output.name else output.url


def _iso(seconds: float | None) -> str | None:
    return (
        None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    )


def job(row: Job, status: PipelineStatus) -> dict[str, Any]:
    """What `submit --json` prints: id, workflow_id, status, url."""
    base = settings.PUBLIC_URL or settings.LOCAL_URL
    return {
        "id": str(row.pk),
        "workflow_id": row.workflow_id,
        "status": str(status.state),
        "url": f"{base}{row.get_absolute_url()}",
    }


def stage(status: StageStatus) -> dict[str, Any]:
    """One stage of `status --json`."""
    made = status.output
    return {
        "name": status.name,
        "state": str(status.state),
        "attempt": status.attempt,
        "max_attempts": status.max_attempts,
        "progress": status.progress,
        "started_at": _iso(status.started_at),
        "finished_at": _iso(status.finished_at),
        "retry_at": _iso(status.retry_at),
        "task_id": status.task_id,
        "output": None
        if made is None
        else {
            "url": absolute(made),
            "kind": made.kind,
            "format": made.format,
            "width": made.width,
            "height": made.height,
            "duration": made.duration,
            "filesize": made.filesize,
            "warnings": made.warnings,
        },
        "error": status.error,
    }


def full(row: Job, status: PipelineStatus) -> dict[str, Any]:
    """What `status --json` prints: the job, and each of its stages."""
    return {
        **job(row, status),
        "title": row.title,
        "pipeline": row.pipeline,
        "cancelling": status.cancelling,
        "receipt": status.receipt or None,
        "error": error(status) or None,
        "started_at": _iso(status.started_at),
        "finished_at": _iso(status.finished_at),
        "stages": [stage(each) for each in status.stages],
    }


def result(status: PipelineStatus) -> dict[str, str | None]:
    """The four URLs; null for a stage that was skipped."""
    return {
        RESULT[each.name]: absolute(each.output) if each.output else None
        for each in status.stages
        if each.name in RESULT
    }


def error(status: PipelineStatus) -> str:
    """Why the job isn't done, in one sentence; nothing where it is or may yet be."""
    failed = [each for each in status.stages if each.state == StageState.FAILED]
    return status.error or "; ".join(f"{each.label}: {each.error}" for each in failed) or status.receipt
