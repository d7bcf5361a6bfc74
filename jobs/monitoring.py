"""Health, readiness and metrics, for load balancers and monitoring. It shows nothing to people."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_GET
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Gauge, generate_latest
from temporalio.service import RPCError

from jobs import engine, reconcile
from jobs.models import Job
from mediapipe import database, disk, kernel, storage, temporal
from mediapipe.accounts import engine_key
from mediapipe.metrics import SHARED

STORAGE_SECONDS = 2.0  # for which the storage's answer is waited for
STORAGE_KNOWN = 5.0  # seconds for which its last answer counts
TEMPORAL = Gauge("mediapipe_temporal_reachable", "Whether Temporal answers", registry=SHARED)


@login_not_required
@require_GET
def healthz(request: HttpRequest) -> HttpResponse:
    """200 while this process answers."""
    return HttpResponse("ok\n", content_type="text/plain")


@login_not_required
async def readyz(request: HttpRequest) -> JsonResponse:
    """Whether a job could run now; 503, with what is missing as false, where it could not.

    *database*: whether it answers, and has the tables of this version.
    *storage*: whether the bucket answers, where there is one.
    *resource*: which one of the Ittybit API takes our tasks; null until the first task has found it out.
    *sandbox*: what holds FFmpeg on this machine; null where the engine is elsewhere.
    """
    database_answers = await sync_to_async(_database)()
    checks = {
        "database": database_answers,
        "temporal": await _temporal(),
        "disk": not disk.is_home_full(),
        "storage": await _storage.answers(),
        "temporal_knows_jobs": not database_answers or await temporal_knows_jobs(),
    }
    resource = await asyncio.to_thread(lambda: engine.resource().known)
    facts = {
        "resource": resource or None,
        "sandbox": kernel.protection() if settings.EMBEDDED_ENGINE else None,
    }
    return JsonResponse({**checks, **facts}, status=200 if all(checks.values()) else 503)


def _database() -> bool:
    try:
        return not database.missing_migrations()
    except DatabaseError:
        return False


def _ask_storage() -> bool:
    try:
        storage.check()
    except OSError:
        return False
    return True


class _Storage:
    """Whether the bucket answers: asked by one thread at a time, however many strangers want to know."""

    def __init__(self) -> None:
        self.asking: asyncio.Future[bool] | None = None
        self.asked_at = 0.0

    async def answers(self) -> bool:
        """True where there is no bucket."""
        loop = asyncio.get_running_loop()
        asking = self.asking
        known = time.monotonic() - self.asked_at < STORAGE_KNOWN
        if asking is None or asking.get_loop() is not loop or (asking.done() and not known):
            asking = self.asking = loop.run_in_executor(None, _ask_storage)
            self.asked_at = time.monotonic()
        await asyncio.wait({asking}, timeout=STORAGE_SECONDS)
        return asking.done() and asking.result()


_storage = _Storage()


async def _temporal() -> bool:
    client = await temporal.client()
    try:
        async with asyncio.timeout(2):
            await temporal.check(client)
    except (RPCError, RuntimeError, TimeoutError):
        return False
    return True


async def temporal_knows_jobs() -> bool:
    """False where it runs none of several jobs that have started: then it may be the wrong Temporal."""
    started = Job.objects.active().exclude(workflow_started_at=None)
    then = reconcile.established_by()
    query = reconcile.RUNNING
    if await started.filter(workflow_started_at__lt=then).acount() >= reconcile.SEVERAL:
        query += f" AND StartTime < '{then.isoformat()}'"
    elif await started.acount() < reconcile.SEVERAL:
        return True
    client = await temporal.client()
    try:
        async with asyncio.timeout(2):
            return (await client.count_workflows(query, rpc_timeout=timedelta(seconds=1))).count > 0
    except (RPCError, RuntimeError, TimeoutError):
        return True  # that it doesn't answer is said above


@login_not_required
@require_GET
async def metrics(request: HttpRequest) -> HttpResponse:
    """Counts in Prometheus' text format, for staff and for bearers of the engine's key; else 403."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if not (scheme == "Bearer" and engine_key.is_valid(key)) and not (await request.auser()).is_staff:
        return HttpResponse("Sign in as an admin, or send the engine’s key as a bearer token.\n", status=403)
    TEMPORAL.set(await _temporal())
    body = await sync_to_async(generate_latest)(SHARED)
    return HttpResponse(generate_latest(REGISTRY) + body, content_type=CONTENT_TYPE_LATEST)
