"""Every request followed from outside: an id in its log lines and in its answer, its time, a line if wanted.

It knows views by their names alone; no path is logged, since some hold what opens them.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware
from structlog.contextvars import bound_contextvars

from mediapipe.accounts import audit
from mediapipe.metrics import REQUESTS

METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS")
log = logging.getLogger(__name__)


def request_id(request: HttpRequest) -> str:
    """The id that a proxy gave the request, else a new one."""
    given = request.headers.get("X-Request-ID", "")
    return given if re.fullmatch(r"[\w.-]{8,64}", given, re.ASCII) else secrets.token_hex(8)


def _ended(request: HttpRequest, response: HttpResponseBase, began: float, name: str) -> HttpResponseBase:
    seconds = time.monotonic() - began
    match = request.resolver_match
    method = request.method if request.method in METHODS else "other"
    view = (match.view_name or "none") if match else "none"
    REQUESTS.labels(method, view, str(response.status_code)).observe(seconds)
    log.info("%s %s %d in %d ms", method, match.route if match else "?", response.status_code, seconds * 1000)
    response.headers["X-Request-ID"] = name
    return response


@sync_and_async_middleware
def followed(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Middleware around all others."""
    if iscoroutinefunction(get_response):

        async def later(request: HttpRequest) -> HttpResponseBase:
            began = time.monotonic()
            with bound_contextvars(request=(name := request_id(request))), audit.asked_by(request):
                return _ended(request, await get_response(request), began, name)

        return later

    def now(request: HttpRequest) -> HttpResponseBase:
        began = time.monotonic()
        with bound_contextvars(request=(name := request_id(request))), audit.asked_by(request):
            return _ended(request, get_response(request), began, name)

    return now
