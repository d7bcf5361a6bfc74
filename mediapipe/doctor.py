"""What is wrong with a set-up: one finding for each thing that jobs need, and what to do about it.

It asks those who know (the kernel, the disk, Temporal, the engine's client), and changes nothing.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.utils import timezone
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest

from jobs import engine, monitoring
from jobs.fleet import pausing
from jobs.models import FleetWorker
from jobs.notifications.channels import mail
from jobs.workflow import search_attributes
from mediapipe import kernel, task_queues, temporal
from mediapipe.accounts import provider
from mediapipe.database import in_thread
from mediapipe.doctor_machine import (
    START,
    check_clock,
    check_database,
    check_disk,
    check_home,
    check_keys,
    check_storage,
)
from mediapipe.engine.encode import ffmpeg_path
from mediapipe.finding import Advice, Finding, Wrong

SECONDS = 5  # that Temporal may take to answer, or FFmpeg to say its version


def check_ffmpeg() -> str:
    """The embedded engine's encoder."""
    if not settings.EMBEDDED_ENGINE:
        return "Not needed here: the engine is elsewhere."
    remedy = "Install mediapipe anew: remove .venv, and start any command."
    try:
        asked = [ffmpeg_path(), "-version"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=SECONDS, check=True)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        raise Wrong(f"FFmpeg can’t be started: {error}. {remedy}") from None
    return f"Version {done.stdout.split()[2]} starts."


def check_sandbox() -> str:
    """What holds FFmpeg on this kernel."""
    if not settings.EMBEDDED_ENGINE:
        return "Not needed here: the engine is elsewhere."
    held = kernel.protection()
    weak = " ".join(kernel.weaknesses())
    if not held["landlock"] or not held["seccomp"]:
        raise Wrong(weak)
    if weak:
        raise Advice(weak)
    return f"FFmpeg is held by Landlock (ABI {kernel.landlock_abi()}), seccomp and resource limits."


async def check_temporal() -> str:
    """Which Temporal, whether it answers, and whether it is the one that runs our jobs."""
    kind = "The cluster at" if temporal.is_cluster() else "The dev server of `up` at"
    name = f"{kind} {temporal.target()}, namespace {temporal.namespace()}"
    remedy = "Check TEMPORAL_ADDRESS." if temporal.is_cluster() else f"{START}, or set TEMPORAL_ADDRESS."
    client = await temporal.client()
    request = DescribeNamespaceRequest(namespace=client.namespace)
    try:
        async with asyncio.timeout(SECONDS):  # a connection has no deadline of the SDK's own
            await client.workflow_service.describe_namespace(request, timeout=temporal.RPC_TIMEOUT)
            knows = await temporal.knows_search_attributes(client, search_attributes.NAMES)
    except temporal.UNAVAILABLE as error:
        raise Wrong(f"{name}: {temporal.explain(error)}. {remedy}") from None
    if not is_local(temporal.target()) and not temporal.is_encrypted():
        remedy = "Set TEMPORAL_TLS=1, or a client certificate."
        raise Advice(f"{name}: without TLS others may read what is sent. {remedy}")
    if not knows:
        raise Advice(f"{name}: it can’t be searched by owner or state yet. See docs/machines.md.")
    return f"{name}: answers."


def _at_work() -> set[str]:
    """The task queues of the workers that give signs and take work."""
    now = timezone.now()
    return {queue for worker in FleetWorker.known(now) if worker.works(now) for queue in worker.slots}


async def check_jobs() -> str:
    """Whether it is the Temporal that runs our jobs, and somebody works."""
    if not await monitoring.temporal_knows_jobs():
        raise Wrong(
            "Temporal runs none of the jobs that should run: is it the wrong one, or was it replaced?"
        )
    queues = list(settings.WORKERS) if settings.EMBEDDED_ENGINE else ["media-pipeline"]
    at_work = await in_thread(_at_work)
    for queue in queues:  # one whose places are taken asks Temporal for nothing
        if queue not in at_work and not await task_queues.is_polled(queue):
            raise Wrong(f"No worker serves {queue}: jobs wait. {START}, or `manage.py worker`.")
    if settings.EMBEDDED_ENGINE and (pause := await pausing.paused()):
        why = f": {pause.why}" if pause.why else ""
        raise Advice(
            f"The line is paused by {pause.by}{why}. Nothing new begins until somebody resumes it (Fleet)."
        )
    return f"Workers serve {' and '.join(queues)}."


async def check_engine() -> str:
    """What check-engine says."""
    good, line = await engine.check()
    if not good and settings.EMBEDDED_ENGINE:
        raise Wrong(f"{line} {START} or `web`, or set MEDIAPIPE_LOCAL_URL to where it answers.")
    if not good:
        raise Wrong(line)
    if not settings.EMBEDDED_ENGINE and not settings.PUBLIC_URL and not settings.S3_BUCKET:
        raise Wrong(f"{line} It can’t fetch what is uploaded here: set MEDIAPIPE_PUBLIC_URL.")
    return line


def is_local(address: str) -> bool:
    """Whether host:port, or a URL, is this machine's own."""
    host = urlsplit(address if "//" in address else f"//{address}").hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_address() -> str:
    """How people's browsers come here, and what they are asked to keep to."""
    url = settings.PUBLIC_URL
    if not url:
        return f"{settings.LOCAL_URL}, for this machine alone; MEDIAPIPE_PUBLIC_URL is for others."
    if not url.startswith("https://"):
        if is_local(url):
            return f"{url}, for this machine alone."
        raise Wrong(f"{url} is not https: passwords and media can be read on the way. See docs/machines.md.")
    if not settings.PROXIES:
        raise Wrong(
            f"{url} is answered by a proxy with TLS, and nobody’s word is taken for who a client is: all"
            " people share one address, and its limits. Set MEDIAPIPE_BEHIND_PROXY."
        )
    return f"{url}: cookies are secure, browsers keep to https (HSTS), proxies are believed by their address."


def check_hosts() -> str:
    """Which Host headers are answered, and what errors show."""
    hosts = sorted({*settings.ALLOWED_HOSTS})
    if settings.DEBUG:
        raise Wrong("MEDIAPIPE_DEBUG is on: errors show settings and code to everybody. Unset it.")
    if "*" in hosts:
        raise Wrong("MEDIAPIPE_ALLOWED_HOSTS is *: links can be made to lead anywhere. Name the hosts.")
    return f"Answered: {', '.join(hosts)}."


def check_mail() -> str:
    """The server of notifications, where one is set."""
    if not settings.EMAIL_HOST:
        return "None is sent: MEDIAPIPE_EMAIL_HOST isn’t set."
    name = f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}"
    if sentence := mail.check():
        raise Wrong(f"{name}: {sentence} Check MEDIAPIPE_EMAIL_*.")
    if settings.EMAIL_SECURITY == "none" and not is_local(name):
        raise Advice(f"{name} gets mail, and its password, without TLS. Set MEDIAPIPE_EMAIL_SECURITY.")
    return f"{name} answers."


def check_sign_in() -> str:
    """How people come in, and whether the company's provider answers."""
    if not settings.OIDC_ISSUER:
        return "People sign in with passwords of their own."
    try:
        provider.discover()
    except provider.ProviderError as error:
        raise Wrong(f"{error.reason}. Check MEDIAPIPE_OIDC_ISSUER, to the last slash.") from None
    return f"{settings.OIDC_ISSUER} answers."


THINGS: dict[str, Callable[[], Any]] = {
    "home": check_home,
    "keys": check_keys,
    "disk": check_disk,
    "database": check_database,
    "clock": check_clock,
    "storage": check_storage,
    "FFmpeg": check_ffmpeg,
    "sandbox": check_sandbox,
    "Temporal": check_temporal,
    "jobs": check_jobs,
    "engine": check_engine,
    "address": check_address,
    "hosts": check_hosts,
    "mail": check_mail,
    "sign-in": check_sign_in,
}


NEEDS = {"jobs": ("database", "Temporal")}  # what must be right before something can be looked at


async def examine() -> list[Finding]:
    """A finding for each thing; one that can't be looked at is wrong, and the others are looked at."""
    found: dict[str, Finding] = {}
    for name in THINGS:
        if missing := [need for need in NEEDS.get(name, ()) if found[need].state == "wrong"]:
            text = f"Can’t be looked at before that is right: {', '.join(missing)}."
            found[name] = Finding(name, "wrong", text)
        else:
            found[name] = await look(name)
    return list(found.values())


async def look(name: str) -> Finding:
    """What is found of one of THINGS."""
    check = THINGS[name]
    try:
        return Finding(name, "ok", await (check() if iscoroutinefunction(check) else in_thread(check)))
    except Advice as advice:
        return Finding(name, "advice", str(advice))
    except Wrong as wrong:
        return Finding(name, "wrong", str(wrong))
    except Exception as error:  # whatever it is, it must not hide the other findings
        return Finding(name, "wrong", f"Can’t be looked at: {error!r}.")
