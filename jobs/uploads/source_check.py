"""Asks this installation's engine, over HTTP, whether a file that has arrived is media at all.

It knows the engine's answer and our sentences, and nothing of uploads or jobs.
"""

from __future__ import annotations

import logging
from pathlib import Path

import httpx
from django.conf import settings

from jobs.ittybit.client import IttybitClient
from jobs.ittybit.replies import IttybitError
from mediapipe import storage
from mediapipe.remote import tls

TIMEOUT = httpx.Timeout(35, connect=1)  # the engine itself gives a probe 30 s
SENTENCES = {
    "not_media": "This isn’t a video or audio file, so it wasn’t uploaded.",
    "image": "This is an image. Upload a video or audio file instead.",
    "protected": "This file is copy-protected. Upload an unprotected copy.",
    "damaged": (
        "This file is incomplete or damaged, so it wasn’t uploaded. Export it again and upload the new file."
    ),
}
log = logging.getLogger(__name__)


async def find_problem(part: Path) -> str:
    """Why *part*, a file in incoming/, is certainly no usable media, in a sentence.

    "" where it may be media, or where the engine doesn't answer: that says nothing about the file, and must
    not cost anyone an upload.
    """
    url = storage.signed_url(f"incoming/{part.name}", local=True)
    try:
        async with httpx.AsyncClient(
            base_url=f"{settings.LOCAL_URL}/ittybit",
            headers={"Authorization": f"Bearer {settings.ENGINE_KEY}"},
            timeout=TIMEOUT,
            verify=tls(),
            trust_env=False,  # a proxy leads nowhere near this machine
        ) as http:
            client = IttybitClient(http)
            client.deadline = 40.0
            problem = await client.probe(url)
    except (IttybitError, httpx.InvalidURL) as error:
        log.warning("a file could not be checked and was accepted: %s", error)
        return ""
    return SENTENCES.get(problem.kind, problem.message) if problem else ""
