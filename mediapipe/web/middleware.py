"""The installation's own middleware: one strict policy, plain text only, async static files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache, reduce
from typing import Any
from urllib.parse import urlsplit

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.middleware.common import CommonMiddleware
from django.utils.cache import patch_vary_headers
from django.utils.decorators import sync_and_async_middleware
from django.utils.text import compress_string
from whitenoise.middleware import WhiteNoiseMiddleware

from mediapipe.storage import s3

POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "media-src 'self' blob:",  # as which a script hands a stream to the player
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors {}",
    )
)


@cache
def policy(frames: str = "'none'") -> str:
    """The Content-Security-Policy; media may come from the bucket, where there is one.

    *frames*: the sites on whose pages ours may stand in a frame.
    """
    own = POLICY.format(frames)
    if not settings.S3_BUCKET:
        return own
    parts = urlsplit(s3.base())
    origin = f"{parts.scheme}://{parts.netloc}"
    sources = ("img-src", "media-src", "connect-src")
    return reduce(lambda text, each: text.replace(f"{each} 'self'", f"{each} 'self' {origin}"), sources, own)


def compress(request: HttpRequest, response: HttpResponse) -> None:
    """Gzips a page for a browser that takes it; random bytes hide its length (BREACH)."""
    if not response.headers.get("Content-Type", "").startswith("text/html") or len(response.content) <= 500:
        return
    patch_vary_headers(response, ("Accept-Encoding",))
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        response.content = compress_string(response.content, max_random_bytes=100)
        response["Content-Length"] = str(len(response.content))
        response["Content-Encoding"] = "gzip"


def _is_part_of_a_page(request: HttpRequest, response: HttpResponseBase) -> bool:
    """Whether it is one of our own scripts or styles: the policy that counts there is the page's."""
    kind = response.headers.get("Content-Type", "")
    return request.path_info.startswith(settings.STATIC_URL) and kind.startswith(
        ("text/css", "text/javascript")
    )


class ContentSecurityPolicy:
    """Sets the policy on every response: pages load nothing but our own files, and run nothing inline.

    What says nothing of caches itself is kept by none: a page is its reader's, and gone when they sign out.
    Pages are compressed on the way, and nothing else: media is streamed, static files are compressed on disk.
    """

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Answers, with the policy."""
        return (
            self._later(request) if self.is_async else self._with_policy(request, self.get_response(request))
        )

    async def _later(self, request: HttpRequest) -> HttpResponseBase:
        return self._with_policy(request, await self.get_response(request))

    @staticmethod
    def _with_policy(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if isinstance(response, HttpResponse):
            compress(request, response)
        if not _is_part_of_a_page(request, response):
            response.headers.setdefault("Content-Security-Policy", policy())
        response.headers.setdefault("Cache-Control", "no-store")
        return response


class KnownHosts(CommonMiddleware):
    """Django's own, which refuses a Host that isn't ours; a load balancer's probe knows an address alone."""

    def process_request(self, request: HttpRequest) -> Any:
        """Raises DisallowedHost, but for the path that says nothing but that this process answers."""
        return None if request.path_info == "/healthz" else super().process_request(request)


def check_text(request: HttpRequest) -> None:
    """Raises BadRequest for a NUL in a query or a form: no text has one, and Postgres stores none."""
    for fields in (request.GET, request.POST):
        for name, values in fields.lists():
            if any("\0" in text for text in (name, *map(str, values))):
                raise BadRequest("a field holds a NUL character")


@sync_and_async_middleware
def plain_text(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Answers 400 to fields that are no text, before any view reads them."""
    if iscoroutinefunction(get_response):

        async def async_middleware(request: HttpRequest) -> HttpResponseBase:
            check_text(request)
            response: HttpResponseBase = await get_response(request)
            return response

        return async_middleware

    def sync_middleware(request: HttpRequest) -> HttpResponseBase:
        check_text(request)
        response: HttpResponseBase = get_response(request)
        return response

    return sync_middleware


class StaticFiles(WhiteNoiseMiddleware):  # type: ignore[misc]  # whitenoise has no types
    """WhiteNoise that reads in blocks under ASGI, instead of a whole file at once (whitenoise#179)."""

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        super().__init__(get_response)
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """The static file at this path, else the application's response."""
        return self._later(request) if self.is_async else super().__call__(request)

    async def _later(self, request: HttpRequest) -> HttpResponseBase:
        if self.autorefresh:
            found = await sync_to_async(self.find_file, thread_sensitive=False)(request.path_info)
        else:
            found = self.files.get(request.path_info)
        if found is None:
            response: HttpResponseBase = await self.get_response(request)
            return response
        answer = await sync_to_async(found.get_response, thread_sensitive=False)(request.method, request.META)
        if answer.file is None:
            reply: HttpResponse | StreamingHttpResponse = HttpResponse(status=int(answer.status))
        else:
            reply = StreamingHttpResponse(_blocks(answer.file), status=int(answer.status))
        del reply["content-type"]
        for name, value in answer.headers:
            reply[name] = value
        return reply


async def _blocks(file: Any) -> AsyncIterator[bytes]:
    try:
        while block := await sync_to_async(file.read, thread_sensitive=False)(1 << 18):
            yield block
    finally:
        file.close()
