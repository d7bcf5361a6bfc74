"""What a page was last told, so that a poll of what has not changed costs neither rendering nor bytes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Hashable

from django.http import HttpRequest, HttpResponse, HttpResponseNotModified

MOST = 500  # answers that are remembered
# Differs each time and says nothing new: a token is masked anew, a countdown is counted by the page.
RESTLESS = re.compile(r'(name="csrfmiddlewaretoken" value=")\w+|(<time data-until="\d+">)[^<]*')

_told: dict[Hashable, tuple[tuple[object, ...], str]] = {}


def answer(
    request: HttpRequest, key: Hashable, made_of: tuple[object, ...], render: Callable[[], str]
) -> HttpResponse:
    """The fragment, or 304 where the browser has just this one.

    *key*: what is looked at, and by whom as far as that changes it. *made_of*: all that it is rendered
    from: while that is equal, nobody who has the last answer needs another.
    """
    tag = request.headers.get("HX-PTag")
    if tag and _told.get(key) == (made_of, tag):
        return HttpResponseNotModified()
    text = render()
    now = hashlib.blake2b(RESTLESS.sub(r"\1\2", text).encode(), digest_size=12).hexdigest()
    if len(_told) >= MOST:
        _told.clear()
    _told[key] = made_of, now
    if tag == now:
        return HttpResponseNotModified()
    return HttpResponse(text, headers={"HX-PTag": now, "Cache-Control": "no-store"})
