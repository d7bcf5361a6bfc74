"""Fragments that pages poll: rendered once per version, and 304 for a browser that has the current text.

It knows templates and no job. A version is whatever compares equal while nothing of what is rendered has
changed. What no version covers (how long ago, a signature's hour, a user's new name) is at most MAX_AGE old.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar, cast

from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.template.loader import render_to_string

from mediapipe.accounts.login_required import PageRequest
from mediapipe.recent import Recent

MAX_AGE = 60.0  # seconds

T = TypeVar("T")
_made: Recent[Hashable, tuple[object, Any]] = Recent(2000)  # the version, and what was made for it


def once(key: Hashable, version: object, make: Callable[[], T], *, max_age: float | None = None) -> T:
    """What *make* returns: made anew where *version* isn't the last one's, or every *max_age* seconds."""
    version = version, int(time.time() // (max_age or MAX_AGE))
    known = _made.get(key)
    if known and known[0] == version:
        return cast(T, known[1])
    made = make()
    _made[key] = version, made
    return made


def render_once(
    template: str,
    key: Hashable,
    version: object,
    context: Callable[[], Mapping[str, Any]],
    request: HttpRequest | None = None,
    *,
    max_age: float | None = None,
) -> str:
    """The template's text, rendered once for a *version*.

    *key*: which of the template's texts it is, and for whom, as far as that changes it.
    """
    return once(
        (template, key), version, lambda: render_to_string(template, context(), request), max_age=max_age
    )


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
