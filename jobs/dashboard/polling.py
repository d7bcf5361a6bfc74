"""What a page was last told, so that a poll of what has not changed costs neither rendering nor bytes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Hashable

from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.middleware.csrf import get_token

MAX_ENTRIES = 200  # answers that are remembered
# Differs each time and says nothing new: a token is masked anew, a countdown is counted by the page.
RESTLESS = re.compile(r'(name="csrfmiddlewaretoken" value=")\w+|(<time data-until="\d+">)[^<]*')
TOKEN = re.compile(r'(?<=name="csrfmiddlewaretoken" value=")\w+')

_told: dict[Hashable, tuple[tuple[object, ...], str, str]] = {}  # made of, tag, text


def respond_or_304(
    request: HttpRequest, key: Hashable, made_of: tuple[object, ...], render: Callable[[], str]
) -> HttpResponse:
    """The fragment, or 304 where the browser has just this one.

    *key*: what is looked at, and by whom as far as that changes it. *made_of*: all that it is rendered
    from: while that is equal, nobody who has the last answer needs another, and who has not gets the same
    text with a token of their own.
    """
    tag, known = request.headers.get("HX-PTag"), _told.get(key)
    if known and known[0] == made_of:
        _, now, text = known
    else:
        text = render()
        now = hashlib.blake2b(RESTLESS.sub(r"\1\2", text).encode(), digest_size=12).hexdigest()
        if len(_told) >= MAX_ENTRIES:
            _told.clear()
        _told[key] = made_of, now, text
    if tag == now:
        return HttpResponseNotModified()
    if known:
        text = TOKEN.sub(get_token(request), text)
    return HttpResponse(text, headers={"HX-PTag": now, "Cache-Control": "no-store"})
