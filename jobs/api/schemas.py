"""What the API takes and gives, for its description: the shapes are those of jobs.serialize."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal
from uuid import UUID

from ninja import Schema
from pydantic import BaseModel, ConfigDict, Field

from jobs import pipelines
from jobs.state import JobState, StageState

Value = bool | int | float | Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]  # of an option
Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]  # no text has a NUL, and Postgres stores none

# As text, since validating may write a moment in another way than the commands do.
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class Problem(Schema):
    """An error by RFC 9457; `detail` is a sentence for people."""

    type: str
    title: str
    status: int
    detail: str


class NewJob(Schema):
    """A job to create: from a URL, or from an upload whose bytes are all here."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"url": "https://example.com/interview.mp4", "title": "Interview", "pipeline": "standard"}
            ]
        },
    )

    url: Annotated[Text, Field(max_length=4000)] = ""
    upload: UUID | None = None
    title: Annotated[Text, Field(max_length=300)] = ""
    pipeline: Annotated[Text, Field(max_length=40, description="its name")] = pipelines.DEFAULT


class Reason(Schema):
    """Why somebody acts, for the job's timeline."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"reason": "The disk is back"}]}
    )

    reason: Annotated[Text, Field(max_length=500)] = ""


class Filters(Schema):
    """The list's own filters, and which page of it."""

    q: Annotated[Text, Field(max_length=200, description="in the title, the file’s name or the owner’s")] = ""
    tab: Literal["", "running", "attention", "failed", "done", "cancelled"] = ""
    state: Literal[("", *map(str, JobState))] = ""  # type: ignore[valid-type]
    pipeline: Annotated[Text, Field(max_length=40, description="its name")] = ""
    owner: Annotated[Text, Field(max_length=200)] = ""
    since: Annotated[date | None, Field(alias="from", description="submitted on this day or later")] = None
    to: Annotated[date | None, Field(description="submitted on this day or before")] = None
    batch: Annotated[UUID | None, Field(description="of this batch")] = None
    sort: Literal["", "oldest", "title"] = ""
    limit: Annotated[int, Field(ge=1, le=100)] = 25
    cursor: Annotated[str, Field(max_length=4000, description="“next” of the page before")] = ""


# What an answer has hundreds of is pydantic's own: ninja's Schema wraps each to read it from objects.
class Finding(BaseModel):
    """What a check says of a stage’s output; null seconds: so over its whole length."""

    output: str = Field(examples=["transcode"])
    what: str = Field(examples=["silent"])
    text: str = Field(examples=["silence 3:12 to 3:40"])
    look: bool = Field(description="a person should look at it; else it is information")
    start: float | None
    end: float | None


class Output(BaseModel):
    """A file that a stage made; its URL works for a week where it is one of ours."""

    url: str
    kind: str
    format: str
    width: int | None
    height: int | None
    duration: float | None
    filesize: int | None
    warnings: list[str]
    findings: list[Finding]


class EarlierVersion(BaseModel):
    """An output that was replaced when its stage was made again."""

    id: int
    made_at: Moment | None
    options: dict[str, Value]
    output: Output


class Stage(BaseModel):
    """A stage of a job."""

    name: str = Field(examples=["transcode"])
    state: StageState
    attempt: int
    max_attempts: int
    progress: float | None = Field(description="percent")
    started_at: Moment | None
    finished_at: Moment | None
    retry_at: Moment | None
    task_id: str | None
    engine: str = Field(description="“own” for this installation’s, or “cloud”")
    output: Output | None
    error: str | None
    options: dict[str, Value] = Field(description="with which it is made")
    earlier_versions: list[EarlierVersion] = Field(description="what it was before, newest first")


class Result(BaseModel):
    """What the job was submitted for; null where a stage was skipped."""

    ingested_url: str | None
    thumbnail_url: str | None
    audio_url: str | None
    transcoded_url: str | None


class Job(BaseModel):
    """A job, as `status --json` prints it; `version` changes whenever anything else in it does."""

    id: UUID
    workflow_id: str
    status: JobState
    url: str = Field(description="its page")
    result: Result | None
    title: str
    pipeline: str
    pipeline_version: int
    cancelling: bool
    receipt: str | None
    error: str | None
    started_at: Moment | None
    finished_at: Moment | None
    removed: dict[str, Moment] = Field(
        description="what was kept for its days and has gone: `source`, `outputs`, `timeline`; and when"
    )
    stages: list[Stage]
    owner: str
    created_at: Moment
    note: str | None = Field(description="why it waits, as a sentence")
    version: str


class JobPage(Schema):
    """A page of the list."""

    jobs: list[Job]
    next: str | None = Field(description="the cursor of the next page; null on the last one")


class Event(Schema):
    """A line of a job's timeline."""

    at: datetime
    kind: str
    stage: str
    actor: str
    text: str


class Events(Schema):
    """A job's timeline, oldest first."""

    events: list[Event]


class Done(Schema):
    """What was done, as a sentence."""

    message: str = Field(examples=["Cancel requested. Finished outputs are kept."])


class PipelineStage(Schema):
    """A stage as a pipeline offers it."""

    name: str
    label: str
    kind: str
    needs: str = Field(description="the stage whose output it works on; empty: the source")
    after: list[str] = Field(description="further stages that it waits for")
    max_attempts: int


class Pipeline(Schema):
    """A pipeline that a job may be submitted with."""

    name: str
    label: str
    description: str
    version: int = Field(description="raised whenever an admin saves another one")
    default: bool
    stages: list[PipelineStage]


class Pipelines(Schema):
    """What can be requested."""

    pipelines: list[Pipeline]
