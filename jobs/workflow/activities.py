"""The pipeline's activities: a stage's task against the Ittybit API, copies of outputs, recording.

Each failure leaves here as an ApplicationError that says what it means (jobs.requests.Failure);
whether and when to try again is the workflow's decision.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from temporalio import activity
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

from jobs.ittybit.client import IttybitClient, may_have_created
from jobs.ittybit.replies import IttybitError, TaskState
from jobs.models import Job
from jobs.pipelines import OWN, STORYBOARD_FRAMES, THUMBNAILS
from jobs.requests import (
    Cancellation,
    Failure,
    HeartbeatDetails,
    KeepRequest,
    RecordRequest,
    TaskRequest,
    TaskWatch,
)
from jobs.state import CANCEL_TASK, CANCEL_UNANSWERED, CREATE_TASK, KEEP_OUTPUT, RECORD, Output, Source
from jobs.workflow.limits import allowed_without_progress
from jobs.workflow.watch import (
    INTERVAL,
    NOTIFIED_INTERVAL,
    YOUNG,
    Watcher,
    beat,
    fail,
    fail_with,
    or_hand_over,
    removed,
    with_heartbeats,
)
from jobs.workflow.webhook import tells, webhook_url
from mediapipe import download, storage
from mediapipe.database import OUTAGES, in_thread
from mediapipe.storage.outage import Outage, refusal, refused

# Seconds that a copy is kept for a storage that is away: then its worker's slot is given to others.
STORAGE_PATIENCE = 3600.0
STORAGE_AWAY = "The storage can’t be reached."
log = logging.getLogger(__name__)
UNWANTED = "Nobody waits for this run: its job was cancelled before it began, deleted, or started again."


def is_own(engine: str) -> bool:
    """Whether it's the engine of this installation itself."""
    return settings.EMBEDDED_ENGINE or engine == OWN


def input_url(source: Source, engine: str = "") -> str:
    """A URL of *source* that the *engine* can read: ours signed, the API's own as it is."""
    own = is_own(engine)
    if source.name and (own or settings.PUBLIC_URL or settings.S3_BUCKET or not source.url):
        return storage.signed_url(source.name, local=own)
    return source.url


def options_of(request: TaskRequest) -> dict[str, Any]:
    """The options of a task: as its job's plan has them, and what only our own engine knows.

    A thumbnail brings a small storyboard along there: one more file of the stage, and no stage of its own.
    """
    if is_own(request.engine) and request.stage == THUMBNAILS.name and "interval" not in request.options:
        return {**request.options, "storyboard": STORYBOARD_FRAMES}
    return dict(request.options)


async def is_wanted(request: TaskRequest) -> bool:
    """Whether the job's row is open, and has this run; a database that is away holds up no task."""
    if not request.run:  # a workflow of an earlier version asks
        return True
    with suppress(*OUTAGES):
        return await in_thread(Job.objects.active().filter(pk=request.job_id, run=request.run).exists)
    return True


def watcher(client: IttybitClient, watch: TaskWatch) -> Watcher:
    """The watcher of a stage's task; where nothing is known of its source, the limit is learned."""
    own = is_own(watch.engine)
    is_notified = tells(own=own)
    interval = NOTIFIED_INTERVAL if is_notified else INTERVAL
    is_young = own and is_notified and time.time() - watch.asked_at < YOUNG
    if watch.source is None:
        return Watcher(client, watch, first_interval=interval, is_young=is_young)
    stage = activity.info().activity_id.rpartition("-")[0]
    learn_limit = partial(allowed_without_progress, stage, watch)
    return Watcher(client, watch, learn_limit=learn_limit, first_interval=interval, is_young=is_young)


class Copying:
    """What the copy of a stage's output does at the moment, for its heartbeats."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.outage = Outage(STORAGE_PATIENCE)

    def details(self) -> HeartbeatDetails:
        """The next heartbeat."""
        return HeartbeatDetails(
            TaskState.PROCESSING, stage=self.stage, waiting_for="storage" if self.outage.since else ""
        )

    async def wait_for_storage(self, error: Exception) -> None:
        """Returns when the storage may be tried again. Raises ApplicationError after an hour: an outage.

        And after some minutes where waiting mends nothing; the task has its output still, for a retry.
        """
        pause = self.outage.pause(error)
        beat(self.details())
        if pause is None and (reason := refusal(error)):
            failure = Failure("storage_refused", permanent=True, details=str(error))
            fail(refused(reason), failure)
        if pause is None:
            fail(STORAGE_AWAY, Failure("storage", outage=True, details=str(error)))
        await asyncio.sleep(pause)


class Activities:
    """The activities of one worker, around its one HTTP client."""

    def __init__(self, client: IttybitClient) -> None:
        self.client = client

    def stages(self) -> list[Callable[..., Any]]:
        """What may take hours."""
        return [self.stage]

    def control(self) -> list[Callable[..., Any]]:
        """What takes a moment and must never wait behind the stages."""
        return [self.create_task, self.cancel_task, self.cancel_unanswered, record]

    def transfers(self) -> list[Callable[..., Any]]:
        """What copies outputs, a few at a time."""
        return [self.keep_output]

    @activity.defn(dynamic=True)
    async def stage(self, given: Sequence[RawValue]) -> Output:
        """A stage by whatever name its job's plan has for it: pipelines come and go while jobs run."""
        watch = activity.payload_converter().from_payload(given[0].payload, TaskWatch)
        watching = watcher(self.client.of(watch.engine), watch)
        try:
            return await or_hand_over(watching.result())
        except ApplicationError as error:
            raise watching.ended_by(error) from None
        except asyncio.CancelledError:
            details = activity.cancellation_details()
            if details and details.not_found:  # a webhook has completed it
                return Output()
            raise

    @activity.defn(name=CREATE_TASK)
    async def create_task(self, request: TaskRequest) -> str:
        """Creates a task. Its id goes into history, so that it is never created (and paid for) twice.

        A start may arrive when its starter has given it up, and people have read since that nothing began.
        Wherever it stands when the worker shuts down, another one does it again, under the same key.
        """
        return await or_hand_over(self._created(request))

    async def _created(self, request: TaskRequest) -> str:
        """The id of the task, which is created now, unless nobody wants it any more."""
        if not await is_wanted(request):
            fail(UNWANTED, Failure("cancelled", permanent=True))
        try:
            source = await asyncio.to_thread(input_url, request.source, request.engine)
            outputs = {
                name: await asyncio.to_thread(input_url, file, request.engine)
                for name, file in request.outputs.items()
            }
            hook = request.job_id, request.stage, request.activity_id
            task = await self.client.of(request.engine).create(
                kind=request.kind,
                input=source,
                options={**options_of(request), **({"outputs": outputs} if outputs else {})},
                key=request.key,
                metadata={"job": request.job_id, "stage": request.stage, "owner": request.owner},
                webhook_url=webhook_url(*hook, own=is_own(request.engine)),
            )
        except IttybitError as error:
            fail_with(error, task_over=error.permanent, unanswered=may_have_created(error))
        except OSError as error:  # the bucket signs no URL
            fail(STORAGE_AWAY, Failure("storage", outage=True, details=str(error)))
        return task.id

    @activity.defn(name=CANCEL_TASK)
    async def cancel_task(self, task_id: str, engine: str = "") -> Cancellation:
        """Cancels a task where the API can. Raises ApplicationError where it doesn't answer."""
        return await self._cancel(self.client.of(engine).cancel(task_id))

    @activity.defn(name=CANCEL_UNANSWERED)
    async def cancel_unanswered(self, key: str, engine: str = "") -> Cancellation:
        """Cancels what a request may have created whose answer was lost; fails as cancel_task does."""
        return await self._cancel(self.client.of(engine).cancel_of_key(key))

    @staticmethod
    async def _cancel(asked: Awaitable[Cancellation]) -> Cancellation:
        try:
            return await removed(asked)
        except IttybitError as error:
            raise ApplicationError(str(error), non_retryable=error.permanent) from None

    @activity.defn(name=KEEP_OUTPUT)
    async def keep_output(self, request: KeepRequest) -> Output:
        """Copies an output of the API into our storage; after three tries it stays there, with a warning."""
        output = request.output
        if not output.url:  # completed by hand, without a result: its task is watched again
            fail("This stage was completed without an output.", Failure("completed_by_hand", outage=True))
        copying = Copying(request.stage)
        return await with_heartbeats(self._copy(request, copying), copying.details)

    async def _copy(self, request: KeepRequest, copying: Copying) -> Output:
        output = request.output
        suffix = output.format or PurePosixPath(urlsplit(output.url).path).suffix.removeprefix(".")
        suffix = suffix if suffix.isalnum() and suffix.isascii() and len(suffix) <= 5 else "bin"
        name = f"outputs/{request.job_id}/{request.key}.{suffix.lower()}"
        try:
            size = await download.download_to_storage(
                output.url,
                name,
                expected=output.filesize,
                report=lambda have, total: None,
                wait_for_storage=copying.wait_for_storage,
                trusted_origin=settings.ITTYBIT_API_URL,
            )
        except (download.DownloadError, OSError) as error:
            if activity.info().attempt < 3 and not getattr(error, "permanent", False):
                raise ApplicationError(f"{type(error).__name__}: {error}") from None
            warning = (
                "This output couldn’t be copied to your storage. Its link is the engine’s and may expire."
            )
            return replace(output, warnings=[*output.warnings, warning])
        return replace(output, name=name, filesize=size)


@activity.defn(name=RECORD)
async def record(request: RecordRequest) -> bool:
    """Writes a status and its events to the database; False where it is stale or the job was deleted."""
    is_news = await in_thread(_record, request)
    for event in request.events if is_news else ():
        log.info("%s%s", event.text, f" ({event.actor})" if event.actor else "")
    return is_news


def _record(request: RecordRequest) -> bool:
    # a workflow of an earlier version doesn't say which run it is
    run = request.run or Job.objects.filter(pk=request.job_id).values_list("run", flat=True).first()
    return Job(pk=request.job_id).record(request.status, request.events, run or 0)
