"""Whole addresses of our own pages, for elsewhere and for the browser that asks. It knows no page."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest


def absolute(path: str) -> str:
    """The address of *path* for mails, programs and messages, which no request leads to."""
    return f"{settings.PUBLIC_URL or settings.LOCAL_URL}{path}"


def absolute_for(request: HttpRequest, path: str) -> str:
    """The address of *path* for whoever asks: where none is set for people, the one they came by."""
    return f"{settings.PUBLIC_URL}{path}" if settings.PUBLIC_URL else request.build_absolute_uri(path)
