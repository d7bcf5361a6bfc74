"""What crosses Temporal between the workflow and its activities.

Pure, as jobs.pipelines: only small dataclasses, every field with a default, no bytes and no keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jobs.pipelines import EventRecord, Option, Output, PipelineStatus, Source

# The types of ApplicationError that the workflow tells apart.
FAILED = "StageFailed"
HANDED_OVER = "HandedOver"

# Behind a task queue's name: the queues of what is done at once, and of copying. A stage only waits,
# for hours sometimes; however many wait, tasks are asked for, cancelled, kept and recorded meanwhile.
DESK, COPIES = "-desk", "-copies"


@dataclass(frozen=True)
class TaskRequest:
    """A task to ask for. *key* makes the asking idempotent."""

    job_id: str
    stage: str = ""
    kind: str = ""
    options: dict[str, Option] = field(default_factory=dict)
    source: Source = field(default_factory=Source)
    key: str = ""
    owner: str = ""
    activity_id: str = ""  # of the stage's activity that will await the task: for the webhook


@dataclass(frozen=True)
class TaskWatch:
    """A task to await: *allowed* seconds of work in all, *stall* seconds without progress."""

    task_id: str
    allowed: float = 600
    stall: float = 600


@dataclass(frozen=True)
class Beat:
    """What a stage's activity tells with each heartbeat."""

    state: str = ""
    progress: float | None = None
    speed: float | None = None
    time_left: float | None = None
    queue_position: int | None = None
    waiting_for: str = ""
    trouble: str = ""  # the engine's last refusal, while the activity goes on asking
    next_at: float | None = None  # unix seconds of the next question after a refusal


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed, as details of an ApplicationError.

    *outage*: nobody's attempt (the engine is away or asks for patience). *task_over*: the task will
    never succeed, the next attempt needs a new one. *stop*: it must be stopped before that.
    """

    kind: str = ""
    permanent: bool = False
    outage: bool = False
    retry_after: float | None = None
    task_over: bool = False
    stop: bool = False
    details: str = ""


@dataclass(frozen=True)
class Cancellation:
    """What cancelling a task came to. *supported*: false where the API knows no cancel."""

    supported: bool = True
    encoder_stopped: bool = False
    freed_bytes: int = 0


@dataclass(frozen=True)
class KeepRequest:
    """An output of the API to copy into our storage, because its URL may not last."""

    job_id: str
    stage: str = ""
    key: str = ""
    output: Output = field(default_factory=Output)


@dataclass(frozen=True)
class RecordRequest:
    """A status and the events since the last recording."""

    job_id: str
    status: PipelineStatus = field(default_factory=lambda: PipelineStatus(""))
    events: list[EventRecord] = field(default_factory=list)
    run: int = 0  # of the workflow that tells it: an older one has nothing to say any more


@dataclass(frozen=True)
class RetryRequest:
    """A person's wish to run a failed stage again; no *stage*: all that failed.

    *tries*: how many tasks the person saw the stage ask for; a second click is out of date.
    """

    stage: str = ""
    actor: str = ""
    reason: str = ""
    tries: int | None = None
