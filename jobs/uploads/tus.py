"""The tus 1.0 protocol as such: its headers, its errors, and the frame around every request.

It knows HTTP and who is signed in, and nothing of files or jobs. https://tus.io/protocols/resumable-upload
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from jobs.uploads.errors import UploadError
from mediapipe.web.request_body import OFFSET_STREAM, Disconnected

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,expiration,checksum,termination"
ALGORITHMS = {"sha1": hashlib.sha1, "sha256": hashlib.sha256, "md5": hashlib.md5}
MAX_METADATA = 8192  # characters
log = logging.getLogger(__name__)


def answer(status: int, text: str = "", **headers: object) -> HttpResponse:
    """A tus reply; header names with _ for -."""
    response = HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")
    if not text:
        del response["Content-Type"]
    response["Cache-Control"] = "no-store"
    for name, value in headers.items():
        response[name.replace("_", "-")] = str(value)
    return response


def describe_server() -> HttpResponse:
    """What this server offers; a client may ask before a version is agreed on."""
    return answer(
        204,
        Tus_Version=VERSION,
        Tus_Extension=EXTENSIONS,
        Tus_Max_Size=settings.MAX_UPLOAD_BYTES,
        Tus_Checksum_Algorithm=",".join(ALGORITHMS),
    )


def integer_header(request: HttpRequest, name: str) -> int:
    """A header that must be a non-negative integer."""
    raw = request.headers.get(name, "")
    if not (raw.isascii() and raw.isdecimal() and len(raw) < 19):
        raise UploadError(400, f"{name} must be a non-negative integer.")
    return int(raw)


def check_creation(request: HttpRequest) -> None:
    """Raises UploadError for what isn't offered: ignored, it would make a job of a third of a film."""
    if "Upload-Concat" in request.headers:
        raise UploadError(400, "Parallel parts (Upload-Concat) aren’t offered. Send the file as one upload.")
    if "Upload-Defer-Length" in request.headers:
        raise UploadError(400, "A length that comes later (Upload-Defer-Length) isn’t offered. Send it now.")


def parse_metadata(raw: str) -> dict[str, str]:
    """Upload-Metadata: comma separated keys, each one once, each with a base64 value or none."""
    found: dict[str, str] = {}
    if len(raw) > MAX_METADATA:
        raise UploadError(400, "Upload-Metadata is too long.")
    for pair in raw.split(",") if raw else ():
        key, _, value = pair.partition(" ")
        if not key or not key.isascii():
            raise UploadError(400, "Upload-Metadata needs a key before each value.")
        if key in found:
            raise UploadError(400, "Upload-Metadata names a key twice.")
        try:
            found[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, ValueError):
            raise UploadError(400, "Upload-Metadata is not base64 of UTF-8.") from None
    return found


def parse_checksum(request: HttpRequest) -> tuple[Hash | None, bytes]:
    """The digest to fill and the value it must come to; (None, b"") where the request names none."""
    raw = request.headers.get("Upload-Checksum")
    if raw is None:
        return None, b""
    name, _, value = raw.partition(" ")
    if name not in ALGORITHMS:
        raise UploadError(400, f"Unknown checksum algorithm. Known: {', '.join(ALGORITHMS)}.")
    try:
        return ALGORITHMS[name](), base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise UploadError(400, "Upload-Checksum is not base64.") from None


def has_bytes(request: HttpRequest) -> bool:
    """Whether the request carries a part of the upload. Raises UploadError for a body of another type."""
    if request.headers.get("Content-Type") == OFFSET_STREAM:
        return True
    if request.method == "PATCH" or request.headers.get("Content-Length", "0") not in ("", "0"):
        raise UploadError(415, f"The content type must be {OFFSET_STREAM}.")
    return False


def check_body(request: HttpRequest, offset: int, length: int) -> None:
    """Raises UploadError where the body does not belong at *offset*, or says it is longer than the rest."""
    if request.method == "PATCH" and integer_header(request, "Upload-Offset") != offset:
        raise UploadError(409, "Upload-Offset does not match what has arrived.", Upload_Offset=offset)
    announced = request.headers.get("Content-Length", "")
    if announced.isdecimal() and int(announced) > length - offset:
        raise UploadError(413, "More bytes came than Upload-Length promised.")


def _with_version(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    if request.path_info.startswith("/uploads") and request.method != "OPTIONS":
        response["Tus-Resumable"] = VERSION
    return response


@sync_and_async_middleware
def version(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Names the protocol's version on every answer of its addresses, whoever gives it."""
    if iscoroutinefunction(get_response):

        async def async_middleware(request: HttpRequest) -> HttpResponseBase:
            return _with_version(request, await get_response(request))

        return async_middleware

    def sync_middleware(request: HttpRequest) -> HttpResponseBase:
        return _with_version(request, get_response(request))

    return sync_middleware


View = Callable[..., Coroutine[Any, Any, HttpResponse]]


def tus(view: View) -> View:
    """The protocol's frame: version, method override, sign-in, and errors as plain sentences.

    A method override is accepted on POST alone, where the CSRF token has been checked. What a reply to HEAD
    can't carry as its body stands in a header, Mediapipe-Says, which takes no curly apostrophe.
    """

    @login_not_required  # a redirect to the login page would be no answer to a tus client
    @wraps(view)
    async def wrapped(request: HttpRequest, **parts: Any) -> HttpResponse:
        if request.method == "POST" and (method := request.headers.get("X-HTTP-Method-Override")):
            request.method = method.upper()
        if request.method == "OPTIONS":
            return describe_server()
        try:
            if request.headers.get("Tus-Resumable") != VERSION:
                raise UploadError(412, "This server supports tus 1.0.0.", Tus_Version=VERSION)
            if not (await request.auser()).is_authenticated:
                raise UploadError(401, "You’ve been signed out. Sign in to continue the upload.")
            return await view(request, **parts)
        except UploadError as error:
            log.info("an upload was refused (%d): %s", error.status, error.text)
            sentence = {"Mediapipe_Says": error.text.replace("’", "'")} if request.method == "HEAD" else {}
            return answer(error.status, error.text, **error.headers, **sentence)
        except Disconnected:
            return answer(408, "Connection lost. The upload will continue as soon as you’re back online.")

    return wrapped
