"""The engine's HTTP API: Ittybit's tasks, with DELETE and `probe` as our documented extensions.

Errors are {kind, message}. A poll is one read of a row; Temporal is called only to start and stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, NoReturn

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import register_converter
from django.views.decorators.csrf import csrf_exempt

from mediapipe import disk, storage
from mediapipe.accounts import engine_key
from mediapipe.database import OUTAGES
from mediapipe.engine import openapi as description
from mediapipe.engine import queue, source_check
from mediapipe.engine.errors import InvalidRequest
from mediapipe.engine.kinds import KINDS
from mediapipe.engine.models import EngineTask, fetch_for, kept_options, new_id
from mediapipe.engine.options import Request, check_probe, check_request
from mediapipe.engine.serialize import AS_OBJECT, task_json
from mediapipe.url_safety import own_path
from mediapipe.web.handler import brief

UNAVAILABLE = "The engine’s queue (Temporal) can’t be reached. Send the same request again in a moment."
NO_DATABASE = "The engine’s database can’t be reached. Send the same request again in a moment."
NO_BUCKET = "The bucket can’t be used at the moment. Send the same request again in a moment."
PATHS = "/tasks, /tasks/{id}, /jobs, /jobs/{id}, /probe"
LIST_PARAMETERS = ("limit", "page", "after", "before", "order", "kind", "status", "input")
FULL = "The engine’s disk is full. Free some space, then send the same request again."


class Resource:
    """The path converter of the API's two names for the same thing: `tasks` and the newer `jobs`."""

    regex = "tasks|jobs"

    def to_python(self, value: str) -> str:
        """The name itself."""
        return value

    def to_url(self, value: str) -> str:
        """The name itself."""
        return value


register_converter(Resource, "resource")
View = Callable[..., Coroutine[Any, Any, HttpResponse]]


def error_response(status: int, kind: str, message: str, **headers: str) -> JsonResponse:
    """An error as the API reports it: {kind, message}."""
    return JsonResponse({"kind": kind, "message": message}, status=status, headers=headers)


def api(*methods: str) -> Callable[[View], View]:
    """Wraps each endpoint: its methods, the bearer key, and its errors in JSON."""

    def decorate(view: View) -> View:
        @csrf_exempt
        @login_not_required
        @wraps(view)
        async def wrapped(request: HttpRequest, **parts: Any) -> HttpResponse:
            scheme, _, key = request.headers.get("Authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not key:
                return error_response(401, "token_missing", "Send the header Authorization: Bearer <key>.")
            if not engine_key.is_valid(key.strip()):
                return error_response(401, "token_invalid", "This key isn’t valid.")
            if methods and request.method not in methods:
                allowed = ", ".join(methods)
                return error_response(
                    405, "method_not_allowed", f"Method not allowed: use {allowed}.", Allow=allowed
                )
            try:
                return await view(request, **parts)
            except InvalidRequest as error:
                return error_response(400, error.kind, str(error))
            except storage.s3.BucketUnavailable:  # a role's keys, which sign links, are away
                return error_response(503, "storage_unavailable", NO_BUCKET, **{"Retry-After": "2"})
            except OUTAGES:
                return error_response(503, "database_unavailable", NO_DATABASE, **{"Retry-After": "2"})

        return wrapped

    return decorate


@api()
async def not_found(request: HttpRequest) -> HttpResponse:
    """Any other path."""
    return error_response(404, "not_found", f"There is no such path. Known: {PATHS}.")


@login_not_required
async def openapi(request: HttpRequest) -> HttpResponse:
    """The API's description, for people and for tools."""
    return JsonResponse(description.document(request.build_absolute_uri("/ittybit")))


@api("GET", "POST")
async def collection(request: HttpRequest, resource: str) -> HttpResponse:
    """POST creates a task, GET lists them."""
    if request.method == "GET":
        return await _list(request, resource)
    body = _body(request)
    checked = check_request(body, resource)
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (0 < len(key) <= 300 and key.isprintable()):
        raise InvalidRequest("request_invalid", "Idempotency-Key must be 1 to 300 printable characters.")
    key = f"{resource}/{key}" if key else None  # of this resource: a job is no answer to a request for a task
    given = body.get("options") or {}
    known = await sync_to_async(EngineTask.of_key)(key) if key else None
    if known is None and await asyncio.to_thread(disk.is_work_full):
        return error_response(503, "no_space", FULL, **{"Retry-After": "30"})
    task, created = (known, False) if known else await _create(resource, checked, given, key)
    if task.active and not await queue.enqueue(task):
        if created:
            await task.adelete()
        return error_response(503, "queue_unavailable", UNAVAILABLE, **{"Retry-After": "2"})
    return JsonResponse(await sync_to_async(task_json)(task), status=201 if created else 200)


@api("POST")
async def probe(request: HttpRequest) -> HttpResponse:
    """What a file of this installation holds, and whether it is certain that it is no usable media."""
    url = check_probe(_body(request))
    try:
        found = await source_check.look_at(source_check.local_name(url))
    except FileNotFoundError:
        return error_response(404, "source_not_found", "There is no file behind this link any more.")
    found["source"] = found["source"] and {"object": "file", "url": url, **found["source"]}
    return JsonResponse({"object": "probe", **found})


def _body(request: HttpRequest) -> Any:
    try:
        return json.loads(request.body, parse_constant=_not_json)
    except (ValueError, RecursionError):
        raise InvalidRequest("request_invalid", "The body isn’t JSON.") from None


def _kept(url: str) -> str:
    try:
        return storage.to_kept(url)
    except storage.Forbidden as error:
        raise InvalidRequest("source_refused", f"The source’s link can’t be used: {error}.") from None


def _kept_options(kind: str, asked: dict[str, Any]) -> dict[str, Any]:
    try:
        return kept_options(kind, asked)
    except storage.Forbidden as error:
        raise InvalidRequest("source_refused", f"An output’s link can’t be used: {error}.") from None


def _not_json(name: str) -> NoReturn:
    raise ValueError(name)  # Python's parser takes NaN and Infinity, JSON has neither


@sync_to_async
def _create(
    resource: str, checked: Request, given: dict[str, Any], key: str | None
) -> tuple[EngineTask, bool]:
    """The task, and whether it is new: the same key within 24 hours is the same task."""
    kept = _kept(checked.input)
    try:
        with transaction.atomic():
            task = EngineTask.objects.create(
                id=new_id(resource.removesuffix("s")),
                kind=checked.kind.name,
                input=kept,
                options=_kept_options(checked.kind.name, given),
                metadata=checked.metadata,
                fetch_for=fetch_for(kept, checked.metadata),
                # of a bucket it would be fetched twice, where it has to be encoded after all
                copies=checked.kind.may_copy(checked.options) and not settings.S3_BUCKET,
                webhook_url=own_path(checked.webhook_url) or checked.webhook_url,
                key=key,
                steps={AS_OBJECT: True} if checked.input_is_object else {},
            )
    except IntegrityError:  # the same key, at the same moment
        return EngineTask.objects.get(key=key), False
    return task, True


@brief("GET")  # it is most of what a job asks for
@api("GET", "DELETE")
async def item(request: HttpRequest, resource: str, task_id: str) -> HttpResponse:
    """GET answers a task's state, DELETE cancels it."""
    task = await EngineTask.objects.filter(pk=task_id).afirst() if "\0" not in task_id else None
    if task is None:
        name = resource.removesuffix("s")
        return error_response(404, f"{name}_not_found", f"There is no {name} with this id.")
    if request.method == "DELETE":
        return JsonResponse(await _cancel(task))
    await queue.reconcile_task(task)
    body = await sync_to_async(task_json)(task)
    if await queue.has_no_poller(task):
        body["waiting_for"] = "nobody"
    return JsonResponse(body)


@api("DELETE")
async def by_key(request: HttpRequest, resource: str, key: str) -> HttpResponse:
    """Cancels the task that was created with this Idempotency-Key, for who never got its id; makes none."""
    task = await sync_to_async(EngineTask.of_key)(f"{resource}/{key}".replace("\0", ""))
    return JsonResponse(await _cancel(task) if task else {"cancelled": {}})


async def _cancel(task: EngineTask) -> dict[str, Any]:
    """Cancels the task and waits, for some seconds at most, until its encoder is gone."""
    stopped = await queue.stop(task)
    await asyncio.to_thread(task.remove_output)
    encoder = stopped and task.freed_bytes is not None
    receipt = {"encoder_stopped": encoder, "freed_bytes": task.freed_bytes or 0}
    return {**await sync_to_async(task_json)(task), "cancelled": receipt}


def _filtered(request: HttpRequest, resource: str) -> QuerySet[EngineTask]:
    query = EngineTask.objects.filter(pk__startswith=resource.removesuffix("s") + "_")
    if kind := request.GET.get("kind"):
        if kind not in KINDS:
            raise InvalidRequest("request_invalid", f"kind must be one of: {', '.join(KINDS)}.")
        query = query.filter(kind=kind)
    if status := request.GET.get("status"):
        if status not in EngineTask.Status.values:
            known = ", ".join(EngineTask.Status.values)
            raise InvalidRequest("request_invalid", f"status must be one of: {known}.")
        query = query.filter(status=status)
    if source := request.GET.get("input"):
        kept = {source}
        with contextlib.suppress(InvalidRequest):  # it has expired: rows may still have it as it was given
            kept.add(_kept(source))
        query = query.filter(input__in=kept)
    return query


async def _between(
    query: QuerySet[EngineTask], request: HttpRequest, resource: str, order: str
) -> QuerySet[EngineTask]:
    """The tasks behind the cursor `after` and before the cursor `before`, in that order."""
    for name in ("after", "before"):
        if (cursor := request.GET.get(name)) is None:
            continue
        at = await EngineTask.objects.filter(pk=cursor.replace("\0", "")).afirst()
        if at is None:
            raise InvalidRequest("request_invalid", f"{name} names no {resource.removesuffix('s')}.")
        side = "gt" if (name == "after") == (order == "asc") else "lt"
        later = Q(**{f"created_at__{side}": at.created_at})
        query = query.filter(later | Q(created_at=at.created_at, **{f"pk__{side}": at.pk}))
    return query


def _number(request: HttpRequest, name: str, default: int, highest: int) -> int:
    raw = request.GET.get(name, str(default))
    if not (raw.isascii() and raw.isdecimal() and len(raw) < 10 and 1 <= int(raw) <= highest):
        raise InvalidRequest("request_invalid", f"{name} must be a whole number from 1 to {highest}.")
    return int(raw)


async def _list(request: HttpRequest, resource: str) -> HttpResponse:
    if unknown := request.GET.keys() - set(LIST_PARAMETERS):
        known = ", ".join(LIST_PARAMETERS)
        raise InvalidRequest("request_invalid", f"A list takes no {min(unknown)!r:.60}. Known: {known}.")
    limit = _number(request, "limit", 20, 100)
    page = _number(request, "page", 1, 10_000)
    order = request.GET.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest("request_invalid", "order must be asc or desc.")
    if "page" in request.GET and request.GET.keys() & {"after", "before"}:
        raise InvalidRequest("request_invalid", "page can’t be combined with after or before: use either.")
    query = await _between(_filtered(request, resource), request, resource, order)
    sign = "" if order == "asc" else "-"
    first = (page - 1) * limit
    ordered = query.order_by(f"{sign}created_at", f"{sign}pk")
    found = [task async for task in ordered[first : first + limit + 1]]
    more = len(found) > limit
    found = found[:limit]
    response = JsonResponse([await sync_to_async(task_json)(task) for task in found], safe=False)
    response["Limit"] = str(limit)
    response["Has-More"] = str(more).lower()
    if more:
        query_string = request.GET.copy()
        by_page = "page" in request.GET
        query_string["page" if by_page else "after"] = str(page + 1) if by_page else found[-1].pk
        here = request.build_absolute_uri(request.path)
        response["Link"] = f'<{here}?{query_string.urlencode()}>; rel="next"'
    return response
