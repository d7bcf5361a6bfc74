"""What can be requested: pipelines, their stages and their retry policies.

Pure: it knows neither Django nor Temporal nor HTTP. These dataclasses travel through Temporal, so
every field that is added needs a default: running workflows hold values without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Union

Option = Union[str, int, float, bool]  # noqa: UP007 - Temporal's converter reads this annotation at run time


OWN = "own"  # the engine of this installation itself, though a cloud is set
CLOUD_THEN_OWN = "cloud_then_own"


@dataclass(frozen=True)
class RetryPolicy:
    """How many attempts a stage has, and how many seconds pass between two of them."""

    attempts: int = 3
    first_interval: float = 5
    backoff: float = 2
    max_interval: float = 300

    def wait(self, failures: int) -> float:
        """Seconds to wait after the *failures*-th failure (1 is the first)."""
        return min(self.first_interval * self.backoff ** (failures - 1), self.max_interval)


def known(shape: Any, kept: dict[str, Any]) -> dict[str, Any]:
    """What is *kept* of a dataclass, but for fields that a newer version of the code has added."""
    return {name: value for name, value in kept.items() if name in shape.__dataclass_fields__}


@dataclass(frozen=True)
class StageDefinition:
    """A step of a pipeline as it is offered: the task it requests, its input, its limits and its retries."""

    name: str
    label: str
    activity: str
    kind: str
    options: dict[str, Option] = field(default_factory=dict)
    needs: str = ""  # the stage whose output is the input; empty: the job's source
    timeout: float = 600  # seconds without progress, and the least time that a task gets
    retry: RetryPolicy = RetryPolicy()
    wants: str = ""  # "video" or "audio": skipped where the input is known to have none
    optional: bool = False  # an extra: its failure leaves the job succeeded
    looks_through: list[str] = field(default_factory=list)  # stages whose outputs it checks
    after: list[str] = field(default_factory=list)  # further stages that it waits for
    engine: str = ""  # OWN, or CLOUD_THEN_OWN; empty: the engine that the installation is set to
    unavailable: str = ""  # why the engine that the job was submitted to has no such kind: it is skipped

    @classmethod
    def from_plan(cls, stage: dict[str, Any]) -> StageDefinition:
        """The stage as a job's plan holds it; what another version of the code has added is left out."""
        return cls(**{**known(cls, stage), "retry": RetryPolicy(**known(RetryPolicy, stage["retry"]))})

    @property
    def output_kind(self) -> str:
        """The kind of its output's file, where the API doesn't say."""
        return {"animation": "image", "adaptive_video": "video"}.get(self.kind, self.kind)


def sort_of(name: str) -> str:
    """The sort of a stage by its *name*: a second one of the sort `audio` is `audio_2`."""
    base, _, number = name.rpartition("_")
    return base if number.isdecimal() and base else name


def task_key(workflow: str, stage: str, number: int) -> str:
    """The Idempotency-Key of a stage's task: the *number*th that was requested."""
    return f"{workflow}/{stage}/{number}"


@dataclass(frozen=True)
class PipelineDefinition:
    """A named set of stages, as offered in the form; *version* counts what was saved under that name."""

    name: str
    label: str
    description: str
    stages: tuple[StageDefinition, ...]
    engine: str = ""
    version: int = 0


INGEST = StageDefinition("ingest", "Ingest", "ingest", "video", {"format": "mp4", "quality": "high"})
THUMBNAILS = StageDefinition(
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
AUDIO = StageDefinition(
    "audio",
    "Audio",
    "extract_audio",
    "audio",
    {"format": "mp3", "quality": "high"},
    needs="ingest",
    timeout=900,
    wants="audio",
)
TRANSCODE = StageDefinition(
    "transcode",
    "Transcode",
    "transcode",
    "video",
    {"width": 1280, "format": "mp4", "codec": "h264", "quality": "medium"},
    needs="ingest",
    wants="video",
)
STORYBOARD = StageDefinition(
    "storyboard",
    "Storyboard",
    "make_storyboard",
    "image",
    {"width": 160, "format": "webp", "interval": 5},
    needs="ingest",
    wants="video",
    optional=True,
)
WAVEFORM = StageDefinition(
    "waveform",
    "Waveform",
    "draw_waveform",
    "audio",
    {"waveform": "json", "waveform_points": 800},
    needs="ingest",
    wants="audio",
    optional=True,
)
PREVIEW = StageDefinition(
    "preview",
    "Preview",
    "animate_preview",
    "animation",
    {"width": 320, "format": "webp", "start": 0, "end": 3, "fps": 10},
    needs="ingest",
    wants="video",
    optional=True,
)
HLS = StageDefinition(
    "hls",
    "HLS",
    "package_hls",
    "adaptive_video",
    {"format": "hls"},
    needs="transcode",
    wants="video",
)

CHECK = StageDefinition(
    "check",
    "Check",
    "check_outputs",
    "check",
    needs="ingest",
    timeout=900,
    optional=True,
    looks_through=["ingest", "audio", "transcode"],
)

SORTS = {  # what a pipeline is put together from
    each.name: each
    for each in (INGEST, THUMBNAILS, AUDIO, TRANSCODE, STORYBOARD, WAVEFORM, PREVIEW, HLS, CHECK)
}
EMBEDDED_ONLY = ("check",)  # kinds that the cloud doesn't have
STORYBOARD_FRAMES = 20  # of the small storyboard beside a thumbnail: ten to a row
NOT_IN_THE_CLOUD = "the check isn’t available with the cloud."
TRY_SECONDS = 10.0
STANDARD = (INGEST, THUMBNAILS, AUDIO, TRANSCODE)
PIPELINES: dict[str, PipelineDefinition] = {
    pipeline.name: pipeline
    for pipeline in (
        PipelineDefinition(
            "standard",
            "Standard",
            "A web-ready 720p video, a thumbnail and an MP3.",
            STANDARD,
        ),
        PipelineDefinition(
            "previews",
            "Web + previews",
            "Everything in Standard, plus a storyboard, a waveform and an animated preview.",
            (*STANDARD, STORYBOARD, WAVEFORM, PREVIEW),
        ),
        PipelineDefinition(
            "streaming",
            "Streaming (HLS)",
            "Everything in Standard, plus an HLS stream that adapts to the viewer’s connection.",
            (*STANDARD, HLS),
        ),
        PipelineDefinition(
            "checked",
            "Standard + check",
            "Everything in Standard, then a look through it for black, silence, loudness, sound out of step.",
            (*STANDARD, CHECK),
        ),
    )
}
DEFAULT = "standard"


def for_engine(pipeline: PipelineDefinition, *, embedded: bool) -> PipelineDefinition:
    """The pipeline as the engine can do it: the *embedded* one, else the cloud, naming what that lacks."""
    if embedded:
        return pipeline
    if pipeline.engine:
        return replace(pipeline, stages=tuple(_made_by(pipeline.engine, stage) for stage in pipeline.stages))
    if not any(stage.kind in EMBEDDED_ONLY for stage in pipeline.stages):
        return pipeline
    sentence = f"{NOT_IN_THE_CLOUD[0].upper()}{NOT_IN_THE_CLOUD[1:]}"
    return replace(
        pipeline,
        label=f"{pipeline.label} (not with the cloud)",
        description=f"{pipeline.description} {sentence}",
        stages=tuple(
            replace(stage, unavailable=NOT_IN_THE_CLOUD) if stage.kind in EMBEDDED_ONLY else stage
            for stage in pipeline.stages
        ),
    )


def _made_by(engine: str, stage: StageDefinition) -> StageDefinition:
    return replace(stage, engine=OWN if stage.kind in EMBEDDED_ONLY else engine)


def for_try(pipeline: PipelineDefinition) -> PipelineDefinition:
    """The pipeline on ten seconds: what works on the source takes no more of it."""
    return replace(pipeline, stages=tuple(map(_for_try, pipeline.stages)))


def _for_try(stage: StageDefinition) -> StageDefinition:
    if stage.kind == "check":  # which would miss the rest of the source
        return replace(stage, unavailable=stage.unavailable or "a try is too short for it.")
    if stage.needs or stage.kind == "image":
        return stage
    start = float(stage.options.get("start", 0))
    end = min(float(stage.options.get("end", start + TRY_SECONDS)), start + TRY_SECONDS)
    return replace(stage, options={**stage.options, "start": start, "end": end})


def allowed_seconds(stage: StageDefinition, duration: float | None, size: int | None) -> float:
    """Seconds that one task of *stage* may take: the stage's timeout, grown with the media.

    *duration* in seconds, *size* in bytes. A 3-hour film gets 60 hours while it progresses:
    slow is not broken. An unknown length gets a day, and nothing more than a month, whatever an API reports.
    """
    if duration is None and size is None:
        return max(stage.timeout, 24 * 3600)
    return min(max(stage.timeout, 20 * (duration or 0), seconds_for(size or 0)), 30 * 24 * 3600)


def seconds_for(size: int) -> float:
    """Seconds that a task may take by the *size* of its source in bytes alone."""
    return 120 + size / 500_000
