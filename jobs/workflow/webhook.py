"""The webhook of a stage's task: the URL that is signed, the token that is read, and the view that answers.

A webhook only spares the poller its wait: its body is never read, the task itself is. Polling is the
guarantee, so a webhook that comes early, late or twice changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from temporalio.client import WorkflowQueryFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from jobs.ittybit import replies
from jobs.ittybit.client import IttybitClient, open_http
from jobs.workflow.media_pipeline import MediaPipeline
from jobs.workflow.watch import outcome
from mediapipe import temporal

SOON = timedelta(seconds=3)
SALT = "jobs.hook"


def webhook_url(job_id: str, stage: str, activity_id: str) -> str:
    """Where the engine may tell that a task is over: unguessable, and different for each task."""
    base = settings.LOCAL_URL if settings.EMBEDDED_ENGINE else settings.PUBLIC_URL
    token = signing.dumps([job_id, stage, activity_id], salt=SALT, compress=True)
    return f"{base}/hooks/ittybit/{token}" if base else ""


async def on_webhook(token: str) -> bool:
    """A webhook says that a task is over: looks for itself, and spares the poller its wait.

    False for a token that isn't ours.
    """
    try:
        job_id, stage, activity_id = signing.loads(token, salt=SALT)
    except (signing.BadSignature, ValueError):
        return False
    client = await temporal.client()
    workflow_id = f"media-{job_id}"
    with contextlib.suppress(
        RPCError, RuntimeError, TimeoutError, KeyError, WorkflowQueryFailedError, replies.IttybitError
    ):
        async with asyncio.timeout(10):
            run = client.get_workflow_handle_for(MediaPipeline.run, workflow_id)
            task_id = (await run.query(MediaPipeline.status, rpc_timeout=SOON)).stage(stage).task_id
            if task_id is None:
                return True
            async with open_http(settings.ITTYBIT_API_URL, settings.ITTYBIT_API_KEY) as http:
                task = await IttybitClient(http, settings.ITTYBIT_RESOURCE).read(task_id)
            if not task.terminal or (task.state == replies.TaskState.SUCCEEDED and not task.output):
                return True  # the poller looks again for an output that is named a moment later
            waiting = client.get_async_activity_handle(
                workflow_id=workflow_id, run_id=None, activity_id=activity_id
            )
            try:
                await waiting.complete(outcome(task), rpc_timeout=SOON)
            except ApplicationError as error:
                await waiting.fail(error, rpc_timeout=SOON)
    return True


@csrf_exempt
@login_not_required
async def receive(request: HttpRequest, token: str) -> HttpResponse:
    """The engine says that a task is over. The body is not read: the task itself is asked."""
    if request.method != "POST":
        return HttpResponse(status=405, headers={"Allow": "POST"})
    known = await on_webhook(token)
    return HttpResponse(
        "ok\n" if known else "unknown\n", status=200 if known else 404, content_type="text/plain"
    )
