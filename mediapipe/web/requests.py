"""Every request followed from outside: an id in its log lines and in its answer, its time, a line if wanted.

It knows views by their names alone; no path is logged, since some hold what opens them.
"""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware
from structlog.contextvars import bound_contextvars

from mediapipe import tracing
from mediapipe.accounts import audit
from mediapipe.metrics import REQUESTS

METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS")
log = logging.getLogger(__name__)


def request_id(request: HttpRequest) -> str:
    """The id that a proxy gave the request, else a new one."""
    given = request.headers.get("X-Request-ID", "")
    return given if re.fullmatch(r"[\w.-]{8,64}", given, re.ASCII) else secrets.token_hex(8)


@contextlib.contextmanager
def _following(request: HttpRequest) -> Iterator[Callable[[HttpResponseBase], HttpResponseBase]]:
    """Around a request: whose its lines, acts and spans are; what is called with its answer."""
    began = time.monotonic()
    name = request_id(request)
    with (
        bound_contextvars(request=name),
        audit.asked_by(request),
        tracing.request(request.headers) as span,
    ):
        yield lambda response: _ended(request, response, began, name, span)


def _ended(
    request: HttpRequest, response: HttpResponseBase, began: float, name: str, span: Any
) -> HttpResponseBase:
    seconds = time.monotonic() - began
    match = request.resolver_match
    method = request.method if request.method in METHODS else "other"
    view = (match.view_name or "none") if match else "none"
    REQUESTS.labels(method, view, str(response.status_code)).observe(seconds)
    route = match.route if match else "?"
    log.info("%s %s %d in %d ms", method, route, response.status_code, seconds * 1000)
    tracing.answered(span, method, route, response.status_code)
    response.headers["X-Request-ID"] = name
    return response


@sync_and_async_middleware
def followed(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Middleware around all others."""
    if iscoroutinefunction(get_response):

        async def later(request: HttpRequest) -> HttpResponseBase:
            with _following(request) as ended:
                return ended(await get_response(request))

        return later

    def now(request: HttpRequest) -> HttpResponseBase:
        with _following(request) as ended:
            return ended(get_response(request))

    return now
