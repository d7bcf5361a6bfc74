"""The ASGI application: Django behind the layer that streams uploads and limits every other body."""

from __future__ import annotations

import os
from typing import cast

import django
from asgiref.sync import sync_to_async

from mediapipe.web.request_body import App, raw_body

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mediapipe.settings")
django.setup(set_prefix=False)

from django.conf import settings  # noqa: E402 - settings are read when the application is built
from django.contrib.auth import SESSION_KEY  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.http import parse_cookie  # noqa: E402
from django.template.loader import render_to_string  # noqa: E402
from django.urls import reverse  # noqa: E402

from mediapipe import disk  # noqa: E402
from mediapipe.database import fresh_connections  # noqa: E402
from mediapipe.web.handler import Handler  # noqa: E402


def form_limit(cookie: str) -> int:
    """Bytes that a signed-in person's plain form may bring: Django stores them twice on their way."""
    with fresh_connections():
        key = parse_cookie(cookie).get(settings.SESSION_COOKIE_NAME)
        known = bool(key) and SessionStore(key).get(SESSION_KEY) is not None
    return min(settings.MAX_UPLOAD_BYTES, disk.free_for_media() // 2) if known else 0


application = raw_body(
    cast(App, Handler()),
    limit=settings.MAX_BODY_BYTES,
    form_path=reverse("jobs:new"),
    form_limit=sync_to_async(form_limit),
    too_large=lambda limit: render_to_string("413.html", {"limit": limit >> 20}),
)
