"""Batches by the API: many sources in one request, and what came of them. Get, act, answer.

What is taken, and what may be done, is decided where the pages have it decided.
"""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.http import HttpResponse
from ninja import Body, Router, Schema, Status
from ninja.params import functions as params
from pydantic import ConfigDict, Field

from jobs import pipelines, serialize
from jobs.api import schemas
from jobs.api.description import answers
from jobs.api.problems import ProblemError
from jobs.api.schemas import Moment, Text
from jobs.api.submission import OTHER_BODY
from jobs.api.views import ACT, KEY, LOOK_INTERVAL, SUBMIT
from jobs.batches import sources
from jobs.batches.forms import title_of
from jobs.batches.sources import Written
from jobs.batches.views import BATCH_ENDED, CANCELLING
from jobs.dashboard import bulk
from jobs.models import Batch, Pipeline
from mediapipe.accounts.login_required import PageRequest

NO_BATCH = "There’s no such batch, or it isn’t yours."
WAIT = params.Query(0, ge=0, le=60, description="seconds to wait for its end")
router = Router()


class NewSource(Schema):
    """One source."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[Text, Field(max_length=4000)]
    title: Annotated[Text, Field(max_length=300)] = ""
    pipeline: Annotated[Text, Field(max_length=40)] = ""


class NewBatch(Schema):
    """Many sources; *pipeline* is of those that name none."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"sources": [{"url": "https://example.com/a.mp4"}], "title": "March"}]
        },
    )

    sources: Annotated[list[NewSource], Field(min_length=1, max_length=sources.MAX_SOURCES)]
    title: Annotated[Text, Field(max_length=300)] = ""
    pipeline: Annotated[Text, Field(max_length=40)] = pipelines.DEFAULT


class BatchCounts(Schema):
    """How many of its sources stand where."""

    done: int
    attention: int = Field(description="their jobs have failed, or wait for a person")
    rejected: int = Field(description="there is no job of them; the manifest says why")
    running: int
    waiting: int
    cancelled: int
    deleted: int


class Manifest(Schema):
    """Where to read what became of each source; the same token opens it."""

    csv: str
    json_: str = Field(alias="json")


class BatchAbout(Schema):
    """A batch."""

    id: UUID
    title: str
    owner: str
    status: str = Field(description="running, finished or cancelled")
    created_at: Moment
    finished_at: Moment | None
    total: int
    counts: BatchCounts
    url: str = Field(description="its page")
    manifest: Manifest


class FailedFor(Schema):
    """Why jobs failed: the kind to retry by, a sentence, and how many."""

    kind: str
    sentence: str
    jobs: int


class RejectedFor(Schema):
    """Why sources were not taken, and how many."""

    sentence: str
    sources: int


class BatchWhole(BatchAbout):
    """A batch with its reasons, as `submit-batch --json` prints it."""

    failed: list[FailedFor]
    rejected: list[RejectedFor]


class BatchPage(Schema):
    """A page of batches, newest first."""

    batches: list[BatchAbout]
    next: int | None = Field(description="the next page; null on the last one")


class RetryFor(Schema):
    """Which of the jobs that failed: by the kind of their error, or all."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"kind": "damaged"}]})

    kind: Annotated[Text, Field(max_length=60)] = ""


def _find(user: User, pk: UUID) -> Batch:
    """The batch, if the token's owner may see it. Raises ProblemError."""
    batch = Batch.objects.visible_to(user).select_related("owner").filter(pk=pk).first()
    if batch is None:
        raise ProblemError(404, NO_BATCH)
    return batch


def _whole(user: User, pk: UUID) -> dict[str, Any]:
    return serialize.batch_whole(_find(user, pk))


@router.get("", response=answers(BatchPage), summary="The batches")
def list_batches(
    request: PageRequest,
    page: int = params.Query(1, ge=1, le=10**6),
    limit: int = params.Query(25, ge=1, le=100),
) -> dict[str, Any]:
    """A person's batches, newest first; an admin's token sees everybody's."""
    first = (page - 1) * limit
    found = list(
        Batch.objects.visible_to(request.user).values_list("pk", flat=True)[first : first + limit + 1]
    )
    shown = Batch.objects.filter(pk__in=found[:limit]).select_related("owner")
    return {
        "batches": [serialize.batch_summary(*each) for each in shown.with_counts()],
        "next": page + 1 if len(found) > limit else None,
    }


@router.post(
    "",
    auth=SUBMIT,
    response={**answers(BatchWhole, status=201), 200: BatchWhole},
    summary="Submit many sources",
)
def create_batch(
    request: PageRequest, response: HttpResponse, body: Body[NewBatch], idempotency_key: str = KEY
) -> Any:
    """Makes a batch, whose jobs begin a few at a time; 200 where the same request has made it before."""
    written = [Written(each.url, each.title, each.pipeline) for each in body.sources]
    key = uuid5(uuid5(NAMESPACE_OID, str(request.user.pk)), idempotency_key) if idempotency_key else uuid4()
    new = not Batch.objects.filter(pk=key).exists()
    if new:
        items = sources.items_of(written, body.pipeline, Pipeline.usable_by(request.user))
        Batch.submit(request.user, body.title or title_of(items), items, key)
    batch = _find(request.user, key)
    if not new and list(batch.items.values_list("text", flat=True)) != [each.url for each in written]:
        raise ProblemError(422, OTHER_BODY)
    response["Location"] = f"{request.path}/{batch.pk}"
    return Status(201 if new else 200, _whole(request.user, batch.pk))


@router.get("/{uuid:pk}", response=answers(BatchWhole, 404), summary="One batch")
async def read_batch(request: PageRequest, pk: UUID, wait: int = WAIT) -> dict[str, Any]:
    """The batch as it is; with *wait* once it is over, or when the time is."""
    until = time.monotonic() + wait
    while True:
        found = await sync_to_async(_whole)(request.user, pk)
        if found["status"] != "running" or time.monotonic() + LOOK_INTERVAL > until:
            return found
        await asyncio.sleep(LOOK_INTERVAL)


VERB: dict[str, Any] = {"auth": ACT, "response": answers(schemas.Done, 404, 409)}


@router.post("/{uuid:pk}/cancel", **VERB, summary="Cancel the rest of a batch")
def cancel_batch(request: PageRequest, pk: UUID) -> dict[str, str]:
    """What hasn’t started never will, and what runs is stopped; what is done is kept."""
    if not _find(request.user, pk).cancel(request.user.get_username()):
        raise ProblemError(409, BATCH_ENDED)
    return {"message": CANCELLING}


@router.post("/{uuid:pk}/retry", **VERB, summary="Retry the jobs of a batch that failed")
def retry_batch(request: PageRequest, pk: UUID, body: Body[RetryFor | None] = None) -> dict[str, str]:
    """Retries all that failed, or those alone that failed by one kind of error."""
    jobs = bulk.select_jobs("retry", _find(request.user, pk).failed(body.kind if body else ""))
    return {"message": str(bulk.apply("retry", jobs, request.user.get_username()))}
