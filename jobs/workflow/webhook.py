"""The webhook of a stage's task: the URL that is signed, the token that is read, and the view that answers.

A webhook only shortens the poller's wait: its body is never read, the task itself is. Polling is the
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

from jobs.engine import open_client
from jobs.ittybit import replies
from jobs.state import StageState, workflow_id
from jobs.workflow.media_pipeline import MediaPipeline
from jobs.workflow.watch import output_of
from mediapipe import temporal

SALT = "jobs.hook"
LIFETIME = timedelta(days=7)  # of a token; who works longer than that on a task is polled


def tells(*, own: bool = False) -> bool:
    """Whether an engine is asked to report the end of a task; *own*: this installation's."""
    return bool(_base(own=own))


def _base(*, own: bool) -> str:
    return str(settings.LOCAL_URL if own or settings.EMBEDDED_ENGINE else settings.PUBLIC_URL)


def webhook_url(job_id: str, stage: str, activity_id: str, *, own: bool = False) -> str:
    """Where the engine may report that a task is over: unguessable, and different for each task."""
    base = _base(own=own)
    token = signing.dumps([job_id, stage, activity_id], salt=SALT, compress=True)
    return f"{base}/hooks/ittybit/{token}" if base else ""


async def on_webhook(token: str) -> bool:
    """Reads the task that *token* names and, where it is over, completes the stage's activity.

    False for a token that isn't ours, or is too old. Temporal or the engine being unavailable is left to the
    poller.
    """
    try:
        job_id, stage, activity_id = signing.loads(token, salt=SALT, max_age=LIFETIME)
    except (signing.BadSignature, ValueError):
        return False
    client = await temporal.client()
    run = client.get_workflow_handle(workflow_id(job_id))
    with contextlib.suppress(
        RPCError, RuntimeError, TimeoutError, KeyError, WorkflowQueryFailedError, replies.IttybitError
    ):
        async with asyncio.timeout(10):
            status = await run.query(MediaPipeline.status, rpc_timeout=temporal.RPC_TIMEOUT)
            watched = status.stage(stage)
            task_id = watched.task_id
            if task_id is None or watched.state != StageState.RUNNING:
                return True  # it is over for us: who sends it again has the engine asked nothing
            async with open_client() as engine:
                task = await engine.of(watched.engine).read(task_id)
            if not task.terminal or (task.state == replies.TaskState.SUCCEEDED and not task.output):
                return True  # the poller reads again: the output may be named a moment later
            watching = client.get_async_activity_handle(
                workflow_id=run.id, run_id=None, activity_id=activity_id
            )
            try:
                await watching.complete(output_of(task), rpc_timeout=temporal.RPC_TIMEOUT)
            except ApplicationError as error:
                await watching.fail(error, rpc_timeout=temporal.RPC_TIMEOUT)
    return True


@csrf_exempt
@login_not_required
async def receive(request: HttpRequest, token: str) -> HttpResponse:
    """The engine reports that a task is over. The body is ignored: the task itself is read."""
    if request.method != "POST":
        return HttpResponse(status=405, headers={"Allow": "POST"})
    known = await on_webhook(token)
    return HttpResponse(
        "ok\n" if known else "unknown\n", status=200 if known else 404, content_type="text/plain"
    )
