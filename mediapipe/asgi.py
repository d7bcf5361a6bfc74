"""The ASGI application: Django behind the layer that streams uploads and limits every other body."""

from __future__ import annotations

import gc
import os
from typing import cast

import django
from asgiref.sync import sync_to_async

from mediapipe.web.request_body import App, raw_body

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mediapipe.settings")
django.setup(set_prefix=False)

from django.conf import settings  # noqa: E402 - settings are read when the application is built
from django.urls import reverse  # noqa: E402

from mediapipe import disk, tracing  # noqa: E402
from mediapipe.accounts import engine_key, visitor  # noqa: E402
from mediapipe.database import fresh_connections  # noqa: E402
from mediapipe.urls import too_large  # noqa: E402
from mediapipe.web.handler import Handler  # noqa: E402


def granted(path: str, headers: dict[str, str]) -> int:
    """Bytes that a body may bring: who has signed in may send more, and files by the plain form.

    Django stores those twice on their way. Who sends the engine's key may bring an API's body.
    """
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and path.startswith("/ittybit/"):
        return settings.MAX_BODY_BYTES if engine_key.is_valid(key.strip()) else 0
    with fresh_connections():
        if visitor.signed_in(headers.get("cookie", "")) is None:
            return 0
    if path != FORM:
        return settings.MAX_BODY_BYTES
    return max(settings.MAX_BODY_BYTES, min(settings.MAX_UPLOAD_BYTES, disk.free_for_media() // 2))


tracing.begin("web")
FORM = reverse("jobs:new")
application = raw_body(
    cast(App, Handler()),
    granted=sync_to_async(granted),
    too_large=sync_to_async(too_large),
)
# What is loaded by now stays: a full collection that looks through it all holds every request up for 0.1 s.
gc.collect()
gc.freeze()
