"""The Ittybit tasks API: create a task, read it, cancel it.

Pure: httpx in, small frozen dataclasses out; it knows neither Django nor Temporal. What the replies
mean is decided by jobs.ittybit.replies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx

from jobs.ittybit.lenient_json import as_integer, as_mapping
from jobs.ittybit.replies import (
    Broken,
    Rejected,
    SourceProblem,
    Task,
    Unreachable,
    check_response,
    parse_error,
    parse_probe,
    parse_task,
)
from jobs.pipelines import Option
from jobs.state import Cancellation

TIMEOUT = httpx.Timeout(20, connect=5)
DEADLINE = 25.0  # seconds for a complete answer, even from a server that sends a byte now and then


class IttybitClient:
    """The API's calls; each raises IttybitError. *resource* is `tasks` (the default) or `jobs`."""

    def __init__(self, http: httpx.AsyncClient, resource: str = "tasks") -> None:
        self.http = http
        self.resource = resource
        self.deadline = DEADLINE

    async def _send(self, method: str, path: str, **parts: Any) -> httpx.Response:
        try:
            async with asyncio.timeout(self.deadline):
                return await self.http.request(method, path, **parts)
        except TimeoutError:
            raise Unreachable(f"The engine’s answer wasn’t complete after {self.deadline:.0f} s.") from None
        except httpx.TimeoutException as error:
            raise Unreachable("The engine didn’t answer in time.") from error
        except httpx.HTTPError as error:
            raise Unreachable("The engine can’t be reached.") from error

    @staticmethod
    def _json(response: httpx.Response) -> object:
        check_response(response)
        try:
            return response.json()
        except ValueError:
            raise Broken("The engine answered with a page instead of JSON.") from None

    async def create(
        self,
        *,
        kind: str,
        input: str,
        options: Mapping[str, Option],
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
        response = await self._send("POST", f"/{self.resource}", json=body, headers={"Idempotency-Key": key})
        if response.status_code == 404:
            sentence = parse_error(response)[1].rstrip(".")
            raise Rejected(f"{sentence}. Ask an admin to check the engine’s address.")
        return parse_task(self._json(response))

    async def read(self, task_id: str) -> Task:
        """The task as it is now. Raises Missing where the API doesn't know *task_id*."""
        return parse_task(self._json(await self._send("GET", f"/{self.resource}/{task_id}")))

    async def probe(self, url: str) -> SourceProblem | None:
        """Why the file at *url*, a signed URL of the embedded engine's own, is certainly no usable media.

        None where it may be media. An extension of the embedded engine: the cloud knows no probe.
        """
        return parse_probe(self._json(await self._send("POST", "/probe", json={"input": url})))

    async def cancel(self, task_id: str) -> Cancellation:
        """Cancels a task where the API can: DELETE is our engine's extension, Ittybit documents no cancel."""
        response = await self._send("DELETE", f"/{self.resource}/{task_id}")
        if response.status_code in (404, 405, 501):
            return Cancellation(supported=False)
        check_response(response)
        try:
            result = as_mapping(as_mapping(response.json()).get("cancelled"))
        except ValueError:
            result = {}
        return Cancellation(
            encoder_stopped=result.get("encoder_stopped") is True,
            freed_bytes=as_integer(result.get("freed_bytes")) or 0,
        )


def open_http(url: str, key: str) -> httpx.AsyncClient:
    """An HTTP client for the API at *url* with the bearer *key*: one per worker, closed with it."""
    return httpx.AsyncClient(
        base_url=url,
        headers={"Authorization": f"Bearer {key}", "Accept": "application/json", "User-Agent": "mediapipe"},
        timeout=TIMEOUT,
        limits=httpx.Limits(max_connections=100, max_keepalive_connections=20),
    )
