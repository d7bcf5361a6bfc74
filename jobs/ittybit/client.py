"""The Ittybit tasks API: create a task, read it, cancel it.

Pure: httpx in, small frozen dataclasses out; it knows neither Django nor Temporal. What the replies
mean is decided by jobs.ittybit.replies.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import quote

import httpx

from jobs.ittybit.lenient_json import as_integer, as_mapping
from jobs.ittybit.probe import ProbeReply, parse_probe
from jobs.ittybit.replies import (
    Busy,
    IttybitError,
    Rejected,
    Task,
    Unavailable,
    Unreachable,
    check_response,
    parse_error,
    parse_output,
    parse_task,
)
from jobs.ittybit.resource import NO_SUCH_RESOURCE, RESOURCES, Resource, other_than, refuses_resource
from jobs.pipelines import OWN
from jobs.requests import Cancellation
from mediapipe import tracing
from mediapipe.recent import Recent
from mediapipe.reply import json_of

TIMEOUT = httpx.Timeout(20, connect=5)
CONNECTION_LOST = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
DEADLINE = 25.0  # seconds for a complete answer, even from a server that sends a byte now and then
NOT_HERE = (400, *NO_SUCH_RESOURCE, 422)  # how a resource answers for a task of the other one
KEPT_PLACES = 10_000  # tasks of which the resource is remembered


class IttybitClient:
    """The API's calls; each raises IttybitError. *resource*: `tasks` by default, and nothing is found out."""

    def __init__(self, http: httpx.AsyncClient, resource: Resource | None = None) -> None:
        self.http = http
        self.resource = resource or Resource("tasks")
        self.deadline = DEADLINE
        self.own: IttybitClient | None = None  # of our own engine, where this one is the cloud's
        self._places: Recent[str, str] = Recent(KEPT_PLACES)  # the resource of a task, by the task's id

    def of(self, engine: str) -> IttybitClient:
        """The client of that *engine*, as a stage names it."""
        return self.own if engine == OWN and self.own else self

    async def _send(self, method: str, path: str, **parts: Any) -> httpx.Response:
        try:
            with tracing.span(f"{method} to the engine"):
                async with asyncio.timeout(self.deadline):
                    return await self._send_again_if_lost(method, path, **parts)
        except TimeoutError:
            raise Unreachable(f"The engine’s answer wasn’t complete after {self.deadline:.0f} s.") from None
        except httpx.TimeoutException as error:
            raise Unreachable("The engine didn’t answer in time.") from error
        except httpx.HTTPError as error:
            raise Unreachable("The engine can’t be reached.") from error

    async def _send_again_if_lost(self, method: str, path: str, **parts: Any) -> httpx.Response:
        """A kept connection may have ended unseen: what it has lost is sent once more, on another one.

        Whatever creates has an Idempotency-Key. But it isn't refused by the second answer: the first request
        may have created it.
        """
        try:
            return await self.http.request(method, path, **parts)
        except CONNECTION_LOST:
            with contextlib.suppress(httpx.HTTPError):
                again = await self.http.request(method, path, **parts)
                if again.is_success or method != "POST":
                    return again
            raise

    @staticmethod
    def _json(response: httpx.Response) -> object:
        check_response(response)
        try:
            return json_of(response)
        except ValueError:
            raise Unavailable("The engine answered with a page instead of JSON.") from None

    async def create(
        self,
        *,
        kind: str,
        input: str,
        options: Mapping[str, Any],
        key: str,
        metadata: Mapping[str, str] | None = None,
        webhook_url: str = "",
    ) -> Task:
        """Creates a task. The same *key* within 24 h is the same task, however often it is sent."""
        body: dict[str, object] = {"input": input, "kind": kind, "options": dict(options)}
        if metadata:
            body["metadata"] = dict(metadata)
        if webhook_url:
            body["webhook_url"] = webhook_url
        place, response = await self._post(body, key)
        if response.status_code == 404:
            sentence = parse_error(response)[1].rstrip(".")
            raise Rejected(f"{sentence}. Ask an admin to check the engine’s address.")
        task = parse_task(self._json(response))
        self.resource.remember(place)
        self._places[task.id] = place
        return task

    async def _post(self, body: Mapping[str, object], key: str) -> tuple[str, httpx.Response]:
        """Which resource answered, and what: the other one is tried once where the first is the wrong one."""
        headers = {"Idempotency-Key": key}
        place = self.resource.name
        response = await self._send("POST", f"/{place}", json=body, headers=headers)
        if self.resource.fixed or not refuses_resource(response):
            return place, response
        other = other_than(place)
        second = await self._send("POST", f"/{other}", json=body, headers=headers)
        return (place, response) if refuses_resource(second) else (other, second)

    async def read(self, task_id: str) -> Task:
        """The task as it is now. Raises Missing where the API doesn't know *task_id*."""
        return parse_task(self._json(await self._send_to_task("GET", task_id)))

    async def _send_to_task(self, method: str, task_id: str) -> httpx.Response:
        """The reply of the resource that made the task; where that is not known, of the one that knows it."""
        place = self._places.get(task_id) or self.resource.name
        response = await self._send(method, f"/{place}/{task_id}")
        if self.resource.fixed or response.status_code not in NOT_HERE:
            return response
        other = other_than(place)
        second = await self._send(method, f"/{other}/{task_id}")
        if second.status_code in (401, 403, *NOT_HERE):  # the key is good, or the first had said so
            return response
        if second.is_success:
            self._places[task_id] = other
            if not self.resource.found:
                self.resource.remember(other)
        return second

    async def find_resource(self, *, own: bool) -> str:
        """Which resource takes our tasks, without creating one; "" where that doesn't show.

        Where both can be listed, a task without an input is asked for, which no API creates; our *own* engine
        takes tasks by whatever it lists.
        """
        listed = [name for name in RESOURCES if await self._lists(name)]
        if len(listed) == 1 or own:
            return next(iter(listed), "")
        for name in listed or RESOURCES:
            response = await self._send("POST", f"/{name}", json={"kind": "video", "input": ""})
            if response.is_success or (response.status_code in (400, 422) and not refuses_resource(response)):
                return name
        return ""

    async def _lists(self, name: str) -> bool:
        response = await self._send("GET", f"/{name}", params={"limit": 1})
        if response.status_code in NOT_HERE:
            return False
        check_response(response)
        return True

    async def probe(self, url: str) -> ProbeReply:
        """Whether the file at *url*, a signed URL of the embedded engine's own, is certainly no usable media.

        An extension of the embedded engine: the cloud knows no probe.
        """
        return parse_probe(self._json(await self._send("POST", "/probe", json={"input": url})))

    async def cancel(self, task_id: str) -> Cancellation:
        """Cancels a task where the API can: DELETE is our engine's extension, Ittybit documents no cancel."""
        return self._cancellation(await self._send_to_task("DELETE", task_id))

    async def cancel_of_key(self, key: str) -> Cancellation:
        """Cancels the task of a request that was never answered, if it came to be one; creates none.

        An extension of the embedded engine: elsewhere there is no such path.
        """
        path = f"/{self.resource.name}/keys/{quote(key)}"
        return self._cancellation(await self._send("DELETE", path))

    def _cancellation(self, response: httpx.Response) -> Cancellation:
        if response.status_code in (404, 405, 501):
            return Cancellation(supported=False)
        body = as_mapping(self._json(response)) if response.content else {}
        check_response(response)
        result = as_mapping(body.get("cancelled"))
        return Cancellation(
            encoder_stopped=result.get("encoder_stopped") is True,
            freed_bytes=as_integer(result.get("freed_bytes")) or 0,
            output=parse_output(body),
        )


def may_have_created(error: IttybitError) -> bool:
    """Whether a request to create a task that failed so may have created one: its answer was lost."""
    never_sent = isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    return not (never_sent or error.permanent or error.retry_after is not None or isinstance(error, Busy))


@cache
def _tls() -> ssl.SSLContext:
    """httpx's own: to make one takes as long as many requests."""
    return httpx.create_ssl_context()


async def _follow(request: httpx.Request) -> None:
    """The engine's spans are within ours."""
    request.headers.update(tracing.headers())


def open_http(url: str, key: str) -> httpx.AsyncClient:
    """An HTTP client for the API at *url* with the bearer *key*: one per worker, closed with it."""
    return httpx.AsyncClient(
        base_url=url,
        headers={"Authorization": f"Bearer {key}", "Accept": "application/json", "User-Agent": "mediapipe"},
        timeout=TIMEOUT,
        verify=_tls(),
        limits=httpx.Limits(max_connections=100, max_keepalive_connections=20),
        event_hooks={"request": [_follow]},
    )
