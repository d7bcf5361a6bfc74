"""Asks this installation's engine, over HTTP, whether a file that has arrived is media at all.

It knows the engine's answer and our sentences, and nothing of uploads or jobs.
"""

from __future__ import annotations

import logging

import httpx
from django.conf import settings

from jobs.ittybit.client import IttybitClient
from jobs.ittybit.probe import ProbeReply
from jobs.ittybit.replies import IttybitError
from mediapipe import storage
from mediapipe.remote import tls

TIMEOUT = 240.0  # seconds: for a turn, for a reader, and for the file itself (mediapipe.engine.prober)
CONNECT = 30.0  # seconds: it is this very process that answers, however busy its machine is
SENTENCES = {
    "not_media": "This isn’t a video or audio file, so it wasn’t uploaded.",
    "image": "This is an image. Upload a video or audio file instead.",
    "protected": "This file is copy-protected. Upload an unprotected copy.",
    "damaged": (
        "This file is incomplete or damaged, so it wasn’t uploaded. Export it again and upload the new file."
    ),
}
log = logging.getLogger(__name__)


async def find_problem(name: str) -> str:
    """Why our file *name* is certainly no usable media, in a sentence.

    "" where it may be media, or where nobody could look: that says nothing about the file, and must not cost
    anyone an upload. Its job's first stage looks again.
    """
    url = storage.signed_url(name, local=True)
    try:
        async with httpx.AsyncClient(
            base_url=f"{settings.LOCAL_URL}/ittybit",
            headers={"Authorization": f"Bearer {settings.ENGINE_KEY}"},
            timeout=httpx.Timeout(TIMEOUT, connect=CONNECT),
            verify=tls(),
            trust_env=False,  # a proxy leads nowhere near this machine
        ) as http:
            client = IttybitClient(http)
            client.deadline = TIMEOUT
            found = await client.probe(url)
    except (IttybitError, httpx.InvalidURL) as error:
        found = ProbeReply(None, unread=str(error))
    if found.unread:
        log.warning("%s was accepted unchecked: %s", name, found.unread)
    if found.problem is None:
        return ""
    log.info("%s was refused (%s): %s", name, found.problem.kind, found.problem.message)
    return SENTENCES.get(found.problem.kind, found.problem.message)
