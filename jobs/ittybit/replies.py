"""What the Ittybit API's replies mean: a Task, or an IttybitError that says whether a retry can help.

Pure: it knows neither Django nor Temporal, nor how a request was sent. The vendor has shipped five shapes of
this API, so every reply is read leniently and turned into ours here, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import httpx

from jobs.findings import Finding
from jobs.ittybit.lenient_json import HALVES, as_integer, as_list, as_mapping, as_number, as_text, first_item
from jobs.state import Output
from mediapipe.reply import json_of
from mediapipe.reply import retry_after as retry_after

MAX_URL_LENGTH = 4000
MAX_FINDINGS = 60  # of a check: they travel with every change
MISSING_PARTS = ("database_unavailable", "queue_unavailable")  # what the embedded engine itself waits for
UNAVAILABLE = (408, 425, 502, 503, 504)  # statuses by which a server or a proxy says: not now


class TaskState(StrEnum):
    """The status of a task, by the names of the current API."""

    QUEUED = "queued"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


# Every status ever documented; any other means "still working".
STATES = {
    "pending": TaskState.QUEUED,
    "waiting": TaskState.QUEUED,
    "validating": TaskState.QUEUED,
    "queued": TaskState.QUEUED,
    "ready": TaskState.SUCCEEDED,
    "completed": TaskState.SUCCEEDED,
    "succeeded": TaskState.SUCCEEDED,
    "failed": TaskState.FAILED,
    "error": TaskState.FAILED,
    "cancelled": TaskState.CANCELLED,
    "canceled": TaskState.CANCELLED,
}
TERMINAL = (TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED)

# A failed task of one of these kinds would fail again; of any other it may succeed.
PERMANENT_KINDS = frozenset(
    (
        *("invalid_input", "request_invalid", "url_required", "format_unsupported", "payment_required"),
        *("no_video", "no_audio", "unsupported", "protected", "damaged", "too_large", "too_long"),
        *("source_not_found", "source_refused", "cancelled", "refused", "storage_refused"),
        *("token_missing", "token_invalid", "project_required"),
    )
)
# What a refused request is, by its status, where we don't know the API's own word for it.
REFUSALS = {400: "request_invalid", 401: "token_invalid", 402: "payment_required", 422: "request_invalid"}


class IttybitError(Exception):
    """A failed call of the API, as one sentence.

    *permanent*: no retry can help; *outage*: the API is away for a time, which is no failure.

    IttybitError
    ├── Rejected       the request is wrong, and stays wrong (400, 401, 402, 403, 404, 405, 410, 422)
    ├── Busy           outage: too many requests (429): retry after `retry_after` seconds
    ├── Unreachable    outage: no connection, or one that broke before the answer was complete
    ├── Unavailable    outage: it says so (408, 425, 502, 503, 504), or a proxy answers in its place
    ├── Broken         an unusable answer: its own 500, no task id, no status
    └── Missing        no such task (404); right after its creation that may pass
    """

    permanent = False
    outage = False
    kind = "api_error"

    def __init__(self, message: str, *, kind: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind or self.kind
        self.retry_after = retry_after  # seconds, where the API said so


class Rejected(IttybitError):
    """The API refuses this request, now and later."""

    permanent = True
    kind = "refused"


class Busy(IttybitError):
    """Too many requests: the API asks us to wait."""

    outage = True
    kind = "busy"


class Unreachable(IttybitError):
    """No connection, or one that broke before the answer was complete."""

    outage = True
    kind = "unreachable"


class Unavailable(IttybitError):
    """The API says that it can't answer at the moment, or a proxy says so in its place."""

    outage = True
    kind = "unavailable"


class Broken(IttybitError):
    """An answer that cannot be used: an error of the API's own, no id, no status."""

    kind = "broken_answer"


class Missing(IttybitError):
    """The API knows no task of this id."""

    kind = "task_not_found"


@dataclass(frozen=True)
class Task:
    """Ittybit's task, normalised: *progress* 0 to 100, *speed* times real time, *time_left* in seconds."""

    id: str
    state: TaskState
    progress: float | None = None
    output: Output | None = None
    error_kind: str = ""
    error: str = ""
    details: str = ""
    speed: float | None = None
    time_left: float | None = None
    queue_position: int | None = None
    waiting_for: str = ""

    @property
    def terminal(self) -> bool:
        """Whether it is over: it won't change again."""
        return self.state in TERMINAL

    @property
    def permanent(self) -> bool:
        """Whether a new task would fail in the same way."""
        return self.error_kind in PERMANENT_KINDS


def parse_output(body: Mapping[str, Any]) -> Output | None:
    """The output of a task's body: object, string, list, `outputs` or `output_url`; None without a URL."""
    output = first_item(body.get("output")) or first_item(body.get("outputs")) or body.get("output_url")
    tasks = [as_mapping(task) for task in as_list(body.get("tasks"))]
    if isinstance(output, str):  # a job's: one of its tasks may have the facts of the same file
        files = (as_mapping(task.get("output")) for task in tasks)
        output = next((file for file in files if file.get("url") == output), {"url": output})
    file = as_mapping(output)
    url = as_text(file.get("url"), MAX_URL_LENGTH) or as_text(body.get("output_url"), MAX_URL_LENGTH)
    if not url:
        return None
    links = [
        (as_text(key.removesuffix("_url"), 60), value) for key, value in file.items() if key.endswith("_url")
    ][:10]
    probed = next((task.get("output") for task in tasks if task.get("kind") == "probe"), body.get("source"))
    source = as_mapping(probed)
    return replace(
        _parse_file(file),
        url=url,
        warnings=[as_text(text, 300) for text in as_list(body.get("warnings"))[:10] if isinstance(text, str)],
        extras={name: as_text(value, MAX_URL_LENGTH) for name, value in links if isinstance(value, str)},
        source=_parse_file(source) if isinstance(source.get("codecs"), dict) else None,
    )


def _parse_file(file: Mapping[str, Any]) -> Output:
    """The facts of the API's File, without its URL."""
    codecs = file.get("codecs")
    return Output(
        kind=as_text(file.get("kind"), 60),
        format=as_text(file.get("format"), 60),
        width=as_integer(file.get("width")),
        height=as_integer(file.get("height")),
        duration=as_number(file.get("duration")),
        filesize=as_integer(file.get("filesize")),
        video_codec=as_text(as_mapping(codecs).get("video"), 60) or None,
        audio_codec=as_text(as_mapping(codecs).get("audio"), 60) or None,
        codecs_known=isinstance(codecs, dict),
        filename=as_text(file.get("filename"), 200),
        findings=[_parse_finding(as_mapping(each)) for each in as_list(file.get("findings"))[:MAX_FINDINGS]],
    )


def _parse_finding(found: Mapping[str, Any]) -> Finding:
    return Finding(
        as_text(found.get("output"), 60),
        as_text(found.get("what"), 60),
        as_text(found.get("text"), 200),
        found.get("look") is True,
        as_number(found.get("start")),
        as_number(found.get("end")),
    )


def _parse_failure(body: Mapping[str, Any]) -> tuple[str, str, str]:
    """Kind, message and details of a failed task: its own, else its first failed sub-task's."""
    parts = [part for key in ("tasks", "steps") for part in as_list(body.get(key)) if isinstance(part, dict)]
    failed = [part for part in parts if STATES.get(as_text(part.get("status")).lower()) == TaskState.FAILED]
    for candidate in (body, *failed):
        error = candidate.get("error")
        if isinstance(error, str) and error:
            return "", as_text(error), ""
        fields = as_mapping(error)
        kind = as_text(fields.get("kind"), 60) or as_text(fields.get("code"), 60)
        message = as_text(fields.get("message"))
        if kind or message:
            return kind, message or kind.replace("_", " "), as_text(fields.get("details"), 4000)
    return "", as_text(body.get("message")), ""


def parse_task(answer: object) -> Task:
    """The task in a reply of any documented shape. Raises Broken for one without id or status."""
    body = as_mapping(answer)
    if "id" not in body and isinstance(body.get("data"), dict):
        body = as_mapping(body["data"])
    task_id = body.get("id")
    if not isinstance(task_id, str | int) or not 0 < len(str(task_id)) <= 200 or HALVES.search(str(task_id)):
        raise Broken("The engine’s answer has no task id.")
    status = as_text(body.get("status")).lower()
    if not status:
        raise Broken("The engine’s answer has no status.")
    state = STATES.get(status, TaskState.PROCESSING)
    kind, message, details = (
        _parse_failure(body) if state in (TaskState.FAILED, TaskState.CANCELLED) else ("", "", "")
    )
    if state == TaskState.CANCELLED and not message:
        message = "The engine cancelled the task."
    progress = as_number(body.get("progress"))
    return Task(
        id=str(task_id),
        state=state,
        progress=None if progress is None else min(100.0, max(0.0, progress)),
        output=parse_output(body),
        error_kind=kind,
        error=message or ("The engine gave no reason." if state == TaskState.FAILED else ""),
        details=details,
        speed=as_number(body.get("speed")),
        time_left=as_number(body.get("time_left")),
        queue_position=as_integer(body.get("queue_position")),
        waiting_for=as_text(body.get("waiting_for"), 60),
    )


def parse_error(response: httpx.Response) -> tuple[str, str]:
    """Kind and sentence of an error reply: {kind, message}, {error}, {message} or a web page."""
    try:
        body = as_mapping(json_of(response))
    except ValueError:
        body = {}
    error = body.get("error")
    kind = as_text(body.get("kind"), 60) or as_text(as_mapping(error).get("kind"), 60)
    message = as_text(body.get("message")) or as_text(as_mapping(error).get("message")) or as_text(error)
    return kind, f"The engine answered {response.status_code}" + (
        f": {message[:500]}" if message else f" ({response.reason_phrase or 'no reason given'})."
    )


def _is_json(response: httpx.Response) -> bool:
    """Whether the API itself has answered: a proxy, and a server that has crashed, send a page."""
    try:
        return isinstance(json_of(response), dict)
    except ValueError:
        return False


def check_response(response: httpx.Response) -> None:
    """Raises the fitting IttybitError unless the reply is a success."""
    if response.is_success:
        return
    kind, sentence = parse_error(response)
    after = retry_after(response.headers.get("Retry-After"))
    if response.status_code == 404:
        raise Missing(sentence, kind=kind)
    if response.status_code == 429:
        raise Busy(sentence, retry_after=after)
    if response.status_code in UNAVAILABLE or (response.status_code >= 500 and not _is_json(response)):
        raise Unavailable(sentence, kind=kind if kind in MISSING_PARTS else "", retry_after=after)
    if response.status_code >= 500:
        raise Broken(sentence, kind=kind, retry_after=after)
    if response.status_code in (401, 403):
        sentence = f"{sentence.rstrip('.')}. Ask an admin to check the engine’s API key."
    known = kind in PERMANENT_KINDS and kind != "invalid_input"  # which of a task means its file
    raise Rejected(sentence, kind=kind if known else REFUSALS.get(response.status_code, ""))
