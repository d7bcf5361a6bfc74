"""Where jobs and stages stand, what a job starts with, and the names that its workflow's history holds.

Pure, and it crosses Temporal: it knows neither Django nor HTTP. Only small dataclasses, no bytes and no keys;
every field that is added needs a default, because running workflows hold values without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from jobs.findings import Finding
from jobs.pipelines import StageDefinition
from jobs.result import PipelineResult

# Names that running workflows and their histories hold. The stages' activities are named by the pipelines.
TASK_QUEUE = "media-pipeline"
CREATE_TASK = "create_task"
CANCEL_TASK = "cancel_task"
CANCEL_UNANSWERED = "cancel_unanswered"
KEEP_OUTPUT = "keep_output"
RECORD = "record"

# Suffixes of the task queue's name: however many stages wait on the queue itself, for hours sometimes, tasks
# are created, cancelled and recorded on the control queue and outputs copied on the other.
CONTROL = "-control"
TRANSFERS = "-transfers"

STAGE_FAILED = "StageFailed"  # the types of ApplicationError that it distinguishes
HANDED_OVER = "HandedOver"


def workflow_id(job_id: str) -> str:
    """The id of the workflow of a job; a job that is restarted keeps it."""
    return f"media-{job_id}"


class StageState(StrEnum):
    """Where a stage stands."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class JobState(StrEnum):
    """Where a job stands; `attention`: a stage has used up its attempts and waits for a person."""

    QUEUED = "queued"
    RUNNING = "running"
    ATTENTION = "attention"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


PASSED = (StageState.SUCCEEDED, StageState.SKIPPED)  # the stages that need it may begin
SETTLED = (StageState.SUCCEEDED, StageState.FAILED, StageState.SKIPPED, StageState.CANCELLED)
ACTIVE = (JobState.QUEUED, JobState.RUNNING, JobState.ATTENTION)
FINISHED = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True)
class Output:
    """A stage's output. *name*: a file in our storage (mediapipe.storage); else *url* is the API's."""

    url: str = ""
    name: str = ""
    kind: str = ""
    format: str = ""
    width: int | None = None
    height: int | None = None
    duration: float | None = None  # seconds
    filesize: int | None = None  # bytes
    video_codec: str | None = None
    audio_codec: str | None = None
    codecs_known: bool = False
    warnings: list[str] = field(default_factory=list)
    extras: dict[str, str] = field(default_factory=dict)  # a storyboard's "vtt": url or name
    source: Output | None = None  # facts of the file it was produced from, where the API reports them
    findings: list[Finding] = field(default_factory=list)  # of a check
    filename: str = ""  # of a source: what its server calls it

    @property
    def names(self) -> set[str]:
        """The files in our storage that it consists of."""
        return {name for name in (self.name, *self.extras.values()) if name}

    def has(self, what: str) -> bool | None:
        """Whether it contains "video" or "audio"; None where the API didn't say."""
        if not self.codecs_known:
            return None
        return bool(self.video_codec if what == "video" else self.audio_codec)


@dataclass(frozen=True)
class Source:
    """The input of a job: an http(s) *url*, or *name*, a file in our storage (mediapipe.storage)."""

    url: str = ""
    name: str = ""
    filename: str = ""
    size: int | None = None


@dataclass
class Attempt:
    """One attempt of a stage, for the time axis; times are unix seconds."""

    number: int
    started_at: float
    finished_at: float | None = None
    outcome: str = ""  # succeeded, failed, lost, interrupted, handed over, cancelled
    error: str = ""


@dataclass
class StageStatus:
    """A stage as the status query reports it; times are unix seconds, progress is 0 to 100."""

    name: str
    label: str = ""
    state: StageState = StageState.PENDING
    attempt: int = 0
    max_attempts: int = 0
    progress: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    retry_at: float | None = None  # when the next attempt begins
    task_id: str | None = None
    output: Output | None = None
    error: str | None = None
    error_kind: str | None = None
    details: str | None = None  # the engine's own last lines
    attempts: list[Attempt] = field(default_factory=list)
    tries: int = 0  # tasks requested so far
    engine: str = ""  # OWN where that one has its task, though the installation is set to a cloud


@dataclass(frozen=True)
class PipelineInput:
    """The input of a job's workflow: the plan is data, fixed at submission."""

    job_id: str
    source: Source = field(default_factory=Source)
    stages: list[StageDefinition] = field(default_factory=list)
    submitted_by: str = ""
    reason: str = ""
    hold_days: float = 7
    first_seq: int = 0  # a restarted workflow continues to count where the last one stopped
    carried: dict[str, StageStatus] = field(default_factory=dict)  # stages an earlier run has finished
    tries: dict[str, int] = field(default_factory=dict)  # tasks requested by an earlier run, per stage
    run: int = 1  # which workflow of this job it is
    heartbeat_timeout: float = 30  # seconds of silence after which another worker takes an activity over
    searchable: bool = False  # Temporal knows our search attributes: of others an upsert would stop the job


@dataclass
class EventRecord:
    """Something that happened to a job, and who did it."""

    seq: int
    at: float
    kind: str
    stage: str = ""
    actor: str = ""
    text: str = ""


@dataclass
class PipelineStatus:
    """A job as the status query reports it, and as its workflow returns it; *seq* rises with every change."""

    job_id: str
    state: JobState = JobState.RUNNING
    seq: int = 0
    stages: list[StageStatus] = field(default_factory=list)
    cancelling: bool = False
    receipt: str = ""  # after a cancel: what was stopped and which outputs remain
    error: str = ""
    started_at: float | None = None
    finished_at: float | None = None
    result: PipelineResult | None = None  # of a job that has succeeded, as its workflow returns it

    def brief(self) -> PipelineStatus:
        """The status for the memo, without what is long: every change adds a copy to the history."""
        stages = [replace(stage, attempts=stage.attempts[-3:], details=None) for stage in self.stages]
        return replace(self, stages=stages, result=None)

    def stage(self, name: str) -> StageStatus:
        """The stage called *name*. Raises KeyError."""
        return {stage.name: stage for stage in self.stages}[name]
