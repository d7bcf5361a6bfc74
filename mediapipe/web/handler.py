"""The ASGI handler: a request that awaits nothing runs in one thread, from the first middleware to the last.

Django's own handler gives each middleware a thread of its own to hop to, and each request a thread that
opens the database anew: two thirds of what a poll cost. Views that await (a body, a file, a cluster) stay
with it, but for those that await a moment only. Which ones do is read off the URLs; it knows none by name.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast
from weakref import WeakValueDictionary

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.conf import settings
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.handlers.base import BaseHandler
from django.core.signals import request_started
from django.http.response import HttpResponseBase
from django.urls import Resolver404, resolve, set_script_prefix

THREADS = 24
AT_ONCE = 8  # requests of one address that have a thread: who sends more waits for themselves alone
# Seconds that a busy thread keeps the interpreter from the loop: Python's own 5 ms add up with every thread.
SWITCH = 0.0005
View = TypeVar("View", bound=Callable[..., HttpResponseBase])
Coroutine = TypeVar("Coroutine", bound=Callable[..., Any])


def streams(view: View) -> View:
    """Marks a synchronous *view* whose response is streamed: Django's own handler takes it, too."""
    view.streams = True  # type: ignore[attr-defined]
    return view


def brief(*methods: str) -> Callable[[Coroutine], Coroutine]:
    """Marks a coroutine that awaits a moment only when asked by these *methods*: one thread answers it."""

    def mark(view: Coroutine) -> Coroutine:
        view.brief = methods  # type: ignore[attr-defined]
        return view

    return mark


def awaits(path: str, method: str = "GET") -> bool:
    """Whether Django's own handler answers *path*: a view that is a coroutine or streams, a static file."""
    if path.startswith(settings.STATIC_URL):
        return True
    try:
        view = resolve(path).func
    except Resolver404:
        return False
    if method in getattr(view, "brief", ()):
        return False
    return iscoroutinefunction(view) or hasattr(view, "streams")


class Handler(ASGIHandler):
    """Django's handler, and a shorter one for views that await nothing."""

    chunk_size = 512 * 1024  # a block of a file in one piece: in eight a download took a quarter more CPU

    def __init__(self) -> None:
        super().__init__()
        self.sync_handler = BaseHandler()
        self.sync_handler.load_middleware(is_async=False)
        sys.setswitchinterval(SWITCH)
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="request")
        self.turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers one request."""
        if scope["type"] != "http" or self.awaits(scope):
            return await super().__call__(scope, receive, send)
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        answer = sync_to_async(self.answer, thread_sensitive=False, executor=self.threads)
        address = (scope.get("client") or ("",))[0]
        async with self.turns.setdefault(address, asyncio.Semaphore(AT_ONCE)):
            response = await answer(scope, body)
        await self.send_response(response, send)

    def awaits(self, scope: Any) -> bool:
        """Whether Django's own handler answers a request."""
        return awaits(scope["path"].removeprefix(get_script_prefix(scope)), scope.get("method", "GET"))

    def answer(self, scope: Any, body: Any) -> HttpResponseBase:
        """The whole of a request, in the thread that it is called in."""
        with body:
            set_script_prefix(get_script_prefix(scope))
            request_started.send(sender=self.__class__, scope=scope)
            request, response = self.create_request(scope, body)
            response = cast(
                HttpResponseBase, self.sync_handler.get_response(request) if request else response
            )
            if response.streaming:
                raise RuntimeError(f"The view of {request.path if request else '?'} must be marked @streams.")
            response.close()  # the database is given back by the thread that used it
            return response
