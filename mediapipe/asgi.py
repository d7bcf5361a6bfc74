"""The ASGI application: Django behind the layer that streams uploads and caps every other body."""

from __future__ import annotations

import os
from typing import cast

import django

from mediapipe.rawbody import App, raw_body

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mediapipe.settings")
django.setup(set_prefix=False)

from django.conf import settings  # noqa: E402 - settings are read when the application is made
from django.template.loader import render_to_string  # noqa: E402

from mediapipe.short import Handler  # noqa: E402

application = raw_body(
    cast(App, Handler()),
    cap=settings.MAX_BODY_BYTES,
    form_path="/jobs/new/",
    form_cap=settings.MAX_UPLOAD_BYTES,
    too_large=lambda limit: render_to_string("413.html", {"limit": limit >> 20}),
)
