"""The API's addresses, each open to who has no session, and what is answered at any other.

What is done there is in jobs.api.views.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.urls import re_path
from django.views.decorators.csrf import csrf_exempt

from jobs.api import batches, making
from jobs.api.problems import answer
from jobs.api.views import api


@csrf_exempt
@login_not_required
def nothing_here(request: HttpRequest) -> HttpResponse:
    """The answer at any other address below the API's."""
    return answer(404, "There’s nothing at this address. The API is described at /api/v1/openapi.json.")


def _named(response: Any) -> Any:
    """A refused method as a problem; any other response as it is."""
    if response.status_code != 405:
        return response
    allowed = response["Allow"]
    return answer(405, f"This address doesn’t take that method: use {allowed}.", Allow=allowed)


def _open(pattern: Any) -> Any:
    """An address of the API. It asks for a token itself: the sign-in page would be no answer."""
    view = pattern.callback
    if iscoroutinefunction(view):

        async def later(request: HttpRequest, **parts: Any) -> Any:
            return _named(await view(request, **parts))

        pattern.callback = login_not_required(wraps(view)(later))
    else:

        def now(request: HttpRequest, **parts: Any) -> Any:
            return _named(view(request, **parts))

        pattern.callback = login_not_required(wraps(view)(now))
    return pattern


api.add_router("/batches", batches.router)
api.add_router("/jobs", making.router)
urlpatterns = [*map(_open, api.urls[0]), re_path("", nothing_here)]
