"""Fragments that pages poll: rendered once per version, and 304 for a browser that has the current text.

It knows templates and no job. A version is whatever compares equal while nothing of what is rendered has
changed. What no version covers (how long ago, a signature's hour, a user's new name) is at most MAX_AGE old.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.template.loader import render_to_string
from django_htmx.middleware import HtmxDetails

from mediapipe.recent import Recent

MAX_AGE = 60.0  # seconds

_rendered: Recent[Hashable, tuple[object, str]] = Recent(1000)  # the version and the text


class PageRequest(HttpRequest):
    """A request behind our middleware: its user has signed in, and django-htmx has read its headers."""

    user: User
    htmx: HtmxDetails


def render_once(
    template: str,
    key: Hashable,
    version: object,
    context: Callable[[], Mapping[str, Any]],
    request: HttpRequest | None = None,
    *,
    max_age: float | None = None,
) -> str:
    """The template's text: rendered anew where *version* isn't the last one's, or every *max_age* seconds.

    *key*: which of the template's texts it is, and for whom, as far as that changes it.
    """
    version = version, int(time.time() // (max_age or MAX_AGE))
    known = _rendered.get((template, key))
    if known and known[0] == version:
        return known[1]
    text = render_to_string(template, context(), request)
    _rendered[template, key] = version, text
    return text


def fragment(
    request: PageRequest,
    template: str,
    viewer: Hashable,
    version: object,
    context: Callable[[], Mapping[str, Any]],
    *,
    max_age: float | None = None,
) -> HttpResponse:
    """The template's text at the request's URL, or 304 where the browser has the same text.

    *viewer*: what of the user the text depends on. Those of whom it is equal share one rendering, so the
    template must hold no CSRF token: its buttons belong to forms beside the fragment.
    """
    key = request.get_full_path(), viewer
    text = render_once(template, key, version, context, request, max_age=max_age)
    tag = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
    if request.htmx.ptag == tag:
        return HttpResponseNotModified()
    return HttpResponse(text, headers={"HX-PTag": tag, "Cache-Control": "no-store"})
