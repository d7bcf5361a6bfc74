"""A job as JSON, the same for the commands and the pages. It knows no Temporal."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from django.conf import settings

from jobs.models import Batch, Job, Stage
from jobs.models.batch import Counts
from jobs.result import PipelineResult
from jobs.state import JobState, Output, PipelineStatus, StageState, StageStatus
from mediapipe import storage
from mediapipe.own_address import absolute


def absolute_url(output: Output) -> str:
    """A URL of *output* that works outside the dashboard; one of our own is signed and expires."""
    return storage.signed_url(output.name) if output.name else output.url


def _iso(seconds: float | None) -> str | None:
    return (
        None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    )


def summary(job: Job, status: PipelineStatus) -> dict[str, Any]:
    """What `submit --json` prints: id, workflow_id, status, url, and a result once there is one."""
    return {
        "id": str(job.pk),
        "workflow_id": job.workflow_id,
        "status": str(status.state),
        "url": absolute(job.get_absolute_url()),
        "result": _result(status),
    }


def _stage(status: StageStatus) -> dict[str, Any]:
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
        "engine": "own" if settings.EMBEDDED_ENGINE else status.engine or "cloud",
        "output": _output(status.output) if status.output else None,
        "error": status.error,
    }


def _output(output: Output) -> dict[str, Any]:
    return {
        "url": absolute_url(output),
        "kind": output.kind,
        "format": output.format,
        "width": output.width,
        "height": output.height,
        "duration": output.duration,
        "filesize": output.filesize,
        "warnings": output.warnings,
        "findings": [asdict(each) for each in output.findings],
    }


def full(job: Job, status: PipelineStatus) -> dict[str, Any]:
    """What `status --json` prints: the job, and each of its stages."""
    return {
        **summary(job, status),
        "title": job.title,
        "pipeline": job.pipeline,
        "pipeline_version": job.pipeline_version,
        "owner": job.owner.get_username(),
        "created_at": job.created_at.isoformat(timespec="milliseconds"),
        "cancelling": status.cancelling,
        "receipt": status.receipt or None,
        "error": error(status) or None,
        "started_at": _iso(status.started_at),
        "finished_at": _iso(status.finished_at),
        "removed": {
            each.what: each.at.isoformat(timespec="milliseconds") for each in job.removals.all() if each.done
        },
        "stages": [{**_stage(stage), **_making(job, stage.name)} for stage in status.stages],
    }


def _making(job: Job, name: str) -> dict[str, Any]:
    """With which options a stage is made, and what it was before."""
    earlier = [each for each in job.earlier_versions.all() if each.stage == name and not each.removed]
    planned = job.planned(name)
    return {
        "options": planned["options"] if planned else {},
        "earlier_versions": [each.as_json(_output(each.parsed_output)) for each in earlier],
    }


def batch_summary(batch: Batch, counts: Counts) -> dict[str, Any]:
    """A batch in a list of them, and what a manifest begins with."""
    url = absolute(batch.get_absolute_url())
    return {
        "id": str(batch.pk),
        "title": batch.title,
        "owner": batch.owner.get_username(),
        "status": "running"
        if batch.finished_at is None
        else "cancelled"
        if batch.cancelled_by
        else "finished",
        "created_at": batch.created_at.isoformat(timespec="milliseconds"),
        "finished_at": batch.finished_at.isoformat(timespec="milliseconds") if batch.finished_at else None,
        "total": counts.total,
        "counts": counts._asdict(),
        "url": url,
        "manifest": {"csv": f"{url}manifest.csv", "json": f"{url}manifest.json"},
    }


def batch_whole(batch: Batch) -> dict[str, Any]:
    """What `submit-batch --json` prints and the API answers: a batch, and why something in it isn't done."""
    return {
        **batch_summary(batch, batch.counts()),
        "failed": [reason._asdict() for reason in Stage.reasons(batch.failed())],
        "rejected": [{"sentence": sentence, "sources": many} for sentence, many in batch.rejected()],
    }


def _result(status: PipelineStatus) -> dict[str, str | None] | None:
    """The four URLs, null for a stage without an output; null until the job has succeeded."""
    if status.state != JobState.SUCCEEDED:
        return None
    urls = {stage.name: absolute_url(stage.output) for stage in status.stages if stage.output}
    return asdict(PipelineResult.of(urls))


def error(status: PipelineStatus) -> str:
    """Why the job is not done, as a sentence; "" where it is, or still may be."""
    failed = [stage for stage in status.stages if stage.state == StageState.FAILED]
    return status.error or "; ".join(f"{stage.label}: {stage.error}" for stage in failed) or status.receipt
