"""What the API says of files and tasks, as JSON's own types: Ittybit's shapes, from a probe or a row."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mediapipe import storage
from mediapipe.engine.kinds import Kind
from mediapipe.engine.media import Media

if TYPE_CHECKING:
    from mediapipe.engine.models import EngineTask

COMMON = {"matroska": "mkv", "mov": "mp4"}  # what people call a demuxer's first format
ARRIVED = "imported"  # among a task's steps: when a foreign source lay in the store
STEPS = ("import", "probe", "encode", "export")  # a job's tasks, in the order in which they run
AS_OBJECT = "input_is_object"  # among a task's steps: how the request named its input
LISTED = ("probe", "import", "encode", "export")  # in the order in which the reference lists them


def milliseconds(at: datetime | None) -> int | None:
    """Unix milliseconds, as the API counts."""
    return None if at is None else round(at.timestamp() * 1000)


def _tracks(media: Media) -> dict[str, Any]:
    """Sides in pixels as a person sees them, and codecs; None for what there isn't."""
    video = media.video
    audio = media.audio
    width, height = (round(side) for side in video.shown) if video else (None, None)
    codecs = {"video": video.codec if video else None, "audio": audio.codec if audio else None}
    return {"width": width, "height": height, "codecs": codecs}


def file_facts(media: Media, path: Path) -> dict[str, Any]:
    """A source as the API's File; its extension says which of a demuxer's formats it is."""
    formats = media.format.removesuffix("_pipe").split(",")
    suffix = path.suffix[1:].lower()
    return {
        "kind": "image" if media.is_still and not media.audio else "video" if media.video else "audio",
        "format": suffix if suffix in formats else COMMON.get(formats[0], formats[0]),
        "duration": round(media.duration, 3) or None,
        **_tracks(media),
    }


def output_facts(kind: Kind, media: Media, form: str, size: int) -> dict[str, Any]:
    """An output of *size* bytes as the API's File, without its URL."""
    rate = media.video.fps if media.video and kind.has_frame_rate else 0
    return {
        "object": "file",
        "kind": kind.output_kind or kind.name,
        "format": form,
        "duration": round(media.duration, 3) if kind.has_duration and media.duration else None,
        "filesize": size,
        "fps": round(rate, 3) if rate else None,
        **_tracks(media),
    }


def output_json(task: EngineTask) -> dict[str, Any] | None:
    """The task's output as the API's File, its URLs signed anew; None while there is none."""
    if not task.output:
        return None
    body = {key: value for key, value in task.output.items() if not key.endswith("name")}
    for key, value in task.output.items():
        if key.endswith("name"):
            body[key.removesuffix("name") + "url"] = storage.signed_url(value)
    return body


def _external(task: EngineTask) -> dict[str, Any]:
    """The task's input as the API's object."""
    return {"object": "external_file", "url": task.input_url}


def _source(task: EngineTask) -> dict[str, Any]:
    """The task's source as the API's File, with its server's name for it where that gave one."""
    name = {"filename": task.steps["filename"]} if "filename" in task.steps else {}
    return {"object": "file", "url": task.input_url, **task.steps.get("file", {}), **name}


def task_json(task: EngineTask) -> dict[str, Any]:
    """The task, or the job, as the API's object. Counts the queue where it waits: one query."""
    output = output_json(task)
    body: dict[str, Any] = {
        "id": task.pk,
        "object": task.resource,
        "kind": task.kind,
        "input": _external(task) if task.steps.get(AS_OBJECT) else task.input_url,
        "options": task.asked,
        "metadata": task.metadata,
        "status": task.status,
        "progress": task.progress,
        "output": output["url"] if output and task.resource == "job" else output,
        "error": task.error,
        "warnings": task.warnings,
        "created_at": milliseconds(task.created_at),
        "started_at": milliseconds(task.started_at),
        "finished_at": milliseconds(task.finished_at),
        "updated_at": milliseconds(task.updated_at),
    }
    if task.resource == "job":
        body["tasks"] = [_step_json(task, step, output) for step in LISTED]
    elif "file" in task.steps:
        body["source"] = _source(task)
    if task.active:
        body |= {"speed": task.speed, "time_left": task.time_left, "queue_position": task.queue_position()}
        waiting_for = "worker" if task.is_stale else task.waiting_for
        if not waiting_for and task.lane == "import" and task.status == task.Status.PROCESSING:
            waiting_for = "download"
        body |= {"waiting_for": waiting_for} if waiting_for else {}
    return body


def _step_status(task: EngineTask, step: str) -> str:
    """Those before the current step are done; the current one stands as the task; the others wait."""
    started = [at for at, name in enumerate(STEPS) if name in task.steps]
    current = max(started, default=0)
    place = STEPS.index(step)
    if (
        task.status == task.Status.SUCCEEDED
        or place < current
        or (step == "import" and ARRIVED in task.steps)
    ):
        return "succeeded"
    if place == current:
        return "waiting" if task.status == task.Status.QUEUED else str(task.status)
    return "waiting" if task.active else "cancelled"


def _step_json(task: EngineTask, step: str, output: dict[str, Any] | None) -> dict[str, Any]:
    """One task of a job, with its own times and status; the one that failed has the job's error."""
    status = _step_status(task, step)
    started = task.steps.get(step)
    later = (*((ARRIVED,) if step == "import" else ()), *STEPS[STEPS.index(step) + 1 :])
    following = [task.steps[name] for name in later if name in task.steps]
    ended = following[0] if following else None if task.active else milliseconds(task.finished_at)
    finished = ended if started is not None else None
    external = _external(task)
    source = _source(task)
    inputs = {"import": external, "probe": external, "encode": source, "export": output}
    result = output if step in ("encode", "export") else source
    is_encode = step == "encode"
    return {
        "id": f"task_{task.pk.split('_', 1)[1]}{LISTED.index(step)}",
        "object": "task",
        "kind": task.kind if is_encode else step,
        "step": step,
        "input": inputs[step],
        "options": task.asked if is_encode else {},
        "status": status,
        "progress": task.progress if is_encode else None,
        "output": result if status == "succeeded" else None,
        "error": task.error if status == "failed" else None,
        "created_at": milliseconds(task.created_at),
        "started_at": started,
        "finished_at": finished,
        "updated_at": ended or started or milliseconds(task.created_at),
    }
