"""What programs do to jobs beyond retry and cancel: titles, sources, stages, versions, links.

The verbs are those of the pages, in jobs.control, jobs.finished and jobs.shares. Get, act, answer.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from asgiref.sync import sync_to_async
from ninja import Body, Router, Schema, Status
from pydantic import ConfigDict, Field

from jobs import control, finished, shares
from jobs.api import schemas, submission
from jobs.api.description import answers
from jobs.api.problems import ProblemError
from jobs.api.schemas import Reason, Text, Value
from jobs.api.views import ACT, VERB, act, by, find
from jobs.models import Share
from mediapipe.accounts.login_required import PageRequest

router = Router()


class NewTitle(Schema):
    """Another title of a job."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"title": "Interview"}]})

    title: Annotated[Text, Field(min_length=1, max_length=300)]


class NewSource(Reason):
    """Another source of a job: a URL, or an upload whose bytes are all here."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"url": "https://example.com/final-cut.mp4"}]}
    )

    url: Annotated[Text, Field(max_length=4000)] = ""
    upload: UUID | None = None


class MakeAgain(Reason):
    """What is to be other when a stage is made again; null leaves an option to the engine."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"options": {"width": 640, "quality": "high"}}]}
    )

    options: dict[str, Value | None] = Field({}, max_length=40)


class Frame(Reason):
    """A frame of what a stage has made, by the second at which a player shows it."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"seconds": 12.5}]})

    seconds: Annotated[float, Field(ge=0, le=10**6)]
    stage: Annotated[Text, Field(max_length=40, description="whose output it is")] = "ingest"


class NewLink(Schema):
    """A link for people without an account."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"days": 7}]})

    days: Annotated[int, Field(ge=1, le=shares.MAX_DAYS)] = 7
    password: Annotated[Text, Field(min_length=8, max_length=128)] | None = None


class Link(Schema):
    """A link for people without an account; its address is known only when it is made."""

    id: int
    made_by: str
    created_at: datetime
    expires_at: datetime
    works: bool = Field(description="it hasn’t expired, and who made it may still sign in")
    password: bool = Field(description="whether it asks for one")
    opened: int = Field(description="how often")


class MadeLink(Schema):
    """A link that was just made, and its address."""

    link: str
    share: Link


class Links(Schema):
    """The links to a job, newest first."""

    shares: list[Link]


@router.post("/{uuid:pk}/rename", **VERB, summary="Give a job another title")
async def rename_job(request: PageRequest, pk: UUID, body: Body[NewTitle]) -> Any:
    """The title on every page, and what the list finds it by."""
    return await act(request, pk, control.rename, body.title, *by(request, None))


@router.post(
    "/{uuid:pk}/source",
    auth=ACT,
    response=answers(schemas.Done, 404, 409, 413, 423, 503),
    summary="Replace a job’s source",
)
async def replace_source(request: PageRequest, pk: UUID, body: Body[NewSource]) -> Any:
    """Runs the job again on another file or link; what it has made stays as earlier versions."""
    job = await find(request, pk)
    try:
        await finished.check_replaceable(job)
    except control.NotPossible as error:
        raise ProblemError(409, str(error)) from None
    source, upload = await submission.source_of(request.user, body.url, body.upload)
    return await act(request, pk, finished.replace_source, source, *by(request, body), upload)


@router.post("/{uuid:pk}/thumbnail", **VERB, summary="Use a frame as the thumbnail")
async def use_frame(request: PageRequest, pk: UUID, body: Body[Frame]) -> Any:
    """Makes the thumbnail of the frame that is shown at so many seconds."""
    return await act(request, pk, finished.use_frame, body.seconds, body.stage, *by(request, body))


@router.post("/{uuid:pk}/stages/{slug:name}/make-again", **VERB, summary="Make a stage again")
async def make_stage_again(
    request: PageRequest, pk: UUID, name: str, body: Body[MakeAgain | None] = None
) -> Any:
    """Makes a stage of a finished job again with other options, and what needs it; what it was stays."""
    changes = body.options if body else {}
    return await act(request, pk, finished.make_again, name, changes, *by(request, body))


@router.post("/{uuid:pk}/stages/{slug:name}/add", **VERB, summary="Add a stage of another pipeline")
async def add_stage(
    request: PageRequest, pk: UUID, name: str, body: Body[schemas.Reason | None] = None
) -> Any:
    """Adds a stage that another pipeline has to a finished job, such as `hls`."""
    return await act(request, pk, finished.add_stage, name, *by(request, body))


@router.post("/{uuid:pk}/versions/{int:number}/use", **VERB, summary="Go back to an earlier version")
async def use_version(request: PageRequest, pk: UUID, number: int) -> Any:
    """Uses an earlier version again; what it replaces becomes one."""
    return await act(request, pk, finished.go_back, number, *by(request, None))


@router.delete("/{uuid:pk}/versions/{int:number}", **VERB, summary="Remove an earlier version")
async def remove_version(request: PageRequest, pk: UUID, number: int) -> Any:
    """Removes an earlier version and its files."""
    return await act(request, pk, finished.remove_version, number, *by(request, None))


@router.get("/{uuid:pk}/shares", response=answers(Links, 404), summary="The links to a job")
async def list_shares(request: PageRequest, pk: UUID) -> dict[str, Any]:
    """Who made them, until when they work, and how often they were opened."""
    job = await find(request, pk)
    return {"shares": await sync_to_async(lambda: list(map(_about, job.shares.all())))()}


def _about(share: Share) -> dict[str, Any]:
    """What is said of a link: never its password, nor a hash. It asks the database."""
    shown = ("made_by", "created_at", "expires_at", "works", "opened")
    about = {name: getattr(share, name) for name in shown}
    return {"id": share.pk, "password": bool(share.password), **about}


@router.post(
    "/{uuid:pk}/shares",
    auth=ACT,
    response=answers(MadeLink, 404, 409, status=201),
    summary="Make a link for people without an account",
)
async def share_job(request: PageRequest, pk: UUID, body: Body[NewLink | None] = None) -> Any:
    """A page with what the job has made, for whoever has the link. Its address is shown this once."""
    job = await find(request, pk)
    wanted = body or NewLink()
    make = sync_to_async(shares.make)
    try:
        share, token = await make(job, request.user.get_username(), wanted.days, wanted.password or "")
    except control.NotPossible as error:
        raise ProblemError(409, str(error)) from None
    return Status(201, {"link": shares.address(token), "share": await sync_to_async(_about)(share)})


@router.delete("/{uuid:pk}/shares/{int:number}", **VERB, summary="Revoke a link")
async def revoke_share(request: PageRequest, pk: UUID, number: int) -> Any:
    """It doesn’t work any more, from this moment."""
    return await act(request, pk, _revoke, number, request.user.get_username())


async def _revoke(job: Any, number: int, actor: str) -> str:
    return await sync_to_async(shares.revoke)(job, number, actor)
