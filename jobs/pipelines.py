"""What can be asked for: pipelines, their stages and retry policies, and the words a run speaks in.

Pure: it knows neither Django nor Temporal nor HTTP. These dataclasses travel through Temporal, so
every field that is added needs a default: running workflows hold values without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Union

Option = Union[str, int, float, bool]  # noqa: UP007 - Temporal's converter reads this annotation at run time


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


GOOD = (StageState.SUCCEEDED, StageState.SKIPPED)  # what follows may begin
SETTLED = (StageState.SUCCEEDED, StageState.FAILED, StageState.SKIPPED, StageState.CANCELLED)
ACTIVE = (JobState.QUEUED, JobState.RUNNING, JobState.ATTENTION)
FINISHED = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True)
class RetryPolicy:
    """How often a stage is tried, and how long it waits between two attempts (seconds)."""

    attempts: int = 3
    first_interval: float = 5
    backoff: float = 2
    max_interval: float = 300

    def wait(self, failures: int) -> float:
        """Seconds to wait after the *failures*-th failure (1 is the first)."""
        return min(self.first_interval * self.backoff ** (failures - 1), self.max_interval)


@dataclass(frozen=True)
class Stage:
    """One step of a pipeline: which task it asks for, of whose output, and how patiently."""

    name: str
    label: str
    activity: str
    kind: str
    options: dict[str, Option] = field(default_factory=dict)
    needs: str = ""  # the stage whose output is the input; none: the job's source
    timeout: float = 600  # seconds without progress, and the least time that a task gets
    retry: RetryPolicy = RetryPolicy()
    wants: str = ""  # "video" or "audio": skipped where the input is known to have none
    optional: bool = False  # an extra: its failure leaves the job succeeded


@dataclass(frozen=True)
class Pipeline:
    """A named set of stages, as offered in the form."""

    name: str
    label: str
    description: str
    stages: tuple[Stage, ...]


INGEST = Stage("ingest", "Ingest", "ingest", "video", {"format": "mp4", "quality": "high"})
THUMBNAILS = Stage(
    "thumbnails",
    "Thumbnails",
    "generate_thumbnails",
    "image",
    {"width": 640, "format": "webp", "start": 2},
    needs="ingest",
    timeout=120,
    retry=RetryPolicy(attempts=5, first_interval=2),
    wants="video",
)
AUDIO = Stage(
    "audio",
    "Audio",
    "extract_audio",
    "audio",
    {"format": "mp3", "quality": "high"},
    needs="ingest",
    timeout=900,
    wants="audio",
)
TRANSCODE = Stage(
    "transcode",
    "Transcode",
    "transcode",
    "video",
    {"width": 1280, "format": "mp4", "codec": "h264", "quality": "medium"},
    needs="ingest",
    wants="video",
)
STORYBOARD = Stage(
    "storyboard",
    "Storyboard",
    "make_storyboard",
    "image",
    {"width": 160, "format": "webp", "interval": 5},
    needs="ingest",
    wants="video",
    optional=True,
)
WAVEFORM = Stage(
    "waveform",
    "Waveform",
    "draw_waveform",
    "audio",
    {"waveform": "json", "waveform_points": 800},
    needs="ingest",
    wants="audio",
    optional=True,
)
PREVIEW = Stage(
    "preview",
    "Preview",
    "animate_preview",
    "animation",
    {"width": 320, "format": "webp", "start": 0, "end": 3, "fps": 10},
    needs="ingest",
    wants="video",
    optional=True,
)
HLS = Stage(
    "hls",
    "HLS",
    "package_hls",
    "adaptive_video",
    {"format": "hls"},
    needs="transcode",
    wants="video",
)

STANDARD = (INGEST, THUMBNAILS, AUDIO, TRANSCODE)
PIPELINES: dict[str, Pipeline] = {
    pipeline.name: pipeline
    for pipeline in (
        Pipeline(
            "standard",
            "Standard",
            "Ingest, then thumbnails, audio and a 1280-wide H.264 for the web.",
            STANDARD,
        ),
        Pipeline(
            "previews",
            "With previews",
            "Standard, plus a hover storyboard, the audio's waveform and an animated preview.",
            (*STANDARD, STORYBOARD, WAVEFORM, PREVIEW),
        ),
        Pipeline(
            "streaming",
            "Streaming (HLS)",
            "Standard, plus an HLS stream of the transcode that suits fast and slow lines.",
            (*STANDARD, HLS),
        ),
    )
}
DEFAULT = "standard"
ACTIVITIES: tuple[str, ...] = tuple(
    dict.fromkeys(stage.activity for pipeline in PIPELINES.values() for stage in pipeline.stages)
)


def allowed_seconds(stage: Stage, duration: float | None, size: int | None) -> float:
    """How long one task of *stage* may work: the stage's timeout, grown with the media.

    *duration* in seconds, *size* in bytes. A 3-hour film gets 60 hours where it keeps progressing:
    slow is not broken. An unknown length gets a day, and nothing more than a month, whatever an API says.
    """
    if duration is None and size is None:
        return max(stage.timeout, 24 * 3600)
    return min(max(stage.timeout, 20 * (duration or 0), 120 + (size or 0) / 500_000), 30 * 24 * 3600)


@dataclass(frozen=True)
class Output:
    """What a stage made. *name*: our own file (mediapipe.files); else *url* is the API's."""

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
    source: Output | None = None  # what it was made of, where the API tells

    @property
    def names(self) -> set[str]:
        """Our own files that it consists of."""
        return {name for name in (self.name, *self.extras.values()) if name}

    def has(self, what: str) -> bool | None:
        """Whether there is "video" or "audio" inside; None where the API didn't tell."""
        if not self.codecs_known:
            return None
        return bool(self.video_codec if what == "video" else self.audio_codec)


@dataclass(frozen=True)
class Source:
    """What a job works on: an http(s) *url*, or *name*, our own file (mediapipe.files)."""

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
    outcome: str = ""  # succeeded, failed, lost, handed over, cancelled
    error: str = ""


@dataclass
class StageStatus:
    """A stage as the status query tells it; times are unix seconds, progress 0 to 100."""

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
    tries: int = 0  # tasks asked for so far


@dataclass(frozen=True)
class PipelineInput:
    """A job as its workflow gets it: the plan is data, fixed at submission."""

    job_id: str
    source: Source = field(default_factory=Source)
    stages: list[Stage] = field(default_factory=list)
    submitted_by: str = ""
    reason: str = ""
    hold_days: float = 7
    first_seq: int = 0  # a restarted workflow goes on counting where the last one stopped
    carried: dict[str, StageStatus] = field(default_factory=dict)  # stages an earlier run has finished
    tries: dict[str, int] = field(default_factory=dict)  # tasks asked for by an earlier run, per stage
    run: int = 1  # which workflow of this job it is


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
    """A job as the status query tells it; *seq* rises with every change."""

    job_id: str
    state: JobState = JobState.RUNNING
    seq: int = 0
    stages: list[StageStatus] = field(default_factory=list)
    cancelling: bool = False
    receipt: str = ""  # after a cancel: what was stopped, what was kept
    error: str = ""
    started_at: float | None = None
    finished_at: float | None = None

    def brief(self) -> PipelineStatus:
        """As the memo tells it: each change adds one to the history, so it leaves out what is long."""
        short = [replace(stage, attempts=stage.attempts[-3:], details=None) for stage in self.stages]
        return replace(self, stages=short)

    def stage(self, name: str) -> StageStatus:
        """The stage called *name*. Raises KeyError."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(name)
