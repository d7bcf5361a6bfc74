"""What the workflow asks of its activities and what they report and answer, and what people ask of it.

Pure. It crosses Temporal as jobs.state does: every field that is added needs a default.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jobs.pipelines import Option
from jobs.state import EventRecord, Output, PipelineStatus, Source


@dataclass(frozen=True)
class TaskRequest:
    """A task to create for a *run* of a job. *key* is its Idempotency-Key: the same key is the same task."""

    job_id: str
    stage: str = ""
    kind: str = ""
    options: dict[str, Option] = field(default_factory=dict)
    source: Source = field(default_factory=Source)
    key: str = ""
    owner: str = ""
    activity_id: str = ""  # of the stage's activity that will await the task: for the webhook
    run: int = 0
    outputs: dict[str, Source] = field(default_factory=dict)  # for a check, by their stages
    engine: str = ""  # OWN, or the one that the installation is set to


@dataclass(frozen=True)
class TaskWatch:
    """A task to await: *allowed* seconds of work in all, *stall* seconds without progress.

    *source*: what the task works on, where neither its length nor its size is known: *allowed* is a guess.
    *seen*: what the activity before this one has last reported of the same task.
    *asked_at*: when it was asked for (unix seconds), where this activity is the first that awaits it; else 0.
    """

    task_id: str
    allowed: float = 600
    stall: float = 600
    source: Source | None = None
    seen: HeartbeatDetails | None = None
    engine: str = ""
    asked_at: float = 0.0


@dataclass(frozen=True)
class HeartbeatDetails:
    """What a stage's activity reports with each heartbeat."""

    state: str = ""
    progress: float | None = None
    speed: float | None = None
    time_left: float | None = None
    queue_position: int | None = None
    waiting_for: str = ""
    last_error: str = ""  # of the engine, while the activity keeps trying
    next_at: float | None = None  # unix seconds of the next try after an error
    since: float | None = None  # unix seconds from which on the task has been in that state
    stage: str = ""  # whose activity it is, where the activity's id doesn't say so
    at: float = 0.0  # unix seconds at which it was sent


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed, as details of an ApplicationError.

    *outage*: what the stage needs is away or asks us to wait, which costs no attempt. *task_over*: it can't
    succeed: the next attempt needs a new one, *stop* cancels it before. *unanswered*: its id never came.
    """

    kind: str = ""
    permanent: bool = False
    outage: bool = False
    retry_after: float | None = None
    task_over: bool = False
    stop: bool = False
    details: str = ""
    unanswered: bool = False


@dataclass(frozen=True)
class Cancellation:
    """The result of cancelling a task. *supported*: false where the API has no cancel."""

    supported: bool = True
    encoder_stopped: bool = False
    freed_bytes: int = 0
    output: Output | None = None  # of a task that was done already


@dataclass(frozen=True)
class KeepRequest:
    """An output of the API to copy into our storage."""

    job_id: str
    stage: str = ""
    key: str = ""
    output: Output = field(default_factory=Output)


@dataclass(frozen=True)
class RecordRequest:
    """A status and the events since the last recording; stale ones of an earlier *run* are ignored."""

    job_id: str
    status: PipelineStatus = field(default_factory=lambda: PipelineStatus(""))
    events: list[EventRecord] = field(default_factory=list)
    run: int = 0


@dataclass(frozen=True)
class RetryRequest:
    """A person's request to run a failed stage again; no *stage*: all that failed."""

    stage: str = ""
    actor: str = ""
    reason: str = ""
    tries: int | None = None  # that the stage had requested then: a second click is out of date
