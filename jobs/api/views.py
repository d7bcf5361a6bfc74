"""The dashboard's own API at /api/v1/, for programs: get, act, answer.

What a job is and what may be done to it is decided where the pages have it decided: in jobs.control,
jobs.serialize, jobs.live and searching. Errors are problems with a sentence.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, Concatenate
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db.models import prefetch_related_objects
from django.http import Http404, HttpRequest, HttpResponse, QueryDict, RawPostDataException
from ninja import Body, Query, Status
from ninja.errors import HttpError, ValidationError
from ninja.params import functions as params
from ninja.security import HttpBearer

from jobs import control, serialize
from jobs.api import schemas, submission
from jobs.api.bearer import act_as_owner, authenticate
from jobs.api.cursor import page
from jobs.api.description import ABOUT, Described, answers
from jobs.api.problems import ProblemError, answer
from jobs.dashboard.searching import ORDERS, in_tab, search
from jobs.live import Live, reader
from jobs.models import Job, Pipeline
from jobs.pipelines import DEFAULT
from jobs.removal import deleting, trash
from mediapipe.accounts.login_required import PageRequest

LOOK_INTERVAL = 0.5  # seconds between two looks at a job that is waited for
NO_JOB = "There’s no such job, or it isn’t yours."
Verb = Callable[Concatenate[Job, ...], Awaitable[str]]  # of jobs.control
KEY = params.Header(
    "",
    alias="Idempotency-Key",
    pattern=r"^[!-~]{0,200}$",
    description="the same key twice is one job",
)
CANCEL = params.Query(False, description="whether to cancel the job first where it still runs")
WAIT = params.Query(0, ge=0, le=60, description="seconds to wait for a version other than *since*")
SINCE = params.Query("", max_length=64, description="“version” of the answer before")


class Token(HttpBearer):
    """A bearer token with a scope."""

    def __init__(self, scope: str) -> None:
        self.scope = scope
        super().__init__()

    def __call__(self, request: HttpRequest) -> Any:
        """The token, whose owner the request then acts as. Raises ProblemError."""
        token = authenticate(request, self.scope)
        act_as_owner(request, token)
        return token

    def authenticate(self, request: HttpRequest, token: str) -> Any:
        """Not called: __call__ reads the header itself."""


api = Described(
    title="mediapipe", version="1", description=ABOUT, docs_url=None, urls_namespace="api", auth=Token("read")
)
SUBMIT = Token("submit")
ACT = Token("act")


@api.exception_handler(ProblemError)
def _problem(request: HttpRequest, error: ProblemError) -> HttpResponse:
    return error.response()


@api.exception_handler(Http404)
def _missing(request: HttpRequest, error: Http404) -> HttpResponse:
    return answer(404, NO_JOB)


@api.exception_handler(RawPostDataException)  # a form, which was read as one
@api.exception_handler(HttpError)
def _refused(request: HttpRequest, error: HttpError | RawPostDataException) -> HttpResponse:
    status = error.status_code if isinstance(error, HttpError) else 400
    return answer(status, "The body of this request isn’t valid JSON.")


@api.exception_handler(ValidationError)
def _invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    first = error.errors[0]
    where = ".".join(str(part) for part in first["loc"][1:] if part not in ("body", "filters")) or "body"
    return answer(422, f"“{where[:100]}” isn’t right: {first['msg']}.")


def _full(job: Job, live: Live) -> dict[str, Any]:
    """A job as the API has it; its version is made of all that it says."""
    about = {**serialize.full(job, live.status), "note": f"{live.banner}".strip() or None}
    text = json.dumps(about, sort_keys=True).encode()
    return {**about, "version": hashlib.blake2b(text, digest_size=12).hexdigest()}


async def _look(job: Job) -> dict[str, Any]:
    live = await reader.aread(job)
    return await sync_to_async(_full)(job, live)


async def find(request: PageRequest, pk: UUID) -> Job:
    """The job, if the token's owner may see it. Raises ProblemError."""
    job = await Job.objects.visible_to(request.user).select_related("owner").filter(pk=pk).afirst()
    if job is None:
        raise ProblemError(404, NO_JOB)
    return job


@api.get("/pipelines", response=answers(schemas.Pipelines), summary="What a job may be submitted with")
def list_pipelines(request: HttpRequest) -> dict[str, Any]:
    """Every pipeline that the token’s owner may use, and its stages."""
    return {
        "pipelines": [
            {
                "name": pipeline.name,
                "label": pipeline.label,
                "description": pipeline.description,
                "version": pipeline.version,
                "default": pipeline.name == DEFAULT,
                "stages": [
                    {
                        "name": stage.name,
                        "label": stage.label,
                        "kind": stage.kind,
                        "needs": stage.needs,
                        "after": stage.after,
                        "max_attempts": stage.retry.attempts,
                    }
                    for stage in pipeline.stages
                ],
            }
            for pipeline in Pipeline.usable_by(request.user).values()
        ]
    }


@api.get("/jobs", response=answers(schemas.JobPage), summary="The list")
def list_jobs(request: PageRequest, filters: Query[schemas.Filters]) -> dict[str, Any]:
    """The jobs that the list shows for the same filters, a page at a time."""
    query = QueryDict(mutable=True)
    query.update({name: str(value) for name, value in filters.dict(by_alias=True).items() if value})
    jobs = in_tab(search(request.user, query), filters.tab).defer("searched")
    found, following = page(jobs, ORDERS[filters.sort], filters.cursor, filters.limit)
    live = reader.read_many(job for job in found if job.active)
    prefetch_related_objects([job for job in found if job.pk not in live], "stages")
    prefetch_related_objects(found, "owner", "earlier_versions", "removals")
    return {
        "jobs": [_full(job, live[job.pk] if job.pk in live else Live(job.status())) for job in found],
        "next": following,
    }


@api.post(
    "/jobs",
    auth=SUBMIT,
    response={**answers(schemas.Job, 404, 409, 413, 423, 503, status=201), 200: schemas.Job},
    summary="Submit a job",
)
async def create_job(
    request: PageRequest,
    response: HttpResponse,
    body: Body[schemas.NewJob],
    idempotency_key: str = KEY,
) -> Any:
    """Creates and starts a job; 200 where the same request has created it before."""
    job, new = await submission.create(request.user, body, idempotency_key)
    if job.workflow_started_at is None:
        await control.start(job)
    response["Location"] = f"{request.path}/{job.pk}"
    return Status(201 if new else 200, await _look(await find(request, job.pk)))


@api.get("/jobs/{uuid:pk}", response=answers(schemas.Job, 404), summary="One job")
async def read_job(
    request: PageRequest,
    pk: UUID,
    wait: int = WAIT,
    since: str = SINCE,
) -> dict[str, Any]:
    """The job as it is; with *wait* and *since* once it is other than it was, or when the time is over."""
    until = time.monotonic() + wait
    while True:
        found = await _look(await find(request, pk))
        if found["version"] != since or time.monotonic() + LOOK_INTERVAL > until:
            return found
        await asyncio.sleep(LOOK_INTERVAL)


@api.get("/jobs/{uuid:pk}/events", response=answers(schemas.Events, 404), summary="A job’s timeline")
async def list_events(request: PageRequest, pk: UUID) -> dict[str, Any]:
    """What happened to the job, when, and who did it."""
    job = await find(request, pk)
    return {"events": [event async for event in job.events.all()]}


async def act(request: PageRequest, pk: UUID, verb: Verb, *arguments: object) -> dict[str, Any]:
    """Does what a button does. Raises ProblemError: 404, 409 if it isn't possible, 503 if it is kept."""
    job = await find(request, pk)
    try:
        return {"message": await verb(job, *arguments)}
    except control.NotPossible as error:
        raise ProblemError(409, str(error)) from None
    except control.TemporalUnavailable as error:
        raise ProblemError(503, str(error), Retry_After=5) from None


def by(request: PageRequest, body: schemas.Reason | None) -> tuple[str, str]:
    """Who acts, and why, as the verbs of jobs.control take it."""
    return request.user.get_username(), (body and body.reason) or ""


VERB: dict[str, Any] = {"auth": ACT, "response": answers(schemas.Done, 404, 409, 503)}


@api.post("/jobs/{uuid:pk}/retry", **VERB, summary="Retry all that failed")
async def retry_job(request: PageRequest, pk: UUID, body: Body[schemas.Reason | None] = None) -> Any:
    """Runs what failed again; a closed job is started again, its finished outputs kept."""
    return await act(request, pk, control.retry, None, *by(request, body))


@api.post("/jobs/{uuid:pk}/stages/{slug:name}/retry", **VERB, summary="Retry a stage")
async def retry_stage(
    request: PageRequest, pk: UUID, name: str, body: Body[schemas.Reason | None] = None
) -> Any:
    """Runs a failed stage again, and what needs it."""
    return await act(request, pk, control.retry, name, *by(request, body))


@api.post("/jobs/{uuid:pk}/cancel", **VERB, summary="Cancel a job")
async def cancel_job(request: PageRequest, pk: UUID, body: Body[schemas.Reason | None] = None) -> Any:
    """Cancels the job; its finished outputs are kept."""
    return await act(request, pk, control.cancel, *by(request, body))


@api.post("/jobs/{uuid:pk}/force-restart", **VERB, summary="End a run that can’t continue, and start again")
async def force_restart(request: PageRequest, pk: UUID, body: Body[schemas.Reason | None] = None) -> Any:
    """For admins: ends a workflow that can't continue, and starts the job again."""
    if not request.user.is_staff:
        raise ProblemError(404, "Only an admin can end a job’s run.")
    return await act(request, pk, control.force_restart, *by(request, body))


@api.delete("/jobs/{uuid:pk}", **VERB, summary="Delete a job")
async def delete_job(request: PageRequest, pk: UUID, cancel: bool = CANCEL) -> Any:
    """Puts a closed job into the trash, from where it is deleted with its media after some days.

    One that still runs is refused (409), or with *cancel* cancelled, and deleted when it has ended.
    """
    verb = deleting.cancel_and_delete if cancel else deleting.delete
    return await act(request, pk, verb, request.user.get_username())


@api.post("/jobs/{uuid:pk}/restore", **VERB, summary="Take a deleted job out of the trash")
async def restore_job(request: PageRequest, pk: UUID) -> Any:
    """Gives a job back as it was before it was deleted; for some days after that."""
    job = await trash.jobs().visible_to(request.user).filter(pk=pk).afirst()
    if job is None:
        raise ProblemError(404, NO_JOB)
    try:
        return {"message": await deleting.restore(job, request.user.get_username())}
    except control.NotPossible as error:
        raise ProblemError(409, str(error)) from None
