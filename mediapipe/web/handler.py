"""The ASGI handler: a request that awaits nothing runs in one thread, from the first middleware to the last.

Django's own handler gives each middleware a thread of its own to hop to, and each request a thread that
opens the database anew: two thirds of what a poll cost. Uploads, media and the engine, whose bodies
are streamed, stay with it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from asgiref.sync import sync_to_async
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.handlers.base import BaseHandler
from django.core.signals import request_started
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix

THREADS = 24
# Paths whose views await a body, a file or a cluster.
AWAITING = ("/static/", "/uploads/", "/media/", "/ittybit/", "/hooks/", "/readyz", "/history/jobs.csv")


class Handler(ASGIHandler):
    """Django's handler, and a short way for short requests."""

    def __init__(self) -> None:
        super().__init__()
        self.short = BaseHandler()
        self.short.load_middleware(is_async=False)
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="request")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers one request."""
        if scope["type"] != "http" or scope["path"].startswith(AWAITING):
            return await super().__call__(scope, receive, send)
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        answer = sync_to_async(self.answer, thread_sensitive=False, executor=self.threads)
        await self.send_response(await answer(scope, body), send)

    def answer(self, scope: Any, body: Any) -> HttpResponseBase:
        """The whole of a request, in the thread that it is called in."""
        with body:
            set_script_prefix(get_script_prefix(scope))
            request_started.send(sender=self.__class__, scope=scope)
            request, response = self.create_request(scope, body)
            response = cast(HttpResponseBase, self.short.get_response(request) if request else response)
            response.close()  # the database is given back by the thread that used it
            return response
