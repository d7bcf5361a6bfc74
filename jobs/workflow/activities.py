"""The pipeline's activities: a stage's task against the Ittybit API, and recording what happened.

Each failure leaves here as an ApplicationError that says what it means (jobs.state.Failure);
whether and when to try again is the workflow's decision.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import httpx
from asgiref.sync import sync_to_async
from django.conf import settings
from temporalio import activity
from temporalio.exceptions import ApplicationError

from jobs.ittybit.client import IttybitClient
from jobs.ittybit.replies import IttybitError
from jobs.models import Job
from jobs.pipelines import ACTIVITIES
from jobs.state import Cancellation, KeepRequest, Output, RecordRequest, Source, TaskRequest, TaskWatch
from jobs.workflow.watch import Watcher, fail_by, handed_over
from jobs.workflow.webhook import webhook_url
from mediapipe import download, storage
from mediapipe.database import fresh_connections


def source_url(source: Source) -> str:
    """A URL of *source* that the engine can read: ours signed, the API's own as it is."""
    if source.name and (
        settings.EMBEDDED_ENGINE or settings.PUBLIC_URL or settings.S3_BUCKET or not source.url
    ):
        return storage.signed_url(source.name, local=settings.EMBEDDED_ENGINE)
    return source.url


class Activities:
    """The activities of one worker, around its one HTTP client."""

    def __init__(self, client: IttybitClient) -> None:
        self.client = client

    def waiting(self) -> list[Callable[..., Any]]:
        """What may take hours: the stages, by their own names."""
        return [*map(self._stage, ACTIVITIES)]

    def at_once(self) -> list[Callable[..., Any]]:
        """What is done at once, and must never wait behind those (CONTROL)."""
        return [self.create_task, self.cancel_task, record]

    def _stage(self, name: str) -> Callable[..., Any]:
        @activity.defn(name=name)
        async def stage(watch: TaskWatch) -> Output:
            try:
                return await handed_over(Watcher(self.client, watch).result())
            except asyncio.CancelledError:
                details = activity.cancellation_details()
                if details and details.not_found:  # a webhook was faster and has completed it
                    return Output()
                raise

        return stage

    @activity.defn
    async def create_task(self, request: TaskRequest) -> str:
        """Asks for a task; its id goes into history, so that nobody ever asks (and pays) twice."""
        try:
            task = await handed_over(
                self.client.create(
                    kind=request.kind,
                    input=source_url(request.source),
                    options=request.options,
                    key=request.key,
                    metadata={"job": request.job_id, "stage": request.stage, "owner": request.owner},
                    webhook_url=webhook_url(request.job_id, request.stage, request.activity_id),
                )
            )
        except IttybitError as error:
            fail_by(error, task_over=error.permanent)
        return task.id

    @activity.defn
    async def cancel_task(self, task_id: str) -> Cancellation:
        """Stops a task where the API can."""
        try:
            return await self.client.cancel(task_id)
        except IttybitError as error:
            raise ApplicationError(str(error), non_retryable=error.permanent) from None

    @activity.defn
    async def keep_output(self, request: KeepRequest) -> Output:
        """Copies an output of the API into our storage; where that fails its own URL has to do."""
        output = request.output
        suffix = output.format or PurePosixPath(urlsplit(output.url).path).suffix.removeprefix(".")
        suffix = suffix if suffix.isalnum() and suffix.isascii() and len(suffix) <= 5 else "bin"
        name = f"outputs/{request.job_id}/{request.key}.{suffix.lower()}"
        try:
            async with httpx.AsyncClient(timeout=httpx.Timeout(60, connect=10), trust_env=False) as http:
                size = await download.download(http, output.url, name, output.filesize, activity.heartbeat)
        except (httpx.HTTPError, httpx.InvalidURL, download.DownloadError, OSError) as error:
            if activity.info().attempt < 3 and not getattr(error, "permanent", False):
                raise ApplicationError(f"{type(error).__name__}: {error}") from None
            warning = (
                "This output could not be copied to our storage; its link is the engine's and may expire."
            )
            return replace(output, warnings=[*output.warnings, warning])
        return replace(output, name=name, filesize=size)


@activity.defn
async def record(request: RecordRequest) -> bool:
    """Writes a status to the database; a job that was deleted meanwhile is no error."""
    return await sync_to_async(_record, thread_sensitive=False)(request)


@fresh_connections()
def _record(request: RecordRequest) -> bool:
    with suppress(Job.DoesNotExist):
        job = Job.objects.get(pk=request.job_id)
        return job.record(request.status, request.events, request.run or job.run)
    return False
